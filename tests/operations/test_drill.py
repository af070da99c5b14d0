"""Drills: a backup is restored where nobody is harmed, compared, asked, and nothing of it is left."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from resurgam.errors import NotFoundError, ResurgamError
from resurgam.operations import drill as drill_module
from resurgam.operations import drill_database, drill_login
from resurgam.policy.drills import digest_of
from resurgam.postgres.embedded import EmbeddedServer
from tests.clusters import Database, create_database, drop_database
from tests.operations.backups import small_scene
from tests.operations.drilling import edited, run, scratch_of
from tests.operations.namespaces import KILLED, in_child
from tests.operations.scene import Scene, scene_for
from tests.sampling import randomness


@pytest.fixture(scope="module")
def drilled(pg16: EmbeddedServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Scene, str]]:
    """The demo's application, and the name of its backup."""
    made = create_database(pg16)
    scene = scene_for(made, tmp_path_factory.mktemp("drill")).make(reports=20)
    with scene.service() as service:
        name = service.backup().name
    yield scene, name
    drop_database(pg16, made.name)


def with_file(scene: Scene, text: str) -> dict[str, str]:
    path = scene.root / "drill.toml"
    path.write_text(text)
    path.chmod(0o600)
    return {"DRILL_FILE": str(path)}


def test_a_drill_of_the_demo_passes_and_leaves_evidence(drilled: tuple[Scene, str]) -> None:
    scene, name = drilled
    before = scene.seen()
    result = run(scene)
    assert (result.outcome, result.report["backup_name"], result.report["differences"]) == ("passed", name, [])
    assert scene.seen() == before
    assert result.report["fingerprint"] == "equal"
    assert result.report["rows"] > 0 and result.report["files"] > 0
    assert set(result.report["phases"]) >= {"read", "load", "files", "assertions", "cleanup"}
    assert 0 < result.report["rto_seconds"] < 10
    kept = json.loads((scene.backups / f"{name}.drill.json").read_text())
    digest = kept.pop("digest")
    assert digest == digest_of(kept) == result.digest
    with scene.service() as service:
        entry = service.state.audit.page(1)[0]
        assert (entry.action, entry.target, entry.details["digest"]) == ("drill evidence", name, digest)
        assert kept["audit_before"] is None or kept["audit_before"]["id"] < entry.id
        last = service.state.drills.last()
        assert last is not None and (last.outcome, last.digest, last.scratch) == ("passed", digest, None)
        assert [one["backup_name"] for one in service.list_backups()] == [name]
        job = service.state.jobs.latest(1)[0]
        assert (job.kind, job.outcome, job.details["result"]["digest"]) == ("drill", "ok", digest)


def test_what_drill_toml_asks(drilled: tuple[Scene, str]) -> None:
    scene, _ = drilled
    text = """
        [[sql]]
        query = "SELECT count(*) FROM public.reports"
        between = [1, 1000]
        [[sql]]
        query = "SELECT count(*) > 0 FROM public.reports"
        [[sql]]
        query = "SELECT 'a'"
        expect = "a"
        [[command]]
        run = ["sh", "-c", '''test -d "$RESURGAM_DRILL_FILES/uploads" && PSQL -qtAc "SELECT 1" "$RESURGAM_DRILL_DSN"''']
    """.replace("PSQL", str(scene.server.bin / "psql"))
    result = run(scene, **with_file(scene, text))
    assert (result.outcome, result.report["differences"]) == ("passed", [])
    assert len(result.report["assertions"]) == 4


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[[sql]]\nquery = "SELECT count(*) FROM reports"\nbetween = [1000, 2000]', "found 20, wanted 1000 to 2000"),
        ('[[sql]]\nquery = "SELECT 1 WHERE false"', "did not answer one value"),
        ('[[sql]]\nquery = "SELECT 1"', "found 1, wanted true"),
        ('[[sql]]\nquery = "SELECT pg_sleep(30)"\ntimeout = "0.2s"', "took longer than 0.2 s"),
        ('[[sql]]\nquery = "DELETE FROM reports RETURNING true"', "read-only"),
        ('[[sql]]\nquery = "SELECT nothing"', "does not exist"),
        ('[[command]]\nrun = ["sh", "-c", "echo it hurts; exit 3"]', "exit status 3: it hurts"),
        ('[[command]]\nrun = ["sleep", "30"]\ntimeout = "0.2s"', "took longer than 0.2 s"),
        ('[[command]]\nrun = ["no-such-program"]', "could not be started"),
        ('[[http]]\nurl = "http://127.0.0.1:1/"\ntimeout = "0.3s"', "nothing answered"),
        ('[[references]]\ncolumn = "reports.id"\nfiles = "uploads"', "without a file"),
        ('[[references]]\ncolumn = "reports.id"\nfiles = "nowhere"', "holds no files/nowhere"),
    ],
)
def test_an_assertion_that_does_not_hold_fails_the_drill(drilled: tuple[Scene, str], text: str, said: str) -> None:
    scene, _ = drilled
    result = run(scene, **with_file(scene, text))
    assert result.outcome == "failed"
    assert said in " ".join(result.report["differences"])
    with scene.service() as service:
        assert service.state.jobs.latest(1)[0].outcome == "failed"


@pytest.mark.parametrize(
    "edit",
    [
        lambda dump: dump.replace(b"\n7\tfinding", b"\n7\tfunding", 1),
        lambda dump: dump.replace(b"\n7\t" + b"finding " * 20 + b"\n", b"\n", 1),
        lambda dump: dump.replace(b"\n7\tfinding", b"\n7000\tx\n7\tfinding", 1),
    ],
    ids=["changed", "removed", "added"],
)
def test_one_row_of_the_dump_wasedited(database: Database, tmp_path: Path, edit: Callable[[bytes], bytes]) -> None:
    scene = small_scene(database, tmp_path)
    result = run(scene, edited(scene, edit))
    assert result.outcome == "failed"
    assert "reports" in " ".join(result.report["differences"])
    assert "users" not in " ".join(result.report["differences"])


def test_references_to_files(database: Database, tmp_path: Path) -> None:
    scene = small_scene(database, tmp_path)
    scene.execute(
        "ALTER TABLE reports ADD attachment text",
        "UPDATE reports SET attachment = '/media/2025/a.txt' WHERE id = 1",
    )
    text = '[[references]]\ncolumn = "public.reports.attachment"\nfiles = "uploads"\nstrip = "/media/"\n'
    with scene.service() as service:
        service.backup()
    assert run(scene, **with_file(scene, text)).passed
    scene.execute(
        "UPDATE reports SET attachment = '/media/2025/gone.txt' WHERE id = 2",
        "UPDATE reports SET attachment = '../../../etc/passwd' WHERE id = 3",
        "UPDATE reports SET attachment = '/media/2025' WHERE id = 4",
    )
    scene.clock.sleep(1)
    with scene.service() as service:
        service.backup()
    result = run(scene, **with_file(scene, text))
    assert result.outcome == "failed"
    assert result.report["assertions"][0]["message"] == "4 values, 3 without a file"
    assert set(result.report["assertions"][0]["missing"]) == {
        "/media/2025/gone.txt",
        "../../../etc/passwd",
        "/media/2025",
    }


def test_http_of_an_application_that_is_started_on_the_copy(drilled: tuple[Scene, str]) -> None:
    scene, _ = drilled
    script = scene.root / "app.py"
    script.write_text(
        "import http.server, os, sys\n"
        "assert os.environ['RESURGAM_DRILL_DSN'].startswith('postgresql://')\n"
        "assert 'DB_PASSWORD' not in os.environ\n"
        "class Handler(http.server.BaseHTTPRequestHandler):\n"
        "    def do_GET(self):\n"
        "        self.send_response(204 if self.path == '/healthz' else 404); self.end_headers()\n"
        "http.server.HTTPServer(('127.0.0.1', int(sys.argv[1])), Handler).serve_forever()\n"
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    start = json.dumps([sys.executable, str(script), str(port)])
    text = f'[[http]]\nstart = {start}\nurl = "http://127.0.0.1:{port}/{{}}"\nstatus = 204\ntimeout = "30s"\n'
    assert run(scene, **with_file(scene, text.format("healthz"))).passed
    refused = run(scene, **with_file(scene, text.format("other").replace("30s", "1s")))
    assert "answered 404" in " ".join(refused.report["differences"])
    listing = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert str(script) not in listing


def test_on_a_throw_away_server(drilled: tuple[Scene, str]) -> None:
    scene, _ = drilled
    result = run(scene, DRILL_SERVER="embedded")
    assert (result.outcome, result.report["server"], result.report["differences"]) == ("passed", "embedded", [])


def test_each_version(pg: EmbeddedServer, database: Database, tmp_path: Path) -> None:
    scene = small_scene(database, tmp_path)
    with scene.service() as service:
        service.backup()
    result = run(scene)
    assert (result.outcome, result.report["server_version"] // 10_000) == ("passed", pg.version)


def test_by_another_role_and_each_backup_at_once(
    owned_database: Database, server: EmbeddedServer, tmp_path: Path
) -> None:
    """A role without superuser rights, by DRILL_DATABASE_URL."""
    scene = small_scene(owned_database, tmp_path)
    role = owned_database.dsn
    with scene.service(DRILL_EACH_BACKUP="true") as service:
        result = service.backup()
        kinds = [(job.kind, job.outcome) for job in service.state.jobs.latest(2)]
    assert result.failures == () and kinds == [("drill", "ok"), ("backup", "ok")]
    assert "postgres" not in role.split("user=")[0]


def test_a_backup_whose_drill_fails_is_degraded(database: Database, tmp_path: Path) -> None:
    scene = small_scene(database, tmp_path)
    wish = with_file(scene, '[[sql]]\nquery = "SELECT false"')
    with scene.service(DRILL_EACH_BACKUP="true", **wish) as service:
        result = service.backup()
    assert len(scene.archives()) == 1
    assert "Its drill failed" in result.failures[0] and "SELECT false" in result.failures[0]


def test_there_is_nothing_to_drill(database: Database, tmp_path: Path) -> None:
    scene = small_scene(database, tmp_path)
    with scene.service() as service:
        with pytest.raises(NotFoundError):
            service.drill()
        with pytest.raises(NotFoundError):
            service.drill("radiology_backup_20200101_000000")
        assert service.state.drills.last() is None


def test_a_server_that_is_away_is_no_verdict_on_the_backup(drilled: tuple[Scene, str]) -> None:
    scene, name = drilled
    with scene.service(DRILL_DATABASE_URL="postgresql://nobody:x@127.0.0.1:1/postgres") as service:
        with pytest.raises(ResurgamError):
            service.drill()
        last = service.state.drills.last()
        assert last is not None and (last.backup, last.outcome) == (name, "error")
        assert name not in service.state.drills.verdicts() or service.state.drills.verdicts()[name] != "error"
    run(scene)  # and it left nothing that would need that server


def test_evidence_goes_with_its_backup(database: Database, tmp_path: Path) -> None:
    scene = small_scene(database, tmp_path)
    with scene.service() as service:
        name = service.backup().name
        service.drill()
        assert (scene.backups / f"{name}.drill.json").exists()
        service.delete(name)
    assert not list(scene.backups.glob("*.drill.json"))


def _killed_after(scene: Scene, seconds: float) -> None:
    """A drill in a process of its own, killed after so long."""
    code = "import sys; from resurgam.cli.main import main; sys.exit(main(['drill', '--json']))"
    process = subprocess.Popen(
        [sys.executable, "-c", code], env=scene.environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    time.sleep(seconds)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()


def test_killed_at_random_moments_it_leaves_nothing_after_the_next_start(drilled: tuple[Scene, str]) -> None:
    scene, _ = drilled
    random = randomness("drill kills")
    left = 0
    for _ in range(5):
        _killed_after(scene, random.uniform(0.4, 1.6))
        left += bool(scratch_of(scene))
        _swept(scene)
        assert scratch_of(scene) == []
    assert run(scene).passed


def _swept(scene: Scene) -> None:
    with scene.service() as service:
        service.sweep()


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(
    ("module", "step"),
    [
        (drill_login, "create_login"),
        (drill_login, "create_database"),
        (drill_login, "prepare"),
        (drill_database, "fill_database"),
        (drill_database, "check_loaded"),
        (drill_module, "extract"),
        (drill_module, "check_assertions"),
        (drill_login, "drop_database"),
        (drill_module, "remove_scratch"),
    ],
)
def test_sentences_31_and_32_killed_at_each_of_its_steps(
    drilled: tuple[Scene, str], module: ModuleType, step: str, when: str
) -> None:
    scene, _ = drilled

    def deed() -> int:
        real: Callable[..., Any] = getattr(module, step)

        def dies(*given: Any, **named: Any) -> None:
            if when == "after":
                real(*given, **named)
            os.kill(os.getpid(), signal.SIGKILL)

        setattr(module, step, dies)
        with scene.service() as service:
            service.drill()
        return 0

    assert in_child(deed) == KILLED
    assert scratch_of(scene) != [] or (step, when) == ("remove_scratch", "after")
    _swept(scene)
    assert scratch_of(scene) == []
    with scene.service() as service:
        assert service.state.drills.dead() == ()


def _dies_with_all_made(scene: Scene, **more: str) -> None:
    module: Any = drill_module

    def deed() -> int:
        module.extract = lambda *given, **named: os.kill(os.getpid(), signal.SIGKILL)
        with scene.service(**more) as service:
            service.drill()
        return 0

    assert in_child(deed) == KILLED


def test_sentence_32_what_a_server_that_is_away_keeps_back_is_tried_again(drilled: tuple[Scene, str]) -> None:
    scene, _ = drilled
    _dies_with_all_made(scene)
    with scene.service(DB_PORT="1") as service:
        assert not service.sweep()
    assert "could not be removed yet" in scene.log_lines()[-1]
    assert scratch_of(scene) != []
    with scene.service() as service:
        assert service.sweep()
        assert service.state.drills.dead() == ()
    assert scratch_of(scene) == []


def test_what_died_on_a_server_that_the_settings_do_not_name_any_more_is_told(drilled: tuple[Scene, str]) -> None:
    scene, _ = drilled
    server = scene.server
    elsewhere = f"postgresql://{server.superuser}:{server.password}@localhost:{server.port}/postgres"
    _dies_with_all_made(scene, DRILL_DATABASE_URL=elsewhere)
    (database,) = (name for name in scene.databases() if "_drill_" in name)
    with scene.service() as service:
        result = service.drill()
    assert result.passed
    told = " ".join(result.warnings)
    assert f"localhost:{server.port}" in told and f'the database "{database}"' in told and server.password not in told
    # As told, by hand.
    scene.administer(f'DROP DATABASE "{database}"')
    scene.administer(f'DROP ROLE "{database}"')
    assert run(scene).warnings == ()
