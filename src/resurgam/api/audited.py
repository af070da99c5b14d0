"""Every call that changes something, and every refusal of one, in the audit log.

Rules:
- A call that may do what it asks is noted as `accepted` before its handler acts; where that can't be written, nothing
  is done (503).
- How it was answered is noted after it. Where that fails the log has it; the answer stays what it is.
- Of refusals without a known caller only so many a minute are noted one by one; the next entry says how many more.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from fastapi import Request
from starlette.concurrency import run_in_threadpool

from resurgam.api.access import address_of
from resurgam.api.call import call_of, caller_of
from resurgam.api.errors import Refusal
from resurgam.api.runtime import Runtime
from resurgam.catalog.audit import AuditOutcome
from resurgam.clock import Clock
from resurgam.errors import StateError

_NOTED = 20
_WINDOW_SECONDS = 60.0


def accepted(runtime: Runtime, action: str) -> Callable[..., Any]:
    """A dependency, the last before the handler: the audit log has the call, or it ends here."""

    def note(request: Request) -> None:
        caller = caller_of(request)
        details = {"address": address_of(request), **_asked(request)}
        try:
            runtime.state.audit.append(caller.name, caller.role, "api", action, target_of(request), "accepted", details)
        except StateError as error:
            runtime.log.error(f"{action} {target_of(request)}: refused, it could not be audited: {error.message}")
            raise Refusal(
                503,
                "state",
                f"This could not be written to the audit log, so nothing was done. {error.message}",
                error.hint,
            ) from None

    return note


class Outcomes:
    """Notes how calls were answered."""

    def __init__(self, runtime: Runtime, clock: Clock) -> None:
        self._runtime, self._clock = runtime, clock
        self._lock = threading.Lock()
        self._since, self._count, self._unnoted = float("-inf"), 0, 0

    async def note(self, request: Request, action: str, status: int, code: str) -> None:
        """Note the answer to a call; `code` is an error's, or ""."""
        call = call_of(request)
        caller = call.caller
        more = 0
        if caller is None:
            counted = self._counted()
            if counted is None:
                return
            more = counted
        details: dict[str, Any] = {"status": status, "address": address_of(request)}
        details |= {"code": code} if code else {}
        details |= {"more_refused": more} if more else {}
        details |= {"job_id": call.job_id} if call.job_id is not None else {}
        name, role = (caller.name, caller.role) if caller is not None else ("", None)
        await run_in_threadpool(self._append, name, role, action, target_of(request), _outcome(status, code), details)

    def _append(self, name: str, role: Any, action: str, target: str, how: AuditOutcome, details: Any) -> None:
        try:
            self._runtime.state.audit.append(name, role, "api", action, target, how, details)
        except StateError as error:
            self._runtime.log.error(f"{action} {target}: {how}; this could not be audited: {error.message}", actor=name)

    def _counted(self) -> int | None:
        """How many were left out before this one; None if this one is left out too."""
        with self._lock:
            now = self._clock.monotonic()
            if now - self._since >= _WINDOW_SECONDS:
                self._since, self._count = now, 0
            self._count += 1
            if self._count > _NOTED:
                self._unnoted += 1
                return None
            left_out, self._unnoted = self._unnoted, 0
            return left_out


def target_of(request: Request) -> str:
    """What a call is about: a backup, a job, or nothing in particular."""
    named = getattr(call_of(request).body, "backup_name", None)
    return str(named or request.path_params.get("backup_name") or request.path_params.get("job_id") or "")


def _asked(request: Request) -> dict[str, Any]:
    body = call_of(request).body
    return {} if body is None else {"asked": body.model_dump()}


def _outcome(status: int, code: str) -> AuditOutcome:
    if code == "cancelled":
        return "cancelled"
    return "ok" if status < 400 else "refused" if status < 500 else "failed"
