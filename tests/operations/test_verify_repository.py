"""A repository's verification finds every change, and says what is hurt (docs/repository-format.md, 7, 14; 64)."""

from __future__ import annotations

import random
from datetime import timedelta

import pytest

from resurgam.clock import SystemClock
from resurgam.errors import DamagedError, VerifyFailed
from resurgam.operations.collection import Limits, collect
from resurgam.operations.progress import Silent
from resurgam.operations.verify_repository import SHARES, RepositoryVerdict, refuse_unsound, verify_repository
from resurgam.repository.repository import Repository
from resurgam.stores.object_memory import MemoryStore
from tests.repository.scenes import START, contents, new_repository, reopened, sample_dump, sample_files, stored, take


def verify(repository: Repository, *, full: bool = True, day: int = 0) -> RepositoryVerdict:
    today = START + timedelta(days=day)
    return verify_repository(reopened(repository), full=full, today=today, progress=Silent())


def scene() -> tuple[Repository, list[bytes]]:
    """Two backups with a deletion and a prune behind them: every kind of object but findings and intents is there."""
    repository, files = new_repository(), sample_files(count=40)
    made: list[bytes] = []
    for day in range(3):
        last = stored(repository, made[-1]) if made else None
        made.append(take(repository, day, files, sample_dump(day, 600_000), last=last, pack_size=1 << 18))
    reopened(repository).delete(made[:1])
    collect(reopened(repository), Limits(accept=True), clock=SystemClock(), progress=Silent(), pack_size=1 << 18)
    return repository, made[1:]


def objects_of(repository: Repository) -> dict[str, tuple[bytes, float]]:
    assert isinstance(repository.store, MemoryStore)
    return repository.store.objects


def test_a_sound_repository_is_said_to_be_sound() -> None:
    repository, made = scene()
    verdict = verify(repository)
    assert verdict.sound and len(verdict.whole) == len(made) == 2
    assert verdict.bytes_read == verdict.bytes_stored > 0
    refuse_unsound(verdict)


def test_one_flipped_bit_per_4_kib_is_found_in_every_object() -> None:
    repository, _ = scene()
    objects, rng = objects_of(repository), random.Random(4)
    for key, (data, at) in list(objects.items()):
        if key == "config":
            continue  # its id is in every other object
        for block in range(0, len(data), 4096):
            place = rng.randrange(block, min(block + 4096, len(data)))
            flipped = bytearray(data)
            flipped[place] ^= 1 << rng.randrange(8)
            objects[key] = (bytes(flipped), at)
            before = set(objects)
            assert not verify(repository).sound, (key, place)
            for noted in set(objects) - before:
                del objects[noted]
        objects[key] = (data, at)
    assert verify(repository).sound


def test_an_object_that_is_cut_lost_swapped_or_doubled_is_found() -> None:
    repository, _ = scene()
    objects = objects_of(repository)
    keys = sorted(key for key in objects if key != "config")
    for key in keys:
        data, at = objects[key]
        folder = key.split("/")[0]
        other = next((k for k in keys if k != key and k.startswith(folder)), None)
        changes: list[dict[str, bytes | None]] = [{key: data[:-1]}, {key: data + b"\0"}, {key: b""}]
        if folder not in ("records", "indexes"):
            changes.append({key: None})
        if other is not None:
            changes += [{key: objects[other][0]}, {key: objects[other][0], other: data}]
        for change in changes:
            kept = dict(objects)
            for name, content in change.items():
                if content is None:
                    del objects[name]
                else:
                    objects[name] = (content, at)
            assert not verify(repository).sound, (key, change.keys())
            objects.clear()
            objects.update(kept)
    doubled = next(key for key in keys if key.startswith("packs/"))
    objects["packs/00/" + "0" * 32] = objects[doubled]
    assert not verify(repository).sound


def test_what_is_hurt_and_what_is_whole_is_said_and_the_next_backup_heals() -> None:
    repository, files = new_repository(), sample_files(count=40)
    first = take(repository, 0, files, sample_dump(1, 2 << 20), pack_size=1 << 18)
    before = set(repository.index.packs)
    second = take(repository, 1, files, sample_dump(2, 2 << 20), last=stored(repository, first), pack_size=1 << 18)
    packs = reopened(repository).index.packs
    victim = max((pack for pack in packs if pack not in before), key=lambda pack: packs[pack].size)
    key = f"packs/{victim.hex()[:2]}/{victim.hex()}"
    objects = objects_of(repository)
    data, at = objects[key]
    objects[key] = (data[:5000] + bytes([data[5000] ^ 1]) + data[5001:], at)
    verdict = verify(repository)
    assert verdict.hurt == ("app_backup_20260102_020000",) and verdict.whole == ("app_backup_20260101_020000",)
    with pytest.raises(VerifyFailed, match="Hurt: app_backup_20260102_020000"):
        refuse_unsound(verdict)
    with pytest.raises(DamagedError):
        contents(reopened(repository), second)
    assert contents(reopened(repository), first)
    take(reopened(repository), 2, files, sample_dump(2, 2 << 20), pack_size=1 << 18)
    assert contents(reopened(repository), second)[b"database.sql"] == sample_dump(2, 2 << 20)
    healed = verify(repository)
    assert healed.hurt == () and healed.problems  # the damaged pack is there until the next prune
    collect(reopened(repository), Limits(accept=True), clock=SystemClock(), progress=Silent(), pack_size=1 << 18)
    assert verify(repository).sound
    assert contents(reopened(repository), second)[b"database.sql"] == sample_dump(2, 2 << 20)


def test_a_share_a_day_reads_every_pack_once_in_its_round() -> None:
    repository, files = new_repository(), sample_files(count=100)
    take(repository, 0, files, sample_dump(1, 3 << 20), pack_size=1 << 17)
    rounds = [verify(repository, full=False, day=day) for day in range(SHARES)]
    assert sum(one.bytes_read for one in rounds) == rounds[0].bytes_stored
    assert all(one.sound for one in rounds)


def test_what_is_hurt_is_told_also_when_no_object_is_to_blame() -> None:
    verdict = RepositoryVerdict(False, 1, 0, 9, 0, (), ("app_backup_20260101_020000",), ())
    with pytest.raises(VerifyFailed) as told:
        refuse_unsound(verdict)
    assert told.value.message == "The repository is damaged. Hurt: app_backup_20260101_020000. Whole: none."
