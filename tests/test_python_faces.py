"""The manual's Python calls, as printed there, and `python run_backup.py`."""

from __future__ import annotations

import ast
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.cli.commands import ROOT, Done, Scene, make_scene
from tests.clusters import Database

RUN_BACKUP = ROOT / "src" / "run_backup.py"


@pytest.fixture
def scene(tmp_path: Path, database: Database) -> Scene:
    return make_scene(tmp_path, database)


def python(scene: Scene, code: str, **changes: str | None) -> Done:
    return scene.execute([sys.executable, "-c", code], scene.environment(**changes))


def result(scene: Scene, code: str, **changes: str | None) -> dict[str, Any]:
    done = python(scene, code, **changes)
    assert done.code == 0, done
    value = ast.literal_eval(done.out)
    assert isinstance(value, dict)
    return value


BACKUP = """
from backup_service import backup_service
result = backup_service.create_full_backup()
print(result)
"""


def test_the_manuals_calls_run_as_printed(scene: Scene) -> None:
    made = result(scene, BACKUP)
    assert list(made)[:4] == ["success", "backup_name", "archive_path", "size_mb"]
    assert made["success"] is True
    assert made["metadata"]["backup_name"] == made["backup_name"]
    verified = result(
        scene,
        f"""
from restore_service import restore_service
result = restore_service.verify_backup("{made["backup_name"]}")
print(result)
""",
    )
    assert list(verified)[:6] == [
        "success",
        "backup_name",
        "backup_date",
        "total_files",
        "database_backup",
        "size_mb",
    ]
    scene.sql("UPDATE public.templates SET body = 'new'")
    shutil.rmtree(scene.app / "uploads")
    restored = result(
        scene,
        f"""
from restore_service import restore_service
result = restore_service.restore_from_backup(
    "{made["backup_name"]}",
    {{"restore_database": True, "restore_config": True, "restore_files": True}}
)
print(result)
""",
    )
    assert restored["success"] is True
    assert scene.sql("SELECT count(*) FROM public.templates WHERE body = 'new'") == [(0,)]
    assert (scene.app / "uploads").is_dir()


def test_omitted_flags_are_true_and_odd_ones_touch_nothing(scene: Scene) -> None:
    name = scene.backup()

    def restore(options: str) -> dict[str, Any]:
        code = "from restore_service import restore_service as r; print(r.restore_from_backup(%r%s))"
        return result(scene, code % (name, options))

    scene.sql("UPDATE public.templates SET body = 'new'")
    for options in (
        ", {'restore_everything': True}",
        ", {'restore_database': 'no'}",
        ", {'restore_files': 1}",
        ", ['database']",
        ", {'restore_database': False, 'restore_config': False, 'restore_files': False}",
    ):
        answer = restore(options)
        assert answer["success"] is False, options
        assert answer["error"]
    partly = restore(", {'restore_database': False}")
    assert (partly["restored_database"], bool(partly["restored_files"])) == (False, True)
    assert scene.sql("SELECT DISTINCT body FROM public.templates") == [("new",)]
    assert restore("")["restored_database"] is True


def test_errors_come_as_answers(scene: Scene) -> None:
    failed = result(scene, BACKUP, DB_PASSWORD="wrong-Secret-1")
    assert failed["success"] is False
    assert "password" in failed["error"]
    assert "wrong-Secret-1" not in str(failed)
    assert result(scene, BACKUP, MAX_BACKUPS="many")["code"] == "settings"
    assert "disabled" in result(scene, BACKUP, BACKUP_ENABLED="false")["error"]
    code = "from restore_service import restore_service as r; print(r.verify_backup('nothing'))"
    assert result(scene, code)["code"] == "not_found"


def test_importing_does_nothing(scene: Scene) -> None:
    code = "import backup_service, restore_service, run_backup, sys; print({'psycopg': 'psycopg' in sys.modules})"
    assert result(scene, code, DB_HOST="nowhere.invalid", MAX_BACKUPS="many") == {"psycopg": False}
    assert not scene.backups.exists()
    assert scene.log == ""


def run_backup(scene: Scene, script: Path = RUN_BACKUP, **changes: str | None) -> Done:
    return scene.execute([sys.executable, str(script)], scene.environment(**changes))


@pytest.mark.parametrize("how", ["copied", "linked"])
def test_run_backup_works_where_the_manual_has_it(scene: Scene, how: str) -> None:
    script = scene.app / "backend" / "run_backup.py"
    if how == "copied":
        shutil.copy(RUN_BACKUP, script)
    else:
        script.symlink_to(RUN_BACKUP)
    done = run_backup(scene, script)
    assert (done.code, done.err) == (0, "")
    (archive,) = scene.archives()
    assert archive.removesuffix(".tar.gz") in done.out
    assert " INFO " in scene.log
    assert " ERROR " not in scene.log


def test_run_backup_exits_1_and_leaves_an_error_line(scene: Scene) -> None:
    assert run_backup(scene, DB_PASSWORD="wrong-Secret-1").code == 1
    first = [line for line in scene.log.splitlines() if "ERROR" in line]
    assert len(first) == 1
    assert "password" in first[0]
    settings = run_backup(scene, MAX_BACKUPS="many")
    assert settings.code == 1
    assert "MAX_BACKUPS" in settings.err
    assert "MAX_BACKUPS" in [line for line in scene.log.splitlines() if "ERROR" in line][1]
    assert "wrong-Secret-1" not in scene.log


def test_run_backup_does_not_hide_a_copy_that_failed(scene: Scene) -> None:
    remote = {"REMOTE_BACKUP_ENABLED": "true", "REMOTE_BACKUP_PATH": str(scene.folder / "remote")}
    done = run_backup(scene, RUN_BACKUP, **remote)
    assert done.code == 1
    assert "ERROR: the backup is whole" in done.err
    assert "ERROR" in scene.log
    assert len(scene.archives()) == 1


def test_run_backup_says_that_backups_are_disabled(scene: Scene) -> None:
    done = run_backup(scene, BACKUP_ENABLED="false")
    assert done.code == 0
    assert "disabled" in done.out
    assert "disabled" in scene.log
    assert scene.archives() == {}
