"""Which backups are suspicious: by hand, and what must hold for any history."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resurgam.policy.interlock import LEAST_BYTES, LEAST_ROWS, Standing, suspicions

NOW = datetime(2026, 11, 22, tzinfo=UTC)
MB = 1 << 20


def history(*sizes: tuple[int | None, int | None]) -> list[Standing]:
    """A backup a day, oldest first, of so many bytes and rows."""
    return [Standing(f"b{n}", n + 1, NOW + timedelta(days=n), size, rows) for n, (size, rows) in enumerate(sizes)]


@pytest.mark.parametrize(
    ("sizes", "suspects"),
    [
        ([], []),
        ([(10 * MB, 5000)], []),  # the first has nothing before it
        ([(10 * MB, 5000), (6 * MB, 3000)], []),
        ([(10 * MB, 5000), (4 * MB, 5000)], ["b1"]),
        ([(10 * MB, 5000), (10 * MB, 2000)], ["b1"]),
        ([(10 * MB, 5000), (5 * MB, 2500)], []),  # exactly the limit
        # the small one is no measure for those after it, whichever they are
        ([(10 * MB, 5000), (4 * MB, 5000), (4 * MB, 5000)], ["b1", "b2"]),
        ([(10 * MB, 5000), (4 * MB, 5000), (10 * MB, 5000)], ["b1"]),
        # slowly is not suddenly
        ([(16 * MB, 9000), (9 * MB, 5000), (5 * MB, 2600), (3 * MB, 1400)], []),
        # small ones come and go
        ([(LEAST_BYTES - 1, LEAST_ROWS - 1), (1, 0)], []),
        # what is not known is not judged
        ([(None, None), (1, 1), (None, None)], []),
        ([(10 * MB, None), (10 * MB, 1)], []),
        ([(10 * MB, 5000), (0, 0)], ["b1"]),
    ],
)
def test_by_hand(sizes: list[tuple[int | None, int | None]], suspects: list[str]) -> None:
    assert list(suspicions(history(*sizes), 50, None)) == suspects


def test_what_was_accepted_is_the_measure_from_then_on() -> None:
    backups = history((10 * MB, 5000), (4 * MB, 5000), (4 * MB, 5000))
    assert suspicions(backups, 50, backups[1].order) == {}
    assert list(suspicions([*backups, *history((1, 1))[:0]], 50, backups[0].order)) == ["b1", "b2"]
    smaller = Standing("later", 9, NOW, MB, 5000)
    assert list(suspicions([*backups, smaller], 50, backups[2].order)) == ["later"]


def test_a_limit_of_a_hundred_is_for_an_empty_one_only() -> None:
    assert suspicions(history((10 * MB, 5000), (1, 1)), 100, None) == {}
    assert list(suspicions(history((10 * MB, 5000), (10 * MB, 0)), 100, None)) == ["b1"]


def test_one_that_failed_its_drill() -> None:
    good, bad = history((10 * MB, 5000), (10 * MB, 5000))
    bad = Standing(bad.name, bad.sequence, bad.taken_at, bad.size, bad.rows, "The drill of b1 failed.")
    assert suspicions([bad, good], 50, None) == {"b1": "The drill of b1 failed."}
    assert suspicions([bad, good], 50, bad.order) == {}


SIZES = st.lists(st.tuples(st.none() | st.integers(0, 50 * MB), st.none() | st.integers(0, 9000)), max_size=12)


@given(SIZES, st.integers(1, 100))
def test_accepting_the_newest_clears_everything(sizes: list[tuple[int | None, int | None]], limit: int) -> None:
    backups = history(*sizes)
    found = suspicions(backups, limit, None)
    assert "b0" not in found
    assert suspicions(list(reversed(backups)), limit, None) == found
    if backups:
        assert suspicions(backups, limit, backups[-1].order) == {}


@given(SIZES)
def test_a_stricter_limit_never_finds_less_of_two(sizes: list[tuple[int | None, int | None]]) -> None:
    for pair in pairwise(sizes):
        backups = history(*pair)
        assert suspicions(backups, 80, None).keys() <= suspicions(backups, 20, None).keys()
