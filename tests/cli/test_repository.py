"""The commands on a repository, each as its own process, and what is kept of it in the folder."""

from __future__ import annotations

import shutil
import tarfile
from pathlib import Path

import pytest

from tests.cli.commands import Scene, make_scene
from tests.clusters import Database

KEY = "correct horse battery staple"


@pytest.fixture
def scene(tmp_path: Path, database: Database) -> Scene:
    made = make_scene(tmp_path, database)
    (tmp_path / "key").write_text(f"{KEY}\n")
    made.settings |= {
        "BACKUP_REPOSITORY": str(tmp_path / "repository"),
        "BACKUP_ENCRYPTION_KEY_FILE": str(tmp_path / "key"),
    }
    return made


def test_from_init_to_restore(scene: Scene) -> None:
    made = scene.run("init", "--json").json["repository"]
    assert made["created"] and made["url"] == str(scene.folder / "repository")
    assert len(made["repository"]) == 32 and [slot["kind"] for slot in made["slots"]] == ["passphrase"]
    assert not scene.run("init", "--json").json["repository"]["created"]
    taken = scene.run("backup", "--json").json
    name = taken["backup_name"]
    assert Path(taken["archive_path"]).is_file() and "/manifests/" in taken["archive_path"]
    (listed,) = scene.run("list", "--json").json
    assert (listed["backup_name"], listed["archive_path"]) == (name, taken["archive_path"])
    assert scene.run("show", name, "--json").json["copies"][0]["location"] == "repository"
    assert "what was read of it is sound" in scene.run("verify", name).out
    assert "is sound" in scene.run("verify", name, "--full").out
    checked = scene.run("verify", "--all", "--full", "--json").json
    assert checked["sound"] == [name] and checked["repository"]["bytes_read"] > 0
    entries = scene.run("browse", name, "files", "--json").json["entries"]
    assert {one["name"] for one in entries} == {"templates", "uploads"}
    assert "uploads" in scene.run("browse", name, "files").out
    rows = scene.sql("SELECT count(*) FROM reports")
    scene.sql("DROP TABLE reports CASCADE")
    restored = scene.run("restore", name, "--yes", "--json")
    assert restored.code == 0, restored
    assert scene.sql("SELECT count(*) FROM reports") == rows
    drilled = scene.run("drill", "--json")
    assert drilled.code == 0 and drilled.json["outcome"] == "passed"
    assert list(scene.backups.glob("*.drill.json"))
    assert KEY not in scene.log


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_a_store_that_does_not_answer_is_told_of_long_before_it_is_given_up(
    scene: Scene, options: tuple[str, ...]
) -> None:
    process = scene.start(
        "list",
        *options,
        BACKUP_REPOSITORY="s3://bucket/prefix",
        AWS_ENDPOINT_URL="http://127.0.0.1:1",
        AWS_ACCESS_KEY_ID="key",
        AWS_SECRET_ACCESS_KEY="secret",
        AWS_REGION="us-east-1",
    )
    try:
        assert process.stderr is not None
        said = process.stderr.readline()
        assert said.startswith("Warning: s3://bucket/prefix has not answered yet") and process.poll() is None
    finally:
        process.kill()
        out, _ = process.communicate()
    assert out == ""


def test_an_older_state_stops_prunes_until_repair_settles_it(scene: Scene) -> None:
    scene.run("init")
    empty = scene.run("list").out
    assert f"There are no backups in {scene.folder / 'repository'}." in empty
    first = scene.backup()
    shutil.copytree(scene.folder / "repository", scene.folder / "older")
    second = scene.backup()
    (scene.folder / "repository").rename(scene.folder / "newer")
    (scene.folder / "older").rename(scene.folder / "repository")
    lost = f"the manifest {manifest_of(scene.folder / 'newer', scene.folder / 'repository')}"
    refused = scene.run("prune", "--json").error
    assert refused["code"] == "collection" and lost in refused["error"]
    assert f"Lost: {lost} of a committed backup" in scene.run("repair", "--dry-run").out
    assert scene.run("prune", "--json").error["code"] == "collection"
    settled = scene.run("repair", "--yes", "--json")
    assert settled.code == 0 and (settled.json["hurt"], settled.json["whole"]) == ([], [first])
    assert scene.run("repair", "--dry-run").out == "Nothing is lost.\n"
    assert scene.run("prune", "--json").code == 0
    assert second not in scene.run("list").out
    figures = [line for line in scene.run("health").out.splitlines() if line.startswith("backups ")]
    assert len(figures) == 1 and figures[0].endswith(f" in {scene.folder / 'repository'}")


def manifest_of(newer: Path, older: Path) -> str:
    """The id of the one backup that the older state lacks."""
    (name,) = {path.name for path in (newer / "manifests").iterdir()} - {
        path.name for path in (older / "manifests").iterdir()
    }
    return name


def test_export_import_delete_and_prune(scene: Scene) -> None:
    scene.run("init")
    name = scene.backup()
    exported = scene.run("export", name, str(scene.folder), "--json").json
    with tarfile.open(exported["archive_path"]) as archive:
        assert f"{name}/backup_metadata.json" in archive.getnames()
    assert scene.run("export", name, exported["archive_path"]).code == 2
    there = scene.run("import", exported["archive_path"], "--json")
    assert there.code == 0 and (there.json["imported"], there.json["backup_name"]) == (False, name)
    assert scene.run("delete", name, "--yes").code == 0
    assert scene.run("list", "--json").json == []
    again = scene.run("import", exported["archive_path"], "--json").json
    assert again["imported"] and again["backup_name"] == name and scene.run("verify", name, "--full").code == 0
    assert scene.run("delete", name, "--yes").code == 0
    planned = scene.run("prune", "--dry-run", "--json").json["repository"]
    assert planned["frees_bytes"] == planned["repository_bytes"] > 0
    refused = scene.run("prune", "--json")
    assert refused.error["code"] == "collection" and "--accept" in refused.error["hint"]
    assert scene.run("prune", "--accept", "--json").json["repository"]["freed_bytes"] > 0
    assert not [path for path in (scene.folder / "repository/packs").rglob("*") if path.is_file()]


def test_keys_and_the_kit(scene: Scene) -> None:
    kit = scene.folder / "kit.txt"
    made = scene.run("init", "--kit", str(kit), "--json").json["repository"]
    assert [slot["kind"] for slot in made["slots"]] == ["passphrase", "kit"]
    assert scene.run("backup", "--json").error["code"] == "key"
    assert "never proven" in scene.run("doctor").out
    assert scene.run("keys", "kit", "--prove", "--file", str(kit)).code == 0
    name = scene.backup()
    by_kit = {"BACKUP_ENCRYPTION_KEY_FILE": None, "BACKUP_RECOVERY_KIT_FILE": str(kit)}
    assert scene.run("verify", name, "--full", **by_kit).code == 0
    assert len(scene.run("keys", "list", "--json").json["slots"]) == 2
    assert "recovery kit was proven" in scene.run("doctor").out
    assert scene.run("list", BACKUP_ENCRYPTION_KEY_FILE=None).code == 1


def test_without_a_repository_its_options_are_refused(scene: Scene) -> None:
    archives = {"BACKUP_REPOSITORY": None, "BACKUP_ENCRYPTION_KEY_FILE": None}
    assert scene.run("init", "--kit", "k.txt", **archives).code == 2
    assert scene.run("keys", "list", **archives).code == 2
    missing = scene.run("backup", "--json").error
    assert missing["code"] in ("repository", "storage") and "init" in missing["hint"]
