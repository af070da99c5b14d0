"""Swaps staged folders and files in for the live ones, keeps what they replace, and can put everything back.

Rules:
- the journal is told of each change before it is made, with all that is needed to undo it;
- undoing looks at what is there rather than at how far the journal got: it works from any point, twice, and after
  being killed itself. Names of ours (staging, previous) hold nothing but the new or the old, and the new is known by
  its inode number;
- what was replaced is never deleted here.

There are three ways, and each falls back to the next where the system refuses (observed answers in brackets):
- whole: the staged object and the live one trade names, at once (RENAME_EXCHANGE) or in two renames; the old one
  is then kept as `.resurgam-previous-ID-NAME` beside;
- entries [EBUSY for a mount point, EXDEV across mounts and on overlayfs's image layers]: the folder stays, what
  is in it moves to `.resurgam-ID/previous` inside it, and the staged entries move in;
- overwrite [EBUSY for a file mounted by itself]: the old content is copied aside, the new written in place.

An undo has a fourth, away: where there was nothing before a restore, what it brought is put aside.

Staging lies beside the target, `.resurgam-ID-NAME`, or inside it, `.resurgam-ID/new`, where the target is a mount
point or its folder is not writable. Backups leave all names out that begin with `.resurgam-`.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any

from resurgam.durable import UNSUPPORTED, exchange
from resurgam.errors import RestoreFailed, ResurgamError, StorageError
from resurgam.operations.move_entries import (
    Look,
    copy_file,
    cut_name,
    is_mount,
    mount_points,
    mounts_below,
    move_entries,
    rename_free,
)
from resurgam.operations.swap_back import Step, revert, undo_whole, write_in_place
from resurgam.sources.excludes import OWN_PREFIX

__all__ = [
    "Journal",
    "Kept",
    "PathKind",
    "Step",
    "SwapItem",
    "Way",
    "choose_staging",
    "discard_staging",
    "make_staging",
    "plan_away",
    "plan_swap",
    "previous_of",
    "replaced_of",
    "revert",
    "swap_in",
]

Journal = Callable[[str, dict[str, Any]], None]
"""Makes a step durable: its name, and what undoes it, fit for JSON."""


class PathKind(Enum):
    """What is swapped."""

    FOLDER = "folder"
    FILE = "file"


class Way(Enum):
    """How it is swapped; see the module."""

    WHOLE = "whole"
    ENTRIES = "entries"
    OVERWRITE = "overwrite"
    AWAY = "away"


@dataclass(frozen=True, slots=True)
class SwapItem:
    """One thing to swap in; `previous` is where what it replaces will be kept."""

    target: Path
    staged: Path
    previous: Path
    kind: PathKind
    way: Way
    restore_id: str

    def record(self, **more: Any) -> dict[str, Any]:
        """The item for a journal; paths that are not UTF-8 hold lone surrogates, as in `name_text`."""
        paths = {name: os.fspath(getattr(self, name)) for name in ("target", "staged", "previous")}
        return {**paths, **more}


@dataclass(frozen=True, slots=True)
class Kept:
    """Where the content that a target had before is now; None if there was none."""

    target: Path
    previous: Path | None


def choose_staging(target: Path, restore_id: str) -> Path:
    """Where a folder that is to replace `target` has to be staged, so that renaming it works.

    Raises StorageError if there is no such place that this user may write to.
    """
    _check_id(restore_id)
    target = Path(os.path.realpath(target))
    parent = _existing_parent(target)
    if not is_mount(target, mount_points()) and os.access(parent, os.W_OK | os.X_OK):
        return parent / _own_name(restore_id, target)
    if target.is_dir() and os.access(target, os.W_OK | os.X_OK):
        return target / f"{OWN_PREFIX}{restore_id}" / "new"
    raise StorageError(
        f"There is no place to stage {target}: neither it nor {parent} can be written to. Nothing was changed.",
        "Let this user write to one of them.",
    )


def make_staging(target: Path, restore_id: str) -> Path:
    """`choose_staging`, and make the folder, empty and 0700. Raises StorageError."""
    staged = choose_staging(target, restore_id)
    try:
        with _time_kept(staged):
            if staged.name == "new":
                staged.parent.mkdir(0o700, exist_ok=True)
            staged.mkdir(0o700)
    except OSError as error:
        raise StorageError(f"The staging folder {staged} can not be made: {error.strerror}.") from error
    return staged


def discard_staging(staged: Path) -> None:
    """Remove a staging folder and what is in it, after a failure or a swap; also what was kept, when it is swept."""
    with _time_kept(staged):
        if os.geteuid() != 0:
            _let_remove(staged)
        shutil.rmtree(staged, ignore_errors=True)
        if staged.parent.name.startswith(OWN_PREFIX):
            with contextlib.suppress(OSError):
                staged.parent.rmdir()


def _let_remove(staged: Path) -> None:
    """Folders have the backup's modes already, and what is in a read-only one can't be removed but by root."""
    with contextlib.suppress(OSError):
        staged.chmod(0o700)
    for place, names, _ in os.walk(staged):
        for path in (Path(place, name) for name in names):
            if not path.is_symlink():
                with contextlib.suppress(OSError):
                    path.chmod(0o700)


@contextlib.contextmanager
def _time_kept(staged: Path) -> Iterator[None]:
    """What is staged or kept inside a live folder must not alter that folder's time."""
    live = staged.parent.parent
    before = live.stat() if staged.parent.name.startswith(OWN_PREFIX) and live.is_dir() else None
    yield
    if before is not None:
        with contextlib.suppress(OSError):
            os.utime(live, ns=(before.st_atime_ns, before.st_mtime_ns))


def plan_swap(target: Path, staged: Path, kind: PathKind, restore_id: str) -> SwapItem:
    """Decide how `staged` gets to `target`; changes nothing. Raises StorageError if something stands in the way."""
    _check_id(restore_id)
    # A folder is swapped where it really lies; a file's symlink is replaced by the file.
    target = Path(os.path.realpath(target)) if kind is PathKind.FOLDER else _real_parent(target)
    mounts = mount_points()
    mounted = is_mount(target, mounts)
    beside = os.access(_existing_parent(target), os.W_OK | os.X_OK)
    way = Way.WHOLE
    if kind is PathKind.FOLDER and target.is_dir():
        if mounted or mounts_below(target, mounts) or target in staged.parents or not beside:
            way = Way.ENTRIES
    elif kind is PathKind.FILE and target.is_file() and (mounted or not beside):
        way = Way.OVERWRITE
    item = SwapItem(target, staged, _previous(target, restore_id), kind, way, restore_id)
    if way is not Way.WHOLE:
        item = _other_way(item, way)
    if os.path.lexists(item.previous):
        raise StorageError(f"{item.previous} is there already, so nothing was swapped.", "Move it away.")
    return item


def plan_away(target: Path, undo_id: str) -> SwapItem:
    """An item that puts `target` aside and nothing in its place; changes nothing."""
    _check_id(undo_id)
    target = _real_parent(target)
    kind = PathKind.FOLDER if target.is_dir() and not target.is_symlink() else PathKind.FILE
    return SwapItem(target, target, _previous(target, undo_id), kind, Way.AWAY, undo_id)


def swap_in(items: Sequence[SwapItem], journal: Journal) -> tuple[Kept, ...]:
    """Swap all items in, in order; all of them or none.

    Raises RestoreFailed after putting everything back; if even that failed, the message says so, and `revert`
    with the journalled steps can be tried again.
    """
    steps: list[Step] = []

    def log(name: str, data: dict[str, Any]) -> None:
        journal(name, data)
        steps.append((name, data))

    try:
        for item in items:
            _make_parents(item, log)
            _swap(item, log)
    except BaseException as error:
        revert(steps)
        if not isinstance(error, OSError | ResurgamError):
            raise
        reason = error.message if isinstance(error, ResurgamError) else f"{error.strerror}: {error.filename}"
        raise RestoreFailed(
            f"Swapping in failed ({reason}). Files and folders are as they were before.",
            "Mend the cause and restore again.",
        ) from error
    return previous_of(steps)


def previous_of(steps: Iterable[Step]) -> tuple[Kept, ...]:
    """Where the old contents are now, by the steps of a journal, in their order."""
    found = replaced_of(steps)
    return tuple(
        Kept(kept.target, kept.previous if kept.previous is not None and os.path.lexists(kept.previous) else None)
        for kept in found
    )


def replaced_of(steps: Iterable[Step]) -> tuple[Kept, ...]:
    """The same as the journal has it, without a look at what is there: where the old contents were put."""
    kept: dict[str, Kept] = {}
    for _, data in steps:
        if "previous" in data:
            had = data.get("old", True)
            kept[data["target"]] = Kept(Path(data["target"]), Path(data["previous"]) if had else None)
    return tuple(kept.values())


def _make_parents(item: SwapItem, log: Journal) -> None:
    if item.way is Way.AWAY:
        return
    missing = [parent for parent in item.target.parents if not parent.exists()]
    for parent in reversed(missing):
        log("parent", {"target": os.fspath(item.target), "path": os.fspath(parent)})
        parent.mkdir(0o755)


def _swap(item: SwapItem, log: Journal) -> None:
    if item.way is Way.ENTRIES:
        _swap_entries(item, log)
        return
    if item.way is Way.OVERWRITE:
        _overwrite(item, log)
        return
    if item.way is Way.AWAY:
        if os.path.lexists(item.target):
            log("put_away", item.record(old=True))
            rename_free(item.target, item.previous)
        return
    data = item.record(new=item.staged.lstat().st_ino, old=os.path.lexists(item.target))
    try:
        _swap_whole(item, data, log)
    except OSError as error:
        crossing, busy = error.errno == errno.EXDEV, error.errno == errno.EBUSY
        if not (crossing and item.kind is PathKind.FILE) and not ((crossing or busy) and data["old"]):
            raise
        undo_whole(data)
        log("not_whole", {"target": os.fspath(item.target)})
        if item.kind is PathKind.FOLDER:
            _swap(_other_way(item, Way.ENTRIES), log)
        elif busy:
            _swap(_other_way(item, Way.OVERWRITE), log)
        else:
            _swap(_brought_near(item, log), log)


def _swap_whole(item: SwapItem, data: dict[str, Any], log: Journal) -> None:
    if not data["old"]:
        log("place", data)
        rename_free(item.staged, item.target)
        return
    log("exchange", data)
    try:
        exchange(item.staged, item.target)
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
        log("set_aside", data)
        rename_free(item.target, item.previous)
        log("place", data)
        rename_free(item.staged, item.target)
    else:
        log("keep", data)
        rename_free(item.staged, item.previous)


def _swap_entries(item: SwapItem, log: Journal) -> None:
    target, previous = item.target, item.previous
    inside = previous.parent
    look = asdict(Look.of(target))
    new_look = Look.of(item.staged)
    data = item.record(
        path=os.fspath(target), look=look, staged_look=asdict(new_look), returning=os.fspath(inside / "returning")
    )
    log("entries_out", data)
    inside.mkdir(0o700, exist_ok=True)
    previous.mkdir(0o700)

    def split(path: Path) -> None:
        where = {"target": data["target"], "path": os.fspath(path), "look": asdict(Look.of(path))}
        log("entries_split", where)

    move_entries(target, previous, split)
    # Several file systems may be involved. What is out has to be durable before the journal says so.
    os.sync()
    log("entries_in", data)
    with contextlib.suppress(PermissionError):
        item.staged.chmod(0o700)  # what is in a read-only folder can't be moved out of it
    move_entries(item.staged, target)
    new_look.give(target)
    Look(**look).give(previous)
    with contextlib.suppress(OSError):
        item.staged.rmdir()
    os.sync()


def _overwrite(item: SwapItem, log: Journal) -> None:
    data = item.record(look=asdict(Look.of(item.target)))
    log("save", data)
    copy_file(item.target, item.previous)
    log("overwrite", data)
    write_in_place(item.target, item.staged)
    Look.of(item.staged).give(item.target)


def _brought_near(item: SwapItem, log: Journal) -> SwapItem:
    """A copy of a staged file on the target's own file system."""
    near = item.target.with_name(_own_name(item.restore_id, item.target))
    if near == item.staged:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), os.fspath(near))
    log("near", {"target": os.fspath(item.target), "staged": os.fspath(near)})
    copy_file(item.staged, near)
    return replace(item, staged=near)


def _other_way(item: SwapItem, way: Way) -> SwapItem:
    previous = item.previous
    if way is Way.ENTRIES:
        previous = item.target / f"{OWN_PREFIX}{item.restore_id}" / "previous"
    elif not os.access(item.target.parent, os.W_OK | os.X_OK):
        previous = _kept_elsewhere(item)
    return replace(item, way=way, previous=previous)


def _kept_elsewhere(item: SwapItem) -> Path:
    """Beside the staging folder, under a name for this very target, as its own folder is not writable."""
    ours = [path for path in item.staged.parents if path.name.startswith(OWN_PREFIX)]
    digest = hashlib.sha256(os.fsencode(item.target)).hexdigest()[:8]
    name = cut_name(f"{OWN_PREFIX}previous-{item.restore_id}-{digest}-", item.target.name)
    return (ours[-1] if ours else item.staged).parent / name


def _check_id(restore_id: str) -> None:
    if not re.fullmatch(r"[A-Za-z0-9_]{1,64}", restore_id):
        raise ValueError("a restore's id is 1 to 64 letters, digits and underscores")


def _own_name(restore_id: str, target: Path) -> str:
    return cut_name(f"{OWN_PREFIX}{restore_id}-", target.name)


def _previous(target: Path, restore_id: str) -> Path:
    return target.with_name(cut_name(f"{OWN_PREFIX}previous-{restore_id}-", target.name))


def _existing_parent(target: Path) -> Path:
    return next((parent for parent in target.parents if parent.is_dir()), Path("/"))


def _real_parent(target: Path) -> Path:
    return Path(os.path.realpath(target.parent)) / target.name
