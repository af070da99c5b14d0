"""Archives that GnuPG encrypts by a passphrase, as in the manual; `gpg -d` opens them (docs/archive-format.md, 35).

The passphrase goes through a pipe: it is in no argument list, environment or file. gpg gets no folder of its own, asks
nobody and starts no agent, so nothing is left behind, however it ends.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from blake3 import blake3

from resurgam.archive.sealing import ArchiveKeys
from resurgam.archive.sinks import sync
from resurgam.archive.spool import Spool
from resurgam.archive.stored import StoredFile
from resurgam.errors import DamagedError, KeyRefused, ResurgamError, StorageError
from resurgam.processes import end, start
from resurgam.settings.secret import Secret

_READ = 1 << 20
_ROOM = 16 << 20
_QUIET = (
    *("--homedir", "/nonexistent", "--no-options", "--no-keyring", "--no-random-seed-file", "--lock-never"),
    *("--no-permission-warning", "--batch", "--no-tty", "--quiet", "--pinentry-mode", "loopback", "--no-symkey-cache"),
)
# The iterations are the most that OpenPGP can say: a tenth of a second.
_ENCRYPT = (
    *("--symmetric", "--cipher-algo", "AES256", "-z", "0"),
    *("--s2k-mode", "3", "--s2k-digest-algo", "SHA512", "--s2k-count", "65011712"),
)


class GpgWriter:
    """Encrypts a stream into an open file; `finish` checks what the disk holds."""

    def __init__(self, fd: int, keys: ArchiveKeys) -> None:
        """KeyRefused without a passphrase, StorageError without gpg."""
        self._fd, self._keys = fd, keys
        self._digest = blake3()
        self._process = _start([*_ENCRYPT, "--output", "-"], keys, stdin=subprocess.PIPE, stdout=fd)

    def write(self, data: bytes) -> None:
        assert self._process.stdin is not None
        self._digest.update(data)
        try:
            self._process.stdin.write(data)
        except OSError:  # it is gone, and says why
            raise self._failed() from None

    def finish(self) -> int:
        """End the file, sync it, have gpg decrypt what the disk holds. Answers its size; StorageError if it differs."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        if self._process.wait() != 0:
            raise self._failed()
        sync(self._fd)
        self._check()
        return os.fstat(self._fd).st_size

    def close(self) -> None:
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        end(self._process)

    def _check(self) -> None:
        with contextlib.suppress(AttributeError, OSError):  # advice, which a file system may not take
            os.posix_fadvise(self._fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.lseek(self._fd, 0, os.SEEK_SET)
        digest = blake3()
        try:
            with _decrypting(self._fd, "the archive", self._keys) as blocks:
                for block in blocks:
                    digest.update(block)
        except (DamagedError, KeyRefused) as error:
            raise StorageError(f"What the disk holds can not be decrypted: {error.message}") from None
        if digest.digest() != self._digest.digest():
            raise StorageError("The disk gave back other bytes than were written; the backup was not kept.")

    def _failed(self) -> ResurgamError:
        _, said = self._process.communicate()
        return StorageError(
            f"gpg could not write the archive ({_reason(said)}); the partial file is removed, earlier backups are "
            "untouched.",
            "`resurgam doctor` checks space and permissions.",
        )


class GpgFile:
    """The plain bytes of a file that gpg encrypted: decrypted once, into a spool. `size` is theirs, in bytes."""

    def __init__(self, file: StoredFile, keys: ArchiveKeys) -> None:
        """Takes the file over. KeyRefused if the passphrase does not open it, DamagedError if gpg does not find it
        whole, StorageError if there is no room."""
        self.path = file.path
        scratch = keys.scratch or file.path.parent
        free = shutil.disk_usage(scratch).free
        needed = file.size + _ROOM
        if free < needed:
            raise StorageError(
                f"{scratch} has {free >> 20:,} MB free; reading {self.path.name} needs {needed >> 20:,} MB there while "
                "it is read.",
                "Free space there. An archive in the age format needs none.",
            )
        self._spool = Spool(scratch)
        try:
            with _decrypting(file.rewound(), self.path.name, keys) as blocks:
                for block in blocks:
                    self._spool.write(block)
        except BaseException:
            self._spool.close()
            raise
        file.close()
        self.size = self._spool.size

    def read(self, offset: int, length: int) -> bytes:
        """At most `length` bytes from `offset`: fewer only at the end."""
        return self._spool.read(offset, length)

    def close(self) -> None:
        self._spool.close()


@contextmanager
def _decrypting(fd: int, what: str, keys: ArchiveKeys) -> Iterator[Iterator[bytes]]:
    """What gpg makes of an open file. The block ends with KeyRefused or DamagedError unless gpg found it whole: what
    came out before counts for nothing."""
    process = _start(["--status-fd", "2", "--decrypt"], keys, stdin=fd, stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stderr is not None
    try:
        yield iter(lambda: os.read(process.stdout.fileno(), _READ), b"")  # type: ignore[union-attr]
        said = process.stderr.read()
        code = process.wait()
    finally:
        end(process)
        process.stderr.close()
    if code == 0 and b"[GNUPG:] GOODMDC" in said and b"[GNUPG:] DECRYPTION_OKAY" in said:
        return
    if b"BAD_PASSPHRASE" in said or b"Bad session key" in said:
        raise KeyRefused(
            f"{what} is encrypted with another passphrase than the one that is set, or its first bytes are damaged.",
            "Set BACKUP_ENCRYPTION_KEY to the one that it was written with.",
        )
    raise DamagedError(
        f"gpg does not find {what} whole ({_reason(said)}).",
        "Take another backup, or the copy of this one in the remote folder.",
    )


def _start(arguments: list[str], keys: ArchiveKeys, *, stdin: int, stdout: int) -> subprocess.Popen[bytes]:
    if keys.passphrase is None:
        raise KeyRefused(
            "The archive is encrypted: it needs a passphrase, and none is set.", "Set BACKUP_ENCRYPTION_KEY."
        )
    program = shutil.which("gpg", path=keys.search_path)
    if program is None:
        raise StorageError(
            "There is no gpg in PATH, which .gpg archives need.", "Install GnuPG, or use the age format."
        )
    with _passphrase_pipe(keys.passphrase) as pipe:
        command = [program, *_QUIET, "--passphrase-fd", str(pipe), *arguments]
        environment = {"PATH": keys.search_path or os.defpath, "LC_ALL": "C"}
        try:
            return start(command, environment, stdin=stdin, stdout=stdout, pass_fds=(pipe,))
        except OSError as error:
            raise StorageError(f"{program} could not be started ({error.strerror}).") from None


@contextmanager
def _passphrase_pipe(passphrase: Secret) -> Iterator[int]:
    """The reading end of a pipe that holds the passphrase as one line: settings let none of 4 KiB or with a line end
    through, so that writing it waits for nobody."""
    reading, writing = os.pipe()
    try:
        os.write(writing, passphrase.reveal().encode("utf-8", "surrogateescape") + b"\n")
        os.close(writing)
        yield reading
    finally:
        os.close(reading)


def _reason(said: bytes) -> str:
    """gpg's last word to people, rather than to programs."""
    lines = [line for line in said.decode(errors="replace").splitlines() if not line.startswith("[GNUPG:]")]
    return lines[-1].removeprefix("gpg: ") if lines else "no reason given"
