"""What comes out about backups: the manual's fields by the manual's names, and what was added to them.

Sizes in MB are of 1,048,576 bytes; `datetime` is UTC without a zone, as the manual shows it.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

_NAME = "radiology_backup_20250104_143022"
_PATH = f"/app/backups/{_NAME}.tar.gz"
_SUMMARY = {
    "backup_name": _NAME,
    "timestamp": "20250104_143022",
    "datetime": "2025-01-04T14:30:22",
    "archive_path": _PATH,
    "size_mb": 45.3,
    "database_size_mb": 38.1,
    "size_bytes": 47500493,
    "database_size_bytes": 39950745,
    "sequence": 15,
    "condition": "good",
    "problem": "",
    "locations": ["local"],
    "encryption": None,
}
_METADATA = {
    "backup_name": _NAME,
    "timestamp": "20250104_143022",
    "datetime": "2025-01-04T14:30:22.123456",
    "database": {"success": True, "file": "database_20250104_143022.sql", "size_mb": 38.1},
    "configuration": {"success": True, "files_count": 1, "files": [".env.example"]},
    "files": {"success": True, "directories_count": 2, "directories": ["templates", "uploads"]},
    "backup_size_mb": 45.3,
}


def example(**fields: Any) -> ConfigDict:
    """A model's example in the OpenAPI document."""
    return ConfigDict(json_schema_extra={"example": fields})


class Error(BaseModel):
    """The one body of whatever went wrong."""

    model_config = example(
        code="busy",
        message="A backup is under way (job 12); this backup was not started.",
        hint="Wait until it has ended, or cancel it.",
    )

    code: str = Field(description="Stable; docs/api.md and docs/troubleshooting.md list them.")
    message: str = Field(description="What happened, and what is untouched.")
    hint: str = Field(description="The next step; empty where nothing helps.")
    problems: list[str] | None = Field(None, description="Where there are several.")


class Root(BaseModel):
    """The service lives."""

    model_config = example(service="resurgam", status="running")

    service: Literal["resurgam"]
    status: Literal["running"]


class Alive(BaseModel):
    """The process answers."""

    model_config = example(status="ok")

    status: Literal["ok"]


class Ready(BaseModel):
    """Whether requests can be answered as they should, and why not."""

    model_config = example(status="ready", reasons=[])

    status: Literal["ready", "not ready"]
    reasons: list[str]


class Started(BaseModel):
    """It runs in the background; GET /api/jobs/{job_id} says how far it is."""

    model_config = example(message="Backup started in background", status="processing", job_id=12)

    message: str
    status: Literal["processing"]
    job_id: int


class RestoreStarted(Started):
    """The restore runs in the background."""

    model_config = example(
        message="Restore started in background",
        backup_name=_NAME,
        backup_date="2025-01-04T14:30:22",
        status="processing",
        warning="Application may need to be restarted after restore completes",
        job_id=13,
    )

    backup_name: str
    backup_date: str
    warning: str


class CreatedBackup(BaseModel):
    """A backup that was just taken. `degraded`: it is whole, and `failures` say what failed after it. `added_bytes`:
    what it made a repository larger by."""

    success: Literal[True]
    backup_name: str
    archive_path: str
    size_mb: float
    size_bytes: int
    added_bytes: int | None = None
    seconds: float
    degraded: bool
    warnings: list[str]
    failures: list[str]
    copied: list[str]
    pruned: list[str]
    metadata: dict[str, Any] | None


class Created(BaseModel):
    """The backup is there."""

    model_config = example(
        message="Backup created successfully",
        backup={
            "success": True,
            "backup_name": _NAME,
            "archive_path": _PATH,
            "size_mb": 45.3,
            "size_bytes": 47500493,
            "added_bytes": None,
            "seconds": 3.2,
            "degraded": False,
            "warnings": [],
            "failures": [],
            "copied": [],
            "pruned": [],
            "metadata": _METADATA,
        },
        job_id=12,
    )

    message: str
    backup: CreatedBackup
    job_id: int


class Summary(BaseModel):
    """A backup in a list."""

    model_config = example(**_SUMMARY)

    backup_name: str
    timestamp: str
    datetime: str
    archive_path: str
    size_mb: float
    database_size_mb: float | None
    size_bytes: int
    database_size_bytes: int | None
    sequence: int = Field(description="Orders backups; 0 for an archive that Resurgam did not make.")
    condition: Literal["good", "foreign", "sealed", "damaged"]
    problem: str = Field(description="What is wrong with a damaged one; why a sealed one was not opened.")
    locations: list[Literal["local", "remote", "repository"]] = Field(description="The best copy first.")
    encryption: Literal["age", "gpg"] | None = Field(description="How the best copy's archive is encrypted.")


class Copy(BaseModel):
    """One copy of a backup."""

    location: Literal["local", "remote", "repository"]
    path: str
    size_mb: float
    condition: Literal["good", "foreign", "sealed", "damaged"]
    problem: str


class Shown(Summary):
    """One backup: its copies, and its backup_metadata.json."""

    model_config = example(
        **_SUMMARY,
        pinned=False,
        copies=[{"location": "local", "path": _PATH, "size_mb": 45.3, "condition": "good", "problem": ""}],
        metadata=_METADATA,
    )

    pinned: bool = Field(description="No retention deletes it.")
    copies: list[Copy]
    metadata: dict[str, Any] | None


class Deleted(BaseModel):
    """The backup is gone, in all places."""

    model_config = example(
        message=f"Backup {_NAME} deleted successfully",
        success=True,
        backup_name=_NAME,
        deleted=["local"],
        remaining=[],
        freed_mb=45.3,
        dry_run=False,
    )

    message: str
    success: Literal[True]
    backup_name: str
    deleted: list[str]
    remaining: list[str]
    freed_mb: float
    dry_run: bool


class Verification(BaseModel):
    """A backup that is what it says, to the last byte."""

    success: Literal[True]
    backup_name: str
    backup_date: str
    total_files: int
    database_backup: bool
    size_mb: float
    size_bytes: int
    content_bytes: int
    tables: int
    rows: int
    foreign: bool
    archive_path: str
    full: bool


class Verified(BaseModel):
    """It passed. One that does not is answered by 422, code `verify_failed` or `damaged`."""

    model_config = example(
        message="Backup verification passed",
        verification={
            "success": True,
            "backup_name": _NAME,
            "backup_date": "2025-01-04T14:30:22",
            "total_files": 156,
            "database_backup": True,
            "size_mb": 45.3,
            "size_bytes": 47500493,
            "content_bytes": 61000000,
            "tables": 12,
            "rows": 20418,
            "foreign": False,
            "archive_path": _PATH,
            "full": True,
        },
        job_id=14,
    )

    message: str
    verification: Verification
    job_id: int


class Pruned(BaseModel):
    """One decision of a prune."""

    backup_name: str
    location: str
    action: Literal["keep", "delete"]
    reason: str
    size_mb: float
    error: str | None = None


class PruneOutcome(BaseModel):
    """What a prune did, or would do."""

    success: bool
    dry_run: bool
    frozen: list[str]
    deleted: int
    freed_mb: float
    plan: list[Pruned]
    repository: dict[str, Any] | None = Field(description="What became of the repository's packs; null of archives.")


class PruneAnswer(BaseModel):
    """The prune is over; `job_id` is null for a dry run, which is none."""

    model_config = example(
        message="Prune would delete 1 backups",
        prune={
            "success": True,
            "dry_run": True,
            "frozen": [],
            "deleted": 1,
            "freed_mb": 45.3,
            "plan": [
                {
                    "backup_name": _NAME,
                    "location": "local",
                    "action": "delete",
                    "reason": "older than 30 days",
                    "size_mb": 45.3,
                }
            ],
            "repository": None,
        },
        job_id=None,
    )

    message: str
    prune: PruneOutcome
    job_id: int | None


class Pinned(BaseModel):
    """Whether a backup is kept whatever the retention says."""

    model_config = example(backup_name=_NAME, pinned=True)

    backup_name: str
    pinned: bool


class ContentEntry(BaseModel):
    """A file, folder or link in a backup. What is null is not known of it (a folder that has no entry of its own)."""

    path: str = Field(description="Bytes that are no UTF-8, and control characters, are shown as \\xNN.")
    name: str
    kind: Literal["file", "folder", "symlink", "hardlink"]
    size: int
    mtime: str | None
    mode: str | None
    target: str | None


class Contents(BaseModel):
    """What stands in one folder of a backup, by name."""

    model_config = example(
        backup_name=_NAME,
        path="files/uploads",
        entries=[
            {
                "path": "files/uploads/scan.dcm",
                "name": "scan.dcm",
                "kind": "file",
                "size": 524288,
                "mtime": "2025-01-03T09:12:44+00:00",
                "mode": "0644",
                "target": None,
            }
        ],
        next_cursor=None,
    )

    backup_name: str
    path: str
    entries: list[ContentEntry]
    next_cursor: str | None
