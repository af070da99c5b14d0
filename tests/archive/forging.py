"""Archives whose digests are right and whose parts lie: what ArchiveWriter would never write."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from blake3 import blake3

from resurgam.archive.entry import Entry, Kind
from resurgam.archive.footer import Footer, mark_member
from resurgam.archive.headers import build, padding
from resurgam.archive.index import DIGEST, Index
from resurgam.pipeline.codec import member as gzip_member
from resurgam.pipeline.codec import stored_check
from tests.archive.trees import NAME, NOW, metadata_bytes


class Forged:
    """An archive with valid digests whose parts lie; what ArchiveWriter would never write."""

    def __init__(self) -> None:
        content = b"0123456789" * 100
        self.entries = [
            Entry(b"", Kind.FOLDER, 0o755, mtime_ns=NOW),
            Entry(b"a", Kind.FILE, 0o644, mtime_ns=NOW, size=len(content)),
            Entry(b"b", Kind.SYMLINK, 0o777, mtime_ns=NOW, target=b"a"),
            Entry(b"backup_metadata.json", Kind.FILE, 0o644, mtime_ns=NOW, size=len(metadata_bytes())),
        ]
        self.contents = {b"a": content, b"backup_metadata.json": metadata_bytes()}
        # What stands in the stream, where it differs from what the index says.
        self.streamed: list[Entry] | None = None
        self.after = b""
        self.end = bytes(1024)
        self.headers: Callable[[int], int] = lambda blocks: blocks
        self.lengths: Callable[[list[int]], list[int]] = list
        self.stored: Callable[[list[int]], list[int]] = list
        self.index_bytes: Callable[[bytes], bytes] = bytes
        self.index_members: Callable[[bytes], bytes] | None = None
        self.footer: Callable[[Footer], Footer] = lambda footer: footer


def forged(lie: Callable[[Forged], object]) -> Forged:
    made = Forged()
    lie(made)
    return made


def write_forged(path: Path, made: Forged) -> None:
    chunks: list[bytes] = []
    index = Index(NAME)
    for entry in made.entries:
        blocks = len(build(entry, NAME.encode())) // 512
        index.add_entry(
            entry,
            made.headers(blocks),
            blake3(made.contents[entry.path]).digest(16) if entry.kind is Kind.FILE else bytes(16),
        )
    for entry in made.streamed or made.entries:
        chunks.append(build(entry, NAME.encode()))
        content = made.contents.get(entry.path, bytes(entry.size))
        if content:
            chunks.append(content + bytes(padding(len(content))))
    chunks.append(made.end + made.after)
    members = [mark_member(chunks[0]), *(gzip_member(chunk) for chunk in chunks[1:])]
    lengths, stored = made.lengths([len(c) for c in chunks]), made.stored([len(m) for m in members])
    for chunk, length, size, part in zip(chunks, lengths, stored, members, strict=False):
        index.add_chunk(length, size, blake3(chunk).digest(DIGEST), stored_check(part))
    data = b"".join(members)
    plain = made.index_bytes(b"".join(index.encode()))
    stored_index = (made.index_members or gzip_member)(plain)
    at, metadata = sum(len(m) for m in members[:-2]), members[-2]
    footer = Footer(
        len(data) + len(stored_index),
        len(data),
        len(stored_index),
        len(plain),
        at,
        len(metadata),
        len(metadata_bytes()),
        sum(lengths),
        blake3(stored_index).digest(),
        blake3(metadata).digest(),
    )
    path.write_bytes(data + stored_index + made.footer(footer).encode())
