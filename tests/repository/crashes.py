"""The crash simulator: what a disk may hold after the machine died, at any point of a recorded run.

    with record(tmp_path) as trace:                   # everything below tmp_path, through durable.system
        store = trace.watch(FolderStore(tmp_path / "repository"))
        store.prepare()
        ...                                             # any code, any number of threads
        trace.mark("committed NAME")                    # what only the test knows to have happened
    for state in states(trace, seed=1):
        objects = state.objects(tmp_path / "repository")        # {key: bytes}, as FolderStore would list them
        assert state.broken_promises(tmp_path / "repository") == []
        store = state.store(tmp_path / "repository")            # the same as a MemoryStore, for the next run's code
        state.materialise(folder)                               # or as files, with partial ones, in an empty folder

The rules are POSIX's, as in the ALICE paper (Pillai et al., OSDI 2014), and no file system's own kindness:
- an fsync of a file makes its bytes durable, not its name; an fsync of a folder makes the names in it durable, not the
  bytes behind them, and not its own name;
- whatever was not made durable may be there or not, in any combination and order: of a write all, nothing, the first
  half, or zeros; of a name its change or what was before;
- one change of one folder (also a rename within it) happens whole or not at all; a rename from one folder into another
  is two changes.

For each prefix of the trace come: all that is not durable kept, all dropped, each one dropped alone, and 50 seeded
subsets (or every combination, where there are no more than that). What had returned before the crash is a state's
`acknowledged`, and what had begun its `under_way`.

`record(root, without=site)` leaves one fsync out, by its call site (`trace.sites`), to prove that a test needs it.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from resurgam import durable
from resurgam.stores.objects import ObjectStore
from tests.repository.crash_disk import Disk, Operation, Rename, Sync, Write
from tests.repository.crash_states import CrashState, Mark, Step, states
from tests.repository.crash_watching import Watched

__all__ = ["CrashState", "Mark", "Step", "Trace", "record", "states"]


@dataclass(slots=True)
class Trace:
    """What was recorded: `operations` in their order, on top of the disk `before`; `steps` of the watched stores;
    `sites`: the call sites of fsync, with the number of their calls."""

    root: Path
    before: Disk
    operations: list[Operation] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    sites: dict[str, int] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)

    def watch(self, store: ObjectStore) -> Watched:
        """`store`, with its puts and deletes as steps of this trace."""
        return Watched(store, self.steps, self.operations, self.lock)

    def mark(self, what: str) -> None:
        """From here on, every state's `marks` hold `what`."""
        with self.lock:
            self.marks.append(Mark(what, len(self.operations)))


class _Recorder(durable.System):
    """Does each call for real, and writes down those that concern the trace's root."""

    def __init__(self, trace: Trace, without: str | None) -> None:
        self._trace = trace
        self._without = without
        self._inodes: dict[str, int] = dict(trace.before.paths(os.fspath(trace.root)))
        self._next = len(trace.before.files) + len(trace.before.folders)
        self._open: dict[int, int] = {}
        self._ends: dict[int, int] = {}

    def open(self, path: Path, flags: int, mode: int = 0o600) -> int:
        with self._turn():
            new = bool(flags & os.O_CREAT) and not os.path.lexists(path)
            fd = super().open(path, flags, mode)
            assert not flags & (os.O_TRUNC | os.O_APPEND), "not recorded, since durable.py does not do it"
            if new and self._is_inside(path):
                self._name(path, self._new_inode())
            if (inode := self._inodes.get(os.fspath(path))) is not None:
                self._open[fd], self._ends[fd] = inode, 0
            return fd

    def close(self, fd: int) -> None:
        with self._turn():
            super().close(fd)
            self._open.pop(fd, None)

    def write(self, fd: int, data: memoryview) -> int:
        with self._turn():
            written = super().write(fd, data)
            if (inode := self._open.get(fd)) is not None:
                self._trace.operations.append(Write(inode, self._ends[fd], bytes(data[:written])))
                self._ends[fd] += written
            return written

    def fsync(self, fd: int) -> None:
        with self._turn():
            inode = self._open.get(fd)
            if inode is None:
                super().fsync(fd)
                return
            site = _site(sys._getframe(1))
            self._trace.sites[site] = self._trace.sites.get(site, 0) + 1
            if site != self._without:
                # The real disk may keep what it likes: this one does not lose power.
                self._trace.operations.append(Sync(inode))

    def mkdir(self, path: Path, mode: int) -> None:
        with self._turn():
            super().mkdir(path, mode)
            if self._is_inside(path):
                self._name(path, self._new_inode(), folder=True)

    def rename(self, old: Path, new: Path) -> None:
        with self._turn():
            super().rename(old, new)
            self._renamed(old, new)

    def rename2(self, old: Path, new: Path, flags: int) -> None:
        with self._turn():
            super().rename2(old, new, flags)
            assert not self._is_inside(old) or flags == 1, "an exchange is not recorded"
            self._renamed(old, new)

    def link(self, old: Path, new: Path) -> None:
        with self._turn():
            super().link(old, new)
            if self._is_inside(new):
                self._name(new, self._inodes[os.fspath(old)])

    def unlink(self, path: Path) -> None:
        with self._turn():
            super().unlink(path)
            if self._is_inside(path):
                del self._inodes[os.fspath(path)]
                self._trace.operations.append(Rename(self._folder_of(path), ((path.name, None),)))

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """One call at a time, so that the trace has their order; other threads may come in between any two."""
        time.sleep(0)
        with self._trace.lock:
            yield

    def _is_inside(self, path: Path) -> bool:
        return os.fspath(path).startswith(os.fspath(self._trace.root) + os.sep)

    def _folder_of(self, path: Path) -> int:
        return self._inodes[os.fspath(path.parent)]

    def _new_inode(self) -> int:
        self._next += 1
        return self._next

    def _name(self, path: Path, inode: int, folder: bool = False) -> None:
        self._inodes[os.fspath(path)] = inode
        self._trace.operations.append(Rename(self._folder_of(path), ((path.name, inode),), new_folder=folder))

    def _renamed(self, old: Path, new: Path) -> None:
        if not self._is_inside(old):
            return
        inode = self._inodes.pop(os.fspath(old))
        self._inodes[os.fspath(new)] = inode
        if old.parent == new.parent:
            self._trace.operations.append(Rename(self._folder_of(new), ((old.name, None), (new.name, inode))))
        else:
            self._trace.operations.append(Rename(self._folder_of(new), ((new.name, inode),)))
            self._trace.operations.append(Rename(self._folder_of(old), ((old.name, None),)))


def _site(frame: FrameType | None) -> str:
    """Where in durable.py an fsync is, and for whom: `fsync_folder:52 < make_folder:91 < object_folder.put:77`."""
    names = []
    while frame is not None:
        code = frame.f_code
        inside = code.co_filename == durable.__file__
        names.append(f"{'' if inside else Path(code.co_filename).stem + '.'}{code.co_name}:{frame.f_lineno}")
        if not inside:
            break
        frame = frame.f_back
    return " < ".join(names)


@contextmanager
def record(root: Path, without: str | None = None) -> Iterator[Trace]:
    """Record what the block does below `root`, a folder that is there. What it holds before counts as durable."""
    trace = Trace(root, Disk.of_folder(root))
    before, durable.system = durable.system, _Recorder(trace, without)
    try:
        yield trace
    finally:
        durable.system = before
