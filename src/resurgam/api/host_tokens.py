"""The host application's JWTs: whose they are, and whether they mean an administrator.

Rules:
- The algorithm is the configured one. What the token's header says of algorithm and keys is compared, never followed.
- Claims are looked at after the signature only, and every one that is there must be right; `exp` must be there.
"""

from __future__ import annotations

import base64
import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from joserfc import jwt
from joserfc.errors import JoseError, SecurityWarning
from joserfc.jwk import OctKey
from joserfc.jws import JWSRegistry

from resurgam.api.jwks import JwksFile, JwksUrl, Key
from resurgam.catalog.state_access import as_text
from resurgam.clock import Clock
from resurgam.errors import AuthError
from resurgam.runlog import RunLog
from resurgam.settings.service_model import JwtRules

# The name is RFC 8037's and what hosts send; RFC 9864 only prefers `Ed25519`, which would be noise on stderr.
warnings.filterwarnings("ignore", message="EdDSA is deprecated", category=SecurityWarning)
# How far the clock of the machine that made a token may be ahead of ours.
_LEEWAY = 30.0
_LONGEST_NAME = 200
_LATEST = 1e12
_NOT_ACCEPTED = "The token was not accepted."
_HINT = "Log in again at the application, or use a token of `resurgam token create`."


@dataclass(frozen=True, slots=True)
class HostUser:
    """Whom a valid JWT is of (its `sub`), and whether it has the claim that means admin."""

    name: str
    admin: bool


class Keys(Protocol):
    """Where a token's key comes from."""

    async def key(self, kid: str | None) -> Key | None:
        """The key of that name; without a name the one there is."""


class SharedSecret:
    """One secret for all."""

    def __init__(self, secret: str) -> None:
        self._key = OctKey.import_key(secret.encode("utf-8", "surrogateescape"))

    async def key(self, kid: str | None) -> Key | None:
        return self._key


class HostTokens:
    """Checks JWTs by the rules of the settings."""

    def __init__(self, rules: JwtRules, keys: Keys, clock: Clock) -> None:
        self._rules, self._keys, self._clock = rules, keys, clock
        # Headers that nobody registered may be there, and mean nothing to us (RFC 7515, 4).
        self._registry = JWSRegistry(algorithms=[rules.algorithm], strict_check_header=False)

    @classmethod
    def from_rules(cls, rules: JwtRules, log: RunLog, clock: Clock) -> HostTokens:
        if rules.secret is not None:
            return cls(rules, SharedSecret(rules.secret.reveal()), clock)
        place = rules.jwks or ""
        if place.startswith("https://"):
            return cls(rules, JwksUrl(place, rules.algorithm, log, clock), clock)
        return cls(rules, JwksFile(Path(place), rules.algorithm, log), clock)

    async def check(self, text: str) -> HostUser:
        """Whose it is. AuthError for whatever is wrong; it says what only where the signature was right."""
        header = _header(text)
        kid = header.get("kid")
        if header.get("alg") != self._rules.algorithm or not (kid is None or isinstance(kid, str)):
            raise AuthError(_NOT_ACCEPTED, _HINT)
        if "crit" in header or "b64" in header:
            raise AuthError(_NOT_ACCEPTED, _HINT)
        key = await self._keys.key(kid)
        if key is None:
            raise AuthError(_NOT_ACCEPTED, _HINT)
        try:
            claims = jwt.decode(text, key, registry=self._registry).claims
        except (JoseError, ValueError, TypeError, RecursionError):
            raise AuthError(_NOT_ACCEPTED, _HINT) from None
        self._require_valid(claims)
        return HostUser(_name(claims), self._is_admin(claims))

    def _require_valid(self, claims: dict[str, Any]) -> None:
        rules, now = self._rules, self._clock.now().timestamp()
        expires = _moment(claims, "exp")
        if expires is None:
            raise AuthError("The token has no `exp`: it would never end, and was not accepted.", _HINT)
        if expires <= now:
            raise AuthError("The token has expired.", _HINT)
        for claim in ("nbf", "iat"):
            moment = _moment(claims, claim)
            if moment is not None and moment > now + _LEEWAY:
                raise AuthError(f"The token's `{claim}` lies in the future.", "Compare the clocks of both machines.")
        if rules.issuer is not None and claims.get("iss") != rules.issuer:
            raise AuthError("The token's `iss` is not the one of BACKUP_JWT_ISSUER.", _HINT)
        if rules.audience is not None and not _is_or_holds(claims.get("aud"), rules.audience):
            raise AuthError("The token's `aud` is not the one of BACKUP_JWT_AUDIENCE.", _HINT)

    def _is_admin(self, claims: dict[str, Any]) -> bool:
        value = _claim(claims, self._rules.admin_claim)
        if isinstance(value, bool):
            return value and self._rules.admin_value == "true"
        return _is_or_holds(value, self._rules.admin_value)


def _header(text: str) -> dict[str, Any]:
    """Read before joserfc does, which lets a header nested a thousand times deep end in a RecursionError."""
    part = text.partition(".")[0]
    try:
        header = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (ValueError, RecursionError):
        raise AuthError(_NOT_ACCEPTED, _HINT) from None
    if not isinstance(header, dict):
        raise AuthError(_NOT_ACCEPTED, _HINT)
    return header


def _moment(claims: dict[str, Any], name: str) -> float | None:
    """A claim's seconds from 1970; None if it is not there. AuthError if it is no such number."""
    value = claims.get(name)
    if value is None and name not in claims:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _LATEST:
        raise AuthError(f"The token's `{name}` is no time.", _HINT)
    return float(value)


def _claim(claims: dict[str, Any], path: str) -> object:
    """The claim of that whole name (which may be a URL), else the one that the dots lead to."""
    if path in claims:
        return claims[path]
    value: object = claims
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _is_or_holds(value: object, wanted: str) -> bool:
    return wanted in value if isinstance(value, list) else value == wanted


def _name(claims: dict[str, Any]) -> str:
    subject = claims.get("sub")
    if isinstance(subject, str | int) and not isinstance(subject, bool) and subject != "":
        return as_text(str(subject)[:_LONGEST_NAME])
    return "unnamed"
