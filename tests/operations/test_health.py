"""Health of real folders and a real state: what is there is told, what is broken is a reason, what hangs is not waited
for."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from resurgam.catalog.catalog import BackupRecord
from resurgam.catalog.moments import to_us
from resurgam.errors import StorageError
from resurgam.operations import health
from resurgam.operations.health import Folders, Looked, gather_health
from resurgam.operations.probe import Probe
from resurgam.policy.health import HealthLimits, HealthReport, assess
from resurgam.service import Service
from resurgam.settings import load_settings
from resurgam.stores.folder import BackupFolder
from resurgam.stores.listing import FoundArchive
from resurgam.stores.mounted import RemoteFolder
from tests.clusters import Database
from tests.operations.backups import small_scene
from tests.operations.scene import Scene, SkippingClock
from tests.policy.health_scenes import NOW, backup

BEGIN_AND_DIE = """
import os, signal, sys
from pathlib import Path
from resurgam.catalog.state import State
State.open(Path(sys.argv[1])).jobs.begin("backup", "radiology")
os.kill(os.getpid(), signal.SIGKILL)
"""


def service_of(root: Path, **more: str) -> Service:
    """A service without a database, which health does not need."""
    (root / "app").mkdir(exist_ok=True)
    environment = {
        "APP_DIR": str(root / "app"),
        "BACKUP_DIR": str(root / "backups"),
        "BACKUP_LOG_FILE": str(root / "backup.log"),
        "DB_NAME": "none",
        **more,
    }
    return Service(load_settings(environment, folder=root), environment, clock=SkippingClock())


def codes(report: HealthReport) -> dict[str, str]:
    """Without the disk of this machine, which may be full."""
    return {reason.code: reason.severity for reason in report.reasons if reason.code != "low_space"}


@pytest.fixture
def scene(database: Database, tmp_path: Path) -> Scene:
    return small_scene(database, tmp_path)


def test_a_backup_makes_it_well_and_age_makes_it_critical(scene: Scene) -> None:
    with scene.service() as service:
        name = service.backup().name
        report = service.health()
        assert codes(report) == {}
        answer = report.to_json()
        assert answer["most_recent_backup"]["backup_name"] == name
        assert answer["hours_since_last_backup"] == 0.0
        assert answer["last_run"]["outcome"] == "ok"
        assert answer["last_success_at"] == answer["last_run"]["finished_at"]
        assert answer["disk"]["free_bytes"] > 0
        assert (answer["total_backups"], answer["running_job_id"]) == (1, None)
        service.verify(name)
        assert service.health().to_json()["last_verified_at"] is not None
        scene.clock.sleep(48 * 3600 + 60)
        assert codes(service.health()) == {"backup_too_old": "critical"}


def test_failed_runs_are_counted_and_explained(scene: Scene) -> None:
    with scene.service() as service:
        service.backup()
    shutil.rmtree(scene.app / "uploads")
    with scene.service(BACKUP_FILE_TREES="uploads") as service:
        for severity in ("warning", "critical"):
            with pytest.raises(Exception, match="uploads"):
                service.backup()
            report = service.health()
            assert codes(report) == {"last_run_failed": severity}
        assert "uploads" in report.reasons[0].message
        assert report.to_json()["trend"]["success_rate_30_days"] == 33.3


def test_a_run_that_waited_began_when_its_worker_took_it_over(tmp_path: Path) -> None:
    with service_of(tmp_path) as service:
        service.folder.prepare()
        job = service.state.jobs.submit("backup", "radiology", origin="api", actor="")
        time.sleep(0.02)
        service.state.jobs.take_over(job)
        service.state.jobs.finish(job, "ok")
        last = service.health().to_json()["last_run"]
        begun = service.state.jobs.get(job).begun_at
        assert begun is not None and last["started_at"] == begun.isoformat(timespec="milliseconds")


def test_a_job_under_way_is_told_and_one_that_died_has_failed(tmp_path: Path) -> None:
    with service_of(tmp_path) as service:
        service.folder.prepare()
        job = service.state.jobs.begin("backup", "radiology")
        assert service.health().to_json()["running_job_id"] == job
        service.state.jobs.finish(job, "ok")
        path = service.settings.backup_state_file
        begun = subprocess.run([sys.executable, "-c", BEGIN_AND_DIE, path], capture_output=True)
        assert begun.returncode == -signal.SIGKILL
        report = service.health()
        assert report.to_json()["running_job_id"] is None
        assert codes(report) == {"no_backup": "critical", "last_run_failed": "critical"}
        assert "without a word" in report.reasons[-1].message


def test_the_remote_folder_is_compared(scene: Scene, tmp_path: Path) -> None:
    remote = tmp_path / "remote"
    more = {"REMOTE_BACKUP_ENABLED": "true", "REMOTE_BACKUP_PATH": str(remote)}
    RemoteFolder(remote).set_up()
    with scene.service(**more) as service:
        name = service.backup().name
        report = service.health()
        assert codes(report) == {}
        assert report.facts.remote is not None
        assert report.facts.remote.disk is not None
    (remote / f"{name}.tar.gz").unlink()
    with scene.service(**more) as service:
        assert codes(service.health()) == {"remote_behind": "warning"}
        assert name in service.health().reasons[-1].message
    shutil.rmtree(remote)
    with scene.service(**more) as service:
        report = service.health()
        assert codes(report) == {"remote_behind": "warning"}
        assert "marker" in report.reasons[-1].message


def test_looking_at_nothing_makes_nothing(tmp_path: Path) -> None:
    with service_of(tmp_path) as service:
        report = service.health()
    assert codes(report) == {"folder_missing": "critical", "no_backup": "critical"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["app"]


def test_a_damaged_state_is_a_reason(tmp_path: Path) -> None:
    with service_of(tmp_path) as service:
        service.folder.prepare()
        service.state.pin("x")
        path = service.settings.backup_state_file
    path.write_bytes(b"no database" * 1000)
    with service_of(tmp_path) as service:
        report = service.health()
    assert codes(report) == {"no_backup": "critical", "state_unreadable": "critical"}
    assert path.name in "".join(reason.message for reason in report.reasons)


def test_a_folder_that_can_not_be_read_is_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(self: BackupFolder) -> list[FoundArchive]:
        raise StorageError("The folder can not be read (Input/output error).")

    with service_of(tmp_path) as service:
        service.folder.prepare()
        monkeypatch.setattr(BackupFolder, "archives", refused)
        report = service.health()
    assert codes(report) == {"folder_unreadable": "critical"}
    assert report.reasons[0].hint


def test_backups_of_another_application_do_not_count(scene: Scene) -> None:
    with scene.service() as service:
        service.backup()
    with scene.service(APP_NAME="other") as service:
        report = service.health()
        assert codes(report) == {"no_backup": "critical"}
        assert "1 of other names" in report.reasons[0].message
        assert report.to_json()["total_backups"] == 0


def test_the_schedule_is_alive_while_its_sign_is_young(tmp_path: Path) -> None:
    with service_of(tmp_path, BACKUP_SCHEDULE="0 2 * * *", BACKUP_SCHEDULE_TIMEZONE="UTC") as service:
        service.folder.prepare()
        assert "no service has run it yet" in _schedule_reason(service)
        service.state.signs.put("loop")
        service.state.signs.put("schedule backup", {"cron": "0 2 * * *", "timezone": "UTC"})
        service.state.signs.put("clock_jump", {"seconds": -7200.0})
        report = service.health()
        assert codes(report) == {"no_backup": "critical", "clock_jumped": "warning"}
        assert "back by 2.0 h" in report.reasons[-1].message
        coming = report.to_json()["next_scheduled_at"]
        assert coming.endswith("T02:00:00.000+00:00")
        assert isinstance(service.clock, SkippingClock)
        service.clock.sleep(400)
        assert "last seen 0.1 h ago" in _schedule_reason(service)
        # Past the slot by more than an hour, the loop alive: nobody started what was due.
        due = report.facts.schedule.next_due["backup"] if report.facts.schedule else None
        assert due is not None
        service.clock.sleep((due - service.clock.now()).total_seconds() + 3700)
        service.state.signs.put("loop")
        assert "The scheduled backup of" in _schedule_reason(service)
        assert service.state.slots.claim("backup", due)
        assert "schedule_not_running" not in codes(service.health())


def test_a_channel_that_fails_shows_until_it_works(tmp_path: Path) -> None:
    from resurgam.notify.channels import channel_id

    with service_of(tmp_path, BACKUP_NOTIFY_URLS="json://127.0.0.1:9/secret-token") as service:
        service.folder.prepare()
        (channel,) = service.settings.messages.channels
        service.state.channels.note(channel_id(channel.url), "json://127.0.0.1", "it refused")
        report = service.health()
        assert codes(report)["channel_failing"] == "warning"
        assert "secret-token" not in str(report.to_json())
        service.state.channels.note(channel_id(channel.url), "json://127.0.0.1")
        assert "channel_failing" not in codes(service.health())


def test_a_folder_that_hangs_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()
    with service_of(tmp_path) as service:
        service.folder.prepare()
        folders = Folders(service.settings, lambda: service.listing, patience=0.2)
        assert folders.look().troubles == ()
        monkeypatch.setattr(health, "disk_of", lambda path: released.wait(20))
        begun = time.monotonic()
        for _ in range(2):
            looked = folders.look()
            assert [trouble.code for trouble in looked.troubles] == ["folder_hangs"]
        assert time.monotonic() - begun < 5
        assert sum(thread.name == "resurgam-probe" for thread in threading.enumerate()) == 1
        monkeypatch.undo()
        released.set()


def test_a_remote_folder_that_hangs_is_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()
    with service_of(tmp_path, REMOTE_BACKUP_ENABLED="true", REMOTE_BACKUP_PATH=str(tmp_path / "remote")) as service:
        service.folder.prepare()

        def hangs(self: RemoteFolder) -> list[FoundArchive]:
            released.wait(20)
            return []

        monkeypatch.setattr(RemoteFolder, "archives", hangs)
        folders = Folders(service.settings, lambda: service.listing, patience=0.4)
        begun = time.monotonic()
        looked = folders.look()
        assert time.monotonic() - begun < 5
        assert looked.troubles == ()
        assert "its mount may hang" in looked.remote_problem
        released.set()
        next(thread for thread in threading.enumerate() if thread.name == "resurgam-remote").join(10)


def test_a_probe_asks_again_once_it_was_answered() -> None:
    answers = iter((1, 2))
    probe = Probe[int](lambda: next(answers))
    assert [probe.ask(5), probe.ask(5)] == [1, 2]


def quickest(act: Callable[[], object]) -> float:
    seconds = []
    for _ in range(5):
        begun = time.perf_counter()
        act()
        seconds.append(time.perf_counter() - begun)
    return min(seconds)


def test_ten_thousand_backups_take_under_50_ms(tmp_path: Path) -> None:
    records: list[BackupRecord] = [backup(NOW - timedelta(hours=hour), 40 << 20) for hour in range(10_000)]
    with service_of(tmp_path) as service:
        service.folder.prepare()
        jobs = service.state.jobs
        for _ in range(300):
            jobs.finish(jobs.begin("backup", "radiology"), "ok", details={"result": {"text": "x" * 5000}})
        now = service.clock.now()
        assert service.state.history.counts(to_us(now) - 10**9) == {("backup", "ok"): 300}
        looked = Looked(records, health.disk_of(tmp_path))

        def asked() -> None:
            facts = gather_health(service.settings, looked, lambda: service.state, (), now)
            assert assess(facts, HealthLimits(), now).to_json()["total_backups"] == 10_000

        assert quickest(asked) < 0.05


def _schedule_reason(service: Service) -> str:
    return next(reason.message for reason in service.health().reasons if reason.code == "schedule_not_running")
