"""`resurgam undo`, as a user runs it."""

from __future__ import annotations

from tests.cli.commands import Scene


def test_undo_says_what_it_would_do_and_does_it(scene: Scene) -> None:
    name = scene.backup()
    assert scene.run("undo", "--yes", "--json").json["code"] == "restore_refused"
    env = scene.app / "docker-compose.yml"
    env.write_text("changed after the backup\n")
    restored = scene.run("restore", name, "--yes", "--json").json
    assert restored["safety_backup"] != name
    assert env.read_text() != "changed after the backup\n"
    assert scene.run("undo").code == 2  # nobody to ask
    plan = scene.run("undo", "--dry-run", "--json").json
    assert (plan["backup_name"], plan["problems"], plan["changes"]) == (name, [], [])
    assert plan["database"]["brings_back"] == restored["previous_database"]
    assert "bring" in scene.run("undo", "--dry-run").out
    done = scene.run("undo", "--yes")
    assert done.code == 0
    assert f"the restore of {name}" in done.out
    assert env.read_text() == "changed after the backup\n"
    again = scene.run("undo", "--yes", "--json").json
    assert again["is_redo"] and again["kept_database"].startswith(scene.database.name)
    assert env.read_text() != "changed after the backup\n"
    entries = [one for one in scene.run("audit", "list", "--json").json if one["action"] == "undo"]
    assert {one["outcome"] for one in entries} >= {"accepted", "ok"}
