"""The protocol's model, whole; and that the search finds what is known to lose data (docs/ordering.md, 44 to 55)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.repository.model import VARIANTS, explore


@pytest.mark.parametrize(("backups", "prunes"), [(1, 1), (2, 1), (1, 2)])
def test_no_interleaving_loses_a_chunk(backups: int, prunes: int, tell: Callable[[str], None]) -> None:
    found = explore(backups, prunes)
    assert found.loss == ()
    tell(
        f"model: {found.states:,} states of {backups} backups, {prunes} prunes, a sweeper and a deletion; nothing lost"
    )
    assert found.states > 3000


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_search_finds_what_is_known_to_lose_data(variant: str, tell: Callable[[str], None]) -> None:
    prunes = 2 if variant == "late tombstones" else 1
    found = explore(1, prunes, variant)
    assert found.loss, VARIANTS[variant]
    tell(f"model: {variant}: after {found.states:,} states {found.loss[-1]}")
