"""The whole way of a scheduled run: loop, schedule, runner, a worker's process, a backup, one that verifies it."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from resurgam import readiness
from resurgam.jobs.loop import Loop
from resurgam.jobs.runner import Runner
from resurgam.jobs.schedule import ScheduleChore
from tests.clusters import Database
from tests.operations.backups import small_scene
from tests.operations.scene import SkippingClock


def test_a_backup_is_taken_verified_and_drilled_by_itself(database: Database, tmp_path: Path) -> None:
    scene = small_scene(database, tmp_path)
    settings = {"BACKUP_SCHEDULE": "0 2 * * *", "BACKUP_VERIFY_SCHEDULE": "0 4 * * *", "TZ": "Asia/Tokyo"}
    settings |= {"BACKUP_DRILL_SCHEDULE": "0 5 * * *"}
    with scene.service(**settings) as service:
        noon = datetime.now(UTC).replace(hour=12) + timedelta(days=1)
        clock = SkippingClock((noon - datetime.now(UTC)).total_seconds())
        service.clock = clock
        runner = Runner(service.state, service.log, service.environment)
        chore = ScheduleChore(service.plans, service.state, runner, service.log)
        loop = Loop(clock, [chore], service.state.signs, service.log)
        loop.look()
        ended = 0
        for _ in range(48):
            clock.sleep(timedelta(minutes=30).total_seconds())
            loop.look()
            for job in service.state.jobs.unfinished():
                runner.ended(job.id).result(60)
                ended += 1
        deadline = time.monotonic() + 20
        while service.state.jobs.unfinished() and time.monotonic() < deadline:
            time.sleep(0.05)
        told = {job.kind: (job.origin, job.state) for job in service.state.jobs.latest()}
        assert told == dict.fromkeys(("backup", "verify", "drill"), ("schedule", "ok"))
        assert ended == len(service.state.jobs.latest()) == 3
        shown = {one["task"]: one for one in readiness.schedule(service)}
        outcomes = {task: one["last_outcome"] for task, one in shown.items()}
        assert outcomes == {"backup": "ok", "verify": "ok", "drill": "ok"}
        assert "T02:00:00+09:00" in shown["backup"]["last_slot"]
    assert len(list(scene.backups.glob("*.tar.gz"))) == 1
