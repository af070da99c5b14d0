"""What comes out about restores: the plan of one."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from resurgam.api.schemas import example

_NAME = "radiology_backup_20250104_143022"


class PlannedSessions(BaseModel):
    """Sessions that would be ended."""

    user: str
    application: str
    address: str
    count: int


class PlannedExtension(BaseModel):
    """An extension that the dump creates: as it is in the live database, as the server has it; null: it is not."""

    name: str
    live: str | None
    available: str | None


class PlannedServer(BaseModel):
    """The server that it goes to. `data_free`: null where it can't be seen from here."""

    server_version: str
    database_bytes: int | None
    data_free: int | None
    sessions: list[PlannedSessions]
    extensions: list[PlannedExtension]
    publications: list[str]


class PlannedDatabase(BaseModel):
    """The database half of a plan."""

    name: str
    replaces: bool
    kept_as: str | None = Field(description="With YYYYMMDDhhmmss_xxxxxx for the restore's id, which a plan has not.")
    tables: int
    rows: int
    dump_bytes: int
    dumped_from: str | None
    encoding: str | None
    collate: str | None
    missing_roles: list[str]
    creates_roles: list[str]
    server: PlannedServer | None


class PlannedNew(BaseModel):
    """Something that is to be made beside what is live."""

    kind: str = Field(description="database, schema, table or path")
    source: str = Field(description="What of the backup it is.")
    name: str = Field(description="What it will be called; the restore's own names end otherwise.")
    where: str


class RestorePlanned(BaseModel):
    """What a restore would do. It would be refused if there are `problems`, which are all there are."""

    model_config = example(
        success=False,
        backup_name=_NAME,
        backup_date="2025-01-04T14:30:22",
        dry_run=True,
        problems=["The server lacks extensions: vector."],
        warnings=[],
        makes=[],
        database=None,
        config=["docker-compose.yml"],
        config_diffs={"docker-compose.yml": ["--- now", "+++ backup", "@@ -1 +1 @@", "-version: 2", "+version: 3"]},
        files={"uploads": "/app/uploads"},
        files_bytes=7549747,
        bytes=7549747,
        estimated_seconds=3.4,
        estimated_from=5,
    )

    success: bool
    backup_name: str
    backup_date: str
    dry_run: Literal[True]
    problems: list[str]
    warnings: list[str]
    makes: list[PlannedNew] = Field(description="Of a restore that leaves everything live as it is.")
    database: PlannedDatabase | None
    config: list[str] | None
    config_diffs: dict[str, list[str]]
    files: dict[str, str] | None = Field(description="Trees by name, with the folders that they replace.")
    files_bytes: int
    bytes: int
    estimated_seconds: float | None = Field(description="By earlier restores and drills; null where there are none.")
    estimated_from: int
