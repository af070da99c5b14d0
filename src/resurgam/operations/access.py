"""Tokens made and ended, each noted in the audit log; and the one with which everything begins.

The bootstrap token is made at the first start of the service, where no token ever was: an admin's, for a day. Its text
is in BACKUP_DIR/bootstrap-token (0600) and nowhere else. Making another admin token ends it, and the file goes when the
token does. Order: the file is on the disk, then the token counts; the token has ended, then the file goes.
"""

from __future__ import annotations

import os
import secrets
from datetime import timedelta
from pathlib import Path
from typing import Any

from resurgam.catalog.audit import Actor
from resurgam.catalog.roles import Role
from resurgam.catalog.state import State
from resurgam.catalog.tokens import TokenInfo
from resurgam.durable import fsync_folder, write_all
from resurgam.errors import StorageError

FILE = "bootstrap-token"
_LIFETIME = timedelta(hours=24)
_SERVICE = Actor("resurgam serve", "admin", "api")


def create_token(
    state: State, folder: Path, actor: Actor, role: Role, *, name: str | None, expires: timedelta | None
) -> tuple[str, TokenInfo]:
    """Make a token, of any name if none is given; its text, which nothing keeps, and what is known of it.

    UsageError as Tokens.create.
    """
    called = f"{role}-{secrets.token_hex(3)}" if name is None else name
    with state.audit.noting(actor, "token create", called) as details:
        details["token_role"] = role
        text, token = state.tokens.create(called, role, expires)
        details |= _details(token)
    sweep_bootstrap(state, folder)
    return text, token


def revoke_token(state: State, folder: Path, actor: Actor, wanted: str) -> TokenInfo:
    """End a token by its id or name. NotFoundError if there is none."""
    with state.audit.noting(actor, "token revoke", wanted) as details:
        token = state.tokens.revoke(wanted)
        details |= _details(token)
    sweep_bootstrap(state, folder)
    return token


def ensure_bootstrap(state: State, folder: Path) -> Path | None:
    """Make the bootstrap token if no token was ever made; the file that holds it, None if none was made.

    StorageError where the file can not be written; then there is no token either.
    """
    sweep_bootstrap(state, folder)
    path = folder / FILE
    made = state.tokens.create_bootstrap(_LIFETIME, lambda text: _write(path, text))
    if made is None:
        return None
    details = {**_details(made), "file": str(path)}
    state.audit.append(_SERVICE.name, _SERVICE.role, _SERVICE.origin, "token create", made.name, "ok", details)
    return path


def sweep_bootstrap(state: State, folder: Path) -> None:
    """Remove the file where its token has ended. StorageError if that can not be done; the token counts no more."""
    path = folder / FILE
    if os.path.lexists(path):
        state.tokens.unless_bootstrap(lambda: _remove(path))


def _details(token: TokenInfo) -> dict[str, Any]:
    expires = None if token.expires_at is None else token.expires_at.isoformat()
    return {"id": token.id, "name": token.name, "token_role": token.role, "expires_at": expires}


def _write(path: Path, text: str) -> None:
    try:
        # No token was ever made, so whatever is there was left by a start that died.
        path.unlink(missing_ok=True)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            write_all(fd, text.encode() + b"\n")
            os.fsync(fd)
        finally:
            os.close(fd)
        fsync_folder(path.parent)
    except OSError as error:
        raise StorageError(
            f"The first token could not be written to {path} ({error.strerror}); none was made.",
            "`resurgam token create --role admin` makes one.",
        ) from error


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
        fsync_folder(path.parent)
    except OSError as error:
        raise StorageError(
            f"{path} could not be removed ({error.strerror}); the token in it counts no more.", f"rm {path}"
        ) from error
