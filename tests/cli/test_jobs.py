"""A command's run is a job like any other: it can stand in line, is seen while it runs, and can be cancelled."""

from __future__ import annotations

from resurgam.catalog.state import State
from tests.cli.commands import Scene, wait_for, wrapped_tools


def test_a_second_backup_stands_in_line_if_asked(scene: Scene) -> None:
    started = scene.folder / "started"
    slow = wrapped_tools(scene, f'touch {started}; sleep 2; exec "$PG_DUMP" "$@"')
    first = scene.start("backup", "--json", **slow)
    wait_for(started)
    assert scene.run("backup", "--json").code == 4
    assert scene.run("backup", "--wait", "--json").code == 0
    assert first.wait(30) == 0
    assert len(list(scene.backups.glob("*.tar.gz"))) == 2


def test_a_command_is_cancelled_by_whoever_may(scene: Scene) -> None:
    started = scene.folder / "started"
    run = scene.start("backup", "--json", **wrapped_tools(scene, f"touch {started}; exec sleep 60"))
    wait_for(started)
    with State.open(scene.backups / "state.sqlite") as state:
        (job,) = state.jobs.unfinished()
        assert (job.kind, job.origin, job.state) == ("backup", "cli", "running") and job.actor
        state.jobs.request_cancel(job.id)
        assert run.wait(15) == 143
        assert state.jobs.get(job.id).state == "cancelled"
    assert scene.archives() == {}
