"""Ids of restores, undos and drills: in the names of what they make and keep.

An id begins with the time, and ends with what tells two runs of one second apart. A plan has none: the run that follows
it, perhaps days later, makes its own. So a plan's names have PLANNED where the id will stand, and nobody takes them for
real.
"""

from __future__ import annotations

import secrets
from datetime import datetime

# As long as an id, since long names are cut to make room for it.
PLANNED = "YYYYMMDDhhmmss_xxxxxx"


def new_id(now: datetime) -> str:
    """The id of a run that begins now."""
    return f"{now:%Y%m%d%H%M%S}_{secrets.token_hex(3)}"
