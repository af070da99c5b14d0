"""Archives that other programs made, or that nobody should have made."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Iterable
from pathlib import Path

from tests.archive.trees import DATABASE, NAME

FIELDS: dict[str, object] = {"backup_name": NAME, "timestamp": NAME[-15:], "database": {"success": True}}
DUMP = b"-- PostgreSQL database dump\n" + b"COPY public.reports (id) FROM stdin;\n1\n\\.\n" * 900


def lay_out(root: Path) -> dict[bytes, bytes]:
    """The manual's tree on disk, below a folder of the backup's name; answers the files' contents by path."""
    files = {
        b"backup_metadata.json": json.dumps(FIELDS).encode(),
        DATABASE: DUMP,
        b"config/.env.example": b"DB_PASSWORD=\n",
        b"config/backend/config.py": b"DEBUG = False\n",
        b"files/templates/chest.html": b"<p>Thorax</p>",
        b"files/uploads/empty": b"",
        b"files/uploads/" + b"n" * 50: b"a name of medium length",
    }
    for path, content in files.items():
        place = root / NAME / path.decode()
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
    (root / NAME / "files/uploads/latest").symlink_to("empty")
    (root / NAME / "files/uploads/same").hardlink_to(root / NAME / "files/templates/chest.html")
    (root / NAME / "files/none").mkdir()
    return files


def member(
    name: str | bytes, kind: bytes = tarfile.REGTYPE, content: bytes = b"", target: str = ""
) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name if isinstance(name, str) else name.decode("utf-8", "surrogateescape"))
    info.type, info.size, info.linkname = kind, len(content), target
    return info, content


def tar(
    members: Iterable[tuple[tarfile.TarInfo, bytes]], form: int = tarfile.PAX_FORMAT, *, metadata: bool = True
) -> bytes:
    """A tar stream of these members below the top folder (their names are whole), the metadata last."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        archive.addfile(member(NAME, tarfile.DIRTYPE)[0])
        for info, content in members:
            archive.addfile(info, io.BytesIO(content))
        if metadata:
            info, content = member(f"{NAME}/backup_metadata.json", content=json.dumps(FIELDS).encode())
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def packed(folder: Path, stream: bytes, name: str = NAME) -> Path:
    path = folder / f"{name}.tar.gz"
    path.write_bytes(gzip.compress(stream, 1))
    return path
