"""What verifications found, for every writer to know: damaged chunks, and packs that were checked (sentences 1 and 17).

Both are JSON in sealed texts: `{"packs": {PACK: [CHUNK, …]}}` in `damage`, `{"packs": [PACK, …]}` in `checked`. Of a
pack whose chunks nobody can tell any more, the only chunk is NO_CHUNK.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from resurgam.errors import DamagedError
from resurgam.keys.secrets import ID
from resurgam.repository.packs import CHUNK_ID

NO_CHUNK = bytes(CHUNK_ID)


def encode_damage(chunks: Mapping[bytes, Iterable[bytes]]) -> bytes:
    """The text of a `damage` object: by pack, the chunks that it does not give."""
    return json.dumps(
        {"packs": {pack.hex(): sorted(c.hex() for c in named) for pack, named in chunks.items()}}
    ).encode()


def decode_damage(text: bytes) -> set[tuple[bytes, bytes]]:
    """Pairs of pack and chunk. DamagedError if the text is malformed."""
    try:
        named = json.loads(text)["packs"].items()
        found = {bytes.fromhex(pack): {bytes.fromhex(chunk) for chunk in chunks} for pack, chunks in named}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise DamagedError("A list of damaged chunks is malformed.") from None
    pairs = {(pack, chunk) for pack, chunks in found.items() for chunk in chunks}
    if any(len(pack) != ID for pack in found) or any(len(chunk) != CHUNK_ID for _, chunk in pairs):
        raise DamagedError("A list of damaged chunks is malformed.")
    return pairs


def encode_checked(packs: Iterable[bytes]) -> bytes:
    """The text of a `checked` object."""
    return json.dumps({"packs": sorted(pack.hex() for pack in packs)}).encode()


def decode_checked(text: bytes) -> set[bytes]:
    """The packs that were verified. DamagedError if the text is malformed."""
    try:
        packs = set(map(bytes.fromhex, json.loads(text)["packs"]))
    except (ValueError, TypeError, KeyError, RecursionError):
        raise DamagedError("A list of checked packs is malformed.") from None
    if any(len(pack) != ID for pack in packs):
        raise DamagedError("A list of checked packs is malformed.")
    return packs
