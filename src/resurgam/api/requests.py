"""What comes in: JSON bodies, read as JSON whatever their Content-Type says, since the manual's scenario 2 sends none.

A body is read only after the caller was let pass, and no more of it than any sensible one has.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Annotated, Any, Literal, Self, TypeVar

from fastapi import Request
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictStr,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)
from starlette.requests import ClientDisconnect

from resurgam.api.call import call_of
from resurgam.api.errors import Refusal, invalid
from resurgam.errors import UsageError
from resurgam.operations.restore_plan import restore_wanted

_LARGEST = 64 << 10
Model = TypeVar("Model", bound=BaseModel)

Name = Annotated[str, StringConstraints(strict=True, min_length=1, max_length=300)]
Path = Annotated[str, StringConstraints(strict=True, min_length=1, max_length=4096)]
_WANTED: dict[str, Any] = {
    "backup_name": "radiology_backup_20250104_143022",
    "restore_database": True,
    "restore_config": True,
    "restore_files": True,
}


class RestorePlanRequest(BaseModel):
    """What a restore would do; nothing is touched."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": _WANTED})

    backup_name: StrictStr = Field(
        "", max_length=100, description="As the list of backups shows it. Needed unless there is `as_of`."
    )
    as_of: StrictStr = Field(
        "", max_length=60, description="Instead: the newest backup from before that time, UTC unless it has an offset."
    )
    restore_database: StrictBool = Field(True, description="Restore the database.")
    restore_config: StrictBool = Field(True, description="Restore the config files.")
    restore_files: StrictBool = Field(True, description="Restore the file trees.")
    roles: Literal["fail", "create", "skip"] = Field(
        "fail",
        description="Roles that the dump names and the server lacks: refuse, create (without login or password), or "
        "leave out what is given to them.",
    )
    full_check: StrictBool = Field(
        False, description="Read the loaded database back and compare it with the backup's fingerprint before the swap."
    )
    in_place: StrictBool = Field(
        False,
        description="Where the role may not create databases: replace the live database's content in one transaction. "
        "No previous database is kept; a safety backup is always taken.",
    )
    into: StrictStr = Field("", max_length=63, description="Load the database under this new name; the live one stays.")
    to_server: StrictStr = Field(
        "",
        max_length=100,
        description="Load the database on another server: a service of pg_service.conf, or `setting` for "
        "RESTORE_DATABASE_URL.",
    )
    schemas: list[Name] = Field([], max_length=20, description="Bring these into the live database under new names.")
    tables: list[Name] = Field([], max_length=20, description="The same for tables, beside the present ones.")
    foreign_keys: StrictBool = Field(False, description="With `tables`: their foreign keys too, not checked.")
    paths: list[Path] = Field(
        [], max_length=20, description="Bring these files and folders of the backup, beside their live ones."
    )

    @model_validator(mode="after")
    def _something(self) -> Self:
        if bool(self.backup_name) == bool(self.as_of):
            raise ValueError("either backup_name or as_of must be given")
        try:
            restore_wanted(self.asked())[1].check()
        except UsageError as error:
            raise ValueError(error.message) from None
        if not (self.restore_database or self.restore_config or self.restore_files):
            raise ValueError("nothing is to be restored: all three parts are false")
        return self

    def asked(self) -> dict[str, Any]:
        """What to restore and how, without the name, as a job's request holds it."""
        return {
            "database": self.restore_database,
            "config": self.restore_config,
            "files": self.restore_files,
            "roles": self.roles,
            "full_check": self.full_check,
            "in_place": self.in_place,
            "into": self.into,
            "to_server": self.to_server,
            "schemas": self.schemas,
            "tables": self.tables,
            "foreign_keys": self.foreign_keys,
            "paths": self.paths,
        }


class RestoreRequest(RestorePlanRequest):
    """What to restore. `confirm` must be true: the live data are replaced (and kept beside)."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {**_WANTED, "confirm": True}})

    safety_backup: StrictBool | None = Field(
        None, description="Take a backup of the present state first. Without it: as RESTORE_SAFETY_BACKUP says."
    )
    confirm: StrictBool = Field(
        False, validate_default=True, description="Must be true, else nothing is done: the live data are replaced."
    )

    def asked(self) -> dict[str, Any]:
        return {**super().asked(), "safety": self.safety_backup}

    @field_validator("confirm")
    @classmethod
    def _confirmed(cls, confirm: bool) -> bool:
        if not confirm:
            raise ValueError("must be true, since a restore replaces the live data")
        return confirm


class PruneRequest(BaseModel):
    """Delete what the retention no longer keeps, or only say what that is. No body at all means the first."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"dry_run": True}})

    dry_run: StrictBool = Field(False, description="Only say what would be deleted.")
    accept: StrictBool = Field(
        False, description="Somebody has looked: backups that were suspicious count from now on like any other."
    )


class DrillRequest(BaseModel):
    """Restore a backup for practice; no body at all means the newest good one."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"backup_name": _WANTED["backup_name"]}})

    backup_name: str | None = Field(None, max_length=250, description="The backup; without it the newest good one.")


def body_of(model: type[BaseModel]) -> Callable[..., Any]:
    """A dependency that reads the body into the call. Refusal (413, 422) if it is not one."""

    async def read(request: Request) -> None:
        raw = await _raw(request)
        if not raw.strip() and not any(field.is_required() for field in model.model_fields.values()):
            raw = b"{}"
        call_of(request).body = parse(model, raw)

    return read


def body_in(request: Request, model: type[Model]) -> Model:
    """The body that the dependency read."""
    body = call_of(request).body
    assert isinstance(body, model)
    return body


def parse(model: type[Model], raw: bytes) -> Model:
    """One JSON object as a model. Refusal (422) with everything that is wrong with it."""
    try:
        value = json.loads(raw.decode("utf-8"), object_pairs_hook=_once, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise Refusal(
            422,
            "validation",
            "The body is not one JSON object with each field once; nothing was done.",
            "GET /openapi.json describes what is expected.",
        ) from None
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise invalid(error.errors(include_input=False, include_url=False, include_context=False)) from None


def body_schema(model: type[BaseModel]) -> dict[str, Any]:
    """The body's entry in the OpenAPI document."""
    schema = model.model_json_schema()
    # Of a restore's either the name or a moment: no field alone is required, and yet nothing will not do.
    required = "as_of" in model.model_fields or any(field.is_required() for field in model.model_fields.values())
    if "confirm" in schema["properties"]:
        schema["properties"]["confirm"] |= {"const": True}
        schema["properties"]["confirm"].pop("default")
        schema["required"] = [*schema.get("required", []), "confirm"]
    return {"required": required, "content": {"application/json": {"schema": schema}}}


async def _raw(request: Request) -> bytes:
    raw = b""
    try:
        async for block in request.stream():
            raw += block
            if len(raw) > _LARGEST:
                raise Refusal(413, "too_large", "The body is too long; nothing was done.")
    except ClientDisconnect:  # nobody reads this answer; the audit log has it
        raise Refusal(422, "validation", "The client went before its body was whole; nothing was done.") from None
    return raw


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Two answers to one question, `confirm` above all, are none."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a field stands twice")
    return found


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is no JSON")
