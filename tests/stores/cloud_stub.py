"""Google Cloud Storage and Azure Blob Storage, as far as our client asks them: no emulator of either is to be had here.

It answers as the services document it (GCS's XML API, Azure's REST API), and holds objects in memory. What it can't
show: that the services do as documented. Signatures are not checked.
"""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from time import time
from typing import Self
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

ACCOUNT = "account"
_AZURE_ITEM = (
    "<Blob><Name>{}</Name><Properties><Last-Modified>{}</Last-Modified><Content-Length>{}</Content-Length>"
    "<Content-Type>x</Content-Type><Etag>1</Etag></Properties></Blob>"
)
_GCS_ITEM = "<Contents><Key>{}</Key><LastModified>{}</LastModified><Size>{}</Size><ETag>1</ETag></Contents>"


class CloudStub:
    """Runs inside a `with` block, at `endpoint`; any bucket or container is there."""

    def __init__(self, service: str) -> None:
        self.service = service
        self.objects: dict[str, tuple[bytes, float]] = {}
        self.lock = threading.Lock()
        handler = type("Handler", (_Handler,), {"stub": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def environment(self) -> dict[str, str]:
        if self.service == "gs":
            account = {"gcs_base_url": self.endpoint, "disable_oauth": True, "client_email": "", "private_key": ""}
            key = json.dumps({**account, "private_key_id": ""})
            return {"GOOGLE_SERVICE_ACCOUNT_KEY": key, "GOOGLE_BASE_URL": self.endpoint}
        return {
            "AZURE_STORAGE_ACCOUNT_NAME": ACCOUNT,
            "AZURE_STORAGE_ACCOUNT_KEY": "a2V5",
            "AZURE_STORAGE_ENDPOINT": self.endpoint,
        }

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    stub: CloudStub

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _answer(self, status: int, body: bytes = b"", code: str = "", **fields: str) -> None:
        if code:
            body = f'<?xml version="1.0" encoding="utf-8"?><Error><Code>{code}</Code></Error>'.encode()
        self.send_response(status)
        for name, value in fields.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    @property
    def _name(self) -> str:
        return unquote(urlsplit(self.path).path).lstrip("/")

    def do_PUT(self) -> None:
        data = self.rfile.read(int(self.headers["Content-Length"]))
        azure = self.stub.service == "az"
        create = self.headers["If-None-Match"] == "*" if azure else self.headers["x-goog-if-generation-match"] == "0"
        with self.stub.lock:
            taken = create and self._name in self.stub.objects
            if not taken:
                self.stub.objects[self._name] = (data, time())
        if taken:
            status, code = (409, "BlobAlreadyExists") if azure else (412, "PreconditionFailed")
            self._answer(status, code=code)
        else:
            self._answer(201 if azure else 200, ETag='"1"')

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        query = parse_qs(urlsplit(self.path).query, keep_blank_values=True)
        if "list" in query.get("comp", ()) or "list-type" in query:
            self._list(
                query.get("prefix", [""])[0], (query.get("marker") or query.get("continuation-token") or [""])[0]
            )
            return
        found = self.stub.objects.get(self._name)
        if found is None:
            self._answer(404, code="BlobNotFound" if self.stub.service == "az" else "NoSuchKey")
            return
        data, at = found
        fields = {"ETag": '"1"', "Last_Modified": formatdate(at, usegmt=True)}
        if wanted := self.headers["Range"]:
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            begin, end = int(first), min(int(last or len(data)), len(data) - 1)
            if begin >= len(data):
                self._answer(416, code="InvalidRange")
            else:
                span = f"bytes {begin}-{end}/{len(data)}"
                self._answer(206, data[begin : end + 1], "", Content_Range=span, **fields)
        else:
            self._answer(200, data, "", **fields)

    def do_DELETE(self) -> None:
        with self.stub.lock:
            found = self.stub.objects.pop(self._name, None)
        azure = self.stub.service == "az"
        if found is None:
            self._answer(404, code="BlobNotFound" if azure else "NoSuchKey")
        else:
            self._answer(202 if azure else 204)

    def do_POST(self) -> None:
        """Azure's batch of deletions: each part of the answer has the number of its part."""
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        answers: list[str] = []
        for part in body.split("\r\nDELETE ")[1:]:
            name = unquote(urlsplit(part.split(" ", 1)[0]).path).lstrip("/")
            with self.stub.lock:
                found = self.stub.objects.pop(name, None)
            status = "202 Accepted" if found else "404 The specified blob does not exist."
            code = "" if found else "x-ms-error-code: BlobNotFound\r\n"
            head = f"--b\r\nContent-Type: application/http\r\nContent-ID: {len(answers)}\r\n\r\n"
            answers.append(f"{head}HTTP/1.1 {status}\r\n{code}x-ms-request-id: 1\r\n\r\n")
        self._answer(202, ("".join(answers) + "--b--\r\n").encode(), "", Content_Type="multipart/mixed; boundary=b")

    def _list(self, prefix: str, after: str) -> None:
        """A page of 500."""
        bucket = self._name.split("/")[0] + "/"
        with self.stub.lock:
            every = sorted((name.removeprefix(bucket), *found) for name, found in self.stub.objects.items())
        page = [one for one in every if one[0].startswith(prefix) and one[0] > after]
        more = page[499][0] if len(page) > 500 else ""
        if self.stub.service == "az":
            parts = "".join(
                _AZURE_ITEM.format(escape(n), formatdate(at, usegmt=True), len(d)) for n, d, at in page[:500]
            )
            text = f"<EnumerationResults><Blobs>{parts}</Blobs><NextMarker>{more}</NextMarker></EnumerationResults>"
        else:
            times = (datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") for _, _, at in page)
            parts = "".join(
                _GCS_ITEM.format(escape(n), at, len(d)) for (n, d, _), at in zip(page[:500], times, strict=False)
            )
            token = f"<NextContinuationToken>{more}</NextContinuationToken>" if more else ""
            text = f"<ListBucketResult>{parts}{token}</ListBucketResult>"
        self._answer(200, f'<?xml version="1.0" encoding="utf-8"?>{text}'.encode(), Content_Type="application/xml")
