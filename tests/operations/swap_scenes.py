"""What the tests of swapping swap: trees and files, under mounts and faults, and a journal on disk."""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resurgam import durable
from resurgam.operations.swap_paths import Kept, PathKind, Step, Way, plan_swap, swap_in
from tests.operations.namespaces import mount

ID = "r7"
State = dict[str, Any]


def state(top: Path) -> State:
    """Everything below `top` but names of ours: mode, owner, time, content, inode groups. Folders by name."""
    seen: State = {}
    for path in sorted([top, *top.rglob("*")]):
        name = str(path.relative_to(top))
        if "/.resurgam-" in f"/{name}":
            continue
        status = path.lstat()
        what: Any = None
        if stat.S_ISLNK(status.st_mode):
            what = os.readlink(path)
        elif stat.S_ISREG(status.st_mode):
            what = path.read_bytes()
        # A folder in which one file is exchanged for another gets a new time, as under any editor.
        time = None if path == top or name == "backend" else status.st_mtime_ns
        seen[name] = (oct(status.st_mode), status.st_uid, status.st_gid, time, what)
    return seen


def fill(folder: Path, label: str, second: int) -> None:
    """A tree that differs from another of the same shape in contents, names, modes and times."""
    (folder / "both" / "deep").mkdir(parents=True)
    (folder / "both" / "deep" / "file").write_text(label * 100)
    (folder / "both" / f"{label}-only").write_text(label)
    (folder / f"{label}-folder").mkdir()
    (folder / "same").write_text(label)
    (folder / "changes-kind").mkdir() if label == "old" else (folder / "changes-kind").write_text("x")
    (folder / "kind-changes").write_text("x") if label == "old" else (folder / "kind-changes").mkdir()
    (folder / "link").symlink_to(f"/nowhere/{label}")
    Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9")).write_text(label)
    (folder / "same").chmod(0o640 if label == "old" else 0o604)
    for path in [*sorted(folder.rglob("*"), reverse=True), folder]:
        os.utime(path, ns=(second * 10**9, second * 10**9 + 7), follow_symlinks=False)


class Log:
    """A journal on disk, as JSON."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(self, name: str, data: dict[str, Any]) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps([name, data]) + "\n")

    def steps(self) -> list[Step]:
        if not self.path.exists():
            return []
        return [(name, data) for name, data in map(json.loads, self.path.read_text().splitlines())]


@dataclass
class Scene:
    """What is swapped, under which mounts, with which fault; everything below `top`."""

    top: Path
    things: list[tuple[Path, Path, PathKind]]
    mounts: Callable[[], None] | None = None
    fault: Callable[[], None] = lambda: None
    way: Way = Way.WHOLE
    used: tuple[str, ...] = ()


def no_exchange() -> None:
    """A file system without RENAME_EXCHANGE, as NFS."""
    real = durable._rename2

    def rename2(old: Path, new: Path, flags: int) -> None:
        if flags == 2:
            raise OSError(errno.EINVAL, "no exchange", str(old))
        real(old, new, flags)

    durable._rename2 = rename2


def scene(name: str, tmp: Path) -> Scene:
    app = tmp / "app"
    target = app / "uploads"
    target.mkdir(parents=True)
    staged = app / f".resurgam-{ID}-uploads"
    if name == "absent":
        target.rmdir()
        target = app / "not" / "there" / "uploads"
    if name == "inside":
        staged = target / f".resurgam-{ID}" / "new"
        (target / f".resurgam-{ID}").mkdir()
    if name == "overlay":
        for part in ("lower", "upper", "work"):
            (tmp / part).mkdir()
        (tmp / "lower" / "uploads").mkdir()
        fill(tmp / "lower" / "uploads", "old", 1)
        staged_source = tmp / "upper" / f".resurgam-{ID}-uploads"
        fill(staged_source, "new", 2)
        options = f"lowerdir={tmp}/lower,upperdir={tmp}/upper,workdir={tmp}/work" + (
            ",userxattr" if os.getuid() else ""
        )
        return Scene(
            app,
            [(target, staged, PathKind.FOLDER)],
            lambda: mount("-t", "overlay", "-o", options, "none", app),
            used=("entries_split",),
        )
    if name in ("mounted", "mounted, staged beside"):
        (tmp / "volume").mkdir()
        fill(tmp / "volume", "old", 1)
        if name == "mounted":
            staged = target / f".resurgam-{ID}" / "new"
            fill(tmp / "volume" / f".resurgam-{ID}" / "new", "new", 2)
        else:
            fill(staged, "new", 2)
        return Scene(
            app, [(target, staged, PathKind.FOLDER)], lambda: mount("--bind", tmp / "volume", target), way=Way.ENTRIES
        )
    if name == "mount in the tree":
        fill(target, "old", 1)
        fill(staged, "new", 2)
        fill(tmp / "volume", "old", 3)
        (target / "both" / "deep" / "mounted").mkdir()
        fill(staged / "both" / "deep" / "mounted", "new", 4)
        os.utime(target / "both" / "deep", ns=(1, 1))
        return Scene(
            app,
            [(target, staged, PathKind.FOLDER)],
            lambda: mount("--bind", tmp / "volume", target / "both" / "deep" / "mounted"),
            way=Way.ENTRIES,
            used=("entries_split",),
        )
    if name.startswith("file"):
        return _file_scene(name, tmp, app)
    if name != "absent":
        fill(target, "old", 1)
    fill(staged, "new", 2)
    fault = no_exchange if name == "two renames" else (lambda: None)
    way = Way.ENTRIES if name == "inside" else Way.WHOLE
    used = ("set_aside",) if name == "two renames" else ("parent",) if name == "absent" else ()
    return Scene(app, [(target, staged, PathKind.FOLDER)], fault=fault, way=way, used=used)


def _file_scene(name: str, tmp: Path, app: Path) -> Scene:
    """Config files: one at the top, one in a folder, one that was not there."""
    files = [app / "compose.yml", app / "backend" / "config.py", app / "new" / "file"]
    staging = app / f".resurgam-{ID}-config"
    things = []
    for number, path in enumerate(files):
        stage = staging / path.relative_to(app)
        for where, text in ((path, "old " * 10), (stage, "new")):
            if where != files[2]:
                where.parent.mkdir(parents=True, exist_ok=True)
                where.write_text(text + str(number))
                os.utime(where, ns=(1, number * 10**9))
        things.append((path, stage, PathKind.FILE))
    if name == "file":
        return Scene(app, things)
    if name == "file mounted":
        (tmp / "compose").write_text("old mounted")
        return Scene(
            app,
            things,
            lambda: mount("--bind", tmp / "compose", files[0]),
            way=Way.OVERWRITE,
            used=("save", "overwrite"),
        )
    (tmp / "folder").mkdir()
    (tmp / "folder" / "config.py").write_text("old mounted")
    return Scene(app, things, lambda: mount("--bind", tmp / "folder", app / "backend"), used=("near",))


def swap(scene: Scene, log: Log) -> tuple[Kept, ...]:
    scene.fault()
    items = [plan_swap(*thing, ID) for thing in scene.things]
    assert items[0].way is scene.way
    return swap_in(items, log)
