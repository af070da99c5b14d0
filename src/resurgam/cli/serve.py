"""`resurgam serve`."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from resurgam.cli.face import Face


def serve(
    host: Annotated[str, typer.Option("--host", help="The address to listen on; 0.0.0.0 is every one.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="The port; 0 takes a free one.")] = 8000,
) -> int:
    """Serve the HTTP API, and run the schedule.

    It ends at SIGTERM or Ctrl-C, and its jobs with it (BACKUP_ON_SHUTDOWN). Callers need a token: `resurgam token
    create`. At the very first start one for an admin is written to BACKUP_DIR/bootstrap-token.
    """
    from resurgam.api.server import serve as serve_api

    with Face(quiet=True).service() as service:
        return serve_api(service, host, port, os.environ)
