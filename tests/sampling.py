"""A seeded sample of a long matrix in `make test`, the whole of it in `make soak`.

RESURGAM_SEED changes the sample; pytest's header names the seed in use, so that a failure can be had again.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterable
from typing import TypeVar

from tests.clusters import soaking

SEED = int(os.environ.get("RESURGAM_SEED", "20261122"))
_T = TypeVar("_T")


def sample(cases: Iterable[_T], size: int, name: str = "") -> list[_T]:
    """At most `size` of the cases, in their order, always the same ones for a seed; all of them when soaking.

    `name` tells one matrix from another, so that they don't sample the same places.
    """
    every = list(cases)
    if soaking() or len(every) <= size:
        return every
    chosen = sorted(random.Random(f"{SEED}/{name}").sample(range(len(every)), size))
    return [every[index] for index in chosen]


def randomness(name: str) -> random.Random:
    """A generator that gives the same numbers for the same seed and name."""
    return random.Random(f"{SEED}/{name}")
