"""The backup of the present state that a restore takes first.

The numbers are those of docs/ordering.md.
"""

from __future__ import annotations

import pytest

from resurgam.errors import RestoreFailed
from resurgam.operations.restore import Parts, Wishes
from tests.clusters import Database
from tests.operations.backups import small_scene
from tests.operations.scene import Scene, lost, tools

ON = {"RESTORE_SAFETY_BACKUP": "true"}


@pytest.fixture
def scene(database: Database, tmp_path: object) -> Scene:
    return small_scene(database, tmp_path)  # type: ignore[arg-type]


def test_sentence_38_a_restore_saves_the_present_state_first_and_prunes_nothing(scene: Scene) -> None:
    with scene.service(**ON, MAX_BACKUPS="1") as service:
        taken = service.backup()
        scene.execute("DELETE FROM reports WHERE id > 10")
        (scene.app / "uploads/2025/a.txt").write_text("changed")
        before = scene.seen()
        result = service.restore(taken.name, Parts())
        assert result.to_json()["safety_backup"] == result.safety_backup
        assert {f"{taken.name}.tar.gz", f"{result.safety_backup}.tar.gz"} == set(scene.archives())
        assert scene.execute("SELECT count(*) FROM reports") == [(2000,)]
        assert result.safety_backup is not None
        service.restore(result.safety_backup, Parts(), Wishes(safety=False))
    assert lost(before, scene.seen()) == []
    assert len(scene.archives()) == 2
    assert scene.leftovers() == []


def test_a_restore_of_files_saves_the_database_too(scene: Scene) -> None:
    with scene.service(**ON) as service:
        name = service.backup().name
        result = service.restore(name, Parts(False, False, True))
        shown = service.show(str(result.safety_backup))
    assert shown["metadata"]["database"]["tables"]


def test_sentence_38_without_a_live_database_it_says_so_and_restores(scene: Scene) -> None:
    with scene.service(**ON) as service:
        name = service.backup().name
        scene.administer(f'DROP DATABASE "{scene.database}" WITH (FORCE)')
        result = service.restore(name, Parts())
    assert result.safety_backup is None
    assert "no live database" in " ".join(result.warnings)
    assert scene.execute("SELECT count(*) FROM reports") == [(2000,)]


def test_sentence_38_a_present_state_that_can_not_be_read_is_replaced_all_the_same(scene: Scene) -> None:
    broken = tools(scene.root / "bin", scene.server.bin, pg_dump='echo "invalid page in block 0" >&2; exit 1')
    with scene.service(**ON) as service:
        name = service.backup().name
    with scene.service(**ON, BACKUP_PG_BIN=str(broken)) as service:
        result = service.restore(name, Parts())
    assert result.safety_backup is None
    assert "can't be read" in " ".join(result.warnings)
    assert result.previous_database in scene.databases()
    assert len(scene.archives()) == 1
    assert scene.leftovers() == []


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"BACKUP_HOOK_BEFORE": "/bin/false"}, "hook"),
        ({"BACKUP_PG_BIN": "/nowhere"}, "pg_dump"),
    ],
)
def test_sentence_38_what_can_be_mended_refuses_the_restore(scene: Scene, more: dict[str, str], said: str) -> None:
    with scene.service(**ON) as service:
        name = service.backup().name
    before = scene.seen()
    with scene.service(**ON, **more) as service:
        with pytest.raises(RestoreFailed, match=said) as caught:
            service.restore(name, Parts())
        assert "--no-safety-backup" in caught.value.hint
        assert lost(before, scene.seen()) == []
        service.restore(name, Parts(), Wishes(safety=False))
    assert len(scene.archives()) == 1
    assert scene.leftovers() == []
