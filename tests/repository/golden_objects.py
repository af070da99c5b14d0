"""Writes golden/: one object of each kind as version 1 of the format has it, by the fixed keys of fixed_keys.py.

They were made once, by `python -m tests.repository.golden_objects`, and must never be made again: each later version
has to open these very bytes (test_golden.py). A later version of the format gets files of its own beside them.
"""

from __future__ import annotations

from pathlib import Path

from resurgam.repository.index_table import TablePack, encode_index, merged_rows, table_of_pack
from resurgam.repository.packs import PackBuilder
from resurgam.repository.sealing import FULL, Kind, Sealer
from tests.repository.fixed_keys import OBJECT, chunk, filled, full_keys, write_only_keys

GOLDEN = Path(__file__).with_name("golden")
TEXTS = frozenset(Kind) - {Kind.PACK, Kind.INDEX}
CONTENTS = [chunk(1, 40), chunk(2, 300), chunk(3, 5000)]
# Its author is in the name: both could have written it.
AUTHORS = {"full": full_keys, "host": write_only_keys}


def text_of(kind: Kind) -> bytes:
    return f"{kind.name.lower()}, golden ".encode() * 3


def pack_in_index(builder: PackBuilder, size: int) -> TablePack:
    return TablePack(builder.id, size, FULL, len(builder.entries), FULL)


def write() -> None:
    GOLDEN.mkdir()
    for author, keys in AUTHORS.items():
        sealer = Sealer(keys())
        for kind in TEXTS:
            sealed = sealer.seal_text(kind, OBJECT, text_of(kind))
            (GOLDEN / f"v1-{kind.name.lower()}-{author}").write_bytes(sealed)
        builder = filled(sealer, CONTENTS)
        pack = builder.finish()
        (GOLDEN / f"v1-pack-{author}-{builder.id.hex()}").write_bytes(pack)
        named = pack_in_index(builder, len(pack))
        rows = merged_rows([(table_of_pack(named, builder.entries), [0])])
        (GOLDEN / f"v1-index-{author}").write_bytes(encode_index(sealer, OBJECT, [named], rows))


if __name__ == "__main__":
    write()
