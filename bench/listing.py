"""`resurgam list` over thousands of archives: with a warm catalog, and with none, which is then rebuilt."""

from __future__ import annotations

import json
import os
import shutil
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median

from bench import measure, report
from bench.backup import RESURGAM
from resurgam.archive.entry import Entry, Kind
from resurgam.archive.sinks import PlainSink
from resurgam.archive.writer import ArchiveWriter

_VERSION = 1
_FIRST = datetime(2020, 1, 1, 2, tzinfo=UTC)
_SQL = b"--\n-- PostgreSQL database dump\n--\n\n--\n-- PostgreSQL database dump complete\n--\n\n"


def run(cache: Path, count: int, rounds: int) -> list[report.Line]:
    """The archives are made once and kept; the catalog is removed before each rebuild."""
    folder = archive_folder(cache, count)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("DB_", "BACKUP_", "PG"))}
    environment |= {
        "BACKUP_DIR": str(folder),
        "APP_DIR": str(folder.parent),
        "BACKUP_LOG_FILE": str(cache / "list.log"),
    }
    rebuilds, warm = [], []
    for _ in range(rounds):
        for catalog in folder.glob("catalog.sqlite*"):
            catalog.unlink()
        rebuilds.append(_list(environment, count))
        warm.append(_list(environment, count))
    rate = count / median(rebuilds)
    return [
        report.Line(f"list, {count:,} archives, warm", f"{median(warm):.2f} s", "", median(warm), " s", 0.8),
        report.Line("catalog rebuilt", f"{median(rebuilds):.2f} s", "", rate, "/s", 1000, at_least=True),
    ]


def archive_folder(cache: Path, count: int) -> Path:
    """A folder of that many small archives, made once."""
    folder = cache / f"archives-{_VERSION}-{count}"
    if not folder.exists():
        print(f"Making {count:,} archives in {folder} (once)", flush=True)
        _make(folder, count)
    return folder


def _list(environment: dict[str, str], count: int) -> float:
    done = measure.run([*RESURGAM, "list", "--json"], environment)
    if done.output.count('"backup_name"') < count:
        raise measure.CommandFailed(f"list shows fewer than {count} backups:\n{done.output[:500]}")
    return done.seconds


def _make(folder: Path, count: int) -> None:
    making = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir(parents=True)
    for number in range(count):
        _archive(making, number)
    making.rename(folder)


def _archive(folder: Path, number: int) -> None:
    moment = _FIRST + timedelta(hours=number)
    stamp = f"{moment:%Y%m%d_%H%M%S}"
    name = f"radiology_backup_{stamp}"
    mtime_ns = int(moment.timestamp()) * 1_000_000_000
    fd = os.open(folder / f"{name}.tar.gz", os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with ArchiveWriter(PlainSink(fd), name, mtime_ns=mtime_ns) as writer:
            for path, text in ((b".env.example", b"DB_PASSWORD=\n"), (b"requirements.txt", b"fastapi\n")):
                entry = Entry(b"config/" + path, Kind.FILE, 0o644, mtime_ns=mtime_ns, size=len(text))
                writer.add(entry, [text])
            dump = Entry(f"database_{stamp}.sql".encode(), Kind.FILE, 0o600, mtime_ns=mtime_ns, size=len(_SQL))
            writer.add(dump, [_SQL])
            writer.finish(json.dumps(_metadata(name, stamp, moment, number + 1)).encode(), mtime_ns)
    finally:
        os.close(fd)
    os.utime(folder / f"{name}.tar.gz", ns=(mtime_ns, mtime_ns))


def _metadata(name: str, stamp: str, moment: datetime, sequence: int) -> dict[str, object]:
    """The manual's fields, with the ones that the catalog takes from ours."""
    return {
        "backup_name": name,
        "timestamp": stamp,
        "datetime": f"{moment:%Y-%m-%dT%H:%M:%S}.000000",
        "datetime_utc": moment.isoformat(),
        "sequence": sequence,
        "database": {"success": True, "file": f"database_{stamp}.sql", "size_mb": 0.0, "size_bytes": len(_SQL)},
        "configuration": {"success": True, "files_count": 2, "files": [".env.example", "requirements.txt"]},
        "files": {"success": True, "directories_count": 0, "directories": []},
        "backup_size_mb": 0.0,
        "made_by": {"bench": time.strftime("%Y")},
    }
