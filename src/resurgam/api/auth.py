"""Who calls: a token of ours, or a JWT of the host application. There is no other way in, and no open mode."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from resurgam.api.throttle import Throttle
from resurgam.catalog.roles import Role
from resurgam.catalog.tokens import PREFIX, Checked, Tokens
from resurgam.clock import Clock
from resurgam.errors import AuthError
from resurgam.runlog import RunLog
from resurgam.settings.service_model import JwtRules

if TYPE_CHECKING:
    from resurgam.api.host_tokens import HostTokens

# RFC 6750, 2.1 and RFC 9110, 11.4: the scheme in any case, blanks, and one b64token.
_BEARER = re.compile(r"bearer +([A-Za-z0-9\-._~+/]+=*)", re.IGNORECASE | re.ASCII)
_JWT = re.compile(r"[\w-]+\.[\w-]+\.[\w-]*", re.ASCII)
_LONGEST = 8192
_HINT = "Send `Authorization: Bearer TOKEN`; `resurgam token create` makes one."


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls, as the audit log names them (`token:ci`, `jwt:alice`). Without a role nothing is allowed."""

    name: str
    role: Role | None


class Authenticator:
    """Tells who calls, and slows down whoever guesses."""

    def __init__(self, tokens: Tokens, rules: JwtRules | None, log: RunLog, clock: Clock) -> None:
        self._tokens = tokens
        self._host: HostTokens | None = None
        if rules is not None:
            # Only where there are any: the library for JWTs takes 10 MB of memory.
            from resurgam.api.host_tokens import HostTokens

            self._host = HostTokens.from_rules(rules, log, clock)
        self._throttle = Throttle(clock)

    async def authenticate(self, authorization: str | None, address: str) -> Caller:
        """The caller by the `Authorization` header, sent from that address.

        AuthError (401) without a credential that counts: at once where there is none, later and later where one was
        tried that might have been right. StateError where the tokens can not be read.
        """
        text = _bearer(authorization)
        try:
            return await self._caller(text)
        except _WrongCredential as wrong:
            await self._throttle.failed(address)
            raise wrong.error from None

    async def _caller(self, text: str) -> Caller:
        if text.startswith(PREFIX):
            # In a thread: the file may be waited for while another process writes.
            return _token_caller(await asyncio.to_thread(self._tokens.check, text))
        if self._host is not None and looks_like_jwt(text):
            try:
                user = await self._host.check(text)
            except AuthError as error:
                raise _WrongCredential(error) from None
            return Caller(f"jwt:{user.name}", "admin" if user.admin else None)
        raise AuthError("The credential is of no kind that is known here.", _HINT)


class _WrongCredential(Exception):
    """One that might have been right: its answer waits."""

    def __init__(self, error: AuthError) -> None:
        super().__init__(error.message)
        self.error = error


def looks_like_jwt(text: str) -> bool:
    """Three parts with dots between them; the last may be empty, as forged ones have it."""
    return _JWT.fullmatch(text) is not None


def _bearer(authorization: str | None) -> str:
    if authorization is None:
        raise AuthError("This needs a credential, and none was sent.", _HINT)
    match = _BEARER.fullmatch(authorization.strip(" \t")) if len(authorization) <= _LONGEST else None
    if match is None:
        raise AuthError("The Authorization header is not `Bearer TOKEN`.", _HINT)
    return match[1]


def _token_caller(checked: Checked) -> Caller:
    if checked.verdict == "good" and checked.token is not None:
        return Caller(f"token:{checked.token.name}", checked.token.role)
    if checked.verdict == "malformed":
        raise AuthError("This is not the form of a token; part of it may be missing.", _HINT)
    if checked.verdict == "wrong":
        raise _WrongCredential(AuthError("The token was not accepted.", _HINT))
    how = "has expired" if checked.verdict == "expired" else "was revoked"
    raise _WrongCredential(AuthError(f"The token {how}.", "`resurgam token create` makes a new one."))
