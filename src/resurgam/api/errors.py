"""What goes wrong, as HTTP answers: one body everywhere, `code`, `message`, `hint`, and `problems` if there are some.

Nothing that the client sent is echoed but the names of fields.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from resurgam.catalog.jobs import Job
from resurgam.errors import ResurgamError

_STATUS = {
    "usage": 422,
    "unauthorized": 401,
    "forbidden": 403,
    "not_found": 404,
    "busy": 409,
    "cancelled": 409,
    "archive": 422,
    "damaged": 422,
    "hostile": 422,
    "verify_failed": 422,
    "restore_refused": 422,
}
_UNFOUND = {
    404: ("not_found", "There is nothing at this address.", "GET /openapi.json describes what there is."),
    405: (
        "method_not_allowed",
        "This address does not take that method.",
        "GET /openapi.json describes what it takes.",
    ),
}
_LONGEST_FIELD = 60


class Answer(JSONResponse):
    """JSON in ASCII: a name that is no UTF-8 must not break an answer."""

    def render(self, content: Any) -> bytes:
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode("ascii")


class Refusal(Exception):
    """An answer that is an error, and not one of the operations' own."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        hint: str = "",
        problems: Sequence[str] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.hint = status, code, message, hint
        self.problems, self.headers = tuple(problems), headers


def refusal_of(error: ResurgamError | Refusal | RequestValidationError) -> Refusal:
    """Any error as the answer it becomes."""
    if isinstance(error, Refusal):
        return error
    if isinstance(error, RequestValidationError):
        return invalid(error.errors())
    headers = {"WWW-Authenticate": "Bearer"} if error.code == "unauthorized" else None
    problems = getattr(error, "problems", ())
    return Refusal(_STATUS.get(error.code, 500), error.code, error.message, error.hint, problems, headers)


def invalid(errors: Iterable[Mapping[str, Any]]) -> Refusal:
    """What pydantic found wrong, by field."""
    problems = [f"{_field(error['loc'])}: {error['msg'].removeprefix('Value error, ')}" for error in errors]
    return Refusal(
        422,
        "validation",
        "The request was not understood, and nothing was done: " + "; ".join(problems) + ".",
        "GET /openapi.json describes what is expected.",
        problems,
    )


def job_refusal(job: Job) -> Refusal:
    """Why a job that somebody waited for did not do what was asked."""
    hint = str(job.details.get("hint", ""))
    code = {"refused": "busy", "cancelled": "cancelled"}.get(str(job.outcome)) or str(job.details.get("code", "failed"))
    reason = job.reason or f"Job {job.id} did not come to an end."
    return Refusal(_STATUS.get(code, 500), code, reason, hint or f"GET /api/jobs/{job.id} has its log.")


def internal() -> Refusal:
    """A bug of ours."""
    return Refusal(
        500,
        "internal",
        "Something went wrong that should not have; it is in the log.",
        "Please report it, with the log.",
    )


def error_answer(error: Refusal) -> Answer:
    """The one body."""
    body: dict[str, Any] = {"code": error.code, "message": error.message, "hint": error.hint}
    if error.problems:
        body["problems"] = list(error.problems)
    return Answer(body, error.status, headers=error.headers)


def http_answer(error: HTTPException) -> Answer:
    """What the framework says by itself, an unknown path above all, in the same body."""
    code, message, hint = _UNFOUND.get(error.status_code, ("http", str(error.detail), ""))
    return error_answer(Refusal(error.status_code, code, message, hint, headers=error.headers))


def _field(location: Sequence[Any]) -> str:
    # Only the first part says where it stood: a field may have the same name, as `path` of contents.
    place = len(location) > 1 and location[0] in ("query", "path", "header", "body")
    parts = [str(part) for part in (location[1:] if place else location)]
    text = ".".join(parts)[:_LONGEST_FIELD]
    return "".join(c if c.isprintable() else "?" for c in text) or "body"
