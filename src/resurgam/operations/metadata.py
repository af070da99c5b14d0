"""backup_metadata.json: the manual's fields, and beside them what a restore and an auditor need."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from resurgam.archive.headers import BLOCK
from resurgam.operations.inventory import megabytes
from resurgam.sources.config import ConfigReport
from resurgam.sources.database import DatabaseReport
from resurgam.sources.entries import Names
from resurgam.sources.files import TreeReport

FORMAT = 1


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
    """
    length = 0
    while True:
        fields = _fields(name, taken_at, sequence, version, captured, files + 1, content + length)
        text = json.dumps(fields, indent=2, ensure_ascii=True).encode()
        if len(text) <= length:
            return text + b" " * (length - len(text) - 1) + (b"\n" if length > len(text) else b"")
        length = len(text) + BLOCK // 8


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
