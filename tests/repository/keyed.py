"""A key ring around the fixed keys of scenes.py: a repository of the tests can be opened, and rotated, as users do."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import IO

from resurgam.keys.open_ring import create_ring
from resurgam.keys.ring import RingEpoch, encode, sign
from resurgam.keys.sealed import seal
from resurgam.keys.secrets import Secrets, derive, public_key
from resurgam.keys.slots import new_identity
from resurgam.keys.unlock import Unlocking, unlock
from resurgam.repository.ring_store import RingStore
from resurgam.stores.objects import ObjectStore
from tests.repository.scenes import PRIVATE, ROOT, START

_IDENTITY = new_identity()  # no passphrase: it would cost a third of a second each time


@cache
def _identity_file() -> IO[str]:
    file = tempfile.NamedTemporaryFile("w", prefix="identity-")  # noqa: SIM115 - until the tests are over
    file.write(_IDENTITY.text.reveal())
    file.flush()
    return file


def unlocking() -> Unlocking:
    """What the settings of whoever has the full key give."""
    return Unlocking(identity_file=Path(_identity_file().name))


def ring_objects(repository: bytes) -> dict[str, bytes]:
    """The ring of a repository whose root and first epoch are the fixed ones."""
    made = create_ring(repository, START, None, [("tests", _IDENTITY.recipient)])
    epoch = RingEpoch(1, public_key(PRIVATE), seal(made.access, repository, "private 1", PRIVATE), START)
    ring = replace(made.ring, root=seal(made.access, repository, "root", ROOT), epochs=(epoch,))
    data = encode(sign(ring, derive(ROOT, repository, "ring")))
    return {f"keys/00000001.{copy}": data for copy in (1, 2)}


def by_ring(store: ObjectStore) -> Callable[[bytes], Secrets]:
    """The keys as the ring that lies there gives them."""
    return lambda repository: unlock(RingStore(store, repository), unlocking()).secrets
