"""How long failed tries wait."""

from __future__ import annotations

from resurgam.policy.throttle import COUNTED, delay


def test_a_few_are_free_then_it_doubles_up_to_a_second() -> None:
    assert [delay(failures) for failures in range(6)] == [0.0] * 6
    assert [delay(failures) for failures in range(6, 13)] == [0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0]
    assert delay(COUNTED) == 1.0
