"""Every route × every kind of credential. A route that is missing from the table, or has another role there, fails."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from resurgam.api.openapi import document
from resurgam.catalog.roles import ROLES
from tests.api.calling import ROUTES, Api, api_on, is_error
from tests.clusters import Database

SECRET = "a-secret-of-at-least-thirty-two-characters"
CASES = [(method, path, role) for path, methods in ROUTES.items() for method, role in methods.items()]
CLOSED = [(method, path, role) for method, path, role in CASES if role is not None]
NAME = "radiology_backup_20250104_143022"


def _at(path: str) -> str:
    return path.replace("{backup_name}", NAME).replace("{job_id}", "999")


def _part(value: object) -> str:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _jwt(header: dict[str, Any], claims: dict[str, Any], key: str = "") -> str:
    told = f"{_part(header)}.{_part(claims)}"
    return f"{told}.{_part(hmac.new(key.encode(), told.encode(), hashlib.sha256).digest()) if key else ''}"


def _bad_credentials(api: Api) -> dict[str, str | None]:
    tokens = api.service.state.tokens
    expired, _ = tokens.create("expired", "admin", timedelta(microseconds=1))
    revoked, info = tokens.create("revoked", "admin", None)
    tokens.revoke(info.id)
    good = api.tokens["admin"]
    admin = {"sub": "mallory", "role": "admin", "exp": time.time() + 600}
    return {
        "none": None,
        "empty": "",
        "other scheme": f"Basic {good}",
        "malformed": "Bearer rsg_nonsense",
        "cut": f"Bearer {good[:-1]}",
        "wrong": f"Bearer {good[:-1]}{'0' if good[-1] != '0' else '1'}",
        "expired": f"Bearer {expired}",
        "revoked": f"Bearer {revoked}",
        "alg none": f"Bearer {_jwt({'alg': 'none'}, admin)}",
        "forged": f"Bearer {_jwt({'alg': 'HS256'}, admin, 'a-secret-of-someone-else-entirely-9f8e')}",
    }


def test_the_table_names_every_route_and_its_role() -> None:
    described = {
        path: {method.upper(): told.get("x-resurgam-role") for method, told in methods.items()}
        for path, methods in document()["paths"].items()
    }
    assert described == ROUTES


def test_no_bad_credential_opens_anything(with_backup: tuple[Api, str]) -> None:
    api, _ = with_backup
    before = (api.scene.archives(), len(api.service.state.jobs.latest(1000)))
    for number, (what, header) in enumerate(_bad_credentials(api).items()):
        for place, (method, path, _) in enumerate(CLOSED):
            headers = {} if header is None else {"Authorization": header}
            answer = api.elsewhere(f"10.0.{number}.{place}").request(method, _at(path), headers=headers, content=b"{")
            assert answer.status_code == 401, (what, method, path, answer.text)
            assert answer.headers["www-authenticate"] == "Bearer"
            is_error(answer, 401, "unauthorized")
    assert (api.scene.archives(), len(api.service.state.jobs.latest(1000))) == before


@pytest.mark.parametrize("role", ROLES)
def test_a_role_opens_its_routes_alone(with_backup: tuple[Api, str], role: str) -> None:
    api, _ = with_backup
    for method, path, needed in CLOSED:
        if ROLES.index(role) < ROLES.index(needed):
            is_error(api.call(method, _at(path), role, content=b"{"), 403, "forbidden")
        elif method == "GET":
            assert api.call(method, _at(path), role).status_code in (200, 404), path


def test_what_is_open_tells_nothing_of_this_installation(with_backup: tuple[Api, str]) -> None:
    api, name = with_backup
    for path in ("/", "/healthz", "/readyz", "/openapi.json"):
        answer = api.client.get(path)
        assert answer.status_code == api.client.head(path).status_code == 200
        assert (
            name not in answer.text and str(api.scene.root) not in answer.text and api.scene.database not in answer.text
        )


@pytest.fixture
def api_with_jwt(database: Database, tmp_path: Path) -> Iterator[Api]:
    with api_on(database, tmp_path, BACKUP_JWT_SECRET=SECRET) as made:
        yield made


def test_a_jwt_of_the_host_application_is_checked(api_with_jwt: Api) -> None:
    claims = {"sub": "alice", "role": "admin", "exp": time.time() + 600}
    good = _jwt({"alg": "HS256", "typ": "JWT"}, claims, SECRET)
    reader = _jwt({"alg": "HS256"}, {**claims, "role": "doctor"}, SECRET)
    for token, status in (
        (good, 200),
        (reader, 403),
        (_jwt({"alg": "none"}, claims), 401),
        (_jwt({"alg": "HS256"}, claims, SECRET + "x"), 401),
        (_jwt({"alg": "HS384"}, claims, SECRET), 401),
        (_jwt({"alg": "HS256"}, {**claims, "exp": time.time() - 3600}, SECRET), 401),
    ):
        answer = api_with_jwt.client.get("/api/backups/audit", headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == status, answer.text
