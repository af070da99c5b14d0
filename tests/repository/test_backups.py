"""Backups into a repository and out of it (docs/repository-format.md, sentences 18 to 24)."""

from __future__ import annotations

import io
import subprocess
import tarfile
import tempfile
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from resurgam.archive.entry import Kind
from resurgam.archive.opening import open_archive
from resurgam.errors import DamagedError, KeyRefused
from resurgam.repository.reading import ChunkReader
from resurgam.repository.repository import Repository
from tests.repository.scenes import (
    START,
    contents,
    new_repository,
    reopened,
    sample_dump,
    sample_files,
    stored,
    take,
)


def test_a_backup_gives_back_every_byte() -> None:
    repository = new_repository()
    files, dump = sample_files(), sample_dump()
    manifest = take(repository, 0, files, dump)
    found = contents(reopened(repository), manifest)
    assert found.pop(b"database.sql") == dump
    assert found.pop(b"config/app.py") == b"x = 1\n\n"
    assert b"backup_metadata.json" in found and found.pop(b"backup_metadata.json")
    assert found == files.content


def test_24_two_exports_are_equal_and_plain_tar_opens_them(tmp_path: Path) -> None:
    repository = new_repository()
    files, dump = sample_files(), sample_dump()
    backup = stored(repository, take(repository, 0, files, dump))
    first, second = (b"".join(reopened(repository).open_backup(backup).export()) for _ in range(2))
    assert first == second
    name = backup.manifest.head.name
    path = tmp_path / f"{name}.tar.gz"
    path.write_bytes(first)
    subprocess.run(["tar", "xzf", path], cwd=tmp_path, check=True)
    for file, content in files.content.items():
        assert (tmp_path / name / file.decode()).read_bytes() == content
    with tarfile.open(fileobj=io.BytesIO(first), mode="r:gz") as archive:
        dumped = archive.extractfile(f"{name}/database.sql")
        assert dumped is not None and dumped.read() == dump
    with open_archive(path) as native:  # an archive of ours, with footer and index
        walked = {entry.path: b"".join(blocks) for entry, blocks in native.walk() if entry.kind is Kind.FILE}
    assert walked[b"database.sql"] == dump and len(walked) == len(files.content) + 3


def test_20_unchanged_files_are_not_read_and_cost_next_to_nothing() -> None:
    repository = new_repository()
    files = sample_files()
    first = stored(repository, take(repository, 0, files))
    files.read.clear()
    second = stored(repository, take(repository, 1, files, last=first))
    assert files.read == []
    assert second.manifest.head.added < first.manifest.head.added / 100
    assert contents(reopened(repository), second.id)[b"files/u/scan.bin"] == files.content[b"files/u/scan.bin"]


def test_20_a_changed_file_is_read_with_its_run_and_no_other() -> None:
    repository = new_repository()
    files = sample_files()
    first = stored(repository, take(repository, 0, files))
    path = b"files/u/003/report 10.txt"
    files.content[path] += b"more"
    files.times[path] = 1_700_000_001_000_000_000
    files.read.clear()
    second = take(repository, 1, files, last=first)
    assert path in files.read and b"files/u/scan.bin" not in files.read
    assert contents(reopened(repository), second)[path] == files.content[path]


def test_20_a_file_that_was_just_written_is_read_again() -> None:
    repository = new_repository()
    files = sample_files(count=3)
    files.times[b"files/u/scan.bin"] = int(START.timestamp()) * 1_000_000_000 - 1_000_000_000
    first = stored(repository, take(repository, 0, files))
    files.read.clear()
    take(repository, 1, files, last=first)
    assert files.read == [b"files/u/scan.bin"]


def test_20_everything_is_read_again_after_30_days_and_when_asked_to() -> None:
    repository = new_repository()
    files = sample_files(count=20)
    last = stored(repository, take(repository, 0, files))
    for day, read in ((10, 0), (29, 0), (30, 21), (31, 0)):
        files.read.clear()
        last = stored(repository, take(repository, day, files, last=last))
        assert len(files.read) == read, day
    files.read.clear()
    take(repository, 32, files, last=last, read_all=True)
    assert len(files.read) == 21


def test_20_a_clock_that_went_back_reads_everything() -> None:
    repository = new_repository()
    files = sample_files(count=20)
    last = stored(repository, take(repository, 0, files))
    files.read.clear()
    take(repository, 1, files, last=last, now=START - timedelta(days=3650))
    assert len(files.read) == 21


def test_a_file_that_vanished_or_changed_its_size_leaves_a_backup_that_is_whole() -> None:
    repository = new_repository()
    files = sample_files(count=40)
    listed = list(files.offers())
    gone, grown = listed[3].entry.path, listed[5].entry.path
    files.offers = lambda: listed  # type: ignore[method-assign]
    del files.content[gone]
    files.content[grown] = b"y" * (2 << 20)  # it is large now
    first = stored(repository, take(repository, 0, files))
    found = contents(reopened(repository), first.id)
    assert gone not in found and found[grown] == files.content[grown]
    files.read.clear()
    second = take(repository, 1, files, last=first)
    assert grown in files.read
    assert contents(reopened(repository), second)[grown] == files.content[grown]


def test_a_missing_chunk_is_read_and_stored_again() -> None:
    """The next backup heals (sentence 45, 64)."""
    repository = new_repository()
    files = sample_files(count=60)
    first = take(repository, 0, files)
    victim = max(repository.index.packs, key=lambda pack: repository.index.packs[pack].size)
    repository.store.delete(f"packs/{victim.hex()[:2]}/{victim.hex()}")
    other = reopened(repository)
    with pytest.raises(DamagedError):
        contents(other, first)
    second = take(reopened(repository), 1, files, last=None)
    assert contents(reopened(repository), second)[b"files/u/scan.bin"] == files.content[b"files/u/scan.bin"]
    assert contents(reopened(repository), first)[b"files/u/scan.bin"] == files.content[b"files/u/scan.bin"]


def test_any_stretch_of_the_stream_can_be_read_alone() -> None:
    repository = new_repository()
    files = sample_files(count=30)
    backup = repository.open_backup(stored(repository, take(repository, 0, files, sample_dump())))
    whole = b"".join(backup.read(0, backup.stream))
    assert len(whole) == backup.stream
    for offset in range(0, backup.stream, 77_777):
        assert b"".join(backup.read(offset, 5000)) == whole[offset : offset + 5000]


def write_only(repository: Repository) -> Repository:
    """The same repository as a write-only host opens it, with a cache of its own."""
    full = repository.keys
    keys = replace(full, auth_full=None, ring=None, private={})
    return Repository(repository.store, keys, Path(tempfile.mkdtemp()))


def test_5_a_write_only_host_adds_backups_and_reads_none() -> None:
    repository, files = new_repository(), sample_files(count=60)
    host = write_only(repository)
    first = take(host, 0, files, sample_dump())
    assert contents(reopened(repository), first)[b"database.sql"] == sample_dump()
    other = write_only(repository)
    with pytest.raises(KeyRefused):
        other.manifest(first)
    reader = ChunkReader(other.store, other.opener, other.index)
    for pack in other.index.packs:
        entry = other.index.entries_of(pack)[0]
        with pytest.raises(KeyRefused):
            reader.chunks([(entry.chunk, entry.length)])


def test_20_a_write_only_host_knows_its_own_files_and_deduplicates() -> None:
    repository, files = new_repository(), sample_files(count=60)
    host = write_only(repository)
    take(host, 0, files, sample_dump())
    before = sum(one.size for one in host.store.list("packs/"))
    files.read.clear()
    second = take(Repository(host.store, host.keys, host.cache), 1, files, sample_dump())
    assert files.read == []
    assert sum(one.size for one in host.store.list("packs/")) - before < before / 50
    assert contents(reopened(repository), second)[b"files/u/scan.bin"] == files.content[b"files/u/scan.bin"]


def test_17_what_a_write_only_host_wrote_is_reused_by_others_once_it_was_verified() -> None:
    repository, files = new_repository(), sample_files(count=10)
    take(write_only(repository), 0, files)
    first = stored(reopened(repository), take(reopened(repository), 1, files))
    assert first.manifest.head.added > 3 << 20  # all of it was stored again
    assert contents(reopened(repository), first.id)[b"files/u/scan.bin"] == files.content[b"files/u/scan.bin"]


def test_an_own_list_that_somebody_changed_is_not_used(tmp_path: Path) -> None:
    repository, files = new_repository(), sample_files(count=20)
    kept = Repository(repository.store, repository.keys, tmp_path)
    first = stored(kept, take(kept, 0, files))
    path = tmp_path / "app.list"
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(data)
    files.read.clear()
    take(kept, 1, files, last=first)
    assert files.read == []  # the repository's own list was taken instead
