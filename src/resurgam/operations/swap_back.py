"""Puts back what a swap did to files and folders, by the steps of its journal; the same is the user's undo.

Each step is undone by looking at what is there, so it works from any point, twice, and after being killed itself.
The names of ours (staging, previous) hold nothing but the new or the old, and the new is known by its inode number.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from resurgam.durable import UNSUPPORTED, exchange, write_all
from resurgam.errors import RestoreFailed, ResurgamError
from resurgam.operations.move_entries import Look, move_entries, rename_free, set_aside
from resurgam.sources.excludes import OWN_PREFIX

Step = tuple[str, dict[str, Any]]
"""A journalled step: its name, and what undoes it."""

# Each of them says enough for all of them. Before a `not_whole` they are undone already, and the staging folder that
# the other way makes anew has another inode.
_WHOLE = frozenset({"exchange", "keep", "set_aside", "place"})


def revert(steps: Iterable[Step]) -> None:
    """Put everything back as it was before the journalled steps, after a crash or a failure; also the undo.

    What was swapped in is at its staging place again. Raises RestoreFailed naming what could not be put back.
    """
    steps = list(steps)
    looks: dict[str, dict[Path, Look]] = {}
    for name, data in steps:
        if name in ("entries_out", "entries_split"):
            path = Path(data["path"])
            looks.setdefault(data["target"], {}).setdefault(path, Look(**data["look"]))
    problems: dict[str, str] = {}
    other_way: set[str] = set()
    for name, data in reversed(steps):
        # After a failure the earlier steps hold what is needed to try again, such as the saved content.
        if data["target"] in problems or (name in _WHOLE and data["target"] in other_way):
            continue
        if name == "not_whole":
            other_way.add(data["target"])
            continue
        try:
            _undo(name, data, looks)
        except (OSError, ResurgamError) as error:
            reason = error.message if isinstance(error, ResurgamError) else str(error.strerror)
            problems[data["target"]] = f"{data['target']}: {reason}"
    if problems:
        raise RestoreFailed(
            f"Not everything could be put back: {'; '.join(problems.values())}.",
            f"Mend the cause and start again; the old contents are under names that begin with {OWN_PREFIX}.",
        )


def _undo(name: str, data: dict[str, Any], looks: dict[str, dict[Path, Look]]) -> None:
    if name == "parent":
        with contextlib.suppress(OSError):
            Path(data["path"]).rmdir()
    elif name in _WHOLE:
        undo_whole(data)
    elif name == "put_away":
        _undo_put_away(data)
    elif name == "near":
        Path(data["staged"]).unlink(missing_ok=True)
        Path(data["staged"] + ".partial").unlink(missing_ok=True)
    elif name == "entries_in":
        _undo_entries_in(data)
    elif name == "entries_out":
        _undo_entries_out(data, looks[data["target"]])
    elif name == "overwrite":
        _undo_overwrite(data)
    elif name == "save":
        Path(data["previous"]).unlink(missing_ok=True)
        Path(data["previous"] + ".partial").unlink(missing_ok=True)


def undo_whole(data: dict[str, Any]) -> None:
    """Find where the old one is, and give it its name back."""
    target, staged, previous = (Path(data[name]) for name in ("target", "staged", "previous"))

    def is_new(path: Path) -> bool:
        return bool(path.lstat().st_ino == data["new"])

    if not data["old"]:
        if not os.path.lexists(staged) and os.path.lexists(target) and is_new(target):
            rename_free(target, staged)
        return
    if os.path.lexists(previous) and is_new(previous):
        # An undo was killed after the exchange below; or, on the way there, before it moved the new one on.
        rename_free(previous, staged)
    elif os.path.lexists(previous):
        if os.path.lexists(target) and is_new(target) and not os.path.lexists(staged):
            _trade(previous, target, staged)
        else:
            # Nothing, or what the application made in a gap between two renames: it is not ours to delete.
            set_aside(target)
            rename_free(previous, target)
    elif os.path.lexists(staged) and not is_new(staged):
        if os.path.lexists(target) and not is_new(target):
            raise RestoreFailed(f"it can not be told which of {target} and {staged} is the old one")
        if os.path.lexists(target):
            exchange(staged, target)
        else:
            rename_free(staged, target)


def _undo_put_away(data: dict[str, Any]) -> None:
    target, previous = Path(data["target"]), Path(data["previous"])
    if os.path.lexists(previous):
        set_aside(target)  # made by somebody in the gap
        rename_free(previous, target)


def _trade(previous: Path, target: Path, staged: Path) -> None:
    """Old from `previous` to `target`, new from `target` to `staged`; without a gap where that is possible."""
    try:
        exchange(previous, target)
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
        rename_free(target, staged)
        rename_free(previous, target)
    else:
        rename_free(previous, staged)


def _undo_entries_in(data: dict[str, Any]) -> None:
    target, staged, previous = (Path(data[name]) for name in ("target", "staged", "previous"))
    returning = Path(data["returning"])
    # From the rename on, the target holds old entries again: they must not be taken out a second time.
    if not os.path.lexists(previous) or os.path.lexists(returning):
        return
    staged.mkdir(0o700, parents=True, exist_ok=True)
    with contextlib.suppress(PermissionError):
        staged.chmod(0o700)
    move_entries(target, staged)
    if "staged_look" in data:
        Look(**data["staged_look"]).give(staged)
    os.sync()
    rename_free(previous, returning)


def _undo_entries_out(data: dict[str, Any], looks: dict[Path, Look]) -> None:
    target, previous, returning = (Path(data[name]) for name in ("target", "previous", "returning"))
    for source in (returning, previous):
        if os.path.lexists(source):
            source.chmod(0o700)
            move_entries(source, target)
            os.sync()
            for path in sorted(looks, key=lambda path: len(path.parts), reverse=True):
                if path.is_dir():
                    looks[path].give(path)
            source.rmdir()
    with contextlib.suppress(OSError):
        previous.parent.rmdir()
    # Even if nothing was left to do: a kill may have come between the removal of our folder and this.
    looks[target].give(target)


def _undo_overwrite(data: dict[str, Any]) -> None:
    previous, target = Path(data["previous"]), Path(data["target"])
    if os.path.lexists(previous):
        write_in_place(target, previous)
        Look(**data["look"]).give(target)


def write_in_place(target: Path, source: Path) -> None:
    """Give `target` the content of `source` without renaming; a config file, so it fits into memory."""
    content = source.read_bytes()
    fd = os.open(target, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        write_all(fd, content)
        os.ftruncate(fd, len(content))
        os.fsync(fd)
    finally:
        os.close(fd)
