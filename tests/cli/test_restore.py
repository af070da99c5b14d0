"""`resurgam restore`: its plan, and what it brings beside what is live."""

from __future__ import annotations

import re

import pytest

from tests.cli.commands import Scene


def test_a_plan_in_words_and_in_json(backed_up: Scene) -> None:
    name = backed_up.only_name
    words = backed_up.run("restore", name, "--plan")
    assert words.code == 0 and "would:" in words.out and "How long that takes is not known" in words.out
    told = backed_up.run("restore", name, "--dry-run", "--json").json
    assert told["success"] is True and told["dry_run"] is True and told["database"]["server"]["server_version"]
    assert backed_up.run("restore", "--as-of", "2999-01-01 00:00", "--plan", "--json").json["backup_name"] == name


@pytest.mark.parametrize(
    "arguments",
    [
        ("restore", "--plan"),
        ("restore", "NAME", "--as-of", "2999-01-01 00:00", "--plan"),
        ("restore", "NAME", "--only", "files", "--table", "reports", "--plan"),
        ("restore", "NAME", "--into", "x", "--table", "reports", "--plan"),
        ("restore", "NAME", "--target", "/tmp", "--plan"),
        ("restore", "NAME", "--roles", "all", "--plan"),
        ("restore", "NAME", "--to-server", "host=x password=hunter2", "--plan"),
    ],
)
def test_what_does_not_go_together_is_a_mistake(backed_up: Scene, arguments: tuple[str, ...]) -> None:
    name = backed_up.only_name
    done = backed_up.run(*(name if one == "NAME" else one for one in arguments), "--json")
    assert done.code == 2 and done.json["code"] == "usage"
    assert "hunter2" not in done.out + done.err


def test_a_table_and_a_file_come_beside(scene: Scene) -> None:
    name = scene.backup()
    done = scene.run("restore", name, "--table", "reports", "--yes", "--json").json
    (made,) = done["made"]
    assert scene.sql(f"SELECT count(*) FROM {made['name']}") == scene.sql("SELECT count(*) FROM reports")
    words = scene.run("restore", name, "--folder", "uploads", "--target", str(scene.folder / "out"), "--yes")
    assert words.code == 0 and "everything live is as it was" in words.out
    assert (scene.folder / "out" / "uploads").is_dir()


def test_a_plan_names_no_id_that_never_comes(scene: Scene) -> None:
    """The run that follows has an id of its own."""
    name = scene.backup()
    words = scene.run("restore", name, "--plan")
    told = scene.run("restore", name, "--plan", "--json").json
    assert told["database"]["kept_as"].endswith("_previous_YYYYMMDDhhmmss_xxxxxx") and "_xxxxxx" in words.out
    done = scene.run("restore", name, "--only", "database", "--yes", "--json").json
    assert re.fullmatch(r".+_previous_\d{14}_[0-9a-f]{6}", done["previous_database"])
    assert len(done["previous_database"]) == len(told["database"]["kept_as"])
    back = scene.run("undo", "--dry-run", "--json").json["database"]
    assert back["brings_back"] == done["previous_database"]
    assert back["kept_as"].endswith("_undone_YYYYMMDDhhmmss_xxxxxx")
    (made,) = scene.run("restore", name, "--table", "reports", "--plan", "--json").json["makes"]
    assert made["name"].endswith("reports_restored_YYYYMMDDhhmmss_xxxxxx")
