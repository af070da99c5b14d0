"""Trees of entries with their contents, and archives made of them: what the archive tests write and compare."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hypothesis import strategies as st

from resurgam.archive.entry import Entry, Kind
from resurgam.archive.footer import METADATA_NAME
from resurgam.archive.opening import open_archive
from resurgam.archive.sinks import PlainSink
from resurgam.archive.writer import ArchiveWriter
from tests.sampling import randomness

NAME = "radiology_backup_20250104_143022"
DATABASE = b"database_20250104_143022.sql"
SECOND = 1_000_000_000
NOW = 1_736_001_022 * SECOND + 123_456_789
LARGE = 1 << 20
_NOISE = randomness("tree contents").randbytes(6 << 20)
_TEXT = b"".join(b"%d\tthorax\tno finding of note in report %d\n" % (i, i * i) for i in range(160_000))


@dataclass(frozen=True)
class Planned:
    """An entry to be written: `late` without telling its size, in blocks of `step` bytes."""

    entry: Entry
    content: bytes = b""
    late: bool = False
    step: int = 1 << 20

    def blocks(self) -> Iterator[bytes]:
        for start in range(0, len(self.content), self.step):
            yield self.content[start : start + self.step]


def noise(size: int, start: int = 0) -> bytes:
    return _NOISE[start : start + size]


def text(size: int, start: int = 0) -> bytes:
    return _TEXT[start : start + size]


def file(path: str | bytes, content: bytes = b"", **more: object) -> Planned:
    late, step = bool(more.pop("late", False)), more.pop("step", 1 << 20)
    raw = path if isinstance(path, bytes) else path.encode()
    entry = Entry(raw, Kind.FILE, 0o640, uid=33, gid=33, uname="www", gname="www", mtime_ns=NOW, size=len(content))
    assert isinstance(step, int)
    return Planned(entry._replace(**more), content, late, step)  # type: ignore[arg-type]


def folder(path: str | bytes, mode: int = 0o755) -> Planned:
    return Planned(Entry(path if isinstance(path, bytes) else path.encode(), Kind.FOLDER, mode, mtime_ns=NOW))


def link(path: str | bytes, target: str | bytes, kind: Kind = Kind.SYMLINK) -> Planned:
    raw, to = (value if isinstance(value, bytes) else value.encode() for value in (path, target))
    # A hard link bears its file's mode, as sources give it: tarfile sets what it finds.
    mode = 0o777 if kind is Kind.SYMLINK else 0o600
    return Planned(Entry(raw, kind, mode, mtime_ns=NOW, target=to))


def metadata_bytes(name: str = NAME) -> bytes:
    return json.dumps({"backup_name": name, "timestamp": name[-15:], "format": 1}).encode()


def write_archive(folder: Path, plan: Iterable[Planned], name: str = NAME, metadata: bytes | None = None) -> Path:
    path = folder / f"{name}.tar.gz"
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        with ArchiveWriter(PlainSink(fd), name, mtime_ns=NOW) as writer:
            for planned in plan:
                if planned.late:
                    # Whatever size the source may give: it is not known yet.
                    given = writer.add_late(planned.entry._replace(size=0), planned.blocks())
                    assert given == planned.entry
                else:
                    writer.add(planned.entry, planned.blocks())
            size = writer.finish(metadata_bytes(name) if metadata is None else metadata, NOW)
    finally:
        os.close(fd)
    assert size == path.stat().st_size
    return path


def walked(path: Path) -> list[tuple[Entry, bytes]]:
    """Everything that the archive holds, through every check there is; the metadata left out."""
    with open_archive(path) as archive:
        archive.metadata()
        names = [entry.path for entry in archive.entries()]
        found = [(entry, b"".join(blocks)) for entry, blocks in archive.walk()]
    assert names == [entry.path for entry, _ in found]
    return [(entry, content) for entry, content in found if entry.path != METADATA_NAME]


def manual_plan() -> list[Planned]:
    """A small backup in the manual's layout, with every kind of entry."""
    return [
        folder("config"),
        file("config/.env.example", b"DB_PASSWORD=\n"),
        folder("config/backend"),
        file("config/backend/config.py", b"DEBUG = False\n"),
        file(DATABASE, text(40_000), late=True, step=999),
        folder("files"),
        folder("files/templates"),
        file("files/templates/chest.html", b"<p>Thorax</p>"),
        folder("files/uploads", 0o750),
        file("files/uploads/scan.dcm", noise(3_000), mode=0o600),
        file("files/uploads/empty"),
        link("files/uploads/latest", "scan.dcm"),
        link("files/uploads/same", "files/uploads/scan.dcm", Kind.HARDLINK),
        folder("files/uploads/none"),
        file(b"files/uploads/b\xe9b\xe9.txt", b"latin-1 name"),
        file("files/uploads/" + "long/" * 30 + "n" * 200, b"a name that ustar's fields do not hold"),
    ]


def plain_plan() -> list[Planned]:
    """The manual's layout with names that ustar holds, and large and sparse files."""
    return [
        *manual_plan()[:-2],
        file("files/uploads/large.bin", noise(LARGE) + text(LARGE) + bytes(LARGE)),
        file("files/uploads/holes", bytes(700_000), sparse=True),
        *(file(f"files/uploads/run-{i}", text(i * 97 % 3_000, i)) for i in range(600)),
    ]


_PARTS = st.one_of(
    st.sampled_from(
        [b"a", b"b", b"files", b"Ordner \xc3\xa4", b"\xff\xfe", b"-rf", b" ", b"n" * 100, b"x" * 255, b"a\nb"]
    ),
    st.binary(min_size=1, max_size=40).map(lambda raw: raw.replace(b"/", b"_").replace(b"\0", b"_")),
    st.text(min_size=1, max_size=40).map(
        lambda name: name.replace("/", "_").replace("\0", "_").encode("utf-8", "replace")
    ),
    st.integers(1, 255).map(lambda size: b"m" * size),
).filter(lambda part: part not in (b".", b".."))
SIZES = (
    0,
    1,
    511,
    512,
    513,
    1023,
    1024,
    1025,
    16_383,
    65_535,
    65_536,
    262_145,
    LARGE - 513,
    LARGE - 1,
    LARGE,
    LARGE + 1,
)
LARGER = (*SIZES, LARGE + 511, (4 << 20) - 1, 4 << 20, (4 << 20) + 1)
_TIMES = st.one_of(
    st.integers(-(1 << 63), (1 << 63) - 1),
    st.integers(-3, 3).map(lambda value: value * 500_000_000 - 1),
    st.integers(0, 1 << 31).map(lambda value: value * SECOND),
)
_IDS = st.sampled_from([0, 33, 1000, 0o7777777, 0o10000000, (1 << 31) - 1, 1 << 31, (1 << 32) - 2])
_USERS = st.sampled_from(["", "root", "u" * 31, "v" * 32, "ärztin", "x" * 200])


_CONTENTS: list[Callable[[int], bytes]] = [bytes, noise, text]


@st.composite
def trees(draw: st.DrawFn, sizes: Sequence[int] = LARGER, most: int = 14) -> list[Planned]:
    """Any tree: each entry stands in an earlier folder, no name twice."""
    folders, used, total = [b""], {b"", METADATA_NAME}, 0
    files: list[bytes] = []
    plan: list[Planned] = []
    for _ in range(draw(st.integers(0, most))):
        parent, part = draw(st.sampled_from(folders)), draw(_PARTS)
        path = parent + b"/" + part if parent else part
        if path in used or len(path) > 4096:
            continue
        used.add(path)
        kind = draw(st.sampled_from(Kind))
        entry = Entry(
            path, kind, draw(st.integers(0, 0o7777)), draw(_IDS), draw(_IDS), draw(_USERS), draw(_USERS), draw(_TIMES)
        )
        if kind is Kind.FOLDER:
            folders.append(path)
        elif kind is Kind.SYMLINK:
            targets = [b"/etc/passwd", b"../..", b"t" * 101, b"\xff" * 400, path]
            entry = entry._replace(target=draw(st.sampled_from(targets)))
        elif kind is Kind.HARDLINK and files:
            entry = entry._replace(target=draw(st.sampled_from(files)))
        else:
            size = draw(st.sampled_from(sizes))
            total += size
            if total > 9 << 20:
                continue
            content = draw(st.sampled_from(_CONTENTS))(size)
            entry = entry._replace(kind=Kind.FILE, size=size, sparse=draw(st.booleans()))
            files.append(path)
            late = len(path) + len(NAME) < 100 and draw(st.booleans())
            plan.append(Planned(entry, content, late, draw(st.sampled_from([513, 65_536, 1 << 20, 5 << 20]))))
            continue
        plan.append(Planned(entry))
    return plan
