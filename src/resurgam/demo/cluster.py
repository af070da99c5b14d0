"""The throw-away server by its old name; `postgres/embedded.py` has it."""

from __future__ import annotations

from resurgam.postgres.embedded import EmbeddedServer, major_version, packaged_installations

__all__ = ["EmbeddedServer", "major_version", "packaged_installations"]
