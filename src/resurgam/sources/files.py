"""Captures file trees, one folder at a time, without following links and whatever happens to them meanwhile.

Rules:
- the walk goes by folder descriptors and O_NOFOLLOW, so nothing that is swapped in meanwhile leads out of the tree;
- it holds the names of the folders it stands in, never those of the whole tree, and does not recurse;
- a folder comes before what is in it, names within a folder in the order of their bytes: the same tree gives
  the same stream;
- hard links are kept within a tree; a name in another tree is a file of its own there, so that each tree can be
  restored alone;
- a file that can not be read fails the run; all (up to 20) are named, and after the first nothing more is read;
- file systems mounted inside a tree belong to it.

A tree's own path may be a symlink to its folder; inside, symlinks are saved as they are.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from resurgam.archive.entry import Entry, Identity, Kind, Offer, name_text, printable
from resurgam.archive.names import MAX_PART, check_path
from resurgam.errors import FileSourceError, HostileError
from resurgam.settings import FileTree
from resurgam.sources.entries import (
    GONE,
    NO_NAMES,
    WHOLE_BYTES,
    Content,
    EntrySink,
    NameList,
    Names,
    Owners,
    Progress,
    has_holes,
    no_progress,
    open_regular,
)
from resurgam.sources.excludes import Excludes, Matcher
from resurgam.sources.later import FOLDER_FLAGS, LaterFile, Reading, Told, TreeFolders

_MAX_FAILURES = 20
_TOLD_BYTES = 1 << 20  # progress is told when so much has come together, not of each small file
_ENCODING = sys.getfilesystemencoding(), sys.getfilesystemencodeerrors()
_DOT = ord(".")
_OTHER_KINDS = {
    stat.S_IFSOCK: "a socket",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFBLK: "a block device",
    stat.S_IFCHR: "a character device",
}


@dataclass(frozen=True, slots=True)
class TreeReport:
    """What became of one tree. `bytes` counts the files' contents; names are paths in the backup."""

    name: str
    present: bool
    files: int = 0
    folders: int = 0
    symlinks: int = 0
    hardlinks: int = 0
    bytes: int = 0
    skipped: Names = NO_NAMES
    excluded: Names = NO_NAMES
    vanished: Names = NO_NAMES
    changed: Names = NO_NAMES
    warnings: tuple[str, ...] = ()


def capture_trees(
    trees: Sequence[FileTree],
    sink: EntrySink,
    *,
    excludes: Excludes,
    made_ns: int = 0,
    progress: Progress = no_progress,
) -> tuple[TreeReport, ...]:
    """Capture all trees below `files/`, whose own entry gets the time `made_ns`.

    Raises FileSourceError, also for two trees of one name; SettingsError for a pattern that is not understood.
    """
    names = [tree.name for tree in trees]
    for name in names:
        if names.count(name) > 1:
            raise FileSourceError(
                f"Two file trees are called {name!r}, so one would hide the other; nothing was captured.",
                "Rename one of the folders, or leave it out of BACKUP_FILE_TREES.",
            )
    sink.add(Entry(b"files", Kind.FOLDER, 0o755, os.getuid(), os.getgid(), mtime_ns=made_ns))
    return tuple(capture_tree(tree, sink, excludes=excludes, progress=progress) for tree in trees)


def capture_tree(
    tree: FileTree, sink: EntrySink, *, excludes: Excludes, progress: Progress = no_progress
) -> TreeReport:
    """Capture one tree as `files/NAME` and what is below it; the entry `files` is the caller's.

    Raises FileSourceError if a configured tree is absent or anything in a tree can not be read, SettingsError
    for a pattern that is not understood. An absent default tree is a warning in the report.
    """
    try:
        fd = os.open(tree.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.ENOENT and not tree.configured:
            return TreeReport(
                tree.name, False, warnings=(f"The folder {tree.path} is not there, so it is not in the backup.",)
            )
        raise FileSourceError(
            f"The folder {tree.path} can not be captured: {error.strerror}.",
            "Create it, mount it, let this user read it, or take it out of BACKUP_FILE_TREES.",
        ) from error
    return _Walk(tree, sink, Matcher(excludes), progress).run(fd)


@dataclass(slots=True)
class _Level:
    """A folder the walk stands in: its descriptor, its path in the backup, what is still to come (last first)."""

    fd: int
    path: bytes
    names: list[bytes]


class _Walk:
    """The state of one tree's capture."""

    def __init__(self, tree: FileTree, sink: EntrySink, matcher: Matcher, progress: Progress) -> None:
        self._tree, self._sink, self._matcher, self._progress = tree, sink, matcher, progress
        self._top = b"files/" + os.fsencode(tree.name)
        self._owners = Owners()
        self._levels: list[_Level] = []
        self._first: dict[tuple[int, int], tuple[bytes, int, int]] = {}
        self._failures: list[str] = []
        self._files = self._folder_count = self._symlinks = self._hardlinks = self._bytes = 0
        self._untold = 0
        self._no_patterns = matcher.only_hidden
        self._skipped, self._excluded, self._vanished, self._changed = (NameList() for _ in range(4))
        self._warnings: list[str] = []
        self._told = Told(
            self._gone, self._failed, self._changed.add, self._grown, lambda: bool(self._failures), self._left_out
        )

    def run(self, fd: int) -> TreeReport:
        """Walk the tree open at `fd`, which is closed on return."""
        try:
            if self._matcher.own_folder(os.fstat(fd)):
                os.close(fd)
                raise FileSourceError(
                    f"The folder {self._tree.path} is one of Resurgam's own, so it can not be backed up.",
                    "Keep BACKUP_DIR out of BACKUP_FILE_TREES.",
                )
            self._folders = TreeFolders(fd, self._top)
            self._reading = Reading(self._folders, self._owners, self._told)
            try:
                self._walk(fd)
                self._sink.settle()
                self._progress(self._untold)
            finally:
                self._folders.close()
        finally:
            for level in self._levels:
                os.close(level.fd)
        if self._failures:
            self._give_up()
        return TreeReport(
            self._tree.name,
            True,
            self._files,
            self._folder_count,
            self._symlinks,
            self._hardlinks,
            self._bytes,
            self._skipped.frozen(),
            self._excluded.frozen(),
            self._vanished.frozen(),
            self._changed.frozen(),
            tuple(self._warnings),
        )

    def _walk(self, fd: int) -> None:
        self._enter(fd, self._top)
        while self._levels:
            level = self._levels[-1]
            if level.names:
                self._visit(level, level.names.pop())
            else:
                os.close(self._levels.pop().fd)

    def _enter(self, fd: int, path: bytes) -> None:
        """Add the folder open at `fd`, and stand in it."""
        try:
            status = os.fstat(fd)
            names = _listed(fd)
        except OSError as error:
            os.close(fd)
            self._failed(path, error.strerror)
            return
        self._levels.append(_Level(fd, path, names))
        self._offer(self._owners.entry(path, Kind.FOLDER, status), status)

    def _visit(self, level: _Level, listed: bytes) -> None:
        name, kind = listed[:-2], listed[-1:]
        path = level.path + b"/" + name
        if (name[0] == _DOT or not self._no_patterns) and self._matcher.name_excluded(
            name_text(name), name_text(path[6:]), kind == b"d"
        ):
            self._excluded.add(path)
            return
        try:
            # A shorter one, made of names that a file system has given, has nothing that is refused.
            if len(path) > MAX_PART:
                check_path(path)
        except HostileError:
            # Refused by every restore, so it must not look as if it were saved.
            self._failed(path, "its path is longer or deeper than a restore accepts (4096 bytes, 200 folders)")
            return
        try:
            if kind == b"f":
                self._file(level.fd, name, path)
            elif kind == b"d":
                self._folder(level.fd, name, path)
            elif kind == b"l":
                self._symlink(level.fd, name, path)
            else:
                self._other(level.fd, name, path)
        except OSError as error:
            if error.errno in GONE:
                self._vanished.add(path)
            else:
                self._failed(path, error.strerror)

    def _folder(self, folder_fd: int, name: bytes, path: bytes) -> None:
        fd = os.open(name, FOLDER_FLAGS, dir_fd=folder_fd)
        if self._matcher.own_folder(os.fstat(fd)):
            os.close(fd)
            self._excluded.add(path)
            return
        self._enter(fd, path)

    def _symlink(self, folder_fd: int, name: bytes, path: bytes) -> None:
        status = os.stat(name, dir_fd=folder_fd, follow_symlinks=False)
        if stat.S_ISLNK(status.st_mode):
            target = os.readlink(name, dir_fd=folder_fd)
            self._offer(self._owners.entry(path, Kind.SYMLINK, status, target), status)
        else:
            self._vanished.add(path)

    def _other(self, folder_fd: int, name: bytes, path: bytes) -> None:
        mode = os.stat(name, dir_fd=folder_fd, follow_symlinks=False).st_mode
        self._skipped.add(path, _OTHER_KINDS.get(stat.S_IFMT(mode), "neither file, folder nor link"))

    def _file(self, folder_fd: int, name: bytes, path: bytes) -> None:
        status = os.stat(name, dir_fd=folder_fd, follow_symlinks=False)
        if not stat.S_ISREG(status.st_mode):
            raise FileNotFoundError(errno.ENOENT, "no longer a regular file")
        if self._left_out(name, path, status):
            return
        if status.st_nlink > 1:
            self._file_of_many_names(folder_fd, name, path)
            return
        entry = self._owners.entry(path, Kind.FILE, status)
        identity = Identity(status.st_ctime_ns, status.st_ino)
        later = LaterFile(entry, identity, self._reading)
        self._files += 1
        self._sized(entry.size)
        self._sink.offer(Offer(entry, identity, later.read, later.changed))

    def _file_of_many_names(self, folder_fd: int, name: bytes, path: bytes) -> None:
        """Read it now: its further names refer to it, so that it must not turn out to be gone."""
        fd, status = open_regular(name, folder_fd)
        try:
            if self._left_out(name, path, status) or self._linked(path, status):
                return
            content = Content(fd, status, has_holes(fd, status))
            entry = self._owners.entry(path, Kind.FILE, status, sparse=content.sparse)
            if status.st_size <= WHOLE_BYTES:
                data = content.whole()
                if content.error is None:
                    self._add(entry, (data,))
            else:
                self._add(entry, content.blocks())
            if content.error is not None:
                raise content.error
            if content.changed():
                self._changed.add(path)
        finally:
            os.close(fd)
        self._first[status.st_dev, status.st_ino] = (path, status.st_size, status.st_mtime_ns)

    def _left_out(self, name: bytes, path: bytes, status: os.stat_result) -> bool:
        """Files with secrets, by identity, and any `.env`, which the manual promises to leave out."""
        if name != b".env" and not self._matcher.secret(status):
            return False
        self._excluded.add(path)
        if len(self._warnings) < _MAX_FAILURES:
            self._warnings.append(f"{printable(path)} holds secrets and is not in the backup.")
        return True

    def _linked(self, path: bytes, status: os.stat_result) -> bool:
        """Add a further name of a file that is in the backup already, as a hard link to its first name."""
        first = self._first.get((status.st_dev, status.st_ino)) if status.st_nlink > 1 else None
        if first is None:
            return False
        if first[1:] != (status.st_size, status.st_mtime_ns):
            # The inode was written to, or given to another file, since its first name was read.
            self._changed.add(path)
            return False
        self._add(self._owners.entry(path, Kind.HARDLINK, status, first[0]))
        return True

    def _add(self, entry: Entry, blocks: Iterable[bytes] = ()) -> None:
        if self._failures:
            return
        self._sink.add(entry, blocks)
        self._count(entry)

    def _offer(self, entry: Entry, status: os.stat_result) -> None:
        """A folder or a symlink: what there is of it has been read."""
        if not self._failures:
            self._count(entry)
            identity = Identity(status.st_ctime_ns, status.st_ino)
            self._sink.offer(Offer(entry, identity, lambda: (entry, ()), lambda: False))

    def _count(self, entry: Entry) -> None:
        if entry.kind is Kind.FOLDER:
            self._folder_count += 1
        elif entry.kind is Kind.SYMLINK:
            self._symlinks += 1
        elif entry.kind is Kind.HARDLINK:
            self._hardlinks += 1
        else:
            self._files += 1
        self._sized(entry.size)

    def _sized(self, size: int) -> None:
        self._bytes += size
        self._untold += size
        if self._untold >= _TOLD_BYTES:
            self._progress(self._untold)
            self._untold = 0

    def _gone(self, entry: Entry) -> None:
        """A file; it was counted when it was seen."""
        self._files -= 1
        self._bytes -= entry.size
        self._vanished.add(entry.path)

    def _grown(self, size: int) -> None:
        self._bytes += size

    def _failed(self, path: bytes, reason: str | None) -> None:
        self._failures.append(f"{printable(path)} ({reason})")
        if len(self._failures) >= _MAX_FAILURES:
            self._give_up()

    def _give_up(self) -> None:
        more = " and perhaps more" if len(self._failures) >= _MAX_FAILURES else ""
        raise FileSourceError(
            f"The tree {self._tree.path} could not be read whole: {', '.join(self._failures)}{more}.",
            "Let this user read them, repair the disk, or leave them out with an exclude pattern.",
        )


def _listed(fd: int) -> list[bytes]:
    """What a folder holds, each as name, NUL, and f, d, l or o for its kind; in falling order of the names.

    One bytes object a name keeps a folder of a million files under 100 MB; the NUL sorts before any other byte,
    so the order is that of the names alone.
    """
    names = []
    with os.scandir(fd) as found:
        for item in found:
            if item.is_file(follow_symlinks=False):
                kind = b"\0f"
            elif item.is_dir(follow_symlinks=False):
                kind = b"\0d"
            elif item.is_symlink():
                kind = b"\0l"
            else:
                kind = b"\0o"
            names.append(item.name.encode(*_ENCODING) + kind)
    names.sort(reverse=True)
    return names
