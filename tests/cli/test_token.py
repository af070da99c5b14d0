"""`resurgam token`: the text on stdout once, everything else elsewhere; each change in the audit log."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from resurgam.catalog.state import State
from resurgam.cli.token import duration
from resurgam.errors import UsageError
from tests.cli.commands import Scene
from tests.clusters import Database


@pytest.fixture
def bare(tmp_path: Path, database: Database) -> Scene:
    """Settings alone: these commands need neither the application nor its database."""
    made = Scene(tmp_path, database)
    made.app.mkdir()
    made.settings = {
        "APP_DIR": str(made.app),
        "BACKUP_DIR": str(made.backups),
        "DB_NAME": "none",
        "DB_HOST": "127.0.0.1",
    }
    return made


def verdict(scene: Scene, text: str) -> str:
    with State.open(scene.backups / "state.sqlite") as state:
        return state.tokens.check(text).verdict


def test_a_token_is_printed_once_and_counts(bare: Scene) -> None:
    done = bare.run("token", "create", "--role", "viewer")
    assert done.code == 0
    text = done.out.rstrip("\n")
    assert text.startswith("rsg_") and "\n" not in text
    assert "not shown again" in done.err and text.rpartition("_")[2] not in done.err
    assert verdict(bare, text) == "good"
    for command in (("token", "list"), ("token", "list", "--json"), ("audit", "list", "--json")):
        assert text.rpartition("_")[2] not in bare.run(*command).out
    assert text.rpartition("_")[2] not in bare.log


def test_json_has_the_token_and_what_is_known_of_it(bare: Scene) -> None:
    made = bare.run("token", "create", "--role", "operator", "--name", "ci", "--expires", "90d", "--json")
    assert (made.code, made.err) == (0, "")
    answer = made.json
    assert set(answer) == {"success", "token", "id", "name", "role", "expires_at"}
    assert (answer["name"], answer["role"]) == ("ci", "operator")
    left = datetime.fromisoformat(answer["expires_at"]) - datetime.now(UTC)
    assert timedelta(days=89) < left < timedelta(days=91)
    (listed,) = bare.run("token", "list", "--json").json
    assert (listed["id"], listed["status"], listed["last_used_at"]) == (answer["id"], "active", None)
    assert "ci" in bare.run("token", "list").out


def test_for_ever_only_if_asked(bare: Scene) -> None:
    given = bare.run("token", "create", "--role", "viewer", "--json").json["expires_at"]
    assert given is not None
    never = bare.run("token", "create", "--role", "viewer", "--expires", "none", "--json")
    assert never.json["expires_at"] is None
    refused = bare.run("token", "create", "--role", "viewer", "--expires=0", "--json")
    assert (refused.code, refused.error["code"]) == (2, "usage")
    assert len(bare.run("token", "list", "--json").json) == 2


@pytest.mark.parametrize("text", ["0", "0d", "-1d", "soon", "", "1e9d", "9999999999999d", "90 days"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(UsageError, match="no token was made"):
        duration(text)


def test_revoked_by_name_or_id(bare: Scene) -> None:
    bare.backups.mkdir()
    with State.open(bare.backups / "state.sqlite") as state:
        first, _ = state.tokens.create("ci", "viewer", None)
        second, other = state.tokens.create("other", "viewer", None)
    assert bare.run("token", "revoke", "ci").code == 0
    assert bare.run("token", "revoke", other.id, "--json").json["name"] == "other"
    assert [verdict(bare, text) for text in (first, second)] == ["revoked", "revoked"]
    unknown = bare.run("token", "revoke", "nobody", "--json")
    assert (unknown.code, unknown.error["code"]) == (5, "not_found")


def test_wrong_roles_and_names_are_usage_errors(bare: Scene) -> None:
    for arguments in (("--role", "boss"), (), ("--role", "viewer", "--name", "")):
        done = bare.run("token", "create", *arguments, "--json")
        assert (done.code, done.error["code"]) == (2, "usage"), arguments
    assert "token create" in bare.run("token", "list").out


def test_every_change_is_audited_with_the_systems_user(bare: Scene) -> None:
    bare.run("token", "create", "--role", "viewer", "--name", "ci", USER="somebody-else")
    bare.run("token", "create", "--role", "viewer", "--name", "ci")
    bare.run("token", "revoke", "ci")
    entries = json.loads(bare.run("audit", "list", "--json").out)
    assert [(one["action"], one["target"], one["outcome"], one["origin"]) for one in entries] == [
        ("token revoke", "ci", "ok", "cli"),
        ("token create", "ci", "refused", "cli"),
        ("token create", "ci", "ok", "cli"),
    ]
    assert {one["actor"] for one in entries}.isdisjoint({"", "somebody-else"})
