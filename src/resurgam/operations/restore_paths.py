"""Single files and folders of a backup, into a folder of the user's choice or beside their live ones; never over them.

What is asked for is a path as the backup shows it (`uploads/2025/a.pdf`, `config/docker-compose.yml`). It is matched
against the names that the archive has, and never becomes a path of this machine but by settings or the user's folder.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from resurgam.archive.entry import Kind, printable
from resurgam.archive.extract import ExtractLimits, extract
from resurgam.archive.foreign import ForeignArchive
from resurgam.archive.opening import Archive
from resurgam.errors import NotFoundError, RestoreRefused, StorageError
from resurgam.operations.move_entries import rename_free
from resurgam.operations.restore import Restoring
from resurgam.operations.restore_beside import BesideResult
from resurgam.operations.restore_files import Places, outside_of
from resurgam.operations.restore_plan import BesidePlan, Made, Wishes
from resurgam.operations.run_ids import PLANNED, new_id
from resurgam.operations.swap_paths import discard_staging
from resurgam.policy.estimate import estimate
from resurgam.sources.excludes import OWN_PREFIX

_TOPS = (b"files/", b"config/")


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A path of the archive, the entry that holds its bytes (another one for a hard link), whether it is a folder, its
    size, and where it is to go (which must not exist).
    """

    path: bytes
    source: bytes
    folder: bool
    size: int
    target: Path


def plan_paths(restoring: Restoring, name: str, wishes: Wishes) -> BesidePlan:
    """What would be written where; nothing is touched."""
    restoring.inventory.refresh()
    record = restoring.inventory.find(name)
    with restoring.inventory.open(record) as archive:
        _, plan = _plan(restoring, archive, record.name, wishes, PLANNED)
    return replace(plan, estimate=estimate(plan.size, restoring.earlier()))


def restore_paths(restoring: Restoring, name: str, wishes: Wishes) -> BesideResult:
    """Write them. All of them, or, after a failure, none."""
    started = restoring.clock.monotonic()
    restoring.inventory.refresh()
    record = restoring.inventory.find(name)
    done: list[Path] = []
    with restoring.inventory.open(record) as archive:
        wanted, plan = _plan(restoring, archive, record.name, wishes, new_id(restoring.clock.now()))
        if plan.problems:
            raise RestoreRefused(plan.problems, "Mend these and restore again.")
        restoring.progress.phase("Writing the files", plan.size)
        try:
            for one in wanted:
                _write(restoring, archive, one)
                done.append(one.target)
        except BaseException:
            for target in done:
                _remove(target)
            raise
    return BesideResult(plan, plan.made, 0, restoring.clock.monotonic() - started, plan.warnings)


def _plan(
    restoring: Restoring, archive: Archive, name: str, wishes: Wishes, restore_id: str
) -> tuple[tuple[_Wanted, ...], BesidePlan]:
    suffix = f"_restored_{restore_id}"
    wanted: list[_Wanted] = []
    problems: list[str] = []
    for path in dict.fromkeys(wishes.paths):
        try:
            found = _find(archive, path)
            wanted.append(replace(found, target=_target(found.path, wishes.folder, suffix, restoring.places)))
        except (NotFoundError, StorageError) as error:
            problems.append(f"{error.message} {error.hint}".strip())
    problems += _in_the_way(wanted)
    made = tuple(Made("path", printable(one.path), os.fspath(one.target)) for one in wanted)
    date = str(archive.metadata().get("datetime", ""))[:19]
    size = sum(one.size for one in wanted)
    return tuple(wanted), BesidePlan(name, date, made, None, size, tuple(problems), ())


def _find(archive: Archive, path: str) -> _Wanted:
    """What the backup has by that path; the target is not known yet. NotFoundError if it has nothing."""
    plain = path.encode("utf-8", "surrogatepass").strip(b"/")
    for candidate in (plain, *(top + plain for top in _TOPS)):
        if not candidate.startswith(_TOPS) or candidate in (b"files", b"config"):
            continue
        size, file, folder, source = 0, False, False, candidate
        for entry in archive.entries():
            stored = entry.path.rstrip(b"/")
            if stored == candidate:
                folder, file = entry.kind is Kind.FOLDER, entry.kind is not Kind.FOLDER
                source = entry.target if entry.kind is Kind.HARDLINK else candidate
            elif not stored.startswith(candidate + b"/"):
                continue
            else:
                folder = True
            size += entry.size
        if file or folder:
            return _Wanted(candidate, source, folder, size, Path())
    raise NotFoundError(
        f"The backup holds no file or folder {printable(plain[:200])!r}.",
        "Paths are those in the backup, such as uploads/2025/a.pdf or config/docker-compose.yml.",
    )


def _target(found: bytes, folder: str, suffix: str, places: Places) -> Path:
    """Where it goes: into the user's folder under its own name, else beside its live one. StorageError if it can't."""
    name = os.fsdecode(found.rpartition(b"/")[2])
    if folder:
        return Path(folder).absolute() / name
    top, _, rest = found.partition(b"/")
    if top == b"config":
        live = places.app_dir / os.fsdecode(rest)
        root = places.app_dir
    else:
        tree, _, inside = rest.partition(b"/")
        roots = {os.fsencode(one.name): one.path for one in places.trees}
        if tree not in roots:
            raise StorageError(
                f"BACKUP_FILE_TREES has no tree {printable(tree)!r}, beside which {printable(found)!r} could go.",
                "Give a folder with --target.",
            )
        root = roots[tree]
        live = root / os.fsdecode(inside) if inside else root
        root = root if inside else root.parent
    parent = Path(os.path.realpath(live.parent))
    if not parent.is_dir() or not parent.is_relative_to(os.path.realpath(root)):
        raise StorageError(f"The folder {live.parent} is not there any more.", "Give a folder with --target.")
    return parent / f"{live.name}{suffix}"


def _in_the_way(wanted: list[_Wanted]) -> Iterator[str]:
    room: dict[Path, int] = {}
    for number, one in enumerate(wanted):
        if os.path.lexists(one.target) or any(one.target == other.target for other in wanted[:number]):
            yield f"{one.target} is there already, and nothing is overwritten: give another folder with --target."
        place = one.target.parent
        while not place.is_dir() and place != place.parent:
            if os.path.lexists(place):
                yield f"{place} is not a folder."
                break
            place = place.parent
        if place.is_dir():
            if not os.access(place, os.W_OK | os.X_OK):
                yield f"This user may not write to {place}."
            room[place] = room.get(place, 0) + one.size
    for place, size in room.items():
        free = shutil.disk_usage(place).free
        if size > free:
            yield f"They need {size:,} bytes at {place}, where {free:,} are free: make room first."


def _write(restoring: Restoring, archive: Archive, one: _Wanted) -> None:
    """Write it whole beside its name, then give it that name, which nobody may have taken meanwhile."""
    parent = one.target.parent
    staged = parent / f"{OWN_PREFIX}{secrets.token_hex(8)}"
    try:
        parent.mkdir(parents=True, exist_ok=True)
        staged.mkdir(0o700)
    except OSError as error:
        raise StorageError(f"{staged} can not be made: {error.strerror}.") from error
    try:
        prefix = one.path + b"/" if one.folder else one.source.rpartition(b"/")[0] + b"/"
        entries = archive.contents(
            lambda entry: entry.path.rstrip(b"/") == one.source or (one.folder and entry.path.startswith(prefix))
        )
        outside = None if isinstance(archive, ForeignArchive) else outside_of(archive)
        limits = ExtractLimits(bytes=shutil.disk_usage(staged).free)
        own = os.geteuid() == 0
        progress = restoring.progress.advance
        extract(entries, prefix, staged, limits=limits, own=own, progress=progress, outside=outside)
        rename_free(staged if one.folder else staged / os.fsdecode(one.source.rpartition(b"/")[2]), one.target)
    except FileExistsError:
        raise StorageError(f"{one.target} is there by now; nothing was overwritten.") from None
    finally:
        with suppress(OSError):
            discard_staging(staged)


def _remove(target: Path) -> None:
    if target.is_dir() and not target.is_symlink():
        shutil.rmtree(target, ignore_errors=True)
    else:
        target.unlink(missing_ok=True)
