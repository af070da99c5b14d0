"""Swapping in, killed at every change it makes; putting back, killed at every change as well."""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from resurgam import durable
from resurgam.errors import RestoreFailed, StorageError
from resurgam.operations.swap_paths import (
    Kept,
    PathKind,
    Step,
    Way,
    choose_staging,
    discard_staging,
    make_staging,
    plan_swap,
    previous_of,
    revert,
    swap_in,
)
from tests.operations.namespaces import KILLED, count_changes, in_child, mount, needs_mounts
from tests.sampling import sample

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
        options = f"lowerdir={tmp}/lower,upperdir={tmp}/upper,workdir={tmp}/work"
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
    if name != "absent":
        fill(target, "old", 1)
    fill(staged, "new", 2)
    fault = no_exchange if name == "two renames" else (lambda: None)
    way = Way.ENTRIES if name == "inside" else Way.WHOLE
    used = ("set_aside",) if name == "two renames" else ("parent",) if name == "absent" else ()
    return Scene(app, [(target, staged, PathKind.FOLDER)], fault=fault, way=way, used=used)


def swap(scene: Scene, log: Log) -> tuple[Kept, ...]:
    scene.fault()
    items = [plan_swap(*thing, ID) for thing in scene.things]
    assert items[0].way is scene.way
    return swap_in(items, log)


PLAIN = ["exchange", "two renames", "absent", "inside", "file"]
MOUNTED = ["mounted", "mounted, staged beside", "mount in the tree", "file mounted", "file elsewhere", "overlay"]
SCENES = [*PLAIN, *(pytest.param(name, marks=needs_mounts) for name in MOUNTED)]


@pytest.mark.parametrize("name", SCENES)
def test_the_new_is_there_the_old_is_kept_and_undo_gives_it_back(tmp_path: Path, name: str) -> None:
    here = scene(name, tmp_path)
    log = Log(tmp_path / "journal")

    def all_of_it() -> None:
        before = state(here.top)
        wanted = {
            target: state(staged) if kind is PathKind.FOLDER else staged.read_bytes()
            for target, staged, kind in here.things
        }
        had = {target: os.path.lexists(target) for target in wanted}
        old = {target: state(target) if target.is_dir() else None for target in wanted}
        kept = swap(here, log)
        for target, new in wanted.items():
            assert (state(target) if target.is_dir() else target.read_bytes()) == new
        assert [entry.target for entry in kept] == list(wanted) and kept == previous_of(log.steps())
        for entry in kept:
            assert (entry.previous is not None) == had[entry.target]
            if entry.previous is not None and entry.previous.is_dir():
                assert state(entry.previous) == old[entry.target]
        assert set(here.used) <= {step for step, _ in log.steps()}
        for _ in range(2):
            revert(log.steps())
            assert state(here.top) == before
        for _, staged, _ in here.things:
            discard_staging(staged if staged.is_dir() else staged.parent)
        revert(log.steps())
        assert state(here.top) == before

    in_child(all_of_it, mounts=here.mounts)


@pytest.mark.parametrize("name", SCENES)
def test_killed_at_any_change_everything_is_put_back(tmp_path: Path, name: str) -> None:
    (tmp_path / "counted").mkdir()
    here = scene(name, tmp_path / "counted")
    changes = count_changes(partial(swap, here, Log(tmp_path / "counted" / "journal")), here.mounts)
    assert changes >= 2
    for point in sample(range(changes), 15, name):
        where = tmp_path / str(point)
        where.mkdir()
        here = scene(name, where)
        log = Log(where / "journal")
        before = in_child(partial(state, here.top), mounts=here.mounts)
        assert in_child(partial(swap, here, log), mounts=here.mounts, kill_at=point) == KILLED

        def put_back(here: Scene = here, log: Log = log) -> State:
            here.fault()
            revert(log.steps())
            return state(here.top)

        # The undo itself is killed too, at points that wander with the first one, then run to its end.
        for again in (point % 7, point % 13 + 3):
            in_child(put_back, mounts=here.mounts, kill_at=again)
        assert in_child(put_back, mounts=here.mounts) == before, f"killed before change {point}"


def test_a_failure_on_the_way_puts_everything_back_and_says_so(tmp_path: Path) -> None:
    here = scene("exchange", tmp_path)
    (tmp_path / "app" / "compose.yml").write_text("old")
    missing = (tmp_path / "app" / "compose.yml", tmp_path / "app" / "not staged", PathKind.FILE)
    before = state(here.top)
    items = [plan_swap(*thing, ID) for thing in (*here.things, missing)]
    with pytest.raises(RestoreFailed, match="are as they were before") as caught:
        swap_in(items, Log(tmp_path / "journal"))
    assert "not staged" in caught.value.message and state(here.top) == before


def test_a_journal_that_can_not_be_written_stops_the_swap(tmp_path: Path) -> None:
    here = scene("two renames", tmp_path)
    before = state(here.top)

    def full(name: str, data: dict[str, Any]) -> None:
        if name == "place":
            raise OSError(errno.ENOSPC, "No space left on device", "journal")

    def deed() -> None:
        here.fault()
        with pytest.raises(RestoreFailed, match="No space left"):
            swap_in([plan_swap(*thing, ID) for thing in here.things], full)

    in_child(deed)
    assert state(here.top) == before


def test_what_the_application_made_in_the_gap_is_set_aside_not_deleted(tmp_path: Path) -> None:
    here = scene("two renames", tmp_path)
    target = here.things[0][0]
    before = state(here.top)

    def meddle(name: str, data: dict[str, Any]) -> None:
        if name == "place":
            target.mkdir()
            (target / "precious").write_text("made in the gap")

    def deed() -> None:
        here.fault()
        with pytest.raises(RestoreFailed, match="File exists"):
            swap_in([plan_swap(*thing, ID) for thing in here.things], meddle)

    in_child(deed)
    assert state(here.top) == before
    assert (here.top / ".resurgam-conflict-0-uploads" / "precious").read_text() == "made in the gap"


def test_a_failed_undo_keeps_what_the_next_attempt_needs(tmp_path: Path) -> None:
    """The saved content of an overwritten file is the only copy: it must outlive an undo that could not write."""
    saved, target = tmp_path / "saved", tmp_path / "is a folder now"
    saved.write_text("old")
    target.mkdir()
    look = {"mode": 0o644, "uid": os.getuid(), "gid": os.getgid(), "mtime_ns": 7}
    data = {"target": str(target), "staged": str(tmp_path / "s"), "previous": str(saved), "look": look}
    steps = [("save", data), ("overwrite", data)]
    with pytest.raises(RestoreFailed, match="could be put back"):
        revert(steps)
    assert saved.read_text() == "old"
    target.rmdir()
    target.write_text("half written")
    revert(steps)
    assert target.read_text() == "old" and target.stat().st_mtime_ns == 7 and not saved.exists()


def test_staging_lies_beside_also_of_what_a_link_leads_to_or_is_not_there_yet(tmp_path: Path) -> None:
    (tmp_path / "data" / "real").mkdir(parents=True)
    (tmp_path / "link").symlink_to("data/real")
    assert choose_staging(tmp_path / "link", ID) == tmp_path / "data" / f".resurgam-{ID}-real"
    assert choose_staging(tmp_path / "no" / "such" / "folder", ID) == tmp_path / f".resurgam-{ID}-folder"
    staged = make_staging(tmp_path / "link", ID)
    assert stat.S_IMODE(staged.stat().st_mode) == 0o700
    with pytest.raises(StorageError):
        make_staging(tmp_path / "link", ID)
    (staged / "x").mkdir()
    item = plan_swap(tmp_path / "link", staged, PathKind.FOLDER, ID)
    swap_in([item], lambda name, data: None)
    assert (tmp_path / "link" / "x").is_dir() and (tmp_path / "link").is_symlink()


@needs_mounts
def test_a_mount_point_is_staged_inside_and_keeps_its_time(tmp_path: Path) -> None:
    (tmp_path / "volume").mkdir()
    (tmp_path / "uploads").mkdir()
    os.utime(tmp_path / "volume", ns=(5, 5))

    def deed() -> None:
        staged = make_staging(tmp_path / "uploads", ID)
        assert staged == tmp_path / "uploads" / f".resurgam-{ID}" / "new"
        assert (tmp_path / "uploads").stat().st_mtime_ns == 5
        discard_staging(staged)
        assert list((tmp_path / "uploads").iterdir()) == [] and (tmp_path / "uploads").stat().st_mtime_ns == 5

    in_child(deed, mounts=lambda: mount("--bind", tmp_path / "volume", tmp_path / "uploads"))


@needs_mounts
def test_below_a_folder_that_is_not_writable(tmp_path: Path) -> None:
    """As in a container whose root is read-only: the tree is staged inside, a file is written in place."""
    app = tmp_path / "app"
    for name in ("uploads", "data"):
        (app / name).mkdir(parents=True)
    fill(app / "uploads", "old", 1)
    (app / "compose.yml").write_text("old")

    def mounts() -> None:
        mount("--bind", app, app)
        mount("--bind", app / "uploads", app / "uploads")
        mount("--bind", app / "data", app / "data")
        mount("--bind", app / "compose.yml", app / "compose.yml")
        mount("-o", "remount,bind,ro", app)

    def deed() -> None:
        before = state(app)
        with pytest.raises(StorageError, match="no place to stage"):
            choose_staging(app / "config", ID)
        staged = make_staging(app / "uploads", ID)
        fill(staged, "new", 2)
        staging = make_staging(app / "data" / "config", ID)
        (staging / "compose.yml").write_text("new")
        log = Log(app / "data" / "journal")
        items = [
            plan_swap(app / "uploads", staged, PathKind.FOLDER, ID),
            plan_swap(app / "compose.yml", staging / "compose.yml", PathKind.FILE, ID),
        ]
        kept = swap_in(items, log)
        assert (app / "compose.yml").read_text() == "new" and (app / "uploads" / "new-folder").is_dir()
        discard_staging(staging)
        assert kept[1].previous is not None and kept[1].previous.read_text() == "old"
        revert(log.steps())
        log.path.unlink()
        os.utime(app / "data", ns=(before["data"][3],) * 2)
        assert state(app) == before

    in_child(deed, mounts=mounts)


def test_previous_that_is_there_already_and_bad_ids_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / f".resurgam-previous-{ID}-x").mkdir()
    with pytest.raises(StorageError, match="there already"):
        plan_swap(tmp_path / "x", tmp_path / "s", PathKind.FOLDER, ID)
    with pytest.raises(ValueError, match="id"):
        choose_staging(tmp_path / "x", "../evil")


def test_long_and_foreign_names(tmp_path: Path) -> None:
    target = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + b"\xe9" * 250))
    target.mkdir()
    staged = make_staging(target, ID)
    (staged / "new").write_text("")
    log = Log(tmp_path / "journal")
    (kept,) = swap_in([plan_swap(target, staged, PathKind.FOLDER, ID)], log)
    assert (target / "new").exists() and kept.previous is not None and kept.previous.is_dir()
    revert(log.steps())
    assert list(target.iterdir()) == [] and (staged / "new").exists()
