"""Real backups that people hear of: the switch's calls, messages, a channel that hangs, and secrets that stay."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from resurgam.errors import ClientToolError, StateError
from tests.clusters import Database
from tests.notify.servers import deaf_port, web_server
from tests.operations.backups import fails, small_scene
from tests.operations.scene import Scene, tools
from tests.state_faults import unwritable

PLANTED = "planted-Secret"


@pytest.fixture
def scene(database: Database, tmp_path: Path) -> Scene:
    return small_scene(database, tmp_path)


def test_a_backup_that_fails_and_the_next_that_succeeds(scene: Scene) -> None:
    folder = tools(scene.root / "bin", scene.server.bin, 'echo "pg_dump: error: broken" >&2; exit 1')
    with web_server() as web, web_server() as switch:
        told = {
            "BACKUP_NOTIFY_URLS": f"json://user:{PLANTED}@{web.place}/{PLANTED}",
            "BACKUP_PING_URL": f"http://{switch.place}/{PLANTED}?x=1",
        }
        fails(scene, ClientToolError, "broken", BACKUP_PG_BIN=str(folder), **told)
        with scene.service(**told) as service:
            name = service.backup().name
        assert switch.paths() == [f"/{PLANTED}{word}?x=1" for word in ("/start", "/fail", "/start", "")]
        assert "broken" in switch.seen[1].body and name in switch.seen[3].body
        messages = [json.loads(one.body) for one in web.seen]
    assert [one["type"] for one in messages] == ["failure", "success"]
    assert "pg_dump: error: broken" in messages[0]["message"] and "Nothing was published" in messages[0]["message"]
    assert name in messages[1]["message"] and "broken" in messages[1]["message"]


def test_what_no_state_can_take_is_told(scene: Scene) -> None:
    """A full disk: there is no history, and people must hear of it."""
    with web_server() as web, web_server() as switch:
        told = {"BACKUP_NOTIFY_URLS": f"json://{web.place}", "BACKUP_PING_URL": f"http://{switch.place}/x"}
        with scene.service(**told) as service:
            service.backup()
            state = service.state.path
        with unwritable(state, "jobs", "INSERT"), scene.service(**told) as service, pytest.raises(StateError):
            service.backup()
        state.write_bytes(b"no database")
        with scene.service(**told) as service, pytest.raises(StateError):
            service.backup()
        assert switch.paths() == ["/x/start", "/x", "/x/fail", "/x/fail"]
        titles = [json.loads(one.body)["title"] for one in web.seen]
        bodies = [json.loads(one.body)["message"] for one in web.seen]
    assert titles == ["radiology: backup failed"] * 2
    assert "disk is full" in bodies[0] and "damaged" in bodies[1]


def test_channels_that_fail_or_hang_fail_no_backup_and_show_in_health(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resurgam.jobs.announce.SEND_SECONDS", 1.0)
    monkeypatch.setattr("resurgam.notify.ping._SECONDS", 0.5)
    with deaf_port() as deaf, web_server(statuses=[500]) as web:
        told = {
            "BACKUP_NOTIFY_URLS": f"info=json://u:{PLANTED}@127.0.0.1:{deaf} info=json://u:{PLANTED}@{web.place}/{PLANTED}",
            "BACKUP_PING_URL": f"http://127.0.0.1:{deaf}/{PLANTED}",
        }
        with scene.service(**told) as service:
            began = time.monotonic()
            result = service.backup()
            waited = time.monotonic() - began - result.seconds
            (reason,) = [one for one in service.health().reasons if one.code == "channel_failing"]
    assert result.failures == ()
    assert waited < 5
    assert "json://127.0.0.1" in reason.message and "http://127.0.0.1" in reason.message
    for path in (scene.root / "backup.log", *scene.backups.glob(".*sqlite*"), *scene.backups.glob("*sqlite*")):
        assert PLANTED.encode() not in path.read_bytes(), path
    assert any(" WARNING " in line and "status 500" in line for line in scene.log_lines())
