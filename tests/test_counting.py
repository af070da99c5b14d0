"""One of something is told in the singular, wherever it is told."""

from __future__ import annotations

import pytest

from resurgam.cli.setup import _doctor_text
from resurgam.counting import count_text
from resurgam.operations.doctor import Check
from resurgam.operations.doctor_repository import repository_findings
from resurgam.policy.health_facts import RepositoryFacts


@pytest.mark.parametrize(("count", "told"), [(0, "0 ways"), (1, "1 way"), (2, "2 ways"), (1234, "1,234 ways")])
def test_how_many(count: int, told: str) -> None:
    assert count_text(count, "way") == told
    look = RepositoryFacts("/srv", "proven", None, count, 0, 0, None, (), False)
    assert f"{told} to open it." in next(repository_findings(look))[1]


def test_an_irregular_plural() -> None:
    assert [count_text(count, "entry", "entries") for count in (1, 2)] == ["1 entry", "2 entries"]


def test_the_doctors_sum() -> None:
    checks = (Check("disk", "problem", "It is full.", ""), Check("clock", "warning", "It is wrong.", ""))
    assert _doctor_text(checks).endswith("2 checks: 1 problem, 1 warning.")
    assert _doctor_text(checks[:1]).endswith("1 check: 1 problem, 0 warnings.")
