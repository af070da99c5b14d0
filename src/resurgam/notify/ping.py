"""The dead man's switch: URL/start, URL, URL/fail, as healthchecks.io and those like it have them.

It raises the alarm when it hears nothing, so it speaks also for a machine that is gone.
"""

from __future__ import annotations

import base64
import http.client
import os
import threading
from http import HTTPStatus
from typing import IO, Literal
from urllib.error import HTTPError, URLError
from urllib.parse import unquote, urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from resurgam.notify.channels import Delivery, channel_id, label_of
from resurgam.settings.secret import Secret

Word = Literal["start", "success", "fail"]
_SECONDS = 5.0
_TRIES = 2
_LATE = "it did not answer in time"


def ping(url: Secret, word: Word, text: str) -> Delivery:
    """Tell the switch, with `text` as the body; each of two tries may take 5 s. Nothing is raised."""
    problem = _LATE
    for _ in range(_TRIES):
        problem = _within(_SECONDS, url.reveal(), word, text)
        if not problem or problem.startswith("it answered with status 4"):
            break
    return Delivery(channel_id(url), label_of(url), problem == "", problem)


def _within(seconds: float, url: str, word: Word, text: str) -> str:
    """urllib's own limit holds for each packet, and not for the look-up of the host's name."""
    answer: list[str] = []
    thread = threading.Thread(target=lambda: answer.append(_try(seconds, url, word, text)), daemon=True)
    thread.start()
    thread.join(seconds)
    return answer[0] if answer else _LATE


def _try(seconds: float, url: str, word: Word, text: str) -> str:
    try:
        request = _request(url, word, text)
        with build_opener(_SameScheme).open(request, timeout=seconds):
            return ""
    except HTTPError as error:
        error.close()
        return f"it answered with status {_status(error.code)}"
    except (OSError, http.client.HTTPException, ValueError) as error:
        return _words(error.reason if isinstance(error, URLError) else error)


def _request(url: str, word: Word, text: str) -> Request:
    parts = urlsplit(url.strip())
    path = parts.path.rstrip("/") if word != "success" else parts.path
    account, at, place = parts.netloc.rpartition("@")
    where = parts._replace(netloc=place, path=path if word == "success" else f"{path}/{word}", fragment="")
    request = Request(where.geturl(), text.encode(), {"Content-Type": "text/plain; charset=utf-8"})  # noqa: S310 (settings take http and https only)
    request.add_header("User-Agent", "resurgam")
    if at:
        request.add_header("Authorization", f"Basic {base64.b64encode(unquote(account).encode()).decode()}")
    return request


class _SameScheme(HTTPRedirectHandler):
    """Follows redirects from http to https, and within either."""

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: http.client.HTTPMessage, newurl: str
    ) -> Request | None:
        scheme = urlsplit(newurl).scheme
        if scheme not in (req.type, "https"):
            raise HTTPError(req.full_url, code, msg, headers, fp)
        following = super().redirect_request(req, fp, code, msg, headers, newurl)
        if following is not None and following.host != req.host:
            following.remove_header("Authorization")
        return following


def _status(code: int) -> str:
    try:
        return f"{code} ({HTTPStatus(code).phrase})"
    except ValueError:
        return str(code)


def _words(reason: object) -> str:
    """Without the URL, which the errors of http.client quote."""
    if isinstance(reason, TimeoutError):
        return _LATE
    if isinstance(reason, OSError) and reason.errno is not None and reason.errno > 0:
        return f"it could not be reached ({os.strerror(reason.errno)})"
    if isinstance(reason, OSError):
        return "its host is unknown, or its certificate is not trusted"
    return "it could not be reached, or did not speak HTTP"
