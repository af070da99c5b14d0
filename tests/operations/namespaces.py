"""Runs a piece of a test in a child process: killable at any change it makes, with mounts of its own if wanted."""

from __future__ import annotations

import contextlib
import ctypes
import os
import pickle
import signal
import subprocess
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from resurgam import durable

_CLONE_NEWNS, _CLONE_NEWUSER = 0x00020000, 0x10000000
_libc = ctypes.CDLL(None, use_errno=True)

KILLED = "killed"
# Everything by which the code under test changes names, contents or attributes.
_CHANGES = (
    "rename",
    "replace",
    "link",
    "unlink",
    "mkdir",
    "rmdir",
    "symlink",
    "chmod",
    "chown",
    "utime",
    "ftruncate",
    "sync",
)


def own_mounts() -> None:
    """Give this process mounts that nobody else sees; as root, or as root of a user namespace."""
    uid, gid = os.getuid(), os.getgid()
    flags = _CLONE_NEWNS | (0 if uid == 0 else _CLONE_NEWUSER)
    if _libc.unshare(flags) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    if uid != 0:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
        Path("/proc/self/gid_map").write_text(f"0 {gid} 1")
    subprocess.run(["mount", "--make-rprivate", "/"], check=True, capture_output=True)


def mount(*arguments: str | Path) -> None:
    subprocess.run(["mount", *map(str, arguments)], check=True, capture_output=True)


def in_child(deed: Callable[[], Any], *, mounts: Callable[[], None] | None = None, kill_at: int | None = None) -> Any:
    """What `deed` returns, or KILLED if the process was killed before its change number `kill_at`."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        answer: tuple[bool, Any]
        try:
            _no_syncing()
            if mounts is not None:
                own_mounts()
                mounts()
            if kill_at is not None:
                kill_before_change(kill_at)
            answer = True, deed()
        except BaseException:  # noqa: BLE001 (the parent raises it again)
            answer = False, traceback.format_exc()
        with os.fdopen(writer, "wb") as pipe:
            pickle.dump(answer, pipe)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        data = pipe.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return KILLED
    fine, value = pickle.loads(data)
    if not fine:
        raise AssertionError(value)
    return value


def _no_syncing() -> None:
    """A kill, unlike a power failure, loses nothing that was not synced; syncing would only cost time."""
    for name in ("fsync", "sync"):
        setattr(os, name, lambda *arguments: None)


def count_changes(deed: Callable[[], Any], mounts: Callable[[], None] | None = None) -> int:
    """How many changes `deed` makes."""

    def counted() -> int:
        changes = kill_before_change(-1)
        deed()
        return changes()

    number: int = in_child(counted, mounts=mounts)
    return number


def kill_before_change(number: int) -> Callable[[], int]:
    """SIGKILL this process right before its change number `number`, from 0; gives their count so far."""
    count = 0

    def counted(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            nonlocal count
            if count == number:
                os.kill(os.getpid(), signal.SIGKILL)
            count += 1
            return real(*arguments, **named)

        return call

    for name in _CHANGES:
        real = getattr(os, name)
        wrapped = counted(real)
        setattr(os, name, wrapped)
        # shutil looks there, and without it would leave a symlink's time out.
        if real in os.supports_follow_symlinks:
            os.supports_follow_symlinks.add(wrapped)
    durable._rename2 = counted(durable._rename2)
    return lambda: count


def _can_mount() -> str:
    """Why this machine can't give a test its own mounts; empty if it can."""
    with contextlib.suppress(AssertionError):
        in_child(lambda: None, mounts=lambda: mount("-t", "tmpfs", "none", "/mnt"))
        return ""
    return "neither root nor a user namespace may mount here"


_reason = _can_mount()
needs_mounts = pytest.mark.skipif(bool(_reason), reason=_reason)
