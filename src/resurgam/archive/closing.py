"""What follows the tar stream in an archive: the index, the footer (docs/archive-format.md, sentences 4, 16, 18)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from blake3 import blake3

from resurgam.archive.footer import Footer
from resurgam.archive.index import Index

_PART = 1 << 20


@dataclass(frozen=True, slots=True)
class MetadataPlace:
    """Where the members of the metadata's content stand in the file, and the digest of those stored bytes."""

    offset: int
    stored: int
    length: int
    digest: bytes


def closing_members(
    index: Index, at: int, stream: int, metadata: MetadataPlace, compress: Callable[[memoryview], bytes]
) -> Iterator[bytes]:
    """The members that follow the tar stream's last one, which ends at the file's byte `at`; the footer is the last."""
    index_at, plain, hasher = at, 0, blake3()
    for section in index.encode():
        plain += len(section)
        for start in range(0, len(section), _PART):
            stored = compress(memoryview(section)[start : start + _PART])
            hasher.update(stored)
            at += len(stored)
            yield stored
    footer = Footer(
        offset=at,
        index_offset=index_at,
        index_stored=at - index_at,
        index_plain=plain,
        metadata_offset=metadata.offset,
        metadata_stored=metadata.stored,
        metadata_length=metadata.length,
        stream=stream,
        index_digest=hasher.digest(),
        metadata_digest=metadata.digest,
    )
    yield footer.encode()
