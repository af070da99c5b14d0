"""The files half of a restore: config files and trees, staged beside theirs, for `swap_paths` to swap in.

Only what the settings name is ever written: a tree goes to the path that its name has there (never to one that an
archive says), a config file to its place below APP_DIR if BACKUP_CONFIG_FILES lists it.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from resurgam.archive.entry import Entry, Kind, name_text, printable
from resurgam.archive.extract import ExtractLimits, ExtractReport, extract
from resurgam.archive.foreign import ForeignArchive
from resurgam.archive.opening import Archive, IndexedArchive
from resurgam.errors import HostileError, StorageError
from resurgam.operations.progress import Progress
from resurgam.operations.swap_paths import (
    PathKind,
    SwapItem,
    choose_staging,
    make_staging,
    plan_swap,
)
from resurgam.settings import ConfigFile, FileTree
from resurgam.sources.config import is_env_name
from resurgam.sources.excludes import OWN_PREFIX, translate

Journal = Callable[[str, dict[str, Any]], None]
_CONFIG = b"config/"
_FILES = b"files/"


@dataclass(frozen=True, slots=True)
class Places:
    """Where things may go, and which folders of ours must not be swapped away."""

    app_dir: Path
    config_files: tuple[ConfigFile, ...]
    trees: tuple[FileTree, ...]
    own: tuple[Path, ...]
    scratch: Path


@dataclass(frozen=True, slots=True)
class FilesPlan:
    """What will be staged: trees by name with their targets, config files by name; `size` in bytes.

    Files with holes are not in `size` but in `sparse`, with their apparent sizes: what they take is known afterwards.
    """

    trees: tuple[tuple[str, Path], ...]
    config: tuple[str, ...]
    size: int
    sparse: int = 0


@dataclass(frozen=True, slots=True)
class StagedFiles:
    """What is staged and can be swapped in."""

    items: tuple[SwapItem, ...]
    reports: tuple[ExtractReport, ...]


def plan_files(
    archive: Archive, places: Places, *, config: bool, files: bool, metadata: Mapping[str, Any] | None = None
) -> tuple[FilesPlan, tuple[str, ...], tuple[str, ...]]:
    """The plan, the problems that refuse it, and warnings; by the archive's entries alone, touching nothing."""
    trees: dict[str, int] = {}
    names: list[str] = []
    config_size = sparse = 0
    for entry in archive.entries():
        if files and entry.path.startswith(_FILES):
            tree = name_text(entry.path.split(b"/", 2)[1])
            if entry.path.count(b"/") == 1 and entry.kind is not Kind.FOLDER:
                # Nothing could stand below it: an empty folder would be swapped in for the live one.
                raise HostileError(f"{printable(entry.path)!r} should be a folder, and is a file or a link.")
            trees[tree] = trees.get(tree, 0) + (0 if entry.sparse else entry.size)
            sparse += entry.size if entry.sparse else 0
        elif config and entry.path.startswith(_CONFIG) and entry.kind is not Kind.FOLDER:
            names.append(name_text(entry.path.removeprefix(_CONFIG)))
            config_size += entry.size
            if entry.kind is not Kind.FILE:
                raise HostileError(
                    f"The config entry {printable(entry.path)!r} is a link, which no backup of ours holds."
                )
    targets = {tree.name: tree.path for tree in places.trees}
    plan = FilesPlan(
        tuple((name, targets[name]) for name in trees if name in targets),
        tuple(names),
        sum(trees.values()) + config_size,
        sparse,
    )
    problems = (
        *_tree_problems(plan, [name for name in trees if name not in targets], places),
        *_config_problems(names, places),
        *_space_problems(plan, trees, config_size, places),
    )
    warnings = [
        f"The backup holds no tree {tree.name!r}; {tree.path} stays as it is."
        for tree in places.trees
        if files and tree.name not in trees and tree.path.exists()
    ]
    return plan, problems, (*warnings, *_left_out(plan, metadata or {}))


def _left_out(plan: FilesPlan, metadata: Mapping[str, Any]) -> Iterator[str]:
    """What a tree had and the backup has not, a `.env` for one: it will be missing in the folder that is swapped in."""
    saved = metadata.get("files")
    trees = saved.get("trees") if isinstance(saved, dict) else None
    targets = dict(plan.trees)
    for tree in trees if isinstance(trees, list) else ():
        target = targets.get(str(tree.get("name"))) if isinstance(tree, dict) else None
        for what in ("excluded", "skipped"):
            listed = tree.get(what) if target is not None and os.path.lexists(target) else None
            names = listed.get("names") if isinstance(listed, dict) else None
            # What is ours (staging, what an earlier restore kept) nobody misses.
            missed = [str(n) for n in names if f"/{OWN_PREFIX}" not in str(n)] if isinstance(names, list) else []
            if missed:
                shown = ", ".join(missed[:5]) + (", …" if len(missed) > 5 else "")
                yield f"Not in the backup, so only in what is kept of {target} afterwards: {shown}."


def stage_files(
    plan: FilesPlan, archive: Archive, places: Places, restore_id: str, journal: Journal, progress: Progress
) -> StagedFiles:
    """Write everything beside its target. A failure is raised as it is; what was staged is the journal's to remove."""
    items: list[SwapItem] = []
    reports = []
    own = os.geteuid() == 0

    def fill(staged: Path, prefix: bytes) -> None:
        entries = archive.contents(lambda entry: entry.path.startswith(prefix) or entry.path + b"/" == prefix)
        limits = ExtractLimits(bytes=shutil.disk_usage(staged).free + plan.sparse)
        outside = None if isinstance(archive, ForeignArchive) else outside_of(archive)
        report = extract(entries, prefix, staged, limits=limits, own=own, progress=progress.advance, outside=outside)
        reports.append(report)

    progress.phase("Staging the files", plan.size)
    for name, target in plan.trees:
        journal("staging", {"path": os.fspath(choose_staging(target, restore_id))})
        staged = make_staging(target, restore_id)
        fill(staged, _FILES + os.fsencode(name) + b"/")
        items.append(plan_swap(target, staged, PathKind.FOLDER, restore_id))
    if plan.config:
        staged = _config_staging(places, restore_id, journal)
        fill(staged, _CONFIG)
        for name in plan.config:
            if not _same_file(staged / name, places.app_dir / name):
                items.append(plan_swap(places.app_dir / name, staged / name, PathKind.FILE, restore_id))
    return StagedFiles(tuple(items), tuple(reports))


def _same_file(staged: Path, target: Path) -> bool:
    """Whether a config file is already what it should be; it is then left alone, and nothing is kept of it."""
    if target.is_symlink() or not target.is_file():
        return False
    new, old = staged.stat(), target.stat()
    looks = [(status.st_size, status.st_mode, status.st_uid, status.st_gid) for status in (new, old)]
    return looks[0] == looks[1] and staged.read_bytes() == target.read_bytes()


def _config_staging(places: Places, restore_id: str, journal: Journal) -> Path:
    """Beside the config files; where APP_DIR is not writable (each file is mounted by itself), in our own folder."""
    target = places.app_dir / "config"
    try:
        journal("staging", {"path": os.fspath(choose_staging(target, restore_id))})
        return make_staging(target, restore_id)
    except StorageError:
        target = places.scratch / "config"
        journal("staging", {"path": os.fspath(choose_staging(target, restore_id))})
        return make_staging(target, restore_id)


def outside_of(archive: IndexedArchive) -> Callable[[bytes], tuple[Entry, Iterable[bytes]]]:
    """For hard links between two trees: the linked file's bytes."""

    def read(path: bytes) -> tuple[Entry, Iterable[bytes]]:
        found = archive.find(path)
        if found is None:
            raise HostileError(f"A hard link names {printable(path)!r}, which the archive does not hold.")
        return found.entry, archive.read(found.offset, found.entry.size)

    return read


def _tree_problems(plan: FilesPlan, unknown: list[str], places: Places) -> Iterator[str]:
    for name in unknown:
        yield (
            f"The backup holds the tree {name!r}, and BACKUP_FILE_TREES has none of that name: add its path "
            f"({name}=/where/it/belongs), or restore without files."
        )
    targets = [Path(os.path.realpath(target)) for _, target in plan.trees]
    for target in targets:
        for own in places.own:
            if Path(os.path.realpath(own)).is_relative_to(target):
                yield f"{own} lies inside the tree {target}, and would be swapped away with it: move it elsewhere."
        for other in targets:
            if other != target and other.is_relative_to(target):
                yield f"The trees {target} and {other} lie one inside the other: restore can't swap both."
        if target.exists() and not target.is_dir():
            yield f"{target} should be a folder, and is not."


def _config_problems(names: list[str], places: Places) -> Iterator[str]:
    patterns = [file.pattern for file in places.config_files]
    for name in names:
        if is_env_name(Path(name).name):
            yield f"The backup holds {name!r}, and a .env is never restored: restore without config."
        elif not any(_lists(pattern, name) for pattern in patterns):
            yield f"The backup holds the config file {name!r}, which BACKUP_CONFIG_FILES does not list: add it there."
        elif (places.app_dir / name).is_dir():
            yield f"{places.app_dir / name} should be a file, and is a folder."
    if names and not places.app_dir.is_dir():
        yield f"APP_DIR {places.app_dir} does not exist: make it, or set APP_DIR."


def _lists(pattern: str, name: str) -> bool:
    """Whether a line of the settings stands for that name, as Path.glob found it: `**/` may be no folder at all."""
    if name == pattern or fnmatchcase(name, pattern):
        return True
    with contextlib.suppress(re.error):
        return re.fullmatch(translate(pattern), name, re.DOTALL) is not None
    return False


def _space_problems(plan: FilesPlan, trees: dict[str, int], config_size: int, places: Places) -> Iterator[str]:
    """Staged files lie beside the live ones, so both must fit for a while."""
    wanted: dict[int, tuple[Path, int]] = {}
    sizes = [(target, trees[name]) for name, target in plan.trees]
    if plan.config:
        sizes.append((places.app_dir, config_size))
    for target, size in sizes:
        place = target
        while not place.exists():
            place = place.parent
        device = place.stat().st_dev
        wanted[device] = (place, wanted.get(device, (place, 0))[1] + size)
    for place, size in wanted.values():
        free = shutil.disk_usage(place).free
        if size > free:
            yield f"The files need {size:,} bytes at {place}, where {free:,} are free: make room first."
