"""SIGTERM and Ctrl-C in the middle: children end, partial files go, the next run works."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import psycopg
import pytest

from resurgam.demo.application import fingerprint
from resurgam.demo.proof import differences
from tests.cli.commands import Scene, wait_for, wrapped_tools
from tests.cli.test_failures import until

# Sleeps only where a restore loads it, so that there is a middle to be stopped in.
_SLEEPY = """
CREATE FUNCTION public.slow() RETURNS int LANGUAGE plpgsql AS $$
BEGIN
  IF current_database() LIKE '%\\_restore\\_%' THEN PERFORM pg_sleep(30); END IF;
  RETURN 1;
END $$;
CREATE MATERIALIZED VIEW public.sleepy AS SELECT public.slow() AS n;
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_backup_that_is_stopped_leaves_nothing(scene: Scene, number: signal.Signals, code: int) -> None:
    scene.backup()
    before = scene.archives()
    pid = scene.folder / "pid"
    tools = wrapped_tools(
        scene, f'"$PG_DUMP" "$@" | head -c 20000; echo $$ >"{pid}.new"; mv "{pid}.new" "{pid}"; exec sleep 60'
    )
    process = scene.start("backup", "--json", **tools)
    wait_for(pid)
    assert len(scene.archives()) == 2
    process.send_signal(number)
    out, _ = process.communicate(timeout=20)
    assert process.returncode == code
    assert json.loads(out)["code"] == "stopped"
    assert scene.archives() == before
    until(lambda: not is_running(int(pid.read_text())))
    assert f"ended by {number.name}" in scene.log
    assert scene.run("backup").code == 0


def test_a_restore_that_is_stopped_leaves_the_live_side(scene: Scene) -> None:
    scene.sql(_SLEEPY)
    name = scene.backup()
    before = fingerprint(scene.database.dsn, scene.app)
    process = scene.start("restore", name, "--yes")
    until(lambda: bool(scene.sql("SELECT 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'")))
    process.terminate()
    _, err = process.communicate(timeout=20)
    assert process.returncode == 143, err
    assert err.endswith("Ended by SIGTERM; what was under way was undone.\n")
    assert scene.sql("SELECT datname FROM pg_database WHERE datname ~ '_restore_'") == []
    found = [one for one in differences(before, fingerprint(scene.database.dsn, scene.app)) if "log" not in one]
    assert found == []
    assert list(scene.folder.rglob(".resurgam-2*")) == []
    assert scene.run("backup").code == 0


@pytest.mark.parametrize("what", ["restore", "undo"])
def test_what_is_stopped_just_after_its_commit_says_that_it_is_complete(scene: Scene, what: str) -> None:
    name = scene.backup()
    scene.sql("CREATE TABLE public.later ()")
    arguments, mark = ["restore", name, "--yes"], "_previous_"
    if what == "undo":
        assert scene.run(*arguments).code == 0
        arguments, mark = ["undo", "--yes"], "_undone_"
    process = scene.start(*arguments, "--json")
    with psycopg.connect(scene.database.server.dsn(), autocommit=True) as session:
        pattern = f"{scene.database.name}%{mark}%".replace("_", r"\_")
        while not session.execute("SELECT 1 FROM pg_database WHERE datname LIKE %s", (pattern,)).fetchall():
            assert process.poll() is None
    process.terminate()  # the swap is committed, and its journal not yet settled
    out, err = process.communicate(timeout=20)
    assert process.returncode == 143, err
    answer = json.loads(out)
    of_what = "the restore of" if what == "restore" else "the undo of the restore of"
    assert answer["error"] == f"Ended by SIGTERM; {of_what} {name} was complete by then."
    assert "need not be run again" in answer["hint"]
    there = scene.sql("SELECT 1 FROM pg_tables WHERE tablename = 'later'")
    assert there == ([] if what == "restore" else [(1,)])
    assert (
        f"{what} {name if what == 'restore' else 'radiology'}: degraded: It was ended by SIGTERM, too late" in scene.log
    )
    entries = json.loads(scene.run("audit", "list", "--json").out)
    assert (entries[0]["action"], entries[0]["outcome"]) == (what, "degraded")
    # Nothing is left to settle.
    assert "An interrupted" not in scene.run("backup").out + scene.log


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    os.kill(pid, 0)
    return state != "Z"
