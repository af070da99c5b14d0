"""Serves the API by uvicorn, on a socket of our own, and ends as an operator expects.

At SIGTERM, SIGINT or SIGHUP no more jobs are taken, and those under way are cancelled, or finished, as
BACKUP_ON_SHUTDOWN says. Until they have ended the API goes on answering, so that whoever waits for one hears of it;
then it stops. A second SIGINT ends it at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from types import FrameType

import uvicorn

from resurgam.api.app import app_of
from resurgam.api.runtime import Runtime
from resurgam.errors import ListenError
from resurgam.runlog import RunLog
from resurgam.service import Service

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
# For answers under way, once no job is: with the runner's own 8 s the process ends within 10.
_ANSWERS_SECONDS = 1


def serve(service: Service, host: str, port: int, environ: Mapping[str, str]) -> int:
    """Serve until a signal comes; the exit code, which is 0 then. ListenError where the port can't be had.

    Whatever else the API needs is opened before it listens: ResurgamError says what is wrong.
    """
    service.log.echo = True
    runtime = Runtime(service, environ)
    with contextlib.closing(_listen(host, port)) as listener:
        runtime.start()
        shown = f"[{host}]" if ":" in host else host
        config = uvicorn.Config(
            app_of(runtime),
            log_config=None,
            access_log=False,
            server_header=False,
            # A reverse proxy beside us may say for whom it asks; nobody else is believed.
            forwarded_allow_ips="127.0.0.1",
            timeout_graceful_shutdown=_ANSWERS_SECONDS,
        )
        with _logged(service.log):
            server = _Server(config, runtime, f"The API answers at http://{shown}:{listener.getsockname()[1]}.")
            server.run(sockets=[listener])
    service.log.info("The service has ended.")
    return 0 if server.started else 1


class _Server(uvicorn.Server):
    """uvicorn, but for what a signal does."""

    def __init__(self, config: uvicorn.Config, runtime: Runtime, ready: str) -> None:
        super().__init__(config)
        self._runtime, self._ready = runtime, ready
        self._ending: threading.Thread | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._runtime.log.info(self._ready)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        while self._ending is not None and self._ending.is_alive() and not self.force_exit:
            await asyncio.sleep(0.05)
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """As uvicorn's, but a signal that was obeyed is not raised again."""
        before = {number: signal.signal(number, self.handle_exit) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        if self._ending is None:
            # Not in the handler: it may have interrupted whoever holds the locks that this needs.
            self._ending = threading.Thread(target=self._end_jobs, args=(sig,), name="resurgam-stop", daemon=True)
            self._ending.start()

    def _end_jobs(self, number: int) -> None:
        self._runtime.log.info(f"The service ends: {signal.Signals(number).name}.")
        self._runtime.end_jobs()


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise ListenError(f"{host} is no address to listen on ({error.strerror}).", "--host 127.0.0.1") from None
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(128)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise ListenError(
            f"Port {port} of {host} can not be listened on ({error.strerror}); nothing was started.",
            "Is another service there? `ss -ltnp` shows it; --port takes another.",
        ) from None
    return listener


@contextlib.contextmanager
def _logged(log: RunLog) -> Iterator[None]:
    """What uvicorn and asyncio warn of, in our log."""
    handler = _Handler({"WARNING": log.warning, "ERROR": log.error})
    loggers = [logging.getLogger(name) for name in ("uvicorn", "asyncio")]
    for logger in loggers:
        logger.addHandler(handler)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeHandler(handler)


class _Handler(logging.Handler):
    def __init__(self, tell: Mapping[str, Callable[[str], None]]) -> None:
        super().__init__(logging.WARNING)
        self._tell = tell

    def emit(self, record: logging.LogRecord) -> None:
        tell = self._tell["ERROR" if record.levelno >= logging.ERROR else "WARNING"]
        tell(f"{record.name}: {record.getMessage()}")
        if record.exc_info:
            for line in logging.Formatter().formatException(record.exc_info).splitlines():
                tell(f"  {line}")
