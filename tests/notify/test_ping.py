"""The dead man's switch: where it is told what, and what it does not follow."""

from __future__ import annotations

import time

import pytest

from resurgam.notify.ping import ping
from resurgam.settings.secret import Secret
from tests.notify.servers import closed_port, deaf_port, web_server


def test_the_three_words_keep_the_query_and_bear_the_line() -> None:
    with web_server() as web:
        url = Secret(f"http://{web.place}/ping/uuid/?rid=7")
        for word in ("start", "success", "fail"):
            found = ping(url, word, f"radiology: {word} ü")
            assert (found.ok, found.label) == (True, "http://127.0.0.1")
    assert web.paths() == ["/ping/uuid/start?rid=7", "/ping/uuid/?rid=7", "/ping/uuid/fail?rid=7"]
    assert {one.method for one in web.seen} == {"POST"}
    assert [one.body for one in web.seen] == [f"radiology: {word} ü" for word in ("start", "success", "fail")]


def test_an_account_in_the_url_goes_as_one() -> None:
    with web_server() as web:
        assert ping(Secret(f"http://me:p%40ss@{web.place}/x"), "success", "").ok
    assert web.seen[0].headers["Authorization"] == "Basic bWU6cEBzcw=="


@pytest.mark.parametrize(
    ("statuses", "ok", "asked"), [([503, 200], True, 2), ([500], False, 2), ([404], False, 1), ([429], False, 1)]
)
def test_a_second_try_where_it_may_help(statuses: list[int], ok: bool, asked: int) -> None:
    with web_server(statuses=list(statuses)) as web:
        found = ping(Secret(f"http://{web.place}/planted"), "fail", "")
    assert (found.ok, len(web.seen)) == (ok, asked)
    assert ok or f"status {statuses[-1]}" in found.problem
    assert "planted" not in repr(found)


def test_redirects_within_http_are_followed_and_no_others() -> None:
    with web_server() as there, web_server(statuses=[302]) as web:
        web.location = f"http://{there.place}/new"
        assert ping(Secret(f"http://u:p@{web.place}/"), "success", "").ok
        assert there.paths() == ["/new"] and "Authorization" not in there.seen[0].headers
        for location in ("file:///etc/passwd", "ftp://127.0.0.1/x"):
            web.location = location
            found = ping(Secret(f"http://{web.place}/"), "success", "")
            assert found.problem == "it answered with status 302 (Found)"


@pytest.mark.parametrize(
    "url", ["http://nowhere.invalid/p", "http://127.0.0.1:99999/p", "http://a\u0000b/p", "http://u:p@/"]
)
def test_whatever_stands_in_the_url_nothing_is_raised(url: str) -> None:
    found = ping(Secret(url), "success", "")
    assert found.ok is False and found.problem and "/p" not in found.problem


def test_nobody_there_and_nobody_who_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resurgam.notify.ping._SECONDS", 0.5)
    found = ping(Secret(f"http://127.0.0.1:{closed_port()}/"), "success", "")
    assert found.problem == "it could not be reached (Connection refused)"
    with deaf_port() as port:
        began = time.monotonic()
        found = ping(Secret(f"http://127.0.0.1:{port}/"), "success", "")
        assert found.problem == "it did not answer in time"
        assert time.monotonic() - began < 2
