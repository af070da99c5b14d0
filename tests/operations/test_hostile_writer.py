"""A write-only host that was broken into: what it writes must neither wedge the others nor cost them anything.

It holds the writer key and may put any object; here it does so through the store. See the format, 7, 17, 20, 22,
and ordering.md, 57.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from resurgam.clock import SystemClock
from resurgam.errors import CollectionRefused, DamagedError, HostileError, StorageError
from resurgam.keys.secrets import Secrets
from resurgam.operations.collection import CollectionResult, Limits, collect
from resurgam.operations.progress import Silent
from resurgam.operations.repair import repair
from resurgam.operations.verify_repository import RepositoryVerdict, verify_repository
from resurgam.repository.layout import manifest_key, new_id, outcome_key, pack_key, record_key, tombstone_key
from resurgam.repository.manifests import Manifest
from resurgam.repository.memory import Memory
from resurgam.repository.removals import Removals, encode_removal
from resurgam.repository.repository import Repository
from resurgam.repository.sealing import FULL, WRITE_ONLY, Kind, Sealer
from resurgam.stores.object_memory import MemoryStore
from tests.repository.scenes import (
    START,
    contents,
    new_repository,
    reopened,
    sample_dump,
    sample_files,
    secrets_of,
    stored,
    take,
)


def writer_secrets(repository: bytes) -> Secrets:
    full = secrets_of(repository)
    return Secrets(full.repository, full.epoch, full.names, full.seed, full.shared, full.auth_shared)


def prune(repository: Repository) -> CollectionResult:
    return collect(reopened(repository), Limits(accept=True), clock=SystemClock(), progress=Silent(), pack_size=1 << 20)


def verify(repository: Repository) -> RepositoryVerdict:
    return verify_repository(reopened(repository), full=True, today=START, progress=Silent())


class Host:
    """The broken host, beside a repository with two good backups of others, one of which is deleted in the end."""

    def __init__(self) -> None:
        self.repository = new_repository()
        self.files = sample_files(count=20)
        self.made = [take(self.repository, day, self.files, sample_dump(day)) for day in range(3)]
        self.store = self.repository.store
        self.sealer = Sealer(writer_secrets(self.repository.keys.repository))

    def put(self, kind: Kind, key: Callable[[bytes], str], text: bytes, name: bytes | None = None) -> bytes:
        name = name or new_id()
        self.store.put(key(name), self.sealer.seal_text(kind, name, text))
        return name

    def decide(self, manifest: bytes, outcome: str) -> bytes:
        return self.put(Kind.OUTCOME, outcome_key, json.dumps({"outcome": outcome}).encode(), manifest)

    def claim(self, change: Callable[[Manifest], Manifest] = lambda one: one) -> bytes:
        """A committed manifest like a true one, changed."""
        true = take(reopened(self.repository, writer_secrets), 9, self.files)
        manifest = change(reopened(self.repository).manifest(true))
        for key in (manifest_key(true), outcome_key(true)):
            self.store.delete(key)
        name = self.put(Kind.MANIFEST, manifest_key, manifest.encode())
        return self.decide(name, "committed")

    def others_are_well(self, *, deletes: bool = True) -> None:
        """They list, restore, delete and prune as if nothing were."""
        backups, _ = reopened(self.repository).backups()
        assert set(self.made) <= {one.id for one in backups}
        for day, one in enumerate(self.made):
            assert contents(reopened(self.repository), one)[b"database.sql"] == sample_dump(day)
        if deletes:
            reopened(self.repository).delete([self.made.pop(0)])
        result = prune(self.repository)
        assert result.deleted_packs or not deletes
        for day, one in enumerate(self.made, 3 - len(self.made)):
            assert contents(reopened(self.repository), one)[b"database.sql"] == sample_dump(day)
        take(reopened(self.repository), 20, self.files)


NONSENSE = {
    "empty": b"",
    "no JSON": b"\xff\xff\xff\xff" * 9,
    "deep": (1 << 20).to_bytes(4, "little") + b"[" * (1 << 20),
}


@pytest.mark.parametrize("text", NONSENSE.values(), ids=NONSENSE)
@pytest.mark.parametrize("committed", [True, False])
def test_a_manifest_that_is_none_harms_nobody(text: bytes, committed: bool) -> None:
    host = Host()
    name = host.put(Kind.MANIFEST, manifest_key, text)
    if committed:
        host.decide(name, "committed")
        assert [one.id for one in reopened(host.repository).backups()[1]] == [name]  # it is told of
        assert any(name.hex() in problem for problem in verify(host.repository).problems)
    host.others_are_well()


@pytest.mark.parametrize("text", [b"[" * 60_000, b"{}", b'{"outcome": []}', b'{"outcome": "gone"}', b"\xff"])
@pytest.mark.parametrize("whose", ["nobody's", "theirs"])
def test_an_outcome_that_is_none_harms_nobody(text: bytes, whose: str) -> None:
    host = Host()
    name = new_id()
    if whose == "theirs":
        name = take(reopened(host.repository, writer_secrets), 9, host.files)
        host.store.delete(outcome_key(name))
    host.put(Kind.OUTCOME, outcome_key, text, name)
    assert name.hex() in " ".join(one.problem for one in reopened(host.repository).backups()[1])
    host.others_are_well()


def test_what_it_claims_to_know_is_not_missed() -> None:
    """`known`, `packs` and `indexes` of things that never were, and outcomes of manifests that are not there."""
    host = Host()

    def lie(true: Manifest) -> Manifest:
        head = replace(true.head, known=new_id() + new_id(), packs=(new_id(),), indexes=(new_id(),))
        return replace(true, head=head)

    host.claim(lie)
    host.decide(new_id(), "committed")
    assert not [one for one in verify(host.repository).problems if "no trace" in one]
    host.others_are_well()


def test_what_it_wrote_is_believed_no_more_after_a_rotation() -> None:
    host = Host()
    name = host.claim(lambda true: replace(true, head=replace(true.head, packs=(new_id(),))))
    assert reopened(host.repository).author(name) == WRITE_ONLY
    full = secrets_of(host.repository.keys.repository)
    passed_on = Sealer(full, author=WRITE_ONLY).seal_text(Kind.OUTCOME, name, b"x")
    assert reopened(host.repository).opener.text_header(Kind.OUTCOME, name, passed_on).author == WRITE_ONLY


def test_it_can_not_decide_about_backups_of_others() -> None:
    """Neither that one is abandoned, whose outcome it could delete, nor that one under way is committed."""
    host = Host()
    victim = host.made[0]
    host.store.delete(outcome_key(victim))
    host.decide(victim, "abandoned")
    with pytest.raises(CollectionRefused, match=victim.hex()):  # the later backups know that it was committed
        prune(host.repository)
    assert any(one.id == victim for one in reopened(host.repository).backups()[1])
    options = {"heal_keys": tuple, "today": START, "progress": Silent()}
    repair(reopened(host.repository), **options)  # type: ignore[arg-type]
    host.others_are_well()


def test_a_newest_backup_whose_outcome_it_replaced_is_kept() -> None:
    """Nobody else knows of it yet."""
    host = Host()
    victim = host.made[-1]
    host.store.delete(outcome_key(victim))
    host.decide(victim, "abandoned")
    for _ in range(2):
        prune(host.repository)
    for key in host.store.list("outcomes/"):
        if key.key == outcome_key(victim):
            host.store.delete(key.key)
    full = Sealer(host.repository.keys)
    text = full.seal_text(Kind.OUTCOME, victim, json.dumps({"outcome": "committed"}).encode())
    host.store.put(outcome_key(victim), text)
    assert contents(reopened(host.repository), victim)[b"database.sql"] == sample_dump(2)


def test_a_backup_that_it_commits_for_another_is_none() -> None:
    host = Host()
    repository = reopened(host.repository)
    outcomes = []
    put = repository.store.put

    def watched(key: str, data: bytes) -> None:
        put(key, data)
        if key.startswith("manifests/"):
            outcomes.append(host.decide(bytes.fromhex(key[-32:]), "committed"))

    repository.store.put = watched  # type: ignore[method-assign, assignment]
    with pytest.raises((HostileError, StorageError)):
        take(repository, 7, host.files)
    repository.store.put = put  # type: ignore[method-assign]
    assert outcomes[0] not in {one.id for one in reopened(host.repository).backups()[0]}
    host.others_are_well()


def test_its_records_and_tombstones_decide_nothing_and_are_swept() -> None:
    host = Host()
    record = new_id()
    packs = list(host.repository.index.packs) + list(reopened(host.repository).index.packs)
    gone = Removals(manifests=frozenset(host.made), packs=frozenset(packs))
    host.store.put(record_key(record), encode_removal(host.sealer, record, "delete", gone))
    for pack in set(packs):
        host.put(Kind.TOMBSTONE, tombstone_key, b'{"at": 0, "boot": "", "since_boot": 0}', pack)
    host.others_are_well(deletes=False)
    assert not list(host.store.list("tombstones/"))
    assert record_key(record) not in {one.key for one in host.store.list("records/")}
    added = take(reopened(host.repository), 21, host.files, sample_dump(2))
    assert not stored(reopened(host.repository), added).manifest.head.added > 100_000  # reused again
    host.others_are_well()


@pytest.mark.parametrize("folder", ["records", "tombstones", "damage", "checked", "intents", "outcomes", "indexes"])
def test_rubbish_without_any_key_stops_nobody(folder: str) -> None:
    host = Host()
    for content in (b"", b"x" * 500, b"RSGMOBJ1\x63\x00" + bytes(300)):
        host.store.put(f"{folder}/{new_id().hex()}", content)
    assert len(verify(host.repository).problems) >= 3
    host.others_are_well(deletes=folder != "intents")  # those make a prune patient, whoever put them


def test_rubbish_among_packs_and_manifests_stops_nobody() -> None:
    host = Host()
    for content in (b"", b"x" * 500, b"RSGMOBJ1\x63\x00" + bytes(300)):
        host.store.put(pack_key(new_id()), content)
        host.store.put(manifest_key(new_id()), content)
    assert not verify(host.repository).sound
    host.others_are_well()


def test_a_backup_that_lacks_what_never_was_is_named_and_can_be_deleted() -> None:
    host = Host()

    def lie(true: Manifest) -> Manifest:
        return replace(true, chunks=os.urandom(32) + true.chunks[32:])

    name = host.claim(lie)
    reopened(host.repository).delete([host.made.pop(0)])
    with pytest.raises(DamagedError, match="app_backup_20260110_020000"):
        prune(host.repository)
    reopened(host.repository).delete([name])
    assert prune(host.repository).deleted_packs


@pytest.mark.parametrize("field", ["sequence", "stored", "stream", "files", "list_length", "added"])
def test_counts_beyond_all_bounds_are_refused(field: str) -> None:
    host = Host()
    name = host.claim(lambda true: replace(true, head=replace(true.head, **{field: 1 << 63})))  # type: ignore[arg-type]
    assert [one.id for one in reopened(host.repository).backups()[1]] == [name]
    host.others_are_well()


def test_metadata_that_inflate_are_refused() -> None:
    host = Host()
    true = reopened(host.repository).manifest(host.made[0])
    deflater = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = b"".join(deflater.compress(bytes(1 << 20)) for _ in range(256)) + deflater.flush()
    head = true.encode()[: 4 + int.from_bytes(true.encode()[:4], "little")]
    text = head + (4 + len(bomb)).to_bytes(4, "little") + (1 << 20).to_bytes(4, "little") + bomb + true.chunks
    host.decide(host.put(Kind.MANIFEST, manifest_key, text), "committed")
    assert len(reopened(host.repository).backups()[1]) == 1
    host.others_are_well()


def test_a_store_that_answers_with_endless_objects_is_not_read_to_their_end() -> None:
    """Nothing is authentic before it was read, so what is read is bounded."""

    class Endless(MemoryStore):
        most = 0

        def get(self, key: str, offset: int = 0, length: int | None = None) -> bytes:
            data = super().get(key, offset, length)
            if data.startswith(b"endless"):
                size = 1 << 40 if length is None else length
                self.most = max(self.most, size)
                return bytes(min(size, 1 << 27))
            return data

    store = Endless()
    repository = new_repository(store)
    made = take(repository, 0, sample_files(count=5), sample_dump(1))
    folders = ("records", "tombstones", "damage", "checked", "intents", "outcomes", "indexes", "manifests")
    for folder in folders:
        store.put(f"{folder}/{new_id().hex()}", b"endless")
    store.put(pack_key(new_id()), b"endless")
    assert not verify(repository).sound
    assert contents(reopened(repository), made)[b"database.sql"] == sample_dump(1)
    prune(repository)
    assert store.most <= (64 << 20) + 1


def test_its_list_is_not_believed_for_files_of_others_that_did_not_change() -> None:
    """It names chunks and takes prints as the others do, so it could have put other content under a file's identity."""
    host = Host()
    poison = sample_files(count=20)
    poison.content = {path: bytes(len(data)) for path, data in host.files.content.items()}
    name = take(reopened(host.repository, writer_secrets), 9, poison)
    assert verify(host.repository).sound  # from here on its packs may be reused
    repository = reopened(host.repository)
    last = stored(repository, name)
    assert (last.author, stored(repository, host.made[0]).author) == (WRITE_ONLY, FULL)
    taken = take(repository, 12, host.files, last=last)
    found = contents(reopened(host.repository), taken)
    assert all(found[path] == data for path, data in host.files.content.items())


def test_a_machine_that_prunes_remembers_what_write_only_hosts_committed(tmp_path: Path) -> None:
    host = Host()
    name = host.claim()
    seen = Memory(host.repository.keys, tmp_path)
    seen.write(reopened(host.repository).standing().committed)
    assert name in seen.read()
    for key in (manifest_key(name), outcome_key(name)):
        host.store.delete(key)
    with pytest.raises(CollectionRefused, match=name.hex()):
        collect(
            reopened(host.repository),
            Limits(accept=True, remembered=seen.read()),
            clock=SystemClock(),
            progress=Silent(),
        )
    file = tmp_path / "seen"
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    assert seen.read() == frozenset()
    assert Memory(host.repository.keys, None).read() == frozenset()
