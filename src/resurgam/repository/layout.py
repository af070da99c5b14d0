"""Names of a repository's objects (docs/repository-format.md, sentence 1), and what they tell.

Any other name is none of our business: `id_of` and `generation_of` answer None for it.
"""

from __future__ import annotations

import re
import secrets

from resurgam.keys.secrets import ID

CONFIG = "config"
PACKS = "packs/"
INDEXES = "indexes/"
MANIFESTS = "manifests/"
OUTCOMES = "outcomes/"
TOMBSTONES = "tombstones/"
RECORDS = "records/"
DAMAGE = "damage/"
CHECKED = "checked/"
INTENTS = "intents/"
RINGS = "keys/"

_NAMED = re.compile(
    r"(?:packs/([0-9a-f]{2})/(?=\1)|(?:indexes|manifests|outcomes|tombstones|records|damage|checked|intents)/)"
    r"([0-9a-f]{32})"
)
_RING = re.compile(r"keys/([0-9]{8})\.([12])")


def new_id() -> bytes:
    return secrets.token_bytes(ID)


def pack_key(pack: bytes) -> str:
    name = pack.hex()
    return f"{PACKS}{name[:2]}/{name}"


def index_key(index: bytes) -> str:
    return INDEXES + index.hex()


def manifest_key(manifest: bytes) -> str:
    return MANIFESTS + manifest.hex()


def outcome_key(manifest: bytes) -> str:
    return OUTCOMES + manifest.hex()


def tombstone_key(pack: bytes) -> str:
    return TOMBSTONES + pack.hex()


def record_key(record: bytes) -> str:
    return RECORDS + record.hex()


def damage_key(damage: bytes) -> str:
    return DAMAGE + damage.hex()


def checked_key(checked: bytes) -> str:
    return CHECKED + checked.hex()


def intent_key(intent: bytes) -> str:
    return INTENTS + intent.hex()


def ring_key(generation: int, copy: int) -> str:
    return f"{RINGS}{generation:08d}.{copy}"


def id_of(key: str) -> bytes | None:
    """The id in an object's name; None for the config, the key ring, and every foreign name."""
    found = _NAMED.fullmatch(key)
    return bytes.fromhex(found[2]) if found else None


def generation_of(key: str) -> tuple[int, int] | None:
    """Generation and copy of a key ring's name; None for any other name."""
    found = _RING.fullmatch(key)
    return (int(found[1]), int(found[2])) if found else None
