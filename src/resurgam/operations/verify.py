"""Verify: is the backup what it says, down to the last byte? (docs/archive-format.md, sentence 20)"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from resurgam.archive.entry import Kind, name_text
from resurgam.archive.footer import METADATA_NAME
from resurgam.archive.opening import Archive
from resurgam.counting import count_text
from resurgam.errors import VerifyFailed
from resurgam.operations.inventory import megabytes
from resurgam.operations.progress import Progress
from resurgam.postgres.fingerprint import Fingerprint, compare
from resurgam.postgres.outline import outline_of
from resurgam.postgres.script import Script, ScriptScanner
from resurgam.postgres.taking import Taker

_NAMED = 20  # differences that are told


@dataclass(frozen=True, slots=True)
class VerifyResult:
    """A backup that passed. `size` is the archive's, in bytes; `rows` counts the dump's. Not `full`: of a repository's
    backup only a share was read."""

    name: str
    date: str
    total_files: int
    size: int
    content: int
    tables: int
    rows: int
    foreign: bool
    path: str
    full: bool = True

    def to_json(self) -> dict[str, Any]:
        return {
            "success": True,
            "backup_name": self.name,
            "backup_date": self.date,
            "total_files": self.total_files,
            "database_backup": True,
            "size_mb": megabytes(self.size),
            "size_bytes": self.size,
            "content_bytes": self.content,
            "tables": self.tables,
            "rows": self.rows,
            "foreign": self.foreign,
            "archive_path": self.path,
            "full": self.full,
        }


@dataclass(slots=True)
class _Seen:
    """What walking through the archive found."""

    files: int = 0
    content: int = 0
    config: list[str] = field(default_factory=list)
    trees: set[str] = field(default_factory=set)
    root_files: dict[str, int] = field(default_factory=dict)
    script: Script | None = None
    fingerprint: Fingerprint | None = None


def verify(archive: Archive, progress: Progress) -> VerifyResult:
    """Read everything, believe nothing. Raises DamagedError, HostileError, or VerifyFailed with all that differs."""
    metadata = archive.metadata()
    dump = dump_name(metadata, archive.name)
    total = metadata.get("backup_size_bytes")
    progress.phase(f"Verifying {archive.name}", total if type(total) is int and total > 0 else None)
    seen = _walk(archive, dump, progress)
    problems = [*_check_dump(seen, dump, metadata), *_check_counts(seen, metadata, archive.foreign)]
    if problems:
        raise VerifyFailed(
            f"The backup {archive.name} is not what it says: " + " ".join(problems),
            "Use another backup, or its copy in the remote folder.",
        )
    rows = sum(seen.script.rows.values()) if seen.script else 0
    return VerifyResult(
        name=archive.name,
        date=str(metadata.get("datetime", ""))[:19],
        total_files=seen.files,
        size=archive.size,
        content=seen.content,
        tables=len(seen.script.rows) if seen.script else 0,
        rows=rows,
        foreign=archive.foreign,
        path=archive.place,
    )


def dump_name(metadata: dict[str, Any], name: str) -> str:
    """The dump's path in the backup. VerifyFailed if the metadata says that there is none."""
    database = metadata.get("database")
    if not isinstance(database, dict) or database.get("success") is not True:
        raise VerifyFailed(
            f"By its own metadata the backup {name} holds no database: that part had failed.",
            "Use another backup; this one can still give back config and files (--only config,files).",
        )
    return str(database.get("file") or f"database_{name.rpartition('_backup_')[2]}.sql")


def _walk(archive: Archive, dump: str, progress: Progress) -> _Seen:
    seen = _Seen()
    for entry, blocks in archive.walk():
        path = name_text(entry.path)
        if entry.kind is Kind.FILE:
            seen.files += 1
            seen.content += entry.size
            if "/" not in path:
                seen.root_files[path] = entry.size
            elif path.startswith("config/"):
                seen.config.append(path.removeprefix("config/"))
        if path.startswith("files/"):
            # Not every program writes an entry for a folder that holds something.
            seen.trees.add(path.split("/", 2)[1])
        if entry.kind is Kind.FILE and path == dump:
            seen.script, seen.fingerprint = _scan(blocks, progress)
        else:
            for block in blocks:
                progress.advance(len(block))
    return seen


def _scan(blocks: Iterator[bytes], progress: Progress) -> tuple[Script, Fingerprint]:
    taker = Taker()
    scanner = ScriptScanner(keep_statements=False, observer=taker)
    for block in blocks:
        scanner.feed(block)
        progress.advance(len(block))
    script = scanner.finish()
    return script, taker.fingerprint(script, {})


def _check_dump(seen: _Seen, dump: str, metadata: dict[str, Any]) -> Iterator[str]:
    if METADATA_NAME.decode() not in seen.root_files:
        yield "It holds no backup_metadata.json."
    if seen.script is None:
        yield f"It holds no {dump}."
        return
    if not seen.script.complete:
        yield f"The dump is not complete: {seen.script.missing}."
    database = metadata["database"]
    size = database.get("size_bytes")
    if size is not None and size != seen.script.size:
        yield f"The dump has {seen.script.size:,} bytes, the metadata says {size}."
    tables = database.get("tables")
    if tables is not None and tables != [[s or "", t, rows] for (s, t), rows in seen.script.rows.items()]:
        yield "The dump's tables and rows are not those that the metadata lists."
    elif seen.fingerprint is not None and database.get("fingerprint") is not None:
        # Materialized views are not in a dump.
        expected = replace(Fingerprint.from_json(database["fingerprint"]), matviews={})
        yield from compare(expected, seen.fingerprint)[:_NAMED]
    outline = database.get("outline")
    if outline is not None and outline != outline_of(seen.script):
        yield "The dump's outline is not that of the dump."


def _check_counts(seen: _Seen, metadata: dict[str, Any], foreign: bool) -> Iterator[str]:
    config, files = metadata.get("configuration"), metadata.get("files")
    config = config if isinstance(config, dict) else {}
    names, count = config.get("files"), config.get("files_count")
    found = sorted(seen.config)
    if isinstance(names, list) and (count, sorted(map(str, names))) != (len(found), found):
        yield f"Its config/ holds {count_text(len(seen.config), 'file')}, and the metadata lists others ({len(names)})."
    trees = files.get("directories") if isinstance(files, dict) else None
    if isinstance(trees, list) and not set(map(str, trees)) <= seen.trees:
        yield "Its files/ lacks folders that the metadata lists."
    if foreign:
        return  # other programs' rounding and counting is not ours to judge
    if metadata.get("timestamp") != str(metadata["backup_name"]).rpartition("_backup_")[2]:
        yield "Its timestamp is not that of its name."
    if metadata.get("total_files") != seen.files:
        yield f"It holds {count_text(seen.files, 'file')}, the metadata says {metadata.get('total_files')}."
    if metadata.get("backup_size_bytes") != seen.content:
        yield f"Its files have {seen.content:,} bytes, the metadata says {metadata.get('backup_size_bytes')}."
