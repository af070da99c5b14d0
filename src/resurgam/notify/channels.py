"""Sends messages to channels, each an apprise URL, within a hard limit, and says how that went without naming secrets.

apprise runs in a process of its own: a mail server that never answers is given up by killing it, no hung thread stays
in a service that runs for months, and the memory that apprise needs goes with it. A channel is called by its label:
scheme, and host where the host is one. In most of the URLs of services (slack://, tgram://, discord://) a token
stands in the place of the host.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from urllib.parse import urlsplit

from resurgam.catalog.channels import ChannelRecord
from resurgam.notify.messages import Message
from resurgam.settings import inherited
from resurgam.settings.secret import Secret
from resurgam.settings.service_model import Channel, Messages

SEND_SECONDS = 10.0
_COMMAND = (sys.executable, "-m", "resurgam.notify.courier")
_LATE = "it did not answer in time"
_TYPES = {"info": "info", "warning": "warning", "error": "failure"}
# Where the host of the URL is a host.
_HOSTED = frozenset(
    """apprise apprises form forms gotify gotifys http https json jsons mailto mailtos mattermost mmost mmosts mqtt
    mqtts ncloud nclouds nctalk nctalks rocket rockets rsyslog signal signals synology synologys xml xmls""".split()  # noqa: SIM905
)


@dataclass(frozen=True, slots=True)
class Post:
    """One message to one channel."""

    channel: Channel
    message: Message


@dataclass(frozen=True, slots=True)
class Delivery:
    """What became of a message. `ok` is None where none was tried; `problem` says why not, or why it failed."""

    id: str
    label: str
    ok: bool | None
    problem: str = ""

    def to_json(self) -> dict[str, object]:
        return {"channel": self.label, "ok": self.ok, "problem": self.problem}


def send(posts: Sequence[Post], environ: Mapping[str, str], seconds: float = SEND_SECONDS) -> tuple[Delivery, ...]:
    """Send all of them at the same time; one Delivery a post, in their order, after `seconds` at most.

    Nothing is raised for a channel: its problem is in its delivery.
    """
    if not posts:
        return ()
    told = [
        {
            "url": post.channel.url.reveal(),
            "title": post.message.title,
            "body": post.message.body,
            "type": "success" if post.message.good else _TYPES[post.message.severity],
        }
        for post in posts
    ]
    problems = _carried(json.dumps(told).encode(), environ, seconds)
    return tuple(
        Delivery(channel_id(post.channel.url), label_of(post.channel.url), problem == "", problem)
        for post, problem in ((post, problems.get(number, _LATE)) for number, post in enumerate(posts))
    )


def label_of(url: Secret) -> str:
    """How a channel is called: never with what could be a credential."""
    scheme, _, rest = url.reveal().partition("://")
    scheme = scheme.lower()
    if scheme not in _HOSTED:
        return f"{scheme}://…"
    try:
        host = urlsplit(f"x://{rest}").hostname
    except ValueError:
        host = None
    return f"{scheme}://{host or '…'}"


def channel_id(url: Secret) -> str:
    """Tells a channel from the others. A few digits of a digest: too few to confirm a guessed password by them."""
    return f"{label_of(url)}#{sha256(url.reveal().encode('utf-8', 'surrogateescape')).hexdigest()[:4]}"


def failing(messages: Messages, known: Iterable[ChannelRecord]) -> tuple[str, ...]:
    """The labels of the channels, of those that are set now, whose last message did not arrive."""
    urls = (*(channel.url for channel in messages.channels), *((messages.ping_url,) if messages.ping_url else ()))
    ids = {channel_id(url) for url in urls}
    return tuple(record.label for record in known if record.id in ids and record.problem)


def _carried(posts: bytes, environ: Mapping[str, str], seconds: float) -> dict[int, str]:
    """The problems of the posts that came to an end, by their numbers."""
    try:
        courier = subprocess.Popen(
            _COMMAND,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=inherited(environ),
            start_new_session=True,
        )
    except OSError as error:
        return dict.fromkeys(range(len(json.loads(posts))), f"the sender could not be started ({error.strerror})")
    try:
        out, _ = courier.communicate(posts, seconds)
        missing = "apprise broke off"
    except subprocess.TimeoutExpired:
        courier.kill()
        out, _ = courier.communicate()
        missing = _LATE
    finally:
        if courier.poll() is None:
            courier.kill()
            courier.wait()
    lines = [json.loads(line) for line in out.splitlines(keepends=True) if line.endswith(b"\n")]
    return {**dict.fromkeys(range(len(json.loads(posts))), missing), **dict(lines)}
