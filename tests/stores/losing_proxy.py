"""A TCP proxy in front of a server that loses what it is told to: requests, or the answers to them."""

from __future__ import annotations

import socket
import threading
from typing import Self
from urllib.parse import urlsplit


class LosingProxy:
    """Runs inside a `with` block, at `endpoint`.

    `lose_answers` and `lose_requests`: how many of the next requests whose method is `method` the server carries out
    without an answer, or never sees. `heads` are the heads of all requests.
    """

    def __init__(self, target: str, method: str = "PUT") -> None:
        parts = urlsplit(target)
        self._target = (parts.hostname or "", parts.port or 0)
        self._method = method.encode() + b" "
        self.lose_answers = 0
        self.lose_requests = 0
        self.lost = 0
        self.heads: list[str] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        """One request and its answer; then the connection ends, which HTTP allows at any time."""
        with client, socket.create_connection(self._target) as server:
            request = _message(client)
            if not request:
                return
            self.heads.append(request.partition(b"\r\n\r\n")[0].decode("latin-1").lower())
            meant = request.startswith(self._method)
            if meant and self.lose_requests:
                self.lose_requests -= 1
                self.lost += 1
                return
            server.sendall(request)
            answer = _message(server, head_only=request.startswith(b"HEAD "))
            if meant and self.lose_answers:
                self.lose_answers -= 1
                self.lost += 1
                return
            client.sendall(answer)


def _message(source: socket.socket, head_only: bool = False) -> bytes:
    """One whole HTTP message with a Content-Length, or chunked, or without a body."""
    data = b""
    while b"\r\n\r\n" not in data:
        part = source.recv(1 << 16)
        if not part:
            return data
        data += part
    head, _, body = data.partition(b"\r\n\r\n")
    fields = dict(line.lower().split(b":", 1) for line in head.split(b"\r\n")[1:])
    # The proxy serves one request a connection.
    head = b"\r\n".join(line for line in head.split(b"\r\n") if not line.lower().startswith(b"connection:"))
    head += b"\r\nConnection: close"
    if head_only:
        return head + b"\r\n\r\n"
    chunked = b"chunked" in fields.get(b"transfer-encoding", b"")
    length = int(fields.get(b"content-length", b"0"))
    while (not body.endswith(b"0\r\n\r\n")) if chunked else len(body) < length:
        part = source.recv(1 << 16)
        if not part:
            break
        body += part
    return head + b"\r\n\r\n" + body
