"""Hooks: their order and environment, what their failure means, and that nothing of them is left.

The sentences are docs/ordering.md's.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from resurgam.errors import ClientToolError, HookError
from resurgam.operations.hooks import HookedRun, run_hook
from resurgam.operations.progress import Silent
from resurgam.settings.service_model import Hooks
from tests.cli.commands import RESURGAM
from tests.clusters import Database
from tests.operations.backups import fails, small_scene
from tests.operations.scene import Scene, tools

EVERY = tuple(f"{when}{source}" for when in ("BEFORE", "AFTER") for source in ("", "_CONFIG", "_DATABASE", "_FILES"))


@pytest.fixture
def scene(database: Database, tmp_path: Path) -> Scene:
    return small_scene(database, tmp_path)


def script(folder: Path, name: str, body: str) -> str:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return str(path)


def witness(root: Path, body: str = "") -> dict[str, str]:
    """Every hook, each of which notes what it is called for."""
    note = f'echo "$RESURGAM_WHEN $RESURGAM_SOURCE $RESURGAM_OUTCOME" >> {root / "calls"}'
    noting = script(root, "hook", f"{note}\n{body}")
    return {f"BACKUP_HOOK_{one}": noting for one in EVERY}


def calls(root: Path) -> list[str]:
    return [line.strip() for line in (root / "calls").read_text().splitlines()]


def gone(pid_file: Path, seconds: float = 3.0) -> bool:
    pid = int(pid_file.read_text())
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except FileNotFoundError:
            return True
        time.sleep(0.02)
    return False


def one(command: str, timeout: float | None = 5.0, environ: dict[str, str] | None = None) -> None:
    run_hook(("/bin/sh", "-c", command), "before", "database", {}, timeout, environ or dict(os.environ))


# One hook


def test_the_environment_says_what_for_and_holds_no_secret(tmp_path: Path) -> None:
    environ = {"PATH": "/usr/bin:/bin", "DB_PASSWORD": "planted", "BACKUP_NOTIFY_URLS": "json://u:planted@h"}
    facts = {"backup": "app_backup_1", "outcome": "ok"}
    run_hook(("/bin/sh", "-c", f"env > {tmp_path}/env; cat"), "after", "", facts, 5, environ)
    seen = dict(line.split("=", 1) for line in (tmp_path / "env").read_text().splitlines())
    assert {name: value for name, value in seen.items() if name.startswith("RESURGAM_")} == {
        "RESURGAM_WHEN": "after",
        "RESURGAM_SOURCE": "run",
        "RESURGAM_BACKUP": "app_backup_1",
        "RESURGAM_OUTCOME": "ok",
    }
    assert seen["PATH"] == environ["PATH"]
    assert "planted" not in str(seen)


def test_a_failure_has_the_last_lines_and_a_bounded_length(tmp_path: Path) -> None:
    command = "seq 1000; head -c 3000000 /dev/zero; echo; echo the door is locked >&2; exit 7"
    with pytest.raises(
        HookError, match=r"before the database source .*BACKUP_HOOK_BEFORE_DATABASE.* status 7"
    ) as caught:
        one(command)
    assert caught.value.message.endswith("the door is locked.")
    assert len(caught.value.message) < 8000


def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(HookError, match="could not be started: /nowhere/hook: No such file"):
        run_hook(("/nowhere/hook",), "before", "", {}, 5, {})


def test_sentence_24_a_time_out_ends_grandchildren_even_those_that_ignore_sigterm(
    tmp_path: Path,
) -> None:
    pids = tmp_path / "pid", tmp_path / "deaf"
    began = time.monotonic()
    with pytest.raises(HookError, match=r"longer than 0\.3 s and was ended: quiescing\."):
        one(
            f"echo quiescing; sleep 60 & echo $! > {pids[0]};"
            f"sh -c 'trap \"\" TERM; echo $$ > {pids[1]}; while :; do sleep 1; done' &"
            "wait",
            timeout=0.3,
        )
    assert gone(pids[0]) and gone(pids[1])
    assert time.monotonic() - began < 8  # the deaf one is killed after 5 s


def test_what_a_hook_that_did_well_leaves_running_is_its_own(tmp_path: Path) -> None:
    began = time.monotonic()
    one(f"sleep 30 & echo $! > {tmp_path / 'pid'}")
    assert time.monotonic() - began < 3
    pid = int((tmp_path / "pid").read_text())
    os.kill(pid, signal.SIGKILL)


def test_sentence_25_hooks_after_an_interrupt_share_a_few_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resurgam.operations.hooks._HURRIED_SECONDS", 1.0)
    slow = script(tmp_path, "slow", "sleep 30")
    hooks = Hooks({("after", ""): (slow,), ("after", "files"): (slow,)}, timeout=300)
    hooked = HookedRun(hooks, {"PATH": "/usr/bin:/bin"}, Silent(), "b")
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt), hooked.around(), hooked.around("files"):
        raise KeyboardInterrupt
    assert time.monotonic() - began < 3


# Around whole backups


def test_sentences_20_to_22_the_order(scene: Scene) -> None:
    """And none of them sees another state of the backup than the one it is promised."""
    look = (
        f'echo "   $(ls {scene.backups} | grep -c "tar.gz$") $(basename "$RESURGAM_BACKUP")" >> {scene.root / "seen"}'
    )
    with scene.service(**witness(scene.root, look)) as service:
        result = service.backup()
    assert result.failures == ()
    assert calls(scene.root) == [
        "before run",
        "before config",
        "after config ok",
        "before database",
        "after database ok",
        "before files",
        "after files ok",
        "after run ok",
    ]
    published = [line.split() for line in (scene.root / "seen").read_text().splitlines()]
    assert [count for count, _ in published] == ["0"] * 7 + ["1"]
    assert {name for _, name in published} == {result.name}


def test_sentence_20_a_failing_hook_before_fails_the_backup(scene: Scene) -> None:
    body = 'test "$RESURGAM_WHEN $RESURGAM_SOURCE" = "before database" && { echo "still writing"; exit 3; }; exit 0'
    error = fails(
        scene, HookError, "before the database source .* exit status 3: still writing", **witness(scene.root, body)
    )
    assert error.code == "hook"
    assert calls(scene.root)[3:] == ["before database", "after database failed", "after run failed"]


def test_sentences_21_and_23_a_failing_source_and_a_failing_hook_after_it(scene: Scene) -> None:
    folder = tools(scene.root / "bin", scene.server.bin, 'echo "pg_dump: error: broken" >&2; exit 1')
    body = 'test "$RESURGAM_WHEN $RESURGAM_SOURCE" != "after database" || { echo "could not thaw"; exit 1; }'
    error = fails(
        scene, ClientToolError, "pg_dump: error: broken", BACKUP_PG_BIN=str(folder), **witness(scene.root, body)
    )
    assert "Besides: The hook after the database source" in error.message and "could not thaw" in error.message
    assert calls(scene.root)[-2:] == ["after database failed", "after run failed"]


def test_sentence_23_a_failing_hook_after_makes_the_backup_degraded(scene: Scene) -> None:
    with scene.service(BACKUP_HOOK_AFTER_FILES=script(scene.root, "hook", "echo no; exit 1")) as service:
        result = service.backup()
        (job,) = service.state.jobs.latest(1)
    assert len(result.failures) == 1 and "after the files source" in result.failures[0]
    assert job.outcome == "degraded" and result.failures[0] in job.reason
    assert scene.archives() == [f"{result.name}.tar.gz"]


def test_a_cancelled_backup_lets_the_application_go_on_and_leaves_nothing(scene: Scene) -> None:
    pid, started = scene.root / "pid", scene.root / "started"
    body = (
        f'test "$RESURGAM_WHEN $RESURGAM_SOURCE" = "before files" || exit 0\n'
        f"sleep 60 & echo $! > {pid}; touch {started}; wait"
    )
    environment = scene.environment(**witness(scene.root, body))
    child = os.posix_spawn(RESURGAM[0], [*RESURGAM, "backup", "--quiet"], environment)
    while not started.exists():
        time.sleep(0.02)
    began = time.monotonic()
    os.kill(child, signal.SIGTERM)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 128 + signal.SIGTERM
    assert time.monotonic() - began < 10
    assert gone(pid)
    assert calls(scene.root)[-3:] == ["before files", "after files failed", "after run failed"]
    assert scene.archives() == [] and scene.leftovers() == []


def test_a_hook_dies_with_a_backup_that_is_killed(scene: Scene) -> None:
    pid, started = scene.root / "pid", scene.root / "started"
    command = script(scene.root, "hook", f"echo $$ > {pid}; touch {started}; exec sleep 60")
    child = os.posix_spawn(RESURGAM[0], [*RESURGAM, "backup", "--quiet"], scene.environment(BACKUP_HOOK_BEFORE=command))
    while not started.exists():
        time.sleep(0.02)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert gone(pid)


def test_sentence_23_what_failed_after_a_cancellation_is_told_too(scene: Scene) -> None:
    body = (
        'test "$RESURGAM_WHEN $RESURGAM_SOURCE" = "before files" && kill -TERM "$PPID"\n'
        'test "$RESURGAM_WHEN $RESURGAM_SOURCE" != "after files" || { echo "could not thaw"; exit 1; }'
    )
    scene_env = scene.environment(**witness(scene.root, body + "\nsleep 0.3"))
    child = os.posix_spawn(RESURGAM[0], [*RESURGAM, "backup", "--quiet"], scene_env)
    os.waitpid(child, 0)
    assert any("Besides: The hook after the files source" in line for line in scene.log_lines())
    assert calls(scene.root)[-1] == "after run failed"
