"""What a restore must find again, as a value: kept in a backup's metadata, compared with what was read back.

Rules:
- rows are told apart by their text in the dump, in its order; definitions by their SQL without casts, brackets and
  white space, in which servers differ from what they were given;
- beyond `NAMED` objects their names are left out: their counts and a digest of all of a kind remain;
- the JSON form is untrusted: whatever is malformed is DamagedError.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from resurgam.errors import DamagedError

NAMED = 5000
# 16 bytes tell accidents and edits apart; whoever can write the dump can write the metadata, too.
DIGEST = 16
_MODULUS = 1 << (8 * DIGEST)
TableName = tuple[str | None, str]
UNPOPULATED = -1


@dataclass(slots=True)
class Multiset:
    """Things with their digests, whose order does not matter; `each` has the digest of each by its name.

    `size` sums up what the things are measured in: statements, or bytes of large objects.
    """

    count: int = 0
    size: int = 0
    total: int = 0
    each: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, digest: bytes, size: int = 1, *, named: bool = True) -> None:
        """Add a thing, or a part of one that was added before under the same name."""
        number = int.from_bytes(digest[:DIGEST], "big")
        self.total = (self.total + number) % _MODULUS
        self.count += 1
        self.size += size
        if named:
            before = int(self.each.get(name, "0"), 16)
            self.each[name] = f"{(before + number) % _MODULUS:0{2 * DIGEST}x}"

    def without(self, others: Multiset) -> Multiset:
        """The same without these things, all of which are among them."""
        each = dict(self.each)
        for name, digest in others.each.items():
            left = (int(each.pop(name, "0"), 16) - int(digest, 16)) % _MODULUS
            if left:
                each[name] = f"{left:0{2 * DIGEST}x}"
        total = (self.total - others.total) % _MODULUS
        return Multiset(self.count - others.count, self.size - others.size, total, each)

    def to_json(self) -> list[Any]:
        return [self.count, self.size, f"{self.total:0{2 * DIGEST}x}", self.each]

    @classmethod
    def from_json(cls, value: list[Any]) -> Multiset:
        count, size, total, each = value
        return cls(int(count), int(size), int(total, 16), {str(name): str(digest) for name, digest in each.items()})


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """The contents of a database, as its dump and its materialized views show them.

    tables: rows and digest of the COPY text; sequences: last value and whether it was called; large_objects: by oid;
    matviews: rows (UNPOPULATED if it was never filled) and a digest that does not know their order, without those
    that could not be read in time; objects: definitions by pg_dump's kinds, and owners as a kind of their own;
    unnamed: the same without the names that a server invents for columns. They are not recorded: whoever has the dump
    can take them anew.
    """

    tables: Mapping[TableName, tuple[int, str]]
    sequences: Mapping[str, tuple[int, bool]]
    large_objects: Multiset
    matviews: Mapping[str, tuple[int, str]]
    objects: Mapping[str, Multiset]
    unnamed: Mapping[str, Multiset] = field(default_factory=dict, compare=False)

    def to_json(self) -> dict[str, Any]:
        tables: dict[str, dict[str, list[Any]]] = {}
        for (schema, name), (rows, digest) in self.tables.items():
            tables.setdefault(schema or "", {})[name] = [rows, digest]
        return {
            "tables": tables,
            "sequences": {name: list(state) for name, state in self.sequences.items()},
            "large_objects": self.large_objects.to_json(),
            "matviews": {name: list(rows) for name, rows in self.matviews.items()},
            "objects": {kind: found.to_json() for kind, found in self.objects.items()},
        }

    @classmethod
    def from_json(cls, value: Any) -> Fingerprint:
        """Read the form of `to_json`. DamagedError if it is anything else."""
        try:
            return cls(
                tables={
                    (str(schema) or None, str(name)): (int(rows), str(digest))
                    for schema, named in value["tables"].items()
                    for name, (rows, digest) in named.items()
                },
                sequences={str(name): (int(last), bool(called)) for name, (last, called) in value["sequences"].items()},
                large_objects=Multiset.from_json(value["large_objects"]),
                matviews={str(name): (int(rows), str(digest)) for name, (rows, digest) in value["matviews"].items()},
                objects={str(kind): Multiset.from_json(found) for kind, found in value["objects"].items()},
            )
        except (KeyError, TypeError, ValueError, AttributeError):
            raise DamagedError(
                "The fingerprint in the backup's metadata is malformed.", "Use another backup."
            ) from None
