"""Real servers on 127.0.0.1 that take messages: well, badly, or never."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True, slots=True)
class Seen:
    """A request."""

    method: str
    path: str
    body: str
    headers: dict[str, str]


@dataclass
class Web:
    """What a server answers, which a test may change, and what it was asked."""

    port: int = 0
    statuses: list[int] = field(default_factory=lambda: [200])
    location: str = ""
    hangs: bool = False
    seen: list[Seen] = field(default_factory=list)
    let_go: threading.Event = field(default_factory=threading.Event)

    @property
    def place(self) -> str:
        return f"127.0.0.1:{self.port}"

    def paths(self) -> list[str]:
        return [one.path for one in self.seen]


@contextmanager
def web_server(**how: Any) -> Iterator[Web]:
    """An HTTP server; each request takes the next of `statuses`, the last one again and again."""
    web = Web(**how)

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(length).decode()
            web.seen.append(Seen(self.command, self.path, body, dict(self.headers)))
            if web.hangs:
                web.let_go.wait(30)
                return
            status = web.statuses.pop(0) if len(web.statuses) > 1 else web.statuses[0]
            self.send_response(status)
            if web.location:
                self.send_header("Location", web.location)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_GET = do_POST = do_PUT = answer

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    web.port = server.server_address[1]
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield web
    finally:
        web.let_go.set()
        server.shutdown()
        server.server_close()


@dataclass
class Mailbox:
    """A mail server: the mails it took, or that it refuses the password."""

    port: int = 0
    refuses: bool = False
    mails: list[str] = field(default_factory=list)


@contextmanager
def mail_server(*, refuses: bool = False) -> Iterator[Mailbox]:
    listener = socket.create_server(("127.0.0.1", 0))
    box = Mailbox(listener.getsockname()[1], refuses)

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=_converse, args=(connection, box), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield box
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def _converse(connection: socket.socket, box: Mailbox) -> None:
    with connection, connection.makefile("rwb") as stream:

        def say(line: str) -> None:
            stream.write(line.encode() + b"\r\n")
            stream.flush()

        say("220 here")
        while raw := stream.readline():
            word = raw.decode().split()[0].upper() if raw.split() else ""
            if word == "EHLO":
                say("250-here")
                say("250 AUTH PLAIN LOGIN")
            elif word == "AUTH":
                say("535 5.7.8 wrong" if box.refuses else "235 ok")
            elif word == "DATA":
                say("354 go on")
                lines = []
                while (line := stream.readline()) != b".\r\n":
                    lines.append(line.decode())
                box.mails.append("".join(lines))
                say("250 taken")
            elif word == "QUIT":
                say("221 bye")
                return
            else:
                say("250 ok")


@contextmanager
def deaf_port() -> Iterator[int]:
    """A port that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
