"""backup_metadata.json: the manual's fields, and beside them what a restore and an auditor need."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from resurgam.archive.footer import MAX_METADATA
from resurgam.archive.headers import BLOCK
from resurgam.operations.inventory import megabytes
from resurgam.sources.config import ConfigReport
from resurgam.sources.database import DatabaseReport
from resurgam.sources.entries import Names
from resurgam.sources.files import TreeReport

FORMAT = 1
_COMPACT = ("tables", "outline", "fingerprint")
_DISPENSABLE = ("outline", "fingerprint")


@dataclass(frozen=True, slots=True)
class Captured:
    """What the sources reported."""

    database: DatabaseReport
    config: ConfigReport
    trees: tuple[TreeReport, ...]
    warnings: tuple[str, ...]


def build_metadata(
    name: str, taken_at: datetime, sequence: int, version: str, captured: Captured, files: int, content: int
) -> bytes:
    """The file's bytes. `files` and `content` count the regular files before this one, and their bytes.

    `backup_size_mb` counts this file too: its length is found by trying, and spaces make up for a digit more or less.
    What readers can do without is left out where the file would become longer than a reader takes.
    """
    length, left_out = 0, 0
    while True:
        fields = _fields(name, taken_at, sequence, version, captured, files + 1, content + length)
        for key in _DISPENSABLE[:left_out]:
            del fields["database"][key]
        raw = _text(fields)
        if len(raw) > MAX_METADATA - BLOCK and left_out < len(_DISPENSABLE):
            length, left_out = 0, left_out + 1
        elif len(raw) <= length:
            return raw + b" " * (length - len(raw) - 1) + (b"\n" if length > len(raw) else b"")
        else:
            length = len(raw) + BLOCK // 8


def _text(fields: dict[str, Any]) -> bytes:
    """Indented for people, but for the long lists of the database, which would take five times the room."""
    database = dict(fields["database"])
    compact = {key: database[key] for key in _COMPACT if key in database}
    # No name has a NUL, so that nothing else in the text reads like these.
    database.update({key: f"\0{key}" for key in compact})
    text = json.dumps({**fields, "database": database}, indent=2, ensure_ascii=True)
    for key, value in compact.items():
        text = text.replace(json.dumps(f"\0{key}"), json.dumps(value, separators=(",", ":"), ensure_ascii=True), 1)
    return text.encode()


def _fields(
    name: str, taken_at: datetime, sequence: int, version: str, captured: Captured, files: int, content: int
) -> dict[str, Any]:
    database, config = captured.database, captured.config
    present = [tree for tree in captured.trees if tree.present]
    return {
        "backup_name": name,
        "timestamp": name.rpartition("_backup_")[2],
        "datetime": taken_at.replace(tzinfo=None).isoformat(timespec="microseconds"),
        "datetime_utc": taken_at.isoformat(timespec="microseconds"),
        "format": FORMAT,
        "resurgam_version": version,
        "sequence": sequence,
        "database": {
            "success": True,
            "file": database.file,
            "size_mb": megabytes(database.size),
            "size_bytes": database.size,
            **database.to_json(),
        },
        "configuration": {
            "success": True,
            "files_count": len(config.files),
            "files": list(config.files),
            "size_bytes": config.bytes,
        },
        "files": {
            "success": True,
            "directories_count": len(present),
            "directories": [tree.name for tree in present],
            "size_bytes": sum(tree.bytes for tree in present),
            "trees": [_tree(tree) for tree in captured.trees],
        },
        "total_files": files,
        "backup_size_mb": megabytes(content),
        "backup_size_bytes": content,
        "warnings": list(captured.warnings),
    }


def _tree(tree: TreeReport) -> dict[str, Any]:
    counts = {
        "files": tree.files,
        "folders": tree.folders,
        "symlinks": tree.symlinks,
        "hardlinks": tree.hardlinks,
        "size_bytes": tree.bytes,
    }
    lists = {"skipped": tree.skipped, "excluded": tree.excluded, "vanished": tree.vanished, "changed": tree.changed}
    return {
        "name": tree.name,
        "present": tree.present,
        **counts,
        **{key: _names(names) for key, names in lists.items() if names.count},
    }


def _names(names: Names) -> dict[str, Any]:
    return {"count": names.count, "names": list(names.names)}
