from __future__ import annotations

import pytest

from resurgam.repository import layout
from resurgam.stores.objects import KEY


def test_every_name_tells_its_id_and_fits_a_store() -> None:
    one = layout.new_id()
    named = (
        layout.pack_key,
        layout.index_key,
        layout.manifest_key,
        layout.outcome_key,
        layout.tombstone_key,
        layout.record_key,
        layout.damage_key,
        layout.checked_key,
        layout.intent_key,
    )
    keys = [key(one) for key in named]
    assert [layout.id_of(key) for key in keys] == [one] * len(keys)
    assert len(set(keys)) == len(keys)
    assert all(KEY.fullmatch(key) for key in [*keys, layout.CONFIG, layout.ring_key(7, 2)])
    assert layout.generation_of(layout.ring_key(7, 2)) == (7, 2)


@pytest.mark.parametrize(
    "foreign",
    [
        "config",
        "keys/00000001.1",
        "packs/00/" + "ab" * 16,
        "packs/" + "ab" * 16,
        "indexes/" + "AB" * 16,
        "indexes/" + "ab" * 17,
        "indexes/" + "ab" * 16 + ".partial",
        "others/" + "ab" * 16,
        "indexes/" + "ab" * 16 + "\n",
    ],
)
def test_a_foreign_name_tells_nothing(foreign: str) -> None:
    assert layout.id_of(foreign) is None


@pytest.mark.parametrize("foreign", ["keys/1.1", "keys/00000001.3", "keys/00000001", "packs/ab/" + "ab" * 16])
def test_a_name_that_is_no_key_ring_has_no_generation(foreign: str) -> None:
    assert layout.generation_of(foreign) is None
