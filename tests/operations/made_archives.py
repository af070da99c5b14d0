"""Archives for the tests of restores: the manual's layout by plain tar, and ours with another dump."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from resurgam.archive.sinks import PlainSink
from resurgam.archive.writer import ArchiveWriter
from tests.operations.scene import CONFIG, Scene, protected

FOREIGN = "radiology_backup_20250104_143022"


def foreign_archive(scene: Scene, *, metadata: dict[str, Any] | None = None, folders: bool = True) -> Path:
    """The manual's layout, by plain pg_dump and plain tar, as the first implementation made it."""
    root = scene.root / "foreign" / FOREIGN
    (root / "config/backend").mkdir(parents=True)
    (root / "files").mkdir()
    for name in CONFIG:
        shutil.copy2(scene.app / name, root / "config" / name)
    subprocess.run(["cp", "-a", scene.app / "backend/templates", scene.app / "uploads", root / "files"], check=True)
    dump = root / "database_20250104_143022.sql"
    subprocess.run(
        [scene.server.bin / "pg_dump", "-f", dump, scene.dsn], check=True, env={"PATH": os.environ.get("PATH", "")}
    )
    fields: dict[str, Any] = {
        "backup_name": FOREIGN,
        "timestamp": "20250104_143022",
        "datetime": "2025-01-04T14:30:22.123456",
        "database": {"success": True, "file": dump.name, "size_mb": round(dump.stat().st_size / 1048576, 1)},
        "configuration": {"success": True, "files_count": len(CONFIG), "files": list(CONFIG)},
        "files": {"success": True, "directories_count": 2, "directories": ["templates", "uploads"]},
        "backup_size_mb": 45.3,
    }
    (root / "backup_metadata.json").write_text(json.dumps({**fields, **(metadata or {})}, indent=2))
    scene.backups.mkdir(exist_ok=True)
    archive = scene.backups / f"{FOREIGN}.tar.gz"
    what = [FOREIGN] if folders else sorted(str(p.relative_to(root.parent)) for p in root.rglob("*") if not p.is_dir())
    more = [] if folders else ["--no-recursion"]
    subprocess.run(["tar", "czf", archive, "-C", root.parent, *more, "--", *what], check=True)
    return archive


def without_times(found: Any) -> Any:
    """GNU tar's default format keeps whole seconds only; a folder without an entry has no time at all."""
    cut = protected(found)
    # mode, owner, [links], time, digest: the time is the one long number
    files = {
        name: " ".join(part for part in what.split() if not (part.isdigit() and len(part) > 15))
        for name, what in cut.files.items()
    }
    return replace(cut, files=files)


def native_archive(scene: Scene, name: str, dump: bytes) -> Path:
    """An archive of ours, sound in itself, with another dump."""
    from resurgam.archive.entry import Entry, Kind

    scene.backups.mkdir(exist_ok=True)
    path = scene.backups / f"{name}.tar.gz"
    with path.open("w+b") as file, ArchiveWriter(PlainSink(file.fileno()), name, mtime_ns=0) as writer:
        stamp = name.rpartition("_backup_")[2]
        writer.add(Entry(b"config", Kind.FOLDER, 0o755))
        writer.add_late(Entry(f"database_{stamp}.sql".encode(), Kind.FILE, 0o600), [dump])
        fields = {
            "backup_name": name,
            "timestamp": stamp,
            "datetime": "2024-01-01T00:00:00",
            "database": {"success": True, "file": f"database_{stamp}.sql", "size_bytes": len(dump)},
        }
        writer.finish(json.dumps(fields).encode(), 0)
    return path


def plain_dump(scene: Scene) -> bytes:
    return subprocess.run(
        [scene.server.bin / "pg_dump", "-v", scene.dsn], check=True, capture_output=True, env={}
    ).stdout


def dump_archive(scene: Scene, dump: bytes) -> str:
    """The manual's layout with nothing but this dump; its name."""
    scene.backups.mkdir(exist_ok=True)
    path = scene.backups / f"{FOREIGN}.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        content = {"database_20250104_143022.sql": dump, "backup_metadata.json": b'{"backup_name": "%s", "database": '
                   b'{"success": true, "file": "database_20250104_143022.sql"}}' % FOREIGN.encode()}  # fmt: skip
        for name, data in content.items():
            info = tarfile.TarInfo(f"{FOREIGN}/{name}")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return FOREIGN
