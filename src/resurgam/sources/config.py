"""Captures the config files of an application, and never a `.env`.

Rules:
- names are relative to the application's folder and may be globs; what they lead to, links resolved, has to be a
  regular file inside that folder, and is saved as one;
- a `.env` is left out whatever the list or a glob says: by its name, by the name a link leads to, by device and
  inode; so are the files that hold Resurgam's own secrets;
- a file that seems to hold a password is saved, with a warning that names its lines and never the value.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from resurgam.archive.entry import Entry, Kind, printable
from resurgam.errors import FileSourceError
from resurgam.settings import ConfigFile
from resurgam.sources.entries import Content, EntrySink, Owners, Progress, no_progress, open_regular
from resurgam.sources.excludes import identities
from resurgam.sources.passwords import password_lines

_TEMPLATES = frozenset({".env.example", ".env.sample", ".env.template"})
# Beyond this size it is no config file; nor is it worth searching for passwords.
_MAX_BYTES = 64 << 20
_MAX_SEARCHED = 4 << 20
_READ_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class ConfigReport:
    """What was saved: names relative to the application's folder, in order; `bytes` counts their contents."""

    files: tuple[str, ...]
    warnings: tuple[str, ...]
    bytes: int


def capture_config(
    files: Sequence[ConfigFile],
    app_dir: Path,
    sink: EntrySink,
    *,
    secrets: Sequence[Path] = (),
    made_ns: int = 0,
    progress: Progress = no_progress,
) -> ConfigReport:
    """Capture config files as `config/NAME`, the folders before what is in them.

    The entry `config` itself gets the time `made_ns`. `secrets` are files that must never be saved. Raises
    FileSourceError for a configured file that is absent, and any file that is unreadable or leads out of `app_dir`.
    """
    return _Capture(app_dir, sink, secrets, progress).run(files, made_ns)


def is_env_name(name: str) -> bool:
    """Whether a file of this name holds an environment with its secrets, rather than a template for one."""
    name = name.lower()
    return (name == ".env" or name.startswith(".env.")) and name not in _TEMPLATES


class _Capture:
    def __init__(self, app_dir: Path, sink: EntrySink, secrets: Sequence[Path], progress: Progress) -> None:
        self._app_dir = app_dir
        self._real_app = os.path.realpath(app_dir)
        self._sink, self._progress = sink, progress
        self._owners = Owners()
        self._secrets = identities(secrets)
        self._environments = identities(_environments(app_dir))
        self._warnings: list[str] = []
        self._folders = {""}
        self._bytes = 0

    def run(self, files: Sequence[ConfigFile], made_ns: int) -> ConfigReport:
        wanted: dict[str, bool] = {}
        for file in files:
            for name in self._names(file):
                wanted[name] = wanted.get(name, False) or file.configured
        self._sink.add(Entry(b"config", Kind.FOLDER, 0o755, os.getuid(), os.getgid(), mtime_ns=made_ns))
        # By the bytes of their parts, so that a folder's files stay together, behind the folder.
        order = sorted(wanted, key=lambda name: os.fsencode(name).split(b"/"))
        saved = [name for name in order if self._file(name, wanted[name])]
        return ConfigReport(tuple(sorted(saved)), tuple(self._warnings), self._bytes)

    def _names(self, file: ConfigFile) -> list[str]:
        """The names a list's line stands for, relative to the application's folder, `/` between their parts."""
        given = Path(file.pattern)
        if given.is_absolute() and given.is_relative_to(self._app_dir):
            given = given.relative_to(self._app_dir)
        if given.is_absolute() or ".." in given.parts or not given.parts:
            raise FileSourceError(
                f"The config file {file.pattern!r} does not lie in the application's folder {self._app_dir}.",
                "Name it relative to APP_DIR in BACKUP_CONFIG_FILES.",
            )
        # A name that exists is meant as it is, even with a bracket in it.
        if not any(char in file.pattern for char in "*?[") or os.path.lexists(self._app_dir / given):
            return [given.as_posix()]
        found = [path for path in self._app_dir.glob(given.as_posix()) if not path.is_dir()]
        if not found:
            self._absent(file.pattern, file.configured)
        return [path.relative_to(self._app_dir).as_posix() for path in found]

    def _absent(self, name: str, configured: bool) -> None:
        if configured:
            raise FileSourceError(
                f"The config file {name!r} is not in {self._app_dir}, though BACKUP_CONFIG_FILES lists it.",
                "Restore it, correct the name, or take it out of BACKUP_CONFIG_FILES.",
            )
        self._warnings.append(f"The config file {name!r} is not there, so it is not in the backup.")

    def _left_out(self, name: str, real: str, status: os.stat_result | None) -> str:
        """Why a file may not be saved, or nothing."""
        identity = (status.st_dev, status.st_ino) if status else None
        if identity in self._secrets:
            return "holds a secret of Resurgam's"
        if any(is_env_name(os.path.basename(path)) for path in (name, real)) or identity in self._environments:  # noqa: PTH119
            return "is, or leads to, a .env with secrets"
        return ""

    def _file(self, name: str, configured: bool) -> bool:
        """Save one file; whether it was."""
        path = os.fsencode(name)
        real = os.path.realpath(self._app_dir / name)
        try:
            status = os.stat(real)  # noqa: PTH116
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR):
                raise self._unreadable(name, error) from error
            status = None
        reason = self._left_out(name, real, status)
        if reason:
            self._warnings.append(f"config/{printable(path)} {reason}: it was left out of the backup.")
            return False
        if status is None:
            self._absent(name, configured)
            return False
        if not stat.S_ISREG(status.st_mode) or os.path.commonpath([real, self._real_app]) != self._real_app:
            raise FileSourceError(
                f"The config file {name!r} is not a regular file inside {self._app_dir}, nor a link to one.",
                "Folders belong into BACKUP_FILE_TREES; copy a file from elsewhere into APP_DIR.",
            )
        try:
            data, status = self._read(real)
            # Looked at again: what was opened may be another file than what was looked at before.
            reason = self._left_out(name, real, status)
            if reason:
                raise FileSourceError(
                    f"The config file {name!r} was exchanged while it was captured, and now {reason}.",
                    "Run the backup again.",
                )
            self._save(path, data, status)
        except OSError as error:
            raise self._unreadable(name, error) from error
        self._search(name, data)
        return True

    def _read(self, real: str) -> tuple[bytes, os.stat_result]:
        """The content, read again if it changed meanwhile."""
        for attempt in range(_READ_ATTEMPTS):
            fd, status = open_regular(os.fsencode(real), None)
            try:
                if status.st_size > _MAX_BYTES:
                    raise OSError(errno.EFBIG, "larger than 64 MiB, so hardly a config file", real)
                content = Content(fd, status, sparse=False)
                data = b"".join(content.blocks())
                if content.error is not None:
                    raise content.error
                if not content.changed():
                    break
            finally:
                os.close(fd)
            if attempt == _READ_ATTEMPTS - 1:
                self._warnings.append(f"{printable(os.fsencode(real))} changed while it was read.")
        return data, status

    def _save(self, path: bytes, data: bytes, status: os.stat_result) -> None:
        for folder in _parents(os.fsdecode(path)):
            if folder not in self._folders:
                self._folders.add(folder)
                folder_status = (self._app_dir / folder).stat()
                self._sink.add(self._owners.entry(b"config/" + os.fsencode(folder), Kind.FOLDER, folder_status))
        self._sink.add(self._owners.entry(b"config/" + path, Kind.FILE, status), (data,))
        self._bytes += len(data)
        self._progress(len(data))

    def _search(self, name: str, data: bytes) -> None:
        if len(data) > _MAX_SEARCHED or b"\0" in data:
            return
        lines = password_lines(name, data.decode("utf-8", "replace"))
        if lines:
            places = ", ".join(str(line) for line in lines[:10]) + (", …" if len(lines) > 10 else "")
            self._warnings.append(
                f"config/{printable(os.fsencode(name))} seems to hold a password"
                f" (line{'s' if len(lines) > 1 else ''} {places}), and is in the backup as it stands."
            )

    @staticmethod
    def _unreadable(name: str, error: OSError) -> FileSourceError:
        return FileSourceError(
            f"The config file {name!r} could not be read: {error.strerror}.",
            "Let this user read it, or take it out of BACKUP_CONFIG_FILES.",
        )


def _parents(name: str) -> Iterator[str]:
    """The folders above a relative name, outermost first."""
    for position, char in enumerate(name):
        if char == "/":
            yield name[:position]


def _environments(app_dir: Path) -> Iterator[Path]:
    """The `.env` files that lie in the application's folder, whose other names must not be saved either."""
    try:
        names = os.listdir(app_dir)  # noqa: PTH208
    except OSError:
        return
    for name in names:
        if is_env_name(name):
            yield app_dir / name
