"""A backup that is suspicious pushes none out, until somebody has looked."""

from __future__ import annotations

from pathlib import Path

from tests.clusters import Database
from tests.operations.backups import small_scene


def test_a_backup_of_a_fraction_freezes_expiry_until_somebody_looks(database: Database, tmp_path: Path) -> None:
    scene = small_scene(database, tmp_path)
    more = {"MAX_BACKUPS": "2"}
    with scene.service(**more) as service:
        first = service.backup().name
        scene.execute("DELETE FROM reports WHERE id > 200")
        names = [first, *(service.backup().name for _ in range(3))]
        assert scene.archives() == sorted(f"{name}.tar.gz" for name in names)
        report = service.health()
        reason = next(one for one in report.reasons if one.code == "expiry_frozen")
        assert "200 rows" in reason.message and "90 % fewer" in reason.message and "prune --accept" in reason.hint
        plan = service.prune(dry_run=True)
        assert plan.frozen and not plan.deleted
        assert not service.prune().deleted
        assert {one.decision.name for one in service.prune(dry_run=True, accept=True).deleted} == set(names[:2])
        assert scene.archives() == sorted(f"{name}.tar.gz" for name in names)  # a dry run accepts nothing
        assert service.prune(accept=True).frozen == ()
        assert scene.archives() == sorted(f"{name}.tar.gz" for name in names[2:])
        assert "expiry_frozen" not in {one.code for one in service.health().reasons}
        later = service.backup().name
    assert scene.archives() == sorted(f"{name}.tar.gz" for name in (names[3], later))


def test_tiny_and_growing_databases_expire_as_ever(database: Database, tmp_path: Path) -> None:
    scene = small_scene(database, tmp_path)
    scene.execute("DELETE FROM reports WHERE id > 900")
    with scene.service(MAX_BACKUPS="1") as service:
        service.backup()
        scene.execute("DELETE FROM reports")
        service.backup()
        scene.execute("INSERT INTO reports SELECT n, 'x' FROM generate_series(1, 5000) n")
        last = service.backup().name
    assert scene.archives() == [f"{last}.tar.gz"]


def test_drilled_backups_stay_and_one_that_failed_its_drill_displaces_none(database: Database, tmp_path: Path) -> None:
    scene = small_scene(database, tmp_path)
    wish = tmp_path / "drill.toml"
    wish.write_text('[[sql]]\nquery = "SELECT count(*) > 0 FROM reports"\n')
    wish.chmod(0o600)
    with scene.service(MAX_BACKUPS="1", DRILL_FILE=str(wish)) as service:
        proved = service.backup().name
        assert service.drill().passed
        second, third = (service.backup().name for _ in range(2))
        assert scene.archives() == sorted(f"{name}.tar.gz" for name in (proved, third))
        scene.execute("UPDATE users SET id = 1")
        wish.write_text('[[sql]]\nquery = "SELECT false"\n')
        assert not service.drill(third).passed
        after = service.backup()
        assert scene.archives() == sorted(f"{name}.tar.gz" for name in (proved, third, after.name))
        assert second not in {one["backup_name"] for one in service.list_backups()}
        assert any("The drill of" in told for told in service.prune(dry_run=True).frozen)
