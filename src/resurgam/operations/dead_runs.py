"""Runs that died, and what they left: told by their intents, which stay (docs/ordering.md, sentences 42 and 58)."""

from __future__ import annotations

from collections.abc import Callable, Set

from resurgam.errors import ArchiveError, ObjectMissing, RepositoryError
from resurgam.policy.collection import POLITE
from resurgam.repository.layout import pack_key
from resurgam.repository.repository import Repository
from resurgam.repository.run import intents, run_of
from resurgam.repository.sealing import HEADER, Kind


def died_runs(repository: Repository, sure: Callable[[], bool]) -> dict[bytes, bytes | None]:
    """Intents that are too old to be believed, if the clocks are `sure`, each with its run as `run_of` tells it."""
    found = intents(repository)
    if not found or not sure():
        return {}
    now = repository.store.time()
    old = [intent for intent, since in found if abs(now - since) > POLITE.total_seconds()]
    return {intent: run_of(repository, intent) for intent in old}


def written_by(repository: Repository, pack: bytes, runs: Set[bytes]) -> bool:
    """Whether one of these runs has put that pack."""
    if not runs:
        return False
    try:
        head = repository.store.get(pack_key(pack), 0, HEADER)
        return repository.opener.header(Kind.PACK, pack, head).wrapped in runs
    except (ObjectMissing, ArchiveError, RepositoryError):
        return False  # gone; or damaged, and then it counts
