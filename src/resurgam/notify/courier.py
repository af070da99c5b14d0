"""`python -m resurgam.notify.courier`: hands messages to apprise, in a process that can be given up.

The posts come as JSON on stdin, because arguments and the environment would show their URLs to others; for each a line
`[number, problem]` goes to stdout as soon as it is known, with "" for success. What apprise and its plug-ins say may
quote the URL, and so only what is recognised in it comes out, in words of ours.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import threading
from http import HTTPStatus
from typing import Any

NOT_INSTALLED = "apprise is not installed: pip install 'resurgam[notify]'"
_UNKNOWN = "apprise does not know this kind of URL, or it is not complete"
_SILENT = "it was not delivered, and apprise does not say why"
_HTTP = re.compile(r"\berror=(\d{3})\b")
# What smtplib raises: (535, b'5.7.8 ...').
_SMTP = re.compile(r"^Socket Exception: \((\d{3}), ")
_REASONS = (
    (re.compile(r"timed? ?out", re.IGNORECASE), "it did not answer in time"),
    (re.compile(r"refused", re.IGNORECASE), "the connection was refused"),
    (re.compile(r"name resolution|not known|getaddrinfo|NameResolution", re.IGNORECASE), "its host is unknown"),
    (re.compile(r"certificate", re.IGNORECASE), "its certificate is not trusted"),
    (re.compile(r"connection", re.IGNORECASE), "the connection failed"),
)


class _Said(logging.Handler):
    """What apprise says while one thread sends."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []
        self._thread = threading.get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self._thread:
            self.lines.append(record.getMessage())


def main() -> int:
    """0 when every post has its line, whatever it says."""
    posts = json.load(sys.stdin.buffer)
    lock = threading.Lock()
    threads = [threading.Thread(target=_post, args=(*one, lock), daemon=True) for one in enumerate(posts)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return 0


def _post(number: int, post: dict[str, Any], lock: threading.Lock) -> None:
    line = json.dumps([number, _send(post)]) + "\n"
    with lock:
        sys.stdout.write(line)
        sys.stdout.flush()


def _send(post: dict[str, Any]) -> str:
    try:
        import apprise
    except ImportError:
        return NOT_INSTALLED
    # A redirected POST becomes a GET without its message, and would count as delivered.
    asset = apprise.AppriseAsset(app_id="Resurgam", app_desc="Backups", http_redirects=False)
    channel = apprise.Apprise.instantiate(post["url"], asset=asset)
    if channel is None:
        return _UNKNOWN
    said, logger = _Said(), logging.getLogger("apprise")
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    logger.addHandler(said)
    done = channel.notify(post["body"], title=post["title"], notify_type=post["type"], body_format="text")
    return "" if done else problem_of(said.lines)


def problem_of(lines: list[str]) -> str:
    """Why it failed, as far as it can be told without quoting."""
    for line in lines:
        if match := _HTTP.search(line):
            return f"it answered with status {_status(int(match[1]))}"
        if match := _SMTP.match(line):
            return f"the mail server refused with code {match[1]}"
    told = [line for line in lines if line.startswith("Socket Exception:")]
    for pattern, words in _REASONS:
        if any(pattern.search(line) for line in told):
            return words
    return _SILENT


def _status(code: int) -> str:
    try:
        return f"{code} ({HTTPStatus(code).phrase})"
    except ValueError:
        return str(code)


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # a plug-in's own threads could keep it for ever
