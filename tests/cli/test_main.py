"""Every command by its effects, exit codes and JSON, as the manual and the exit table say."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from resurgam.demo.application import fingerprint, wreck
from resurgam.demo.proof import differences
from tests.cli.commands import RESURGAM, Scene

LISTED = ("backup_name", "timestamp", "datetime", "archive_path", "size_mb", "database_size_mb")
CREATED = ("success", "backup_name", "archive_path", "size_mb", "metadata")
VERIFIED = ("success", "backup_name", "backup_date", "total_files", "database_backup", "size_mb")
UNKNOWN = "radiology_backup_20200101_000000"


def test_backup_list_show_and_verify_answer_with_the_manuals_keys(scene: Scene) -> None:
    backup = scene.run("backup", "--json")
    assert (backup.code, backup.err) == (0, "")
    made = backup.json
    assert tuple(made)[:4] == CREATED[:4]
    assert made["metadata"]["backup_name"] == made["backup_name"]
    assert Path(made["archive_path"]).stat().st_size == made["size_bytes"]
    listed = scene.run("list", "--json")
    assert listed.code == 0
    (entry,) = listed.json
    assert tuple(entry)[:6] == LISTED
    assert entry["archive_path"] == made["archive_path"]
    shown = scene.run("show", made["backup_name"], "--json").json
    assert {key: shown[key] for key in LISTED} == {key: entry[key] for key in LISTED}
    assert shown["metadata"] == made["metadata"]
    verified = scene.run("verify", made["backup_name"], "--json")
    assert verified.code == 0
    assert tuple(verified.json)[:6] == VERIFIED
    assert verified.json["total_files"] == made["metadata"]["total_files"]


def test_people_read_names_units_and_a_time_with_its_zone(backed_up: Scene) -> None:
    name = backed_up.only_name
    listed = backed_up.run("list", TZ="Asia/Tokyo")
    assert name in listed.out
    assert " JST " in listed.out
    assert " KB " in listed.out
    shown = backed_up.run("show", name)
    assert "docker-compose.yml" in shown.out
    assert "uploads" in shown.out
    verified = backed_up.run("verify", name)
    assert f"{name} is sound" in verified.out
    assert "Verifying" in verified.err
    assert backed_up.run("verify", name, "--quiet").err == ""


def test_a_restore_brings_everything_back_and_keeps_what_it_replaced(scene: Scene) -> None:
    dsn = scene.database.dsn
    name = scene.backup()
    before = fingerprint(dsn, scene.app)
    wreck(dsn, scene.app)
    done = scene.run("restore", name, "--yes", "--json")
    assert done.code == 0, done
    after = fingerprint(dsn, scene.app)
    lost = [one for one in differences(before, after) if "resurgam-previous" not in one and "log" not in one]
    assert [one for one in lost if "backend" not in one or "template" in one] == []
    previous = done.json["previous_database"]
    assert scene.sql(f"SELECT count(*) FROM pg_database WHERE datname = '{previous}'") == [(1,)]
    kept = [Path(path) for path in done.json["previous_paths"].values()]
    assert kept
    assert all(path.is_dir() for path in kept)


def test_only_names_the_parts_to_restore(scene: Scene) -> None:
    name = scene.backup()
    scene.sql("UPDATE public.templates SET body = 'new'")
    shutil.rmtree(scene.app / "uploads")
    (scene.app / "requirements.txt").write_text("changed\n")
    done = scene.run("restore", name, "--yes", "--only", "files", "--json")
    assert done.code == 0
    assert (scene.app / "uploads").is_dir()
    assert (scene.app / "requirements.txt").read_text() == "changed\n"
    assert scene.sql("SELECT DISTINCT body FROM public.templates") == [("new",)]
    assert scene.run("restore", name, "--yes", "--only", "config").code == 0
    assert (scene.app / "requirements.txt").read_text() != "changed\n"
    assert scene.run("restore", name, "--yes", "--only", "database").code == 0
    assert scene.sql("SELECT count(*) FROM public.templates WHERE body = 'new'") == [(0,)]
    wrong = scene.run("restore", name, "--yes", "--only", "uploads", "--json")
    assert (wrong.code, wrong.error["code"]) == (2, "usage")


def test_a_dry_run_tells_and_touches_nothing(backed_up: Scene) -> None:
    name = backed_up.only_name
    before = fingerprint(backed_up.database.dsn, backed_up.app)
    archives = backed_up.archives()
    plan = backed_up.run("restore", name, "--dry-run", "--json").json
    assert plan["dry_run"] is True
    assert plan["database"]["name"] == backed_up.database.name
    assert "would" in backed_up.run("restore", name, "--dry-run").out
    assert backed_up.run("delete", name, "--dry-run").code == 0
    assert backed_up.run("prune", "--dry-run", BACKUP_RETENTION_DAYS="1", MAX_BACKUPS="1").code == 0
    assert backed_up.archives() == archives
    assert differences(before, fingerprint(backed_up.database.dsn, backed_up.app)) == []


def test_delete_needs_a_yes_and_pinned_backups_stay(scene: Scene) -> None:
    name = scene.backup()
    refused = scene.run("delete", name, "--json")
    assert (refused.code, refused.error["code"]) == (2, "usage")
    assert scene.run("pin", name, "--json").json == {"success": True, "backup_name": name, "pinned": True}
    assert scene.run("delete", name, "--yes").code == 2
    assert list(scene.archives()) == [f"{name}.tar.gz"]
    assert scene.run("pin", name, "--remove").code == 0
    deleted = scene.run("delete", name, "--yes", "--json")
    assert deleted.code == 0
    assert deleted.json["message"] == f"Backup {name} deleted successfully"
    assert scene.archives() == {}


def test_prune_deletes_beyond_the_maximum_and_says_why(scene: Scene) -> None:
    names = [scene.backup() for _ in range(3)]
    pruned = scene.run("prune", "--json", MAX_BACKUPS="2")
    assert pruned.code == 0
    actions = {one["backup_name"]: one["action"] for one in pruned.json["plan"]}
    assert actions == {names[0]: "delete", names[1]: "keep", names[2]: "keep"}
    assert all(one["reason"] for one in pruned.json["plan"])
    assert [one["backup_name"] for one in scene.run("list", "--json").json] == [names[2], names[1]]


def test_unknown_names_exit_5(backed_up: Scene) -> None:
    for command in (("show",), ("verify",), ("restore", "--yes"), ("delete", "--yes"), ("pin",)):
        done = backed_up.run(command[0], UNKNOWN, *command[1:], "--json")
        assert (done.code, done.error["code"]) == (5, "not_found"), command
    plain = backed_up.run("show", UNKNOWN)
    assert UNKNOWN in plain.err
    assert "resurgam list" in plain.err


def test_verify_looks_at_all_names_and_fails_if_one_does(scene: Scene) -> None:
    first, second = scene.backup(), scene.backup()
    path = scene.backups / f"{first}.tar.gz"
    path.write_bytes(path.read_bytes()[:-200])
    done = scene.run("verify", first, second, UNKNOWN, "--json")
    assert done.code == 1
    assert [one["success"] for one in done.json["verifications"]] == [False, True, False]
    alone = scene.run("verify", first, "--json")
    assert (alone.code, alone.error["code"]) == (1, "damaged")
    restore = scene.run("restore", first, "--yes", "--json")
    assert (restore.code, restore.error["code"]) == (1, "damaged")


def test_verify_all_reads_every_backup_and_names_the_bad_ones(scene: Scene) -> None:
    first, second = scene.backup(), scene.backup()
    sound = scene.run("verify", "--all", "--json")
    assert (sound.code, sound.json["sound"]) == (0, [second, first])
    path = scene.backups / f"{first}.tar.gz"
    path.write_bytes(path.read_bytes()[:-200])
    failed = scene.run("verify", "--all")
    assert failed.code == 1
    assert first in failed.err
    assert f"{second}:" not in failed.err
    assert [scene.run(*wrong).code for wrong in (("verify",), ("verify", first, "--all"))] == [2, 2]


def test_a_missing_remote_disk_degrades_and_init_sets_it_up(scene: Scene) -> None:
    remote = scene.folder / "remote"
    scene.settings |= {"REMOTE_BACKUP_ENABLED": "true", "REMOTE_BACKUP_PATH": str(remote)}
    degraded = scene.run("backup", "--json")
    assert degraded.code == 3
    assert degraded.json["success"] is True
    assert degraded.json["degraded"] is True
    assert len(degraded.json["failures"]) == 1
    assert not remote.exists()
    assert "ERROR" in scene.log
    assert len(scene.run("init", "--json").json["steps"]) == 3
    mended = scene.run("backup", "--json")
    assert mended.code == 0
    assert sorted(mended.json["copied"]) == sorted([degraded.json["backup_name"], mended.json["backup_name"]])
    local = scene.run("delete", mended.json["backup_name"], "--yes", "--local", "--json").json
    assert local["remaining"] == ["remote"]
    assert scene.run("verify", mended.json["backup_name"]).code == 0


def test_disabled_backups_say_so_and_exit_0_while_restore_works(scene: Scene) -> None:
    name = scene.backup()
    done = scene.run("backup", BACKUP_ENABLED="false")
    assert done.code == 0
    assert "disabled" in done.out
    assert scene.run("backup", "--json", BACKUP_ENABLED="false").json["skipped"] is True
    assert list(scene.archives()) == [f"{name}.tar.gz"]
    assert scene.run("restore", name, "--yes", BACKUP_ENABLED="false").code == 0


def test_malformed_settings_exit_2_and_name_them_all(backed_up: Scene) -> None:
    done = backed_up.run("backup", "--json", MAX_BACKUPS="many", BACKUP_RETENTION_DAYS="-1")
    assert (done.code, done.error["code"]) == (2, "settings")
    assert "MAX_BACKUPS" in done.error["error"]
    assert "BACKUP_RETENTION_DAYS" in done.error["error"]
    assert len(backed_up.archives()) == 1
    assert "many" in backed_up.run("doctor", MAX_BACKUPS="many").out


def test_what_does_not_exist_yet_fails_the_backup(backed_up: Scene) -> None:
    done = backed_up.run("backup", S3_BACKUP_BUCKET="bucket")
    assert done.code == 1
    assert "S3_BACKUP_BUCKET" in done.err
    assert len(backed_up.archives()) == 1


def test_wrong_usage_exits_2_as_json_too(backed_up: Scene) -> None:
    for arguments in (("nosuch",), ("backup", "--bogus"), ("verify",), ("show",)):
        done = backed_up.run(*arguments, "--json")
        assert (done.code, done.error["code"]) == (2, "usage")
    assert backed_up.run("nosuch").code == 2


def test_the_version_help_and_completion_need_no_settings(backed_up: Scene) -> None:
    def plain(*arguments: str) -> str:
        done = backed_up.execute([*RESURGAM, *arguments], {})
        assert done.code == 0
        return done.out

    assert plain("--version").startswith("resurgam ")
    assert "4  another run is at work" in plain("backup", "--help")
    assert "complete_bash" in plain("completion", "bash")
    assert "fish" in json.loads(plain("completion", "fish", "--json"))["script"]
    words = {"_RESURGAM_COMPLETE": "complete_bash", "COMP_CWORD": "2"}
    name = backed_up.only_name
    done = backed_up.execute([*RESURGAM], backed_up.environment(**words, COMP_WORDS="resurgam show radio"))
    assert name in done.out


def test_no_command_imports_sqlalchemy_or_alembic(scene: Scene) -> None:
    """They take longer to import than the rest of a short command; only a migration needs them."""
    for command in ("backup", "list", "health", "prune", "doctor", "verify --all --full", "audit list", "token list"):
        done = scene.run(*command.split(), PYTHONPROFILEIMPORTTIME="1")
        times = [line.split("|") for line in done.err.splitlines() if line.startswith("import time:")]
        imported = {name.strip().partition(".")[0] for _, _, name in times}
        assert done.code in (0, 3) and "sqlite3" in imported, done
        assert not {"sqlalchemy", "alembic"} & imported, command


def test_a_reader_that_goes_away_does_not_matter(backed_up: Scene) -> None:
    done = backed_up.execute(["sh", "-c", f"{' '.join(RESURGAM)} list | true"], backed_up.environment())
    assert (done.code, done.err) == (0, "")


def test_a_bug_is_one_line_with_its_traceback_in_the_log(backed_up: Scene) -> None:
    code = (
        "import sys; from resurgam.service import Service; from resurgam.cli.main import main\n"
        "def broken(self): raise ZeroDivisionError('by accident')\n"
        "Service.list_backups = broken\n"
        "sys.exit(main(['list']))"
    )
    done = backed_up.execute([RESURGAM[0], "-c", code], backed_up.environment())
    assert done.code == 1
    assert done.err.count("\n") == 1
    assert "ZeroDivisionError: by accident" in done.err
    assert str(backed_up.app / "logs" / "backup.log") in done.err
    assert "Traceback" in backed_up.log
    assert len([line for line in backed_up.log.splitlines() if " ERROR " in line and "by accident" in line]) == 1
