"""A backup's archive: looked into, and downloaded, also on from where it broke off (RFC 9110, 13.1.5 and 14)."""

from __future__ import annotations

import io
import os
import re
import stat
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from fastapi import Query, Request, Response
from fastapi.responses import StreamingResponse

from resurgam.api.backups import Limit, Name
from resurgam.api.call import runtime_of
from resurgam.api.errors import Answer, Refusal
from resurgam.api.routing import Operation, Routes
from resurgam.api.runtime import slowly
from resurgam.api.schemas import Contents
from resurgam.catalog.catalog import BackupRecord
from resurgam.errors import DamagedError, NotFoundError, StorageError
from resurgam.operations.browse import browse
from resurgam.stores.listing import SUFFIX, split_name

_BLOCK = 512 << 10
_LOOK = 32
# By which a file of each form begins: gzip; age's first line; OpenPGP's packet with a passphrase's salt.
_MAGIC = {
    "": re.compile(rb"\x1f\x8b"),
    "age": re.compile(rb"age-encryption\.org/v1\n"),
    "gpg": re.compile(rb"[\x8c\xc3]\x0d\x04"),
}
_MEDIA = {"": "application/gzip", "age": "application/octet-stream", "gpg": "application/pgp-encrypted"}
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


async def contents(
    request: Request,
    backup_name: Name,
    path: Annotated[
        str, Query(max_length=8192, description="A folder of the backup, as `files/uploads`; its top without one.")
    ] = "",
    limit: Limit = 200,
    cursor: Annotated[
        str | None, Query(max_length=8192, description="`next_cursor` of the page before this one.")
    ] = None,
) -> Answer:
    """What stands in one folder of a backup, by name. An archive of another program is read from its beginning."""
    runtime = runtime_of(request)

    def look() -> dict[str, Any]:
        record = runtime.listing.find(backup_name)
        with runtime.service.inventory.open(record) as archive:
            page = browse(archive, path, limit, cursor)
        return {
            "backup_name": record.name,
            "path": path.strip("/"),
            "entries": [child.to_json() for child in page.children],
            "next_cursor": page.following,
        }

    return Answer(await slowly(look))


async def download(request: Request, backup_name: Name) -> Response:
    """The backup as one archive, as it is kept: a `.tar.gz`, perhaps encrypted (`.tar.gz.age`, `.tar.gz.gpg`). One
    range can be asked for; If-Range takes the ETag. Deleting the backup meanwhile does not end a download. Out of a
    repository it comes whole, without a length."""
    runtime = runtime_of(request)

    def found() -> tuple[BackupRecord, Path | None]:
        record = runtime.listing.find(backup_name)
        return record, runtime.service.inventory.file_of(record)

    record, path = await slowly(found)
    if path is not None:
        return await _download_file(request, path)
    headers = {"Accept-Ranges": "none", "Content-Disposition": f'attachment; filename="{record.name}{SUFFIX}"'}
    if request.method == "HEAD":
        return Response(headers=headers, media_type="application/gzip")
    pieces = runtime.service.inventory.stream(record)
    # What is wrong with the backup is told by a status, as far as it shows before the first byte.
    first = await slowly(lambda: next(pieces, b""))
    return StreamingResponse(_stream(first, pieces), headers=headers, media_type="application/gzip")


async def _download_file(request: Request, path: Path) -> Response:
    def opened() -> tuple[io.FileIO, os.stat_result]:
        file = _open(path)
        return file, os.fstat(file.fileno())

    file, status = await slowly(opened)
    size, media = status.st_size, _MEDIA[split_name(path.name)[1]]
    tag = f'"{status.st_ino:x}-{size:x}-{status.st_mtime_ns:x}"'
    headers = {
        "Accept-Ranges": "bytes",
        "ETag": tag,
        "Content-Disposition": f'attachment; filename="{path.name}"',
    }
    if request.method == "HEAD":
        file.close()
        return Response(headers={**headers, "Content-Length": str(size)}, media_type=media)
    first, last, code = 0, size - 1, 200
    if request.headers.get("if-range", tag) == tag:
        asked = _range(request.headers.get("range", ""), size)
        if asked is not None and asked[0] >= size:
            file.close()
            raise Refusal(
                416,
                "range",
                "The range begins behind the end of the archive.",
                headers={"Content-Range": f"bytes */{size}", "ETag": tag},
            )
        if asked is not None:
            first, last, code = *asked, 206
            headers["Content-Range"] = f"bytes {first}-{last}/{size}"
    headers["Content-Length"] = str(last - first + 1)
    return StreamingResponse(_blocks(file, first, last - first + 1), code, headers=headers, media_type=media)


def add_archives(routes: Routes) -> None:
    """The routes of one backup's archive."""
    content = {media: {"schema": {"type": "string", "format": "binary"}} for media in _MEDIA.values()}
    whole: dict[int | str, dict[str, Any]] = {
        200: {"description": "The archive", "content": content},
        206: {"description": "The range that was asked for", "content": content},
    }
    ranges = [
        {"name": name, "in": "header", "required": False, "schema": {"type": "string"}, "description": text}
        for name, text in (
            ("Range", "One range of bytes, as `bytes=1048576-`."),
            ("If-Range", "The ETag of the part that is there already; if it differs, the whole archive comes."),
        )
    ]
    download_operation = Operation(
        "downloadArchive",
        "archives",
        "admin",
        None,
        (404, 416, 422),
        "download",
        extra={"parameters": ranges},
        responses=whole,
    )
    contents_operation = Operation("listContents", "archives", "viewer", Contents, (404, 422))
    routes.add("GET", "/api/backups/{backup_name}/archive", download, download_operation)
    routes.add("GET", "/api/backups/{backup_name}/contents", contents, contents_operation)


def _open(path: Path) -> io.FileIO:
    """What is no archive by its first bytes is not handed out: someone may have put a link to another file there."""
    try:
        # Without O_NONBLOCK, a fifo of that name would hold us for ever.
        file = io.FileIO(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb")
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode) or not _MAGIC[split_name(path.name)[1]].match(
            os.pread(file.fileno(), _LOOK, 0)
        ):
            raise DamagedError(f"{path.name} is not an archive.")
        return file
    except FileNotFoundError:
        raise NotFoundError(f"The archive {path.name} is gone.", "List the backups again.") from None
    except OSError as error:
        raise StorageError(f"The archive {path.name} can not be read ({error.strerror}).") from None


def _range(header: str, size: int) -> tuple[int, int] | None:
    """First and last byte; None where the whole is to be sent: several ranges, or none that makes sense."""
    match = _RANGE.fullmatch(header.strip())
    if match is None or match.group(0) == "bytes=-":
        return None
    if not match[1]:
        suffix = int(match[2])
        return (max(0, size - suffix), size - 1) if suffix else (size, size)
    first = int(match[1])
    last = min(int(match[2]), size - 1) if match[2] else size - 1
    return None if match[2] and int(match[2]) < first else (first, last)


async def _stream(first: bytes, pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Small pieces together, so that a chunk does not cost a change of threads."""

    def block() -> bytes:
        held = bytearray()
        for piece in pieces:
            held += piece
            if len(held) >= _BLOCK:
                break
        return bytes(held)

    yield first
    while data := await slowly(block):
        yield data


async def _blocks(file: io.FileIO, offset: int, length: int) -> AsyncIterator[bytes]:
    with file:
        while length > 0:
            block = await slowly(partial(os.pread, file.fileno(), min(_BLOCK, length), offset))
            if not block:
                return  # cut short meanwhile: the client sees too few bytes
            yield block
            offset, length = offset + len(block), length - len(block)
