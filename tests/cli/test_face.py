"""Prompts, progress on a terminal, and secrets that appear nowhere."""

from __future__ import annotations

import os
import pty
import re
import subprocess
from pathlib import Path

import pytest

from tests.cli.commands import RESURGAM, Scene, wait_for, wrapped_tools


def typed(scene: Scene, answer: str, *arguments: str) -> tuple[int, str]:
    """Run on a terminal, on which somebody types `answer`; the exit code, and all that was shown there."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*RESURGAM, *arguments],
        env=scene.environment(TERM="xterm", NO_COLOR="1"),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    os.write(ours, answer.encode() + b"\n")
    shown = b""
    while True:
        try:
            block = os.read(ours, 65536)
        except OSError:  # the other side was closed
            break
        if not block:
            break
        shown += block
    os.close(ours)
    return process.wait(60), shown.decode()


def test_a_terminal_is_asked_and_only_yes_counts(scene: Scene) -> None:
    name = scene.backup()
    scene.sql("UPDATE public.templates SET body = 'new'")
    code, shown = typed(scene, "y", "restore", name)
    assert code == 2
    assert f"replace the database {scene.database.name}" in shown
    assert "_previous_" in shown
    assert str(scene.app / "uploads") in shown
    assert scene.sql("SELECT DISTINCT body FROM public.templates") == [("new",)]
    code, shown = typed(scene, "yes", "restore", name)
    assert code == 0
    assert "Restored" in shown
    assert scene.sql("SELECT count(*) FROM public.templates WHERE body = 'new'") == [(0,)]
    assert typed(scene, "no", "delete", name)[0] == 2
    assert f"{name}.tar.gz" in scene.archives()
    assert typed(scene, "yes", "delete", name)[0] == 0
    assert f"{name}.tar.gz" not in scene.archives()


def test_bars_on_a_terminal_lines_elsewhere_and_no_colour_if_unwanted(scene: Scene) -> None:
    code, shown = typed(scene, "", "backup")
    assert code == 0
    assert "Saving the database" in shown
    assert re.search(r"\d+%", shown)
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", shown)
    piped = scene.run("backup")
    assert "Saving the database …\n" in piped.err
    assert "\x1b" not in piped.err + piped.out


@pytest.mark.parametrize("given", ["variable", "file"])
def test_the_password_is_nowhere_to_be_seen(scene: Scene, given: str) -> None:
    secret = scene.settings["DB_PASSWORD"]
    changes: dict[str, str | None] = {}
    if given == "file":
        path = scene.folder / "password"
        path.write_text(secret + "\n")
        changes = {"DB_PASSWORD": None, "DB_PASSWORD_FILE": str(path)}
    pid, go = scene.folder / "pid", scene.folder / "go"
    tools = wrapped_tools(
        scene,
        f'echo $$ >"{pid}.new"; mv "{pid}.new" "{pid}"; while [ ! -e "{go}" ]; do sleep 0.02; done; '
        'exec "$PG_DUMP" "$@"',
    )
    process = scene.start("backup", **changes, **tools)
    wait_for(pid)
    place = Path("/proc") / pid.read_text().strip()
    seen = (place / "cmdline").read_bytes() + (place / "environ").read_bytes()
    seen += (Path("/proc") / str(process.pid) / "cmdline").read_bytes()
    go.touch()
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    assert b"--snapshot" in seen
    assert secret.encode() not in seen
    (archive,) = scene.backups.glob("*.tar.gz")
    unpacked = subprocess.run(["tar", "xzOf", archive], capture_output=True, check=True).stdout
    assert secret.encode() not in unpacked
    shown = [scene.run(*arguments, **changes) for arguments in (("doctor",), ("doctor", "--json"), ("list",))]
    told = out + err + scene.log + "".join(done.out + done.err for done in shown)
    assert secret not in told
