"""Exit codes, and which error gives which; `--help` and docs/commands.md print this table."""

from __future__ import annotations

from resurgam.errors import ResurgamError

OK = 0
FAILED = 1
USAGE = 2
DEGRADED = 3
BUSY = 4
NOT_FOUND = 5

MEANINGS = (
    (OK, "done"),
    (FAILED, "failed; the message says what is untouched. Of `health`: critical"),
    (USAGE, "the command or a setting is wrong; nothing was done"),
    (DEGRADED, "the backup is whole, but a copy or a clean-up failed. Of `health`: a warning"),
    (BUSY, "another run is at work; nothing was done"),
    (NOT_FOUND, "there is nothing of that name"),
)
# A malformed setting is the user's to correct, as a malformed argument is, and nothing was begun.
_BY_CODE = {"usage": USAGE, "settings": USAGE, "busy": BUSY, "not_found": NOT_FOUND}


def exit_code(error: ResurgamError) -> int:
    """The exit code of an error, by its stable code."""
    return _BY_CODE.get(error.code, FAILED)
