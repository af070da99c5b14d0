"""Drills for the tests: run, with what they must never leave; and a sound archive whose dump was edited."""

from __future__ import annotations

import json
from collections.abc import Callable

from resurgam.archive.entry import Entry, Kind
from resurgam.archive.opening import open_archive
from resurgam.archive.sinks import PlainSink
from resurgam.archive.writer import ArchiveWriter
from resurgam.operations.drill import DrillResult
from tests.operations.scene import Scene


def run(scene: Scene, name: str | None = None, **more: str) -> DrillResult:
    with scene.service(**more) as service:
        result = service.drill(name)
    assert scratch_of(scene) == []
    return result


def scratch_of(scene: Scene) -> list[str]:
    """What a drill must never leave."""
    roles = scene.administer(f"SELECT rolname FROM pg_roles WHERE rolname LIKE '{scene.database[:40]}%_drill_%'")
    found = [name for name in scene.databases() if "_drill_" in name] + [name for (name,) in roles]
    return found + [path.name for path in scene.backups.iterdir() if "drill_" in path.name]


def edited(scene: Scene, edit: Callable[[bytes], bytes]) -> str:
    """A later backup, sound in itself, that says of itself what the newest says, and whose dump was edited."""
    with scene.service() as service:
        name = service.backup().name
        with open_archive(scene.backups / f"{name}.tar.gz") as archive:
            metadata = archive.metadata()
            wanted = metadata["database"]["file"].encode()
            dump = b"".join(b"".join(blocks) for entry, blocks in archive.walk() if entry.path == wanted)
    changed = edit(dump)
    assert changed != dump
    stamp = f"{int(name[-6:]) + 1:06}"
    forged = f"{name[:-6]}{stamp}"
    metadata |= {"backup_name": forged, "timestamp": forged[-15:], "files": {}, "configuration": {}}
    path = scene.backups / f"{forged}.tar.gz"
    with path.open("w+b") as file, ArchiveWriter(PlainSink(file.fileno()), forged, mtime_ns=0) as writer:
        writer.add(Entry(b"config", Kind.FOLDER, 0o755))
        writer.add_late(Entry(wanted, Kind.FILE, 0o600), [changed])
        writer.finish(json.dumps(metadata).encode(), 0)
    return forged
