"""Protocols that lose data, put in the place of the real one: what proves that nothing is lost must find them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

from resurgam.operations.collection_looks import Looks, used_by
from resurgam.repository.index_usage import Usage
from resurgam.repository.repository import Standing
from resurgam.repository.run import RepositoryRun
from tests.repository.simulated_world import SimulatedStore


@contextmanager
def _no_second_look() -> Iterator[None]:
    """The writer commits without listing packs again after its manifest (against 45)."""
    with mock.patch.object(RepositoryRun, "_doubtful", lambda self: False):
        yield


@contextmanager
def _revival() -> Iterator[None]:
    """What has a tombstone and is there is good enough for the writer (against 53)."""

    def doubtful(self: RepositoryRun) -> bool:
        index, used = self._repository.index, self._packing.used
        index.reload(used)
        return any(pack not in index.packs for pack in used)

    with mock.patch.object(RepositoryRun, "_doubtful", doubtful):
        yield


@contextmanager
def _manifests_before_tombstones() -> Iterator[None]:
    """The prune decides by the manifests that it listed before it put the tombstones (against 54)."""
    real = Looks.everything
    seen: dict[int, Standing] = {}

    def everything(self: Looks) -> tuple[Standing, Usage]:
        if id(self) not in seen:
            found = real(self)
            seen[id(self)] = found[0]
            return found
        self._repository.index.reload()
        standing = seen.pop(id(self))
        return standing, used_by(self._repository, standing)

    with mock.patch.object(Looks, "everything", everything):
        yield


@contextmanager
def _outcome_replaced() -> Iterator[None]:
    """An outcome replaces another one (against 46)."""
    real = SimulatedStore.put

    def put(self: SimulatedStore, key: str, data: bytes | bytearray | memoryview) -> None:
        if key.startswith("outcomes/"):
            self.delete(key)
        real(self, key, data)

    with mock.patch.object(SimulatedStore, "put", put):
        yield


@contextmanager
def _no_waiting() -> Iterator[None]:
    """The prune waits for no listing (against 54)."""
    with mock.patch.object(SimulatedStore, "staleness", 0.0):
        yield


KNOWN_BAD = {
    "no second look": _no_second_look,
    "revival": _revival,
    "manifests before tombstones": _manifests_before_tombstones,
    "outcome replaced": _outcome_replaced,
    "no waiting": _no_waiting,
}
