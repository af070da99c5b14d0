"""What a restore is asked to do, and the plan of it: what would change, how large, how long, what stands in the way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from resurgam.errors import UsageError
from resurgam.operations.restore_database import DatabasePlan
from resurgam.operations.restore_files import FilesPlan
from resurgam.policy.estimate import Estimate
from resurgam.postgres.selection import Selection

PARTS = ("database", "config", "files")
RoleChoice = Literal["fail", "create", "skip"]


@dataclass(frozen=True, slots=True)
class Parts:
    """What to restore; the manual's three flags, an omitted one means true."""

    database: bool = True
    config: bool = True
    files: bool = True


@dataclass(frozen=True, slots=True)
class Wishes:
    """How to restore, and what of it. `roles`: what to do with roles that the dump names and the server lacks.
    `safety`: take a backup of the present state first; None leaves that to the settings.

    `into`: load the database under this new name, beside the live one, which stays; `to_server`: to another server,
    by the name of a service (pg_service.conf), or "setting" for RESTORE_DATABASE_URL. `tables` and `schemas` come into
    the live database under new names, with the tables' `foreign_keys` if wanted; `paths` of the backup into `folder`,
    or beside their live ones. `in_place`: the live database's content is replaced in one transaction, for roles that
    may not create databases; it needs the safety backup.
    """

    roles: RoleChoice = "fail"
    safety: bool | None = None
    into: str = ""
    to_server: str = ""
    schemas: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()
    foreign_keys: bool = False
    paths: tuple[str, ...] = ()
    folder: str = ""
    full_check: bool = False
    in_place: bool = False

    @property
    def elsewhere(self) -> bool:
        """Whether the whole database is wanted, under another name or on another server."""
        return bool(self.into or self.to_server)

    @property
    def beside(self) -> bool:
        """Whether everything live stays as it is."""
        return bool(self.elsewhere or self.schemas or self.tables or self.paths)

    def to_json(self) -> dict[str, Any]:
        return {name: list(v) if isinstance(v := getattr(self, name), tuple) else v for name in self.__slots__}

    def check(self) -> None:
        """UsageError for wishes that do not go together."""
        kinds = [self.elsewhere, bool(self.schemas or self.tables), bool(self.paths)]
        if sum(kinds) > 1:
            raise UsageError(
                "A database elsewhere, schemas or tables, and files are restored one at a time; nothing was done."
            )
        if self.in_place and self.beside:
            raise UsageError("In place the live database is replaced, and nothing comes beside; nothing was done.")
        if self.in_place and self.safety is False:
            raise UsageError(
                "In place no previous database is kept, so the backup of the present state can't be left out; nothing "
                "was done."
            )
        if self.full_check and (self.schemas or self.tables or self.paths):
            raise UsageError("Only a whole database has a fingerprint to check; nothing was done.")
        if self.schemas and self.tables:
            raise UsageError("Restore schemas and tables one after the other; nothing was done.")
        if self.folder and not self.paths:
            raise UsageError("A target folder is for files or folders of the backup; nothing was done.")
        if self.foreign_keys and not self.tables:
            raise UsageError("Foreign keys are those of tables, and none was named; nothing was done.")


def restore_wanted(request: Mapping[str, Any]) -> tuple[Parts, Wishes]:
    """The parts and wishes in a job's request."""
    parts = Parts(**{part: bool(request[part]) for part in PARTS})
    told: dict[str, Any] = {name: request[name] for name in Wishes.__dataclass_fields__ if name in request}
    lists: dict[str, Any] = {name: tuple(told[name]) for name in ("schemas", "tables", "paths") if name in told}
    told.update(lists)
    return parts, Wishes(**told)


@dataclass(frozen=True, slots=True)
class RestorePlan:
    """What a restore would do. `problems` refuse it, all together; nothing has been touched.

    `config_diffs`: for each config file that would change, the lines of a diff.
    """

    name: str
    date: str
    parts: Parts
    database: DatabasePlan | None
    files: FilesPlan | None
    problems: tuple[str, ...]
    warnings: tuple[str, ...]
    config_diffs: tuple[tuple[str, tuple[str, ...]], ...] = ()
    estimate: Estimate = field(default_factory=lambda: Estimate(None, 0))

    @property
    def size(self) -> int:
        """Bytes to load and to write."""
        return planned_size(self.database, self.files)

    def to_json(self) -> dict[str, Any]:
        files = self.files
        return {
            "success": not self.problems,
            "backup_name": self.name,
            "backup_date": self.date,
            "dry_run": True,
            "problems": list(self.problems),
            "warnings": list(self.warnings),
            "makes": [],
            "database": None if self.database is None else _database_json(self.database),
            "config": None if files is None or not self.parts.config else list(files.config),
            "config_diffs": {name: list(lines) for name, lines in self.config_diffs},
            "files": None if files is None or not self.parts.files else {n: str(p) for n, p in files.trees},
            "files_bytes": 0 if files is None else files.size,
            "bytes": self.size,
            "estimated_seconds": self.estimate.seconds,
            "estimated_from": self.estimate.runs,
        }


@dataclass(frozen=True, slots=True)
class Made:
    """Something new: of which kind (database, schema, table, path), what of the backup it is, what it is called."""

    kind: str
    source: str
    name: str
    where: str = ""

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "source": self.source, "name": self.name, "where": self.where}


@dataclass(frozen=True, slots=True)
class BesidePlan:
    """What a restore would make that leaves everything live as it is. `size`: bytes to load or write.

    `selection`: the tables and schemas, if it is about such.
    """

    name: str
    date: str
    made: tuple[Made, ...]
    database: DatabasePlan | None
    size: int
    problems: tuple[str, ...]
    warnings: tuple[str, ...]
    estimate: Estimate = field(default_factory=lambda: Estimate(None, 0))
    selection: Selection | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "success": not self.problems,
            "backup_name": self.name,
            "backup_date": self.date,
            "dry_run": True,
            "problems": list(self.problems),
            "warnings": list(self.warnings),
            "makes": [made.to_json() for made in self.made],
            "database": None if self.database is None else _database_json(self.database),
            "config": None,
            "config_diffs": {},
            "files": None,
            "files_bytes": 0 if self.database is not None else self.size,
            "bytes": self.size,
            "estimated_seconds": self.estimate.seconds,
            "estimated_from": self.estimate.runs,
        }


def planned_size(database: DatabasePlan | None, files: FilesPlan | None) -> int:
    """Bytes of the dump and the files."""
    return (database.script.size if database else 0) + (files.size if files else 0)


def _database_json(plan: DatabasePlan) -> dict[str, Any]:
    properties = plan.properties
    return {
        "name": plan.live,
        "replaces": plan.replaces,
        "kept_as": plan.previous if plan.replaces and not plan.in_place else None,
        "in_place": plan.in_place,
        "tables": len(plan.script.rows),
        "rows": sum(plan.script.rows.values()),
        "dump_bytes": plan.script.size,
        "dumped_from": plan.script.dumped_from,
        "encoding": None if properties is None else properties.encoding,
        "collate": None if properties is None else properties.collate,
        "missing_roles": sorted(plan.missing_roles),
        "creates_roles": list(plan.create_roles),
        "server": None if plan.surroundings is None else plan.surroundings.to_json(),
    }
