"""The memory of our own processes: one arena, so that it does not grow with what flows through, and rare collections.

glibc gives each thread an arena of its own, and blocks of several MiB that pass from thread to thread leave holes in
all of them: a backup of 10 GB then took 15 % more than one of 1 GB (measured). With the GIL held while memory is taken,
threads gain nothing from arenas. Only for processes that are ours: a host application's are not ours to tune.

Python looks for cycles each time that 700 objects more are alive: while a command's modules are imported, which leaves
80,000, that takes a fifth of the time (measured), and finds nothing.
"""

from __future__ import annotations

import ctypes
import gc
import sys

_M_ARENA_MAX = -8  # <malloc.h> of glibc
# So many objects may lie about in cycles before somebody looks: some 15 MB. More than a command's start makes.
_UNSEEN = 150_000


def collect_rarely() -> None:
    """To be called before anything large is imported."""
    gc.set_threshold(_UNSEEN, 10, 10)


def use_one_arena() -> None:
    """Must be called before the first thread is started; does nothing where the C library has no such thing."""
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is not None:
            mallopt(_M_ARENA_MAX, 1)
