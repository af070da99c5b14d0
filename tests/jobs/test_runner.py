"""Jobs in processes of their own: done once, cancelled without a trace, never lost in silence."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from resurgam.catalog.jobs import Job
from resurgam.errors import BusyError, StorageError
from resurgam.jobs.dead import DeadJobs
from resurgam.jobs.runner import Runner
from resurgam.service import Service
from tests.clusters import Database
from tests.operations.backups import small_scene
from tests.operations.scene import Scene, tools
from tests.state_faults import unwritable

PLANTED = "planted-secret-5e1f"


@pytest.fixture
def scene(database: Database, tmp_path: Path) -> Scene:
    return small_scene(database, tmp_path)


@pytest.fixture
def service(scene: Scene) -> Iterator[Service]:
    with scene.service(BACKUP_PING_URL=f"http://127.0.0.1:9/{PLANTED}") as opened:
        yield opened


def _runner(service: Service, died: Callable[[Job], None] = lambda job: None, **changes: str) -> Runner:
    return Runner(service.state, service.log, {**service.environment, **changes}, died=died)


def _ended(service: Service, runner: Runner, job: int) -> Job:
    runner.ended(job).result(30)
    return service.state.jobs.get(job)


def _slow(scene: Scene, name: str = "slow", then: str = "exec sleep 60") -> tuple[str, Path]:
    """A pg_dump that waits, and the file in which it says its process id."""
    said = scene.root / f"{name}.pid"
    piece = f"echo $$ > {said}.new; mv {said}.new {said}; {then}"
    return str(tools(scene.root / name, scene.server.bin, piece)), said


def _until(true: Callable[[], bool], what: str, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_every_kind_of_job(scene: Scene, service: Service) -> None:
    runner = _runner(service)
    job = _ended(service, runner, runner.submit("backup", "radiology", {}, origin="api", actor="anna"))
    assert (job.state, job.origin, job.actor) == ("ok", "api", "anna"), job.reason
    name = job.details["result"]["backup_name"]
    assert scene.archives() == [f"{name}.tar.gz"]
    assert "Saving the database" in [line.text for line in service.state.jobs.lines(job.id)]
    requests = {
        "verify": {"name": name},
        "restore": {"name": name, "database": True, "config": False, "files": False},
        "prune": {},
    }
    for kind, request in [*requests.items(), ("verify", {"name": ""})]:
        job = _ended(service, runner, runner.submit(kind, name, request, origin="api", actor="anna"))
        assert job.state == "ok" and job.details["result"], (kind, job.reason)
    job = _ended(
        service, runner, runner.submit("verify", "x", {"name": "x_backup_20250101_000000"}, origin="api", actor="")
    )
    assert (job.state, job.details["code"]) == ("failed", "not_found")


def test_one_at_a_time_and_one_in_line(scene: Scene, service: Service) -> None:
    slow, said = _slow(scene)
    runner = _runner(service, BACKUP_PG_BIN=slow)
    first = runner.submit("backup", "radiology", {}, origin="api", actor="")
    with pytest.raises(BusyError, match=f"job {first}"):
        runner.submit("backup", "radiology", {}, origin="api", actor="")
    with pytest.raises(BusyError):
        runner.submit("restore", "x", {}, origin="api", actor="")
    patient = _runner(service)
    second = patient.submit("backup", "radiology", {}, origin="api", actor="", wait=True)
    with pytest.raises(BusyError):
        patient.submit("backup", "radiology", {}, origin="api", actor="", wait=True)
    _until(said.exists, "pg_dump of the first began")
    _until(lambda: "Waiting" in service.state.jobs.get(second).phase, "the second stands in line")
    runner.cancel(first)
    assert _ended(service, runner, first).state == "cancelled"
    assert _ended(service, patient, second).state == "ok"
    assert len(scene.archives()) == 1


def test_a_cancelled_backup_leaves_no_process_and_no_file(scene: Scene, service: Service) -> None:
    slow, said = _slow(scene)
    runner = _runner(service, BACKUP_PG_BIN=slow)
    job = runner.submit("backup", "radiology", {}, origin="api", actor="")
    _until(said.exists, "pg_dump began")
    started = time.monotonic()
    assert runner.cancel(job).cancel_requested
    ended = _ended(service, runner, job)
    assert time.monotonic() - started < 8
    assert (ended.state, ended.reason.split()[:3]) == ("cancelled", ["It", "was", "cancelled"])
    assert not _runs(int(said.read_text()))
    assert scene.archives() == [] and scene.leftovers() == []


def test_a_job_of_another_process_hears_of_its_cancelling(scene: Scene, service: Service) -> None:
    """As when the service that started it was restarted, or a person at the command line did."""
    slow, said = _slow(scene)
    runner = _runner(service, BACKUP_PG_BIN=slow)
    job = runner.submit("backup", "radiology", {}, origin="api", actor="")
    _until(said.exists, "pg_dump began")
    with scene.service() as other:
        assert _runner(other).cancel(job).state == "running"
    assert _ended(service, runner, job).state == "cancelled"


def test_a_killed_worker_is_told_of_and_swept(scene: Scene, service: Service) -> None:
    """With what it had started, and what that had started."""
    slow, said = _slow(scene, then=f"sleep 61 & echo $! > {scene.root}/grandchild; wait")
    died: list[Job] = []
    runner = _runner(service, died.append, BACKUP_PG_BIN=slow)
    job = runner.submit("backup", "radiology", {}, origin="api", actor="")
    _until((scene.root / "grandchild").exists, "pg_dump began")
    os.kill(runner._workers[job].pid, signal.SIGKILL)
    ended = _ended(service, runner, job)
    assert ended.state == "failed" and "SIGKILL" in ended.reason
    assert [one.id for one in died] == [job]
    _until(lambda: not _runs(int(said.read_text())), "pg_dump is ended")
    _until(lambda: not _runs(int((scene.root / "grandchild").read_text())), "and its child")
    again = _runner(service)
    # The server notices within moments that its client has gone.
    assert (
        _ended(service, again, again.submit("backup", "radiology", {}, origin="api", actor="", wait=True)).state == "ok"
    )
    assert scene.leftovers() == []


def test_what_a_killed_worker_left_goes_without_another_backup(scene: Scene, service: Service) -> None:
    """The runner had settled the job by itself, so that the chore found no dead job, and swept nothing."""
    slow, said = _slow(scene)
    died: list[Job] = []
    chore = DeadJobs(service.state, service.log, died.append, service.sweep)
    chore.run(service.clock.now())
    runner = _runner(service, chore.seen, BACKUP_PG_BIN=slow)
    job = runner.submit("backup", "radiology", {}, origin="api", actor="")
    _until(said.exists, "pg_dump began")
    assert scene.leftovers()
    os.kill(runner._workers[job].pid, signal.SIGKILL)
    assert _ended(service, runner, job).state == "failed"
    with service.folder.lock():
        chore.run(service.clock.now())
        assert scene.leftovers()  # somebody is at work
    chore.run(service.clock.now())
    assert not scene.leftovers() and [one.id for one in died] == [job]


def test_a_worker_that_can_not_start_or_dies_at_once(service: Service) -> None:
    died: list[Job] = []
    runner = Runner(service.state, service.log, {}, died=died.append, command=("/nonexistent/python",))
    with pytest.raises(StorageError, match="could not be started"):
        runner.submit("backup", "radiology", {}, origin="api", actor="")
    assert service.state.jobs.latest(1)[0].state == "failed"
    assert ["could not be started" in job.reason for job in died] == [True], "people are told"
    runner = _runner(service, MAX_BACKUPS="many")
    ended = _ended(service, runner, runner.submit("backup", "radiology", {}, origin="api", actor=""))
    assert ended.state == "failed" and "MAX_BACKUPS" in ended.reason and ".." not in ended.reason


def test_no_secret_in_any_process(scene: Scene, service: Service) -> None:
    """Neither in an environment nor in arguments, of the worker or of what it starts."""
    slow, said = _slow(scene)
    runner = _runner(service, BACKUP_PG_BIN=slow, DATABASE_URL=f"postgresql://u:{PLANTED}@h/d", SECRET_KEY=PLANTED)
    job = runner.submit("backup", "radiology", {}, origin="api", actor="")
    _until(said.exists, "pg_dump began")
    pids = [runner._workers[job].pid, int(said.read_text())]
    for pid in pids:
        shown = Path(f"/proc/{pid}/environ").read_bytes() + Path(f"/proc/{pid}/cmdline").read_bytes()
        assert (
            shown
            and PLANTED.encode() not in shown
            and scene.password.encode() not in (shown if scene.password else b"")
        )
    runner.stop()
    assert service.state.jobs.get(job).state == "failed"
    kept = b"".join(path.read_bytes() for path in (*scene.backups.glob("state*"), scene.root / "backup.log"))
    assert PLANTED.encode() not in kept


def test_a_hook_that_heeds_no_signal_does_not_keep_the_application_quiet(scene: Scene, service: Service) -> None:
    """Within the time that a stop grants, the one before is ended and the one after has its say."""
    begun, thawed = scene.root / "begun", scene.root / "thawed"
    before = f"""/bin/sh -c 'trap "" TERM INT; touch {begun}; while :; do sleep 1; done'"""
    after = f"/bin/sh -c 'sleep 4; touch {thawed}'"
    runner = _runner(service, BACKUP_HOOK_BEFORE=before, BACKUP_HOOK_AFTER=after)
    job = runner.submit("backup", "radiology", {}, origin="api", actor="")
    _until(begun.exists, "the hook began")
    runner.stop()
    assert thawed.exists()
    assert service.state.jobs.get(job).reason.startswith("It was ended by SIGTERM; what was under way was undone.")


def test_stopping_takes_no_more_jobs_and_finishes_if_told(scene: Scene, service: Service) -> None:
    runner = _runner(service)
    job = runner.submit("backup", "radiology", {}, origin="api", actor="")
    runner.stop(finish=True)
    assert service.state.jobs.get(job).state == "ok"
    with pytest.raises(StorageError, match="stopping"):
        runner.submit("backup", "radiology", {}, origin="api", actor="")
    assert service.state.jobs.latest(1)[0].id == job, "nothing was made"


def _pretending(service: Service, code: str, died: Callable[[Job], None] = lambda job: None) -> Runner:
    """A runner whose workers take their job over, and then do what `code` says."""
    begin = (
        "import json, os, signal, sys, time; from pathlib import Path; from resurgam.catalog.state import State; "
        f"told = json.load(sys.stdin); state = State.open(Path({str(service.state.path)!r})); "
    )
    command = (sys.executable, "-c", begin + code)
    return Runner(service.state, service.log, service.environment, died=died, command=command)


def test_an_end_that_can_not_be_kept_is_kept_later(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the job would stay in the way of every other as long as the service lives: the disk was full for a while."""
    monkeypatch.setattr("resurgam.jobs.runner._AGAIN_SECONDS", 0.1)
    runner = _pretending(service, "sys.exit(7)")
    with unwritable(service.state.path, "jobs", "UPDATE"):
        job = runner.submit("backup", "radiology", {}, origin="api", actor="")
        assert _ended(service, runner, job).state == "queued"
    _until(lambda: service.state.jobs.get(job).state == "failed", "its end is kept")
    assert "status 7" in service.state.jobs.get(job).reason
    again = _runner(service)
    assert _ended(service, again, again.submit("backup", "radiology", {}, origin="api", actor="")).state == "ok"


def test_a_worker_that_is_cancelled_before_it_can_record_that(service: Service) -> None:
    """As while it tells of others that died, or pings: no failure, and nobody is alarmed."""
    runner = _pretending(service, "state.jobs.take_over(told['job']); time.sleep(60)")
    job = runner.submit("backup", "radiology", {}, origin="api", actor="")
    _until(lambda: service.state.jobs.get(job).state == "running", "it began")
    runner.cancel(job)
    ended = _ended(service, runner, job)
    assert ended.state == "cancelled" and "on request" in ended.reason
    assert " ERROR " not in service.log.path.read_text()


def test_a_job_is_cancelled_before_its_worker_took_it_over(service: Service, tmp_path: Path) -> None:
    runner = _pretending(service, f"Path({str(tmp_path)!r}, 'there').touch(); time.sleep(60)")
    job = runner.submit("backup", "radiology", {}, origin="api", actor="")
    _until((tmp_path / "there").exists, "the worker is there")
    runner.cancel(job)
    assert _ended(service, runner, job).state == "cancelled"


def test_a_worker_that_is_told_to_end_before_it_knows_its_job() -> None:
    worker = subprocess.Popen(
        [sys.executable, "-m", "resurgam.worker"], stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    heeds = f"/proc/{worker.pid}/status"
    _until(lambda: _caught(Path(heeds).read_text()) >> (signal.SIGTERM - 1) & 1 == 1, "it heeds SIGTERM")
    worker.terminate()
    assert worker.communicate(timeout=20)[1] == "" and worker.returncode == 143


def _caught(status: str) -> int:
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("SigCgt:")), 16)


def test_workers_that_heed_nothing_are_killed_together(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resurgam.jobs.runner._CANCEL_SECONDS", 1.0)
    monkeypatch.setattr("resurgam.jobs.runner._KILLED_SECONDS", 1.0)
    deaf = "signal.signal(signal.SIGTERM, signal.SIG_IGN); state.jobs.take_over(told['job']); time.sleep(60)"
    runner = _pretending(service, deaf, lambda job: time.sleep(3))
    jobs = [runner.submit("verify", "all", {}, origin="api", actor="") for _ in range(3)]
    for job in jobs:
        _until(lambda job=job: service.state.jobs.get(job).state == "running", "it began")  # type: ignore[misc]
    attended = [runner.ended(job) for job in jobs]
    began = time.monotonic()
    runner.stop()
    assert time.monotonic() - began < 2.8, "nobody waits for each in turn, nor for who is told"
    for future in attended:
        future.result(20)
    assert all("SIGKILL" in service.state.jobs.get(job).reason for job in jobs)
