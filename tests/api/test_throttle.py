"""Failed tries wait, one after the other, and are forgotten."""

from __future__ import annotations

import pytest

from resurgam.api.throttle import Throttle
from tests.catalog.test_tokens import Watch


@pytest.fixture
def watch() -> Watch:
    return Watch()


def test_tries_in_parallel_are_answered_one_after_the_other(watch: Watch) -> None:
    throttle = Throttle(watch)
    waits = [round(throttle.note("192.0.2.1"), 3) for _ in range(15)]
    assert waits == [0, 0, 0, 0, 0, 0.05, 0.15, 0.35, 0.75, 1.55, 2.55, 3.55, 4.55, 5.55, 6.55]


def test_tries_after_each_answer_wait_as_long(watch: Watch) -> None:
    throttle = Throttle(watch)
    waits = []
    for _ in range(12):
        waits.append(round(throttle.note("192.0.2.1"), 3))
        watch.sleep(waits[-1])
    assert waits == [0, 0, 0, 0, 0, 0.05, 0.1, 0.2, 0.4, 0.8, 1, 1]


def test_a_minute_later_it_is_forgotten(watch: Watch) -> None:
    throttle = Throttle(watch)
    for _ in range(7):
        throttle.note("192.0.2.1")
    watch.sleep(60)
    assert throttle.note("192.0.2.1") == 0.0


def test_others_do_not_wait(watch: Watch) -> None:
    throttle = Throttle(watch)
    for _ in range(20):
        throttle.note("192.0.2.1")
    assert throttle.note("192.0.2.2") == 0.0
    assert throttle.note("") == 0.0


@pytest.mark.parametrize(
    "addresses",
    [
        [f"2001:db8::{number:x}" for number in range(1, 8)],
        ["192.0.2.1", "::ffff:192.0.2.1"] * 4,
        ["fe80::1%eth0"] * 7,
        ["a unix socket"] * 7,
    ],
    ids=["one network", "IPv4 by IPv6", "a scope", "no address"],
)
def test_addresses_of_one_client_count_together(watch: Watch, addresses: list[str]) -> None:
    throttle = Throttle(watch)
    assert [throttle.note(address) for address in addresses][6] > 0


def test_the_line_and_the_memory_have_an_end(watch: Watch) -> None:
    throttle = Throttle(watch)
    assert max(throttle.note("192.0.2.1") for _ in range(1_000)) == pytest.approx(30.0)
    for number in range(30_000):
        throttle.note(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
    assert len(throttle) == 10_000
    watch.sleep(61)
    throttle.note("192.0.2.9")
    assert len(throttle) == 1
