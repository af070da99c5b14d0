"""The manual's way to answer a Python call: a dict, also for what went wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg

from resurgam.errors import ResurgamError
from resurgam.jobs.recorded import as_resurgam_error


def answered(call: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The call's dict, or an error's; a bug of ours is raised as it is."""
    try:
        return call()
    except (ResurgamError, psycopg.Error, OSError) as raised:
        error = as_resurgam_error(raised)
        if error is None:
            raise
        return error_json(error)


def error_json(error: ResurgamError) -> dict[str, Any]:
    """An error as every face answers it."""
    return {"success": False, "error": error.message, "code": error.code, "hint": error.hint}
