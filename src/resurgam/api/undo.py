"""POST /api/backups/undo: takes the latest restore back."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import Query, Request
from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictStr, field_validator

from resurgam.api.call import runtime_of
from resurgam.api.errors import Answer
from resurgam.api.requests import body_in
from resurgam.api.routing import Operation, Routes
from resurgam.api.running import start_job

_WARNING = "Application may need to be restarted after undo completes"


class UndoRequest(BaseModel):
    """Take the latest restore (or undo) back. `confirm` must be true: the live data are replaced (and kept beside)."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"confirm": True}})

    restore_id: StrictStr = Field(
        "", max_length=64, description="Only this one, by the `undoes` of a plan: refused where a later one came."
    )
    accept_changes: StrictBool = Field(False, description="Bring it back although it was changed since it was kept.")
    confirm: StrictBool = Field(
        False, validate_default=True, description="Must be true, else nothing is done: the live data are replaced."
    )

    @field_validator("confirm")
    @classmethod
    def _confirmed(cls, confirm: bool) -> bool:
        if not confirm:
            raise ValueError("must be true, since an undo replaces the live data")
        return confirm


class UndoStarted(BaseModel):
    """The undo runs in the background; GET /api/jobs/{job_id} says how far it is."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "message": "Undo started in background",
                "status": "processing",
                "warning": _WARNING,
                "job_id": 14,
            }
        }
    )

    message: str
    status: Literal["processing"]
    warning: str
    job_id: int


def undo(
    request: Request,
    wait: Annotated[
        bool, Query(description="Stand in line behind another run, rather than be refused by 409.")
    ] = False,
) -> Answer:
    """Start an undo in the background. **It replaces the live data** by what the latest restore had replaced."""
    wanted = body_in(request, UndoRequest)
    app = runtime_of(request).service.settings.app_name
    asked = {"restore_id": wanted.restore_id, "accept_changes": wanted.accept_changes}
    job = start_job(request, "undo", app, asked, wait=wait)
    return Answer({"message": "Undo started in background", "status": "processing", "warning": _WARNING, "job_id": job})


def add_undo(routes: Routes) -> None:
    operation = Operation("undoRestore", "backups", "admin", UndoStarted, (409, 422), "undo", UndoRequest)
    routes.add("POST", "/api/backups/undo", undo, operation)
