"""`resurgam notify test`: who can be reached, in words and JSON, without a URL."""

from __future__ import annotations

from tests.cli.commands import Scene
from tests.notify.servers import closed_port, web_server

PLANTED = "planted-Secret"


def test_each_channel_is_listed(scene: Scene) -> None:
    with web_server() as web:
        good = f"error=json://u:{PLANTED}@{web.place}/{PLANTED}"
        bad = f"json://u:{PLANTED}@127.0.0.1:{closed_port()}/{PLANTED}"
        ping = f"http://{web.place}/{PLANTED}"
        done = scene.run("notify", "test", "--json", BACKUP_NOTIFY_URLS=f"{good} {bad}", BACKUP_PING_URL=ping)
        assert done.code == 1
        assert done.json["success"] is False
        assert [(one["channel"], one["ok"]) for one in done.json["channels"]] == [
            ("json://127.0.0.1", True),
            ("json://127.0.0.1", False),
            ("http://127.0.0.1", None),
        ]
        assert PLANTED not in done.out + done.err + scene.log
        assert web.paths() == [f"/{PLANTED}"]
        done = scene.run("notify", "test", BACKUP_NOTIFY_URLS=good)
        assert (done.code, done.out) == (0, "sent    json://127.0.0.1\n")


def test_nobody_to_tell_is_an_error(scene: Scene) -> None:
    done = scene.run("notify", "test", "--json")
    assert (done.code, done.error["code"]) == (2, "settings")
    assert "BACKUP_NOTIFY_URLS" in done.error["hint"]
