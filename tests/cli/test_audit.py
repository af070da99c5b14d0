"""`resurgam audit`: the log for people and machines, and exit 1 where it was tampered with."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from resurgam.catalog.state import State
from tests.cli.commands import Scene
from tests.cli.test_token import bare

__all__ = ["bare"]


@pytest.fixture
def kept(bare: Scene) -> Scene:
    """Five entries, one of them with a target that would steer a terminal."""
    bare.backups.mkdir()
    with State.open(bare.backups / "state.sqlite") as state:
        for number in range(1, 6):
            state.audit.append("token:boss", "admin", "api", "delete", f"backup-{number}\x1b[2J", "ok")
    return bare


def tamper(scene: Scene, statement: str) -> None:
    with sqlite3.connect(scene.backups / "state.sqlite") as raw:
        raw.execute(statement)
    raw.close()


def test_the_latest_first_and_nothing_that_steers_a_terminal(kept: Scene) -> None:
    listed = kept.run("audit", "list", "--limit", "2")
    assert listed.code == 0
    assert listed.out.index("backup-5") < listed.out.index("backup-4")
    assert "backup-3" not in listed.out and "\x1b" not in listed.out
    answer = kept.run("audit", "list", "--json").json
    assert [one["id"] for one in answer] == [5, 4, 3, 2, 1]
    assert set(answer[0]) == {
        *("id", "at", "actor", "role", "origin", "action", "target", "outcome", "details", "digest"),
    }
    assert kept.run("audit", "list", "--limit", "0", "--json").error["code"] == "usage"


def test_a_whole_log_is_said_to_be_so_with_its_end(kept: Scene) -> None:
    done = kept.run("audit", "verify")
    assert done.code == 0
    assert "whole: 5 entries" in done.out
    answer = kept.run("audit", "verify", "--json").json
    assert (answer["success"], answer["entries"], answer["problems"], answer["last"]["id"]) == (True, 5, [], 5)
    assert answer["last"]["digest"] in done.out


def test_tampering_is_found_with_every_problem(kept: Scene) -> None:
    tamper(kept, "UPDATE audit SET actor = 'token:mallory' WHERE id = 2")
    tamper(kept, "DELETE FROM audit WHERE id >= 4")
    done = kept.run("audit", "verify")
    assert done.code == 1
    assert "Entry 2 is not what was written" in done.out and "Entries 4 to 5 are missing" in done.out
    answer = kept.run("audit", "verify", "--json")
    assert answer.code == 1
    assert (answer.json["success"], len(answer.json["problems"])) == (False, 2)


def test_an_empty_log_is_whole(bare: Scene, tmp_path: Path) -> None:
    assert bare.run("audit", "verify").code == 0
    assert bare.run("audit", "list", "--json").json == []
    assert bare.run("audit", "list").code == 0


def test_what_the_commands_change_is_noted_before_and_after(scene: Scene) -> None:
    name = scene.backup()
    for arguments in (("pin", name), ("delete", name, "--yes"), ("pin", name, "--remove"), ("prune",)):
        scene.run(*arguments)
    assert scene.run("restore", name, "--yes", "--only", "files").code == 0
    assert scene.run("delete", name, "--yes").code == 0
    for untouched in (("prune", "--dry-run"), ("delete", name, "--yes")):
        scene.run(*untouched)
    entries = scene.run("audit", "list", "--json").json
    assert [(one["action"], one["outcome"]) for one in reversed(entries)] == [
        *(("pin", "accepted"), ("pin", "ok")),
        *(("delete", "accepted"), ("delete", "refused")),
        *(("unpin", "accepted"), ("unpin", "ok")),
        *(("prune", "accepted"), ("prune", "ok")),
        *(("restore", "accepted"), ("restore", "ok")),
        *(("delete", "accepted"), ("delete", "ok")),
        *(("delete", "accepted"), ("delete", "refused")),
    ]
    restored = next(one for one in entries if one["action"] == "restore" and one["outcome"] == "accepted")
    assert restored["details"] == {"database": False, "config": False, "files": True, "roles": "fail"}
    assert {one["origin"] for one in entries} == {"cli"}
    assert {one["target"] for one in entries} == {name, "radiology"}
