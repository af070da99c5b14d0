"""Swapping in, killed at every change it makes; putting back, killed at every change as well."""

from __future__ import annotations

import errno
import os
import stat
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from resurgam.errors import RestoreFailed, StorageError
from resurgam.operations.swap_paths import (
    PathKind,
    Step,
    SwapItem,
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
from tests.operations.swap_scenes import ID, Log, Scene, State, fill, scene, state, swap
from tests.sampling import sample

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


@pytest.mark.skipif(os.getuid() != 0, reason="only root can make a folder that belongs to someone else")
def test_a_volume_whose_top_belongs_to_someone_else(tmp_path: Path) -> None:
    """A container's user may write into it, and neither chmod nor chown it."""
    here = scene("inside", tmp_path)
    target = here.things[0][0]
    for folder, names, files in os.walk(tmp_path):
        for name in [folder, *(os.path.join(folder, name) for name in names + files)]:
            if name != str(target):
                os.lchown(name, 65534, 65534)
    target.chmod(0o777)
    before = state(target)
    folder_fd = os.open(tmp_path, os.O_RDONLY)

    def deed() -> None:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
        os.fchdir(folder_fd)
        steps: list[Step] = []
        # Below pytest's private folder only the descriptor leads here, so what the plan would say is said here.
        ours = Path(f"app/uploads/.resurgam-{ID}")
        item = SwapItem(Path("app/uploads"), ours / "new", ours / "previous", PathKind.FOLDER, Way.ENTRIES, ID)
        swap_in([item], lambda name, data: steps.append((name, data)))
        assert os.path.isdir("app/uploads/new-folder")
        revert(steps)

    in_child(deed)
    assert state(target) == before


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
