"""Which files of a folder are archives of backups; every other file and folder in it is none of our business."""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

from resurgam.errors import StorageError

SUFFIX = ".tar.gz"
# How an archive lies there: "" plain, or encrypted. Of several of one name the first counts.
SUFFIXES = {"": SUFFIX, "age": f"{SUFFIX}.age", "gpg": f"{SUFFIX}.gpg"}
BACKUP_NAME = re.compile(r"(?P<app>[A-Za-z0-9][A-Za-z0-9_.-]{0,39})_backup_(?P<timestamp>\d{8}_\d{6})")

PARTIAL = re.compile(rf"\.{BACKUP_NAME.pattern}{re.escape(SUFFIX)}(\.age|\.gpg)?\.partial")


@dataclass(frozen=True, slots=True)
class FoundArchive:
    """An archive as its folder shows it; `size` in bytes, time in nanoseconds.

    `identity` differs when the file is another one, or its owner or mode changed (inode and ctime, in 63 bits).
    """

    name: str
    size: int
    mtime_ns: int
    identity: int
    form: str = ""


def file_name(name: str, form: str = "") -> str:
    """The file of a backup."""
    return name + SUFFIXES[form]


def split_name(file: str) -> tuple[str, str]:
    """The backup's name and the form by the name of its file; a name without any of the endings is taken as it is."""
    for form, suffix in reversed(SUFFIXES.items()):
        if file.endswith(suffix):
            return file.removesuffix(suffix), form
    return file, ""


def standing_file(folder: Path, name: str) -> Path:
    """The file of that backup which is there, in whatever form; the plain one's where none is."""
    for form in SUFFIXES:
        path = folder / file_name(name, form)
        if path.exists():
            return path
    return folder / file_name(name)


def is_backup_name(name: str) -> bool:
    """Whether this is a name that a backup can have: `APP_backup_YYYYMMDD_HHMMSS`."""
    return BACKUP_NAME.fullmatch(name) is not None


def list_archives(folder: Path) -> list[FoundArchive]:
    """The archives of a folder, by name. StorageError if it can't be read: that is not an empty folder."""
    found: dict[str, FoundArchive] = {}
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                name, form = split_name(entry.name)
                if name == entry.name or not is_backup_name(name) or (name in found and found[name].form <= form):
                    continue
                try:
                    status = entry.stat()
                except FileNotFoundError:
                    continue  # deleted since it was listed, or a link to nothing
                if stat.S_ISREG(status.st_mode):
                    identity = (status.st_ino ^ status.st_ctime_ns) & 0x7FFF_FFFF_FFFF_FFFF
                    found[name] = FoundArchive(name, status.st_size, status.st_mtime_ns, identity, form)
    except OSError as error:
        raise StorageError(
            f"The folder {folder} can not be read ({error.strerror}).", "Check its path, its owner and its mode."
        ) from None
    return sorted(found.values(), key=lambda archive: archive.name)
