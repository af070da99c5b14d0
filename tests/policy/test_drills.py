"""What a restored copy must have of what the backup says of itself."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resurgam.policy.drills import count_differences, digest_of, evidence_bytes, table_differences, tree_differences


def test_each_table_that_differs_is_named() -> None:
    recorded = [["public", "reports", 3], ["", "users", 1], ["app", "gone", 2]]
    found: dict[tuple[str | None, str], int] = {("public", "reports"): 2, (None, "users"): 1, ("app", "new"): 1000}
    assert table_differences(recorded, found) == [
        "The table app.gone was backed up, and the dump does not have it.",
        "The dump has the table app.new, which was not backed up.",
        "The table public.reports has 2 rows in the dump, and 3 were backed up.",
    ]


def test_of_very_many_a_few_are_named() -> None:
    found: dict[tuple[str | None, str], int] = {("public", f"t{n:03}"): 1 for n in range(50)}
    sentences = table_differences([], found)
    assert len(sentences) == 21 and sentences[-1] == "30 more tables differ."


def test_what_was_not_recorded_is_not_compared() -> None:
    assert table_differences(None, {("public", "reports"): 2}) == []
    assert tree_differences({}, (1, 2, 3)) == tree_differences({"files": {"trees": ["?"]}}, (1, 2, 3)) == []
    assert count_differences({"configuration": []}, 3) == []


def test_files_are_counted() -> None:
    metadata = {
        "files": {"trees": [{"files": 3, "symlinks": 1, "hardlinks": 0}, {"files": 2, "symlinks": 0, "hardlinks": 0}]},
        "configuration": {"files_count": 4},
    }
    assert tree_differences(metadata, (5, 1, 0)) == [] == count_differences(metadata, 4)
    assert tree_differences(metadata, (4, 1, 0)) == ["The trees gave back 4 files, and 5 were backed up."]
    assert count_differences(metadata, 3) == ["3 config files were restored, and 4 were backed up."]


@given(st.dictionaries(st.text(), st.one_of(st.integers(), st.text(), st.none())))
def test_evidence_bears_the_digest_of_the_rest(report: dict[str, Any]) -> None:
    report.pop("digest", None)
    data, digest = evidence_bytes(report)
    read = json.loads(data)
    assert read.pop("digest") == digest == digest_of(read)
    assert digest != digest_of({**read, "outcome": "forged"})


@pytest.mark.parametrize("recorded", [[[1]], [["a", "b"]], ["x"], {}, 7])
def test_metadata_of_any_shape(recorded: Any) -> None:
    assert isinstance(table_differences(recorded, {}), list)
