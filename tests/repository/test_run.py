"""The commit of a backup into a repository: what is answered is what is there (docs/ordering.md, sentence 46)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from resurgam.errors import StorageError, StoreUnreachable
from resurgam.repository.repository import Repository
from resurgam.stores.object_memory import MemoryStore
from resurgam.stores.objects import StoredObject
from tests.repository.faulty_store import Fault, FaultyStore, Plan
from tests.repository.scenes import contents, new_repository, secrets_of, take


class GoneAfter(FaultyStore):
    """Once its fault has struck, nothing is answered any more."""

    def get(self, key: str, offset: int = 0, length: int | None = None) -> bytes:
        self._refuse()
        return super().get(key, offset, length)

    def list(self, prefix: str = "") -> Iterator[StoredObject]:
        self._refuse()
        return super().list(prefix)

    def _refuse(self) -> None:
        if self.struck:
            raise StoreUnreachable("It gives no answer.")


def _store() -> MemoryStore:
    store = MemoryStore()
    take(new_repository(store), 0)
    return store


def _outcome_put() -> int:
    """Which write the outcome is."""
    counting = FaultyStore(_store())
    take(Repository.open(counting, secrets_of), 1)
    return next(at for at, (_, key) in enumerate(counting.writes) if key.startswith("outcomes/"))


@pytest.mark.parametrize("lasting", [False, True])
@pytest.mark.parametrize(
    ("fault", "told", "there"),
    [
        (Fault.LOST_ANSWER, "", True),
        (Fault.NO_ANSWER, "gave no usable answer", False),
        (Fault.FULL_BEFORE, "No space left", False),
        (Fault.BROKEN_BEFORE, "Input/output error", False),
        (Fault.BROKEN_AFTER, "The backup is there, but not known to be durable", True),
    ],
)
def test_46_what_is_answered_is_what_is_there(fault: Fault, told: str, there: bool, lasting: bool) -> None:
    inner = _store()
    store = FaultyStore(inner, Plan(_outcome_put(), fault, lasting))
    if lasting and not there:
        told = "Whether the backup is there can't be told now"  # nor can it be given up: a sweep does that
    repository = Repository.open(store, secrets_of)
    if told:
        with pytest.raises(StorageError, match=told):
            take(repository, 1)
    else:
        assert contents(repository, take(repository, 1))
    found = Repository.open(inner, secrets_of).backups()[0]
    assert len(found) == 1 + there
    again = Repository.open(inner, secrets_of)
    assert contents(again, take(again, 2))


def test_46_who_can_not_ask_says_that_he_can_not_tell() -> None:
    inner = _store()
    store = GoneAfter(inner, Plan(_outcome_put(), Fault.LOST_ANSWER, lasting=True))
    with pytest.raises(StorageError, match="Whether the backup is there can't be told now") as refused:
        take(Repository.open(store, secrets_of), 1)
    assert "resurgam list" in refused.value.hint
    assert len(Repository.open(inner, secrets_of).backups()[0]) == 2
