"""The keys of the host application's JWTs, from a file and from a real https server."""

from __future__ import annotations

import asyncio
import datetime
import http.server
import ipaddress
import json
import os
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from resurgam.api.jwks import JwksFile, JwksUrl, read_keys
from resurgam.runlog import RunLog
from tests.api import jwts
from tests.catalog.test_tokens import Watch

CURVE = ec.generate_private_key(ec.SECP256R1())


def document(*kids: str) -> bytes:
    return json.dumps({"keys": [jwts.ec_jwk(CURVE, kid=kid) for kid in kids]}).encode()


@pytest.fixture
def watch() -> Watch:
    return Watch()


@pytest.fixture
def log(tmp_path: Path, watch: Watch) -> RunLog:
    return RunLog(tmp_path / "backup.log", watch)


def logged(log: RunLog) -> list[str]:
    return log.path.read_text().splitlines() if log.path.exists() else []


def test_only_keys_for_the_algorithm_are_taken() -> None:
    small = jwts.rsa_jwk(rsa.generate_private_key(65537, 1024), kid="small")
    good = jwts.ec_jwk(CURVE, kid="good", alg="ES256", use="sig")
    others: list[Any] = [
        small,
        {"kty": "oct", "k": "AAAA", "kid": "secret"},
        jwts.ec_jwk(CURVE, kid="enc", use="enc"),
        jwts.ec_jwk(CURVE, kid="other", alg="ES512"),
        jwts.ec_jwk(CURVE, kid="signing", key_ops=["sign"]),
        jwts.ec_jwk(CURVE, kid=7),
        {"kty": "EC", "crv": "P-256", "kid": "broken", "x": "!", "y": 5},
        {"kty": "EC", "crv": "P-256", "kid": "partly"},
        {"kty": "ML-DSA", "kid": "unknown"},
        "no object",
        None,
    ]
    found = read_keys(json.dumps({"keys": [*others, good]}).encode(), "ES256")
    assert [key.kid for key in found] == ["good"]
    with pytest.raises(ValueError, match="no key for RS256"):
        read_keys(json.dumps({"keys": [small, good]}).encode(), "RS256")


@pytest.mark.parametrize("text", [b"", b"\xff", b"[]", b"{}", b'{"keys": {}}', b'{"keys": []}', b"[" * 100_000])
def test_what_is_no_jwks_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match="it "):
        read_keys(text, "ES256")


def test_a_file_is_read_again_when_it_changes(tmp_path: Path, log: RunLog) -> None:
    path = tmp_path / "jwks.json"
    keys = JwksFile(path, "ES256", log)

    def has(kid: str | None) -> bool:
        return asyncio.run(keys.key(kid)) is not None

    assert not has("a")
    path.write_bytes(document("a"))
    assert has("a") and has(None) and not has("b")
    path.write_bytes(document("a", "b"))
    assert has("a") and has("b")
    # Without a name there must be no choice.
    assert not has(None)
    path.write_bytes(b"half a docu")
    assert not has("a") and not has("a")
    path.unlink()
    assert not has("a")
    path.write_bytes(document("b"))
    assert has("b") and not has("a")
    told = [line for line in logged(log) if "ERROR" in line]
    assert ["No such file" in told[0], "no JSON" in told[1], "No such file" in told[2]] == [True] * 3
    assert len(told) == 3


@dataclass
class Identity:
    """An identity provider: what it answers, and how often it was asked."""

    url: str = ""
    body: bytes = b""
    status: int = 200
    location: str = ""
    asked: int = 0
    delay: threading.Event = field(default_factory=threading.Event)


@pytest.fixture
def identity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Identity]:
    made = Identity(body=document("a"))
    made.delay.set()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            made.asked += 1
            made.delay.wait(10)
            self.send_response(made.status)
            if made.location:
                self.send_header("Location", made.location)
            self.end_headers()
            self.wfile.write(made.body)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate = _certificate(tmp_path)
    context.load_cert_chain(certificate)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    monkeypatch.setenv("SSL_CERT_FILE", os.fspath(certificate))
    made.url = f"https://127.0.0.1:{server.server_port}/jwks"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield made
    server.shutdown()
    server.server_close()
    thread.join()


def _certificate(folder: Path) -> Path:
    """A key and its own certificate for 127.0.0.1, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(True, None), True)
        .sign(key, hashes.SHA256())
    )
    path = folder / "server.pem"
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(key.private_bytes(*form) + made.public_bytes(serialization.Encoding.PEM))
    return path


def test_an_address_is_asked_once_in_ten_minutes(identity: Identity, log: RunLog, watch: Watch) -> None:
    keys = JwksUrl(identity.url, "ES256", log, watch)

    async def story() -> None:
        for _ in range(5):
            assert await keys.key("a") is not None
        assert identity.asked == 1
        watch.sleep(599)
        await keys.key("a")
        assert identity.asked == 1
        watch.sleep(2)
        identity.body = document("b")
        assert await keys.key("a") is None
        assert await keys.key("b") is not None
        assert identity.asked == 2

    asyncio.run(story())
    assert logged(log) == []


def test_an_unknown_key_is_asked_for_once_a_minute(identity: Identity, log: RunLog, watch: Watch) -> None:
    keys = JwksUrl(identity.url, "ES256", log, watch)

    async def story() -> None:
        assert await keys.key("a") is not None
        identity.body = document("a", "new")
        for number in range(20):
            assert await keys.key(f"guess-{number}") is None
        assert identity.asked == 1
        watch.sleep(60)
        assert await keys.key("new") is not None
        assert identity.asked == 2

    asyncio.run(story())


def test_requests_at_the_same_time_ask_once(identity: Identity, log: RunLog, watch: Watch) -> None:
    keys = JwksUrl(identity.url, "ES256", log, watch)

    async def story() -> list[Any]:
        identity.delay.clear()
        waiting = [asyncio.create_task(keys.key("a")) for _ in range(20)]
        await asyncio.sleep(0.1)
        identity.delay.set()
        return await asyncio.gather(*waiting)

    assert all(key is not None for key in asyncio.run(story()))
    assert identity.asked == 1


def test_an_address_that_fails_is_logged_and_its_last_word_serves_for_an_hour(
    identity: Identity, log: RunLog, watch: Watch
) -> None:
    keys = JwksUrl(identity.url, "ES256", log, watch)

    async def story() -> None:
        assert await keys.key("a") is not None
        identity.status, identity.body = 503, b"gone"
        watch.sleep(3000)
        assert await keys.key("a") is not None
        assert await keys.key("a") is not None
        assert len(logged(log)) == 1
        watch.sleep(601)
        assert await keys.key("a") is None
        identity.status, identity.body = 200, document("a")
        watch.sleep(10)
        assert await keys.key("a") is not None

    asyncio.run(story())
    assert all("ERROR" in line and "BACKUP_JWT_JWKS" in line for line in logged(log))
    assert len(logged(log)) == 2


@pytest.mark.parametrize("trouble", ["nobody", "certificate", "redirect", "large", "garbage"])
def test_whatever_an_address_does_there_is_no_key_and_a_line(
    identity: Identity, log: RunLog, watch: Watch, trouble: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = identity.url
    if trouble == "nobody":
        url = "https://127.0.0.1:9/jwks"
    elif trouble == "certificate":
        monkeypatch.delenv("SSL_CERT_FILE")
    elif trouble == "redirect":
        identity.status, identity.location = 302, f"{url}/elsewhere"
    elif trouble == "large":
        identity.body = b" " * (1 << 20) + document("a")
    else:
        identity.body = b"<html>"
    assert asyncio.run(JwksUrl(url, "ES256", log, watch).key("a")) is None
    assert len(logged(log)) == 1
    assert identity.asked <= 1
