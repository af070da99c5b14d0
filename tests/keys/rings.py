"""Rings, and what opens them, for the tests of keys."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from blake3 import blake3

from resurgam.keys.open_ring import OpenRing, create_ring
from resurgam.keys.ring import KeyRing, decode
from resurgam.keys.slots import Identity, new_identity
from resurgam.settings.secret import Secret

REPOSITORY = bytes(range(16))
WHEN = datetime(2025, 1, 4, 14, 30, 22, tzinfo=UTC)
PASSPHRASE = Secret("correct horse battery")


def opened_ring(passphrase: Secret | None = PASSPHRASE) -> tuple[OpenRing, Identity, Identity]:
    """A ring with a passphrase, an age recipient `ops` and a kit; and the identities of the latter two."""
    ops, kit = new_identity(), new_identity()
    opened = create_ring(REPOSITORY, WHEN, passphrase, [("ops", ops.recipient)])
    return opened.add_kit(kit, "recovery kit", WHEN), ops, kit


def forged(data: bytes, change: Callable[[dict[str, Any]], object]) -> KeyRing:
    """A ring changed by somebody without keys, who makes its check anew and so gets it decoded."""
    fields = json.loads(data)
    change(fields)
    del fields["check"]
    fields["check"] = blake3(canonical(fields)).hexdigest()
    return decode(canonical(fields), REPOSITORY)


def canonical(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()
