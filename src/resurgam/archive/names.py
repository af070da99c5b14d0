"""Which names an archive may hold; everything else is hostile (docs/threat-model.md).

The checks are ours, not those of tarfile's filters, which failed again and again (CVE-2025-4517 and its kin).
"""

from __future__ import annotations

from resurgam.archive.entry import Entry, Kind, printable
from resurgam.errors import HostileError

MAX_PART = 255  # NAME_MAX of every file system in use
MAX_PATH = 4096
MAX_DEPTH = 200


def check_path(path: bytes) -> None:
    """Refuse a path that could lead out of the folder it is joined to, or that no file system would take."""
    if not path or path.startswith(b"/") or b"\0" in path or len(path) > MAX_PATH:
        raise HostileError(f"The name {printable(path[:200])!r} is absolute, empty, too long, or holds a NUL.")
    if (depth := path.count(b"/") + 1) > MAX_DEPTH:
        raise HostileError(f"The name {printable(path[:200])!r} is nested {depth} folders deep.")
    framed = b"/" + path + b"/"
    dotted = b"//" in framed or b"/./" in framed or b"/../" in framed
    if dotted or (len(path) > MAX_PART and max(map(len, path.split(b"/"))) > MAX_PART):
        raise HostileError(f"The name {printable(path[:200])!r} holds an empty, dotted, or overlong part.")


def below(path: bytes, top: bytes) -> bytes:
    """The path without the top folder, empty for the folder itself. HostileError if it stands anywhere else."""
    path = path.removeprefix(b"./")
    if path == top:
        return b""
    if not path.startswith(top + b"/"):
        raise HostileError(f"The entry {printable(path[:200])!r} stands outside the folder {printable(top)!r}.")
    return path[len(top) + 1 :]


class NameRegister:
    """Sees every entry of one archive once, and refuses what two entries together make dangerous."""

    def __init__(self) -> None:
        self._kinds: dict[bytes, Kind] = {}
        self._implied: set[bytes] = set()

    def admit(self, entry: Entry) -> None:
        """HostileError for an unsafe name, a duplicate, an entry below a non-folder, a hard link to nothing."""
        check_path(entry.path)
        if entry.path in self._implied and entry.kind is Kind.FOLDER:
            self._implied.remove(entry.path)
            return
        if entry.path in self._kinds:
            raise HostileError(f"The name {printable(entry.path)!r} occurs twice.")
        parent = entry.path.rpartition(b"/")[0]
        while parent:
            kind = self._kinds.get(parent)
            if kind is not None:
                if kind is not Kind.FOLDER:
                    raise HostileError(f"{printable(entry.path)!r} stands below something that is not a folder.")
                break
            # Foreign archives may leave folders out, or name them after what they hold (cpio's order). The name
            # is a folder's from here on.
            self._kinds[parent] = Kind.FOLDER
            self._implied.add(parent)
            parent = parent.rpartition(b"/")[0]
        if entry.kind is Kind.HARDLINK:
            check_path(entry.target)
            if self._kinds.get(entry.target) is not Kind.FILE:
                raise HostileError(f"The hard link {printable(entry.path)!r} names no earlier file of this archive.")
        if entry.kind is Kind.SYMLINK and (not entry.target or b"\0" in entry.target or len(entry.target) > MAX_PATH):
            raise HostileError(f"The symbolic link {printable(entry.path)!r} has an impossible target.")
        self._kinds[entry.path] = entry.kind
