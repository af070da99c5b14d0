"""Sinks of every kind, and encrypted archives made of trees."""

from __future__ import annotations

import os
from pathlib import Path

from resurgam.archive.encrypted import encrypting_sink
from resurgam.archive.sealing import ArchiveKeys, Sealing
from resurgam.archive.sinks import PlainSink
from resurgam.archive.writer import ArchiveWriter, Sink
from resurgam.keys.age import identity
from resurgam.settings.secret import Secret
from resurgam.stores.listing import file_name
from tests.archive.trees import NAME, NOW, Planned, metadata_bytes

PASSPHRASE = "Höhlenbär mit 7 Zähnen"
IDENTITY = identity(bytes(range(32)))
OTHER = identity(bytes(range(1, 33)))
KEYS = {
    "passphrase": ArchiveKeys(lambda: Secret(PASSPHRASE)),
    "recipients": ArchiveKeys(ask_identities=lambda: (IDENTITY,)),
    "gpg": ArchiveKeys(lambda: Secret(PASSPHRASE)),
}
SEALINGS = {
    "passphrase": Sealing("age", KEYS["passphrase"]),
    "recipients": Sealing("age", ArchiveKeys(), (str(OTHER.recipient), str(IDENTITY.recipient))),
    "gpg": Sealing("gpg", KEYS["gpg"]),
}
SINKS = ("plain", *SEALINGS)


def sink_of(kind: str, fd: int, scratch: Path) -> Sink:
    """A sink of one of SINKS."""
    return PlainSink(fd) if kind == "plain" else encrypting_sink(fd, SEALINGS[kind], scratch)


def write_sealed(folder: Path, plan: list[Planned], kind: str, name: str = NAME) -> Path:
    """An archive of one of SINKS."""
    path = folder / file_name(name, "" if kind == "plain" else SEALINGS[kind].kind)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        with ArchiveWriter(sink_of(kind, fd, folder), name, mtime_ns=NOW) as writer:
            for planned in plan:
                (writer.add_late if planned.late else writer.add)(planned.entry, planned.blocks())
            assert writer.finish(metadata_bytes(name), NOW) == path.stat().st_size
    finally:
        os.close(fd)
    return path
