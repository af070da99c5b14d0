"""JWTs as a host application makes them, and as forgers do: by hand, so that nothing is refused to a forger."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

SECRET = "a secret of the host application, long enough"


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def number(value: int) -> str:
    return b64(value.to_bytes((value.bit_length() + 7) // 8, "big"))


def unsigned(header: Mapping[str, Any], claims: object) -> str:
    return f"{b64(json.dumps(dict(header)).encode())}.{b64(json.dumps(claims).encode())}"


def by_secret(claims: object, secret: bytes | str = SECRET, **header: Any) -> str:
    key = secret.encode() if isinstance(secret, str) else secret
    body = unsigned({"typ": "JWT", "alg": "HS256", **header}, claims)
    digest = {"HS384": hashlib.sha384, "HS512": hashlib.sha512}.get(str(header.get("alg")), hashlib.sha256)
    return f"{body}.{b64(hmac.digest(key, body.encode(), digest))}"


def signed_text(payload: bytes) -> str:
    """Any bytes, rightly signed by the secret."""
    header = b64(json.dumps({"alg": "HS256"}).encode())
    body = f"{header}.{b64(payload)}"
    return f"{body}.{b64(hmac.digest(SECRET.encode(), body.encode(), hashlib.sha256))}"


def by_rsa(claims: object, key: rsa.RSAPrivateKey, **header: Any) -> str:
    body = unsigned({"typ": "JWT", "alg": "RS256", **header}, claims)
    if header.get("alg") == "PS256":
        scheme: Any = padding.PSS(padding.MGF1(hashes.SHA256()), 32)
    else:
        scheme = padding.PKCS1v15()
    return f"{body}.{b64(key.sign(body.encode(), scheme, hashes.SHA256()))}"


def by_ec(claims: object, key: ec.EllipticCurvePrivateKey, **header: Any) -> str:
    body = unsigned({"typ": "JWT", "alg": "ES256", **header}, claims)
    r, s = decode_dss_signature(key.sign(body.encode(), ec.ECDSA(hashes.SHA256())))
    return f"{body}.{b64(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


def by_ed25519(claims: object, key: Ed25519PrivateKey, **header: Any) -> str:
    body = unsigned({"typ": "JWT", "alg": "EdDSA", **header}, claims)
    return f"{body}.{b64(key.sign(body.encode()))}"


def rsa_jwk(key: rsa.RSAPrivateKey, **extra: Any) -> dict[str, Any]:
    numbers = key.public_key().public_numbers()
    return {"kty": "RSA", "n": number(numbers.n), "e": number(numbers.e), **extra}


def ec_jwk(key: ec.EllipticCurvePrivateKey, **extra: Any) -> dict[str, Any]:
    numbers = key.public_key().public_numbers()
    x, y = (b64(value.to_bytes(32, "big")) for value in (numbers.x, numbers.y))
    return {"kty": "EC", "crv": "P-256", "x": x, "y": y, **extra}


def ed25519_jwk(key: Ed25519PrivateKey, **extra: Any) -> dict[str, Any]:
    raw = key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return {"kty": "OKP", "crv": "Ed25519", "x": b64(raw), **extra}


def public_pem(key: rsa.RSAPrivateKey) -> bytes:
    return key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
