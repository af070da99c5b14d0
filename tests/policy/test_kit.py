"""Whether backups wait for the recovery kit's proof (docs/ordering.md, sentence 63)."""

from __future__ import annotations

from datetime import timedelta

import pytest

from resurgam.errors import KeyRefused
from resurgam.keys.open_ring import create_ring
from resurgam.keys.slots import new_identity
from resurgam.policy.kit import KitStanding, kit_standing, require_recoverable
from tests.keys.rings import PASSPHRASE, REPOSITORY, WHEN, opened_ring


def test_a_passphrase_or_recipient_alone_needs_no_kit() -> None:
    opened = create_ring(REPOSITORY, WHEN, PASSPHRASE, [("ops", new_identity().recipient)])
    assert kit_standing(opened.ring) == KitStanding("none")
    require_recoverable(opened.ring)


def test_an_unproven_kit_holds_backups_back() -> None:
    opened, *_ = opened_ring()
    assert kit_standing(opened.ring) == KitStanding("unproven")
    with pytest.raises(KeyRefused, match="never proven, so no backup was taken") as caught:
        require_recoverable(opened.ring)
    assert caught.value.hint.startswith("resurgam keys kit --prove")


def test_one_proven_kit_is_enough_and_the_newest_proof_counts() -> None:
    later = WHEN + timedelta(days=9)
    opened, *_ = opened_ring()
    opened = opened.kit_proven("recovery kit", WHEN).add_kit(new_identity(), "second kit", WHEN)
    assert kit_standing(opened.ring) == KitStanding("proven", WHEN)
    require_recoverable(opened.ring)
    assert kit_standing(opened.kit_proven("second kit", later).ring) == KitStanding("proven", later)
    assert kit_standing(opened.rotate(WHEN)[0].ring) == KitStanding("proven", WHEN)
    assert kit_standing(opened.remove("recovery kit").ring) == KitStanding("unproven")
