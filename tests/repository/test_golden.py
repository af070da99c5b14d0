"""Objects that were written once: every later version must open them."""

from __future__ import annotations

import pytest
from blake3 import blake3

from resurgam.errors import DamagedError
from resurgam.repository.index_table import decode_index
from resurgam.repository.packs import open_blob, verify_pack
from resurgam.repository.sealing import FULL, WRITE_ONLY, Kind, Opener
from tests.repository.fixed_keys import OBJECT, chunk_id, full_keys
from tests.repository.golden_objects import AUTHORS, CONTENTS, GOLDEN, TEXTS, text_of

_FULL_ONLY = {Kind.TOMBSTONE, Kind.RECORD, Kind.DAMAGE, Kind.CHECKED}
DIGEST = "99670548885b964146b1cff044540fda"


def test_nobody_wrote_them_anew() -> None:
    files = sorted(GOLDEN.iterdir())
    assert len(files) == 2 * len(Kind)
    assert blake3(b"".join(file.read_bytes() for file in files)).hexdigest(16) == DIGEST


@pytest.mark.parametrize("author", AUTHORS)
@pytest.mark.parametrize("kind", sorted(TEXTS))
def test_a_golden_text_opens(kind: Kind, author: str) -> None:
    data = (GOLDEN / f"v1-{kind.name.lower()}-{author}").read_bytes()
    opener = Opener(full_keys())
    if author == "host" and kind in _FULL_ONLY:
        with pytest.raises(DamagedError, match="may not decide"):
            opener.open_text(kind, OBJECT, data)
    else:
        assert opener.open_text(kind, OBJECT, data) == text_of(kind)


@pytest.mark.parametrize("author", AUTHORS)
def test_a_golden_pack_and_its_index_open(author: str) -> None:
    (file,) = GOLDEN.glob(f"v1-pack-{author}-*")
    pack, data = bytes.fromhex(file.name[-32:]), file.read_bytes()
    opener = Opener(full_keys())
    checked = verify_pack(pack, data, opener)
    assert checked.author == (FULL if author == "full" else WRITE_ONLY)
    cipher = opener.blob_key(opener.header(Kind.PACK, pack, data))
    table = decode_index(opener, OBJECT, (GOLDEN / f"v1-index-{author}").read_bytes())
    assert [(named.pack, named.size, named.blobs) for named in table.packs] == [(pack, len(data), len(CONTENTS))]
    for content in CONTENTS:
        name, _, offset, sealed, length, _ = table.row(table.find(chunk_id(content)))
        _, plain = open_blob(data[offset : offset + sealed], cipher, offset, name, length, full_keys().names)
        assert plain == content
