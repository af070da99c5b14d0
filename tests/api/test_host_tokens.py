"""The host application's JWTs: one algorithm, every claim right, and nothing that a forger can choose."""

from __future__ import annotations

import asyncio
import json
import math
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from resurgam.api.auth import looks_like_jwt
from resurgam.api.host_tokens import HostTokens, HostUser
from resurgam.errors import AuthError
from resurgam.runlog import RunLog
from resurgam.settings import Secret
from resurgam.settings.service_model import JwtRules
from tests.api import jwts
from tests.catalog.test_tokens import Watch

RULES = JwtRules(Secret(jwts.SECRET), None, "HS256", None, None, "role", "admin")


@cache
def rsa_key(which: int = 0, bits: int = 2048) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, bits)


@pytest.fixture
def watch() -> Watch:
    return Watch()


def claims(watch: Watch, **changes: Any) -> dict[str, Any]:
    """Good ones; a change to None takes one out."""
    good = {"sub": "alice", "role": "admin", "exp": int(watch.time.timestamp()) + 600}
    return {name: value for name, value in {**good, **changes}.items() if value is not None}


def checked(tmp_path: Path, watch: Watch, text: str, **changes: Any) -> HostUser:
    log = RunLog(tmp_path / "backup.log", watch)
    return asyncio.run(HostTokens.from_rules(replace(RULES, **changes), log, watch).check(text))


def refused(tmp_path: Path, watch: Watch, text: str, **changes: Any) -> str:
    with pytest.raises(AuthError) as caught:
        checked(tmp_path, watch, text, **changes)
    return caught.value.message


def jwks(tmp_path: Path, *keys: dict[str, Any], algorithm: str = "RS256") -> dict[str, Any]:
    """A JWKS file, as the rules' changes."""
    path = tmp_path / "jwks.json"
    path.write_text(json.dumps({"keys": list(keys)}))
    return {"secret": None, "jwks": str(path), "algorithm": algorithm}


def test_a_good_one_by_secret_and_by_each_kind_of_key(tmp_path: Path, watch: Watch) -> None:
    good = claims(watch)
    alice = HostUser("alice", True)
    assert checked(tmp_path, watch, jwts.by_secret(good)) == alice
    assert checked(tmp_path, watch, jwts.by_secret(good, alg="HS512"), algorithm="HS512") == alice
    by_rsa = jwks(tmp_path, jwts.rsa_jwk(rsa_key(), kid="k1"))
    assert checked(tmp_path, watch, jwts.by_rsa(good, rsa_key(), kid="k1"), **by_rsa) == alice
    assert checked(tmp_path, watch, jwts.by_rsa(good, rsa_key()), **by_rsa) == alice
    pss = {**by_rsa, "algorithm": "PS256"}
    assert checked(tmp_path, watch, jwts.by_rsa(good, rsa_key(), alg="PS256"), **pss) == alice
    curve = ec.generate_private_key(ec.SECP256R1())
    by_ec = jwks(tmp_path, jwts.ec_jwk(curve), algorithm="ES256")
    assert checked(tmp_path, watch, jwts.by_ec(good, curve), **by_ec) == alice
    edwards = Ed25519PrivateKey.generate()
    by_ed = jwks(tmp_path, jwts.ed25519_jwk(edwards), algorithm="EdDSA")
    assert checked(tmp_path, watch, jwts.by_ed25519(good, edwards), **by_ed) == alice


def test_no_algorithm_is_none(tmp_path: Path, watch: Watch) -> None:
    by_rsa = jwks(tmp_path, jwts.rsa_jwk(rsa_key()))
    names: tuple[Any, ...] = ("none", "None", "NONE", "", None, [], {}, 5, ["HS256"])
    for name in names:
        for signature in ("", "AAAA"):
            text = f"{jwts.unsigned({'alg': name}, claims(watch))}.{signature}"
            assert looks_like_jwt(text)
            assert "not accepted" in refused(tmp_path, watch, text)
            assert "not accepted" in refused(tmp_path, watch, text, **by_rsa)


def test_the_public_key_is_no_secret(tmp_path: Path, watch: Watch) -> None:
    by_rsa = jwks(tmp_path, jwts.rsa_jwk(rsa_key(), kid="k1"))
    document = (tmp_path / "jwks.json").read_bytes()
    modulus = rsa_key().public_key().public_numbers().n.to_bytes(256, "big")
    for secret in (jwts.public_pem(rsa_key()), document, modulus, b""):
        for algorithm in ("HS256", "HS384", "HS512"):
            text = jwts.by_secret(claims(watch), secret, alg=algorithm, kid="k1")
            assert "not accepted" in refused(tmp_path, watch, text, **by_rsa)


def test_another_algorithm_of_the_same_family_is_refused(tmp_path: Path, watch: Watch) -> None:
    assert "not accepted" in refused(tmp_path, watch, jwts.by_secret(claims(watch), alg="HS512"))
    by_rsa = jwks(tmp_path, jwts.rsa_jwk(rsa_key()))
    assert "not accepted" in refused(tmp_path, watch, jwts.by_rsa(claims(watch), rsa_key(), alg="PS256"), **by_rsa)


def test_a_wrong_key_or_a_changed_token_is_refused(tmp_path: Path, watch: Watch) -> None:
    good = jwts.by_secret(claims(watch))
    head, body, signature = good.split(".")
    forged = jwts.b64(json.dumps(claims(watch, role="admin", sub="mallory")).encode())
    for text in (
        jwts.by_secret(claims(watch), "another secret, which is long as well"),
        f"{head}.{forged}.{signature}",
        f"{head}.{body}.",
        f"{head}.{body}.{signature[:-4]}",
        f"{head}.{body}.{jwts.b64(b'x' * 32)}",
    ):
        assert "not accepted" in refused(tmp_path, watch, text)
    by_rsa = jwks(tmp_path, jwts.rsa_jwk(rsa_key(), kid="k1"))
    assert "not accepted" in refused(tmp_path, watch, jwts.by_rsa(claims(watch), rsa_key(1), kid="k1"), **by_rsa)


def test_keys_that_a_token_brings_along_are_not_used(tmp_path: Path, watch: Watch) -> None:
    by_rsa = jwks(tmp_path, jwts.rsa_jwk(rsa_key(), kid="k1"))
    own = jwts.rsa_jwk(rsa_key(1), kid="k1")
    for header in ({"jwk": own}, {"jku": "https://127.0.0.1:9/"}, {"x5u": "https://127.0.0.1:9/"}, {"x5c": ["AAAA"]}):
        text = jwts.by_rsa(claims(watch), rsa_key(1), kid="k1", **header)
        assert "not accepted" in refused(tmp_path, watch, text, **by_rsa)


@pytest.mark.parametrize(
    "header",
    [
        {"crit": ["exp"], "exp": 1},
        {"crit": []},
        {"b64": False, "crit": ["b64"]},
        {"b64": True},
        {"kid": 5},
        {"kid": {}},
    ],
    ids=str,
)
def test_extensions_that_must_be_understood_are_refused(tmp_path: Path, watch: Watch, header: dict[str, Any]) -> None:
    assert "not accepted" in refused(tmp_path, watch, jwts.by_secret(claims(watch), **header))


def test_unknown_header_fields_mean_nothing(tmp_path: Path, watch: Watch) -> None:
    assert checked(tmp_path, watch, jwts.by_secret(claims(watch), nonce="x", typ="at+jwt")).admin


@pytest.mark.parametrize(
    "change, said",
    [
        ({"exp": None}, "no `exp`"),
        ({"exp": -600}, "expired"),
        ({"exp": 0}, "expired"),
        ({"nbf": 60}, "`nbf` lies in the future"),
        ({"iat": 60}, "`iat` lies in the future"),
    ],
    ids=str,
)
def test_times_that_are_not_now(tmp_path: Path, watch: Watch, change: dict[str, int | None], said: str) -> None:
    now = int(watch.time.timestamp())
    moved = {name: None if value is None else now + value for name, value in change.items()}
    assert said in refused(tmp_path, watch, jwts.by_secret(claims(watch, **moved)))


def test_a_clock_a_little_ahead_is_borne(tmp_path: Path, watch: Watch) -> None:
    now = watch.time.timestamp()
    assert checked(tmp_path, watch, jwts.by_secret(claims(watch, iat=now + 20, nbf=now + 20.5, exp=now + 0.5))).admin


@pytest.mark.parametrize(
    "value", ["soon", "9999999999", True, [], {}, math.nan, math.inf, 1e300, -1, 10**1000], ids=str
)
@pytest.mark.parametrize("claim", ["exp", "nbf", "iat"])
def test_times_that_are_no_times(tmp_path: Path, watch: Watch, claim: str, value: object) -> None:
    assert "no time" in refused(tmp_path, watch, jwts.by_secret(claims(watch, **{claim: value})))


def test_issuer_and_audience_where_they_are_set(tmp_path: Path, watch: Watch) -> None:
    rules = {"issuer": "https://login.example", "audience": "radiology"}
    right = {"iss": "https://login.example", "aud": "radiology"}
    assert checked(tmp_path, watch, jwts.by_secret(claims(watch, **right)), **rules).admin
    assert checked(tmp_path, watch, jwts.by_secret(claims(watch, **right | {"aud": ["x", "radiology"]})), **rules).admin
    issuers: tuple[Any, ...] = ("https://login.example/", "", 5, ["https://login.example"], None)
    for wrong in issuers:
        text = jwts.by_secret(claims(watch, **right | {"iss": wrong}))
        assert "`iss`" in refused(tmp_path, watch, text, **rules)
    audiences: tuple[Any, ...] = ("radiology-2", "radio", [], ["x"], {"radiology": 1}, True, None)
    for wrong in audiences:
        text = jwts.by_secret(claims(watch, **right | {"aud": wrong}))
        assert "`aud`" in refused(tmp_path, watch, text, **rules)


@pytest.mark.parametrize(
    "claim, value, given, admin",
    [
        ("role", "admin", {"role": "admin"}, True),
        ("role", "admin", {"role": "Admin"}, False),
        ("role", "admin", {"role": "administrator"}, False),
        ("role", "admin", {"role": ["user", "admin"]}, True),
        ("role", "admin", {"role": ["administrator"]}, False),
        ("role", "admin", {"role": {"admin": True}}, False),
        ("role", "admin", {"role": None}, False),
        ("role", "admin", {"role": True}, False),
        ("is_admin", "true", {"is_admin": True}, True),
        ("is_admin", "true", {"is_admin": False}, False),
        ("is_admin", "true", {"is_admin": 1}, False),
        ("is_admin", "true", {"is_admin": "true"}, True),
        ("is_admin", "false", {"is_admin": False}, False),
        ("realm_access.roles", "backup-admin", {"realm_access": {"roles": ["backup-admin"]}}, True),
        ("realm_access.roles", "backup-admin", {"realm_access": {"roles": ["x"]}}, False),
        ("realm_access.roles", "backup-admin", {"realm_access": ["roles"]}, False),
        ("realm_access.roles", "backup-admin", {"realm_access": "backup-admin"}, False),
        ("https://example.org/roles", "admin", {"https://example.org/roles": ["admin"]}, True),
    ],
)
def test_the_claim_that_means_admin(
    tmp_path: Path, watch: Watch, claim: str, value: str, given: dict[str, Any], admin: bool
) -> None:
    text = jwts.by_secret({**claims(watch, role=None), **given})
    assert checked(tmp_path, watch, text, admin_claim=claim, admin_value=value) == HostUser("alice", admin)


@pytest.mark.parametrize(
    "subject, name",
    [("bob", "bob"), (7, "7"), (None, "unnamed"), ("", "unnamed"), (True, "unnamed"), (["x"], "unnamed")],
)
def test_whom_it_is_of(tmp_path: Path, watch: Watch, subject: object, name: str) -> None:
    assert checked(tmp_path, watch, jwts.by_secret(claims(watch, sub=subject))).name == name


def test_a_subject_that_would_break_an_answer_is_mended(tmp_path: Path, watch: Watch) -> None:
    name = checked(tmp_path, watch, jwts.by_secret(claims(watch, sub="\udce9" + "x" * 10_000))).name
    assert name.startswith("\\udce9x")
    assert len(name.encode()) < 1_000


@pytest.mark.parametrize(
    "part",
    ["[" * 5_000, "{}", "[]", '"x"', "null", "5", '{"alg":"HS256"', "\xff", "1" * 5_000, '{"alg":' + "1" * 5_000 + "}"],
    ids=range(10),
)
def test_headers_and_claims_that_are_no_objects(tmp_path: Path, watch: Watch, part: str) -> None:
    body = jwts.b64(part.encode("latin-1"))
    assert refused(tmp_path, watch, f"{body}.e30.AAAA")
    assert refused(tmp_path, watch, jwts.signed_text(part.encode("latin-1")))


def test_what_looks_like_one() -> None:
    assert looks_like_jwt("a.b.c") and looks_like_jwt("a.b.")
    assert not any(
        looks_like_jwt(text) for text in ("", "a.b", "a..c", ".b.c", "a.b.c.d", "a.b.c=", "a b.c.d", "é.b.c")
    )
