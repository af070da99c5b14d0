"""The public keys of the host application's JWTs: a JWKS (RFC 7517) from a file or an https address.

Only keys for the one algorithm that is accepted are taken: never a symmetric one, none for encryption, no RSA key under
2048 bits. A document that can not be had or read is no error of a request: then no key is found, and the log says why.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from joserfc.errors import JoseError
from joserfc.jwk import ECKey, JWKRegistry, OctKey, OKPKey, RSAKey

from resurgam.clock import Clock
from resurgam.runlog import RunLog

Key = OctKey | RSAKey | ECKey | OKPKey
_TIMEOUT = 5.0
_LARGEST = 1 << 20
_RENEWED_AFTER = 600.0
_KEPT_AT_MOST = 3600.0
# After a good answer a key that it does not hold is asked for again at most so often; after a failure, any.
_PAUSE = 60.0
_PAUSE_AFTER_FAILURE = 10.0
# 2048 bits in base64url.
_RSA_LEAST = 342


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A key, and the `kid` by which a token names it."""

    kid: str | None
    key: Key


def read_keys(document: bytes, algorithm: str) -> tuple[PublicKey, ...]:
    """The keys of a JWKS that fit the algorithm. ValueError if it is none, or has none."""
    try:
        loaded = json.loads(document)
    except (ValueError, RecursionError):
        raise ValueError("it is no JSON") from None
    listed = loaded.get("keys") if isinstance(loaded, dict) else None
    if not isinstance(listed, list):
        raise ValueError("it has no list of keys")
    keys = []
    for data in listed:
        if isinstance(data, dict) and _fits(data, algorithm):
            try:
                keys.append(PublicKey(data.get("kid"), JWKRegistry.import_key(data)))
            except (JoseError, ValueError, TypeError):
                continue  # one that can not be used must not keep the others out (RFC 7517, 5)
    if not keys:
        raise ValueError(f"it has no key for {algorithm}")
    return tuple(keys)


def _fits(data: dict[str, Any], algorithm: str) -> bool:
    kind = {"RS": "RSA", "PS": "RSA", "ES": "EC", "Ed": "OKP"}[algorithm[:2]]
    operations = data.get("key_ops", ["verify"])
    return (
        data.get("kty") == kind
        and data.get("use", "sig") == "sig"
        and data.get("alg", algorithm) == algorithm
        and isinstance(data.get("kid", ""), str)
        and isinstance(operations, list)
        and "verify" in operations
        and (kind != "RSA" or len(str(data.get("n", ""))) >= _RSA_LEAST)
    )


def chosen(keys: tuple[PublicKey, ...], kid: str | None) -> Key | None:
    """The key that a token means; one that names none must leave no choice."""
    found = [one.key for one in keys if kid is None or one.kid == kid]
    return found[0] if len(found) == 1 else None


class JwksFile:
    """Read again whenever the file has changed."""

    def __init__(self, path: Path, algorithm: str, log: RunLog) -> None:
        self._path, self._algorithm, self._log = path, algorithm, log
        self._stamp: tuple[int, int, int] | None = None
        self._keys: tuple[PublicKey, ...] = ()
        self._told = ""

    async def key(self, kid: str | None) -> Key | None:
        try:
            stat = self._path.stat()
            stamp = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
            if stamp != self._stamp:
                self._keys = ()
                self._stamp = stamp
                self._keys = read_keys(self._path.read_bytes(), self._algorithm)
                self._told = ""
        except (OSError, ValueError) as error:
            self._keys = ()
            if isinstance(error, OSError):
                self._stamp = None
            self._tell(str(error))
        return chosen(self._keys, kid)

    def _tell(self, reason: str) -> None:
        if reason != self._told:
            self._told = reason
            self._log.error(f"the keys of BACKUP_JWT_JWKS {self._path} can not be used: {reason}")


class JwksUrl:
    """Fetched when first needed, when ten minutes old, and for a key that is not in it.

    While the address does not answer, what it said last serves for an hour.
    """

    def __init__(self, url: str, algorithm: str, log: RunLog, clock: Clock) -> None:
        self._url, self._algorithm, self._log, self._clock = url, algorithm, log, clock
        self._keys: tuple[PublicKey, ...] = ()
        self._fetched: float | None = None
        self._next_try = float("-inf")
        self._fetching = asyncio.Lock()

    async def key(self, kid: str | None) -> Key | None:
        found = chosen(self._keys, kid)
        if found is not None and (self._age() < _RENEWED_AFTER or self._fetching.locked()):
            return found
        async with self._fetching:
            if self._clock.monotonic() >= self._next_try:
                await self._fetch()
        if self._age() > _KEPT_AT_MOST:
            self._keys = ()
        return chosen(self._keys, kid)

    def _age(self) -> float:
        return float("inf") if self._fetched is None else self._clock.monotonic() - self._fetched

    async def _fetch(self) -> None:
        try:
            self._keys = read_keys(await asyncio.to_thread(_download, self._url), self._algorithm)
        except (OSError, ValueError, http.client.HTTPException) as error:
            self._next_try = self._clock.monotonic() + _PAUSE_AFTER_FAILURE
            self._log.error(f"the keys of BACKUP_JWT_JWKS {self._url} can not be had: {error}")
        else:
            self._fetched = self._clock.monotonic()
            self._next_try = self._fetched + _PAUSE


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect could lead to plain http, or to another host than the one that was configured."""

    def redirect_request(self, *_: object) -> None:
        return None


def _download(url: str) -> bytes:
    opener = urllib.request.build_opener(_NoRedirect)
    with opener.open(url, timeout=_TIMEOUT) as answer:
        body: bytes = answer.read(_LARGEST + 1)
    if len(body) > _LARGEST:
        raise ValueError("it is larger than 1 MB")
    return body
