"""Messages by apprise to real servers: what arrives, what does not and why, and that no URL comes out."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from resurgam.catalog.channels import ChannelRecord
from resurgam.notify.channels import Delivery, Post, channel_id, failing, label_of, send
from resurgam.notify.courier import NOT_INSTALLED, problem_of
from resurgam.notify.messages import Message
from resurgam.settings.secret import Secret
from resurgam.settings.service_model import Channel, Messages
from tests.notify.servers import closed_port, deaf_port, mail_server, web_server

ENVIRON = dict(os.environ)
BAD = Message("backup", "error", "radiology: backup failed", "The disk is full.")
PLANTED = "planted-Secret"


def post(url: str, message: Message = BAD) -> Post:
    return Post(Channel(Secret(url)), message)


def one(url: str, seconds: float = 10.0) -> Delivery:
    (found,) = send([post(url)], ENVIRON, seconds)
    assert PLANTED not in repr(found)
    return found


def test_what_arrives_and_under_which_label() -> None:
    good = Message("backup", "error", "radiology: backup succeeded", "It works again.", good=True)
    with web_server() as web:
        url = f"json://user:{PLANTED}@{web.place}/hook/{PLANTED}"
        found = send([post(url), post(url, good)], ENVIRON)
    assert [(one.label, one.ok, one.problem) for one in found] == [("json://127.0.0.1", True, "")] * 2
    told = {(answer["type"], answer["title"], answer["message"]) for answer in (json.loads(s.body) for s in web.seen)}
    assert told == {
        ("failure", "radiology: backup failed", "The disk is full."),
        ("success", "radiology: backup succeeded", "It works again."),
    }


@pytest.mark.parametrize(
    ("status", "problem"),
    [(500, "it answered with status 500 (Internal Server Error)"), (401, "it answered with status 401 (Unauthorized)")],
)
def test_an_answer_that_is_an_error(status: int, problem: str) -> None:
    with web_server(statuses=[status]) as web:
        assert one(f"json://user:{PLANTED}@{web.place}/{PLANTED}").problem == problem


def test_a_redirected_message_did_not_arrive() -> None:
    """The POST would become a GET without the message, and count as success."""
    with web_server() as elsewhere, web_server(statuses=[302]) as web:
        web.location = f"http://{elsewhere.place}/"
        found = one(f"json://{web.place}/{PLANTED}")
    assert found.ok is False and "status 302" in found.problem
    assert elsewhere.seen == []


def test_nobody_there() -> None:
    assert one(f"json://u:{PLANTED}@127.0.0.1:{closed_port()}").problem == "the connection was refused"
    assert one(f"json://u:{PLANTED}@nowhere.invalid/").problem == "its host is unknown"


def test_channels_are_sent_to_side_by_side_and_given_up_together() -> None:
    with web_server() as web, web_server(hangs=True) as hanging, deaf_port() as deaf:
        began = time.monotonic()
        found = send(
            [
                post(f"json://u:{PLANTED}@{hanging.place}/?rto=60&cto=60"),
                post(f"mailto://u:{PLANTED}@127.0.0.1:{deaf}/?to=a@example.com&from=b@example.com"),
                post(f"json://{web.place}"),
            ],
            ENVIRON,
            2.5,
        )
        assert time.monotonic() - began < 4
    assert [one.ok for one in found] == [False, False, True]
    assert {one.problem for one in found[:2]} == {"it did not answer in time"}


def test_mail() -> None:
    with mail_server() as box:
        assert one(f"mailto://u:{PLANTED}@127.0.0.1:{box.port}/?to=a@example.com&from=b@example.com").ok
    assert "The disk is full." in box.mails[0] and PLANTED not in box.mails[0]
    with mail_server(refuses=True) as box:
        found = one(f"mailto://u:{PLANTED}@127.0.0.1:{box.port}/?to=a@example.com&from=b@example.com")
    assert found.problem == "the mail server refused with code 535"


def test_a_url_that_apprise_does_not_know() -> None:
    found = one(f"carrierpigeon://{PLANTED}/{PLANTED}")
    assert found.ok is False and found.problem.startswith("apprise does not know")


def test_without_apprise(tmp_path: Path) -> None:
    (tmp_path / "apprise.py").write_text("raise ModuleNotFoundError('apprise')")
    (found,) = send([post("json://127.0.0.1")], {**ENVIRON, "PYTHONPATH": str(tmp_path)})
    assert found.problem == NOT_INSTALLED


def test_a_plug_in_that_breaks(tmp_path: Path) -> None:
    (tmp_path / "apprise.py").write_text("AppriseAsset = dict\n")
    (found,) = send([post(f"json://{PLANTED}")], {**ENVIRON, "PYTHONPATH": str(tmp_path)})
    assert (found.ok, found.problem) == (False, "apprise broke off")


@pytest.mark.parametrize(
    ("url", "label"),
    [
        ("mailtos://u:p@mail.example.com:587/x?pass=p", "mailtos://mail.example.com"),
        ("JSON://u:p@[::1]:80/p", "json://::1"),
        ("https://hooks.slack.com/services/p", "https://hooks.slack.com"),
        ("slack://p/p/p", "slack://…"),
        ("tgram://p/1", "tgram://…"),
        ("ntfy://p", "ntfy://…"),
        ("json://u:p@[bad", "json://…"),
    ],
)
def test_a_label_holds_no_credential(url: str, label: str) -> None:
    assert label_of(Secret(url)) == label
    assert channel_id(Secret(url)).startswith(f"{label}#")


def test_an_id_tells_channels_apart_and_confirms_no_guess() -> None:
    first, second = (Secret(f"json://u:{word}@h") for word in ("a", "b"))
    assert channel_id(first) != channel_id(second) == channel_id(Secret("json://u:b@h"))
    ids = [channel_id(Secret(f"json://u:{number}@h")) for number in range(70_000)]
    assert len(set(ids)) < len(ids)


def test_what_apprise_says_is_never_quoted() -> None:
    assert problem_of([f"Failed to send to {PLANTED}"]) == "it was not delivered, and apprise does not say why"
    assert problem_of([f"Socket Exception: {PLANTED} CERTIFICATE_VERIFY_FAILED"]) == "its certificate is not trusted"


def test_only_channels_that_are_set_now_can_be_failing() -> None:
    now, gone, ping = (Secret(f"json://{name}") for name in ("now", "gone", "ping"))
    messages = Messages((Channel(now),), ping_url=ping)
    known = [ChannelRecord(channel_id(url), label_of(url), None, None, "no") for url in (now, gone, ping)]
    assert failing(messages, known) == ("json://now", "json://ping")
    fine = ChannelRecord(channel_id(now), label_of(now), None, None, "")
    assert failing(messages, [fine]) == ()
