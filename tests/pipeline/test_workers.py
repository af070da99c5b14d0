"""Worker threads: results in order, a bounded number under way, errors where the work was handed in."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from resurgam.pipeline.workers import OrderedPool, ordered_map, side_by_side, worker_count
from tests.sampling import randomness


def slow_double(value: int) -> int:
    time.sleep(0.0005 * (value * 7 % 5))
    return value * 2


def our_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("resurgam-worker")]


def test_the_pool_delivers_in_order_whatever_takes_long() -> None:
    delivered: list[int] = []
    with OrderedPool(slow_double, delivered.append) as pool:
        for value in range(200):
            pool.submit(value)
        pool.drain()
        assert delivered == [value * 2 for value in range(200)]
        pool.submit(1)
        pool.drain()
    assert delivered[-1] == 2
    assert not our_threads()


def test_what_waits_is_done_side_by_side() -> None:
    """Eight wait for each other: one after the other, none would come through."""
    meeting = threading.Barrier(8, timeout=30)
    assert side_by_side(lambda value: (meeting.wait(), value)[1], range(24)) == list(range(24))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("resurgam-waiting")]


def test_what_fails_ends_what_is_done_side_by_side() -> None:
    done: list[int] = []

    def act(value: int) -> None:
        if value == 3:
            raise ValueError("no")
        time.sleep(0.002)
        done.append(value)

    with pytest.raises(ValueError, match="no"):
        side_by_side(act, range(500))
    assert 3 not in done and len(done) < 499
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("resurgam-waiting")]


def test_the_map_keeps_the_order() -> None:
    assert list(ordered_map(slow_double, range(200))) == [value * 2 for value in range(200)]
    assert not our_threads()


def test_no_more_pieces_are_under_way_than_memory_is_meant_for() -> None:
    gate, begun = threading.Event(), []
    release = threading.Timer(0.2, gate.set)

    def held(value: int) -> int:
        gate.wait()
        return value

    def pieces() -> Iterator[int]:
        for value in range(100):
            begun.append(gate.is_set())
            yield value

    release.start()
    assert list(ordered_map(held, pieces())) == list(range(100))
    assert begun.count(False) <= worker_count() + 3


def test_an_error_of_the_work_comes_out_at_its_place() -> None:
    def fails(value: int) -> int:
        if value == 20:
            raise ValueError("twenty")
        return value

    seen: list[int] = []
    with pytest.raises(ValueError, match="twenty"):
        seen.extend(ordered_map(fails, range(1_000)))
    delivered: list[int] = []
    with pytest.raises(ValueError, match="twenty"), OrderedPool(fails, delivered.append) as pool:
        for value in range(1_000):
            pool.submit(value)
    assert delivered == list(range(20))
    assert not our_threads()


def test_an_error_of_the_consumer_ends_the_threads() -> None:
    def deliver(value: int) -> None:
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"), OrderedPool(slow_double, deliver) as pool:
        for value in range(1_000):
            pool.submit(value)
    assert not our_threads()


def test_a_map_that_is_left_early_ends_its_threads() -> None:
    results = ordered_map(slow_double, iter(range(1_000_000)))
    assert next(results) == 0
    results.close()  # type: ignore[attr-defined]
    assert not our_threads()


def test_several_maps_may_run_at_once() -> None:
    random, results = randomness("maps"), {i: ordered_map(slow_double, range(50)) for i in range(4)}
    collected: dict[int, list[int]] = {i: [] for i in results}
    while results:
        i = random.choice(sorted(results))
        value = next(results[i], None)
        if value is None:
            del results[i]
        else:
            collected[i].append(value)
    assert all(values == [value * 2 for value in range(50)] for values in collected.values())
