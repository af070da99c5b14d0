"""What a restored copy must have of what the backup says of itself, and how a drill's result becomes evidence.

Metadata may have any shape: what is not as we write it can't be compared, and is passed over.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from resurgam.counting import count_text

_SHOWN = 20


def table_differences(recorded: object, found: Mapping[tuple[str | None, str], int]) -> list[str]:
    """Tables whose rows in the dump are not as many as the metadata lists ([schema, table, rows] each)."""
    if not isinstance(recorded, list):
        return []
    wanted = {(str(one[0]), str(one[1])): one[2] for one in recorded if isinstance(one, list) and len(one) == 3}
    there = {(schema or "", table): rows for (schema, table), rows in found.items()}
    sentences = list(_compared(wanted, there))
    more = len(sentences) - _SHOWN
    return [
        *sentences[:_SHOWN],
        *([f"{count_text(more, 'more table differs', 'more tables differ')}."] if more > 0 else []),
    ]


def _compared(wanted: Mapping[tuple[str, str], Any], there: Mapping[tuple[str, str], int]) -> Iterator[str]:
    for key in sorted({*wanted, *there}):
        name = ".".join(part for part in key if part)
        if key not in there:
            yield f"The table {name} was backed up, and the dump does not have it."
        elif key not in wanted:
            yield f"The dump has the table {name}, which was not backed up."
        elif wanted[key] != there[key]:
            found = count_text(there[key], "row")
            yield f"The table {name} has {found} in the dump, and {wanted[key]:,} were backed up."


def tree_differences(metadata: Mapping[str, Any], found: tuple[int, int, int]) -> list[str]:
    """Whether as many files, symbolic links and hard links were restored as the metadata lists of all trees."""
    files = metadata.get("files")
    trees = files.get("trees") if isinstance(files, dict) else None
    if not isinstance(trees, list) or not all(isinstance(tree, dict) for tree in trees):
        return []
    sentences = []
    for what, count in zip(("files", "symlinks", "hardlinks"), found, strict=True):
        wanted = [tree.get(what, 0) for tree in trees]
        if all(type(number) is int for number in wanted) and sum(wanted) != count:
            sentences.append(f"The trees gave back {count:,} {what}, and {sum(wanted):,} were backed up.")
    return sentences


def count_differences(metadata: Mapping[str, Any], found: int) -> list[str]:
    """Whether as many config files were restored as the metadata lists."""
    config = metadata.get("configuration")
    wanted = config.get("files_count") if isinstance(config, dict) else None
    if type(wanted) is not int or wanted == found:
        return []
    return [f"{found:,} config files were restored, and {wanted:,} were backed up."]


def digest_of(report: Mapping[str, Any]) -> str:
    """SHA-256, in hexadecimal, over the report's canonical JSON: keys sorted, no blanks, ASCII."""
    return hashlib.sha256(json.dumps(report, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def evidence_bytes(report: Mapping[str, Any]) -> tuple[bytes, str]:
    """The file beside the backup, with the digest of all else in it; and that digest."""
    digest = digest_of(report)
    return (json.dumps({**report, "digest": digest}, indent=2) + "\n").encode(), digest
