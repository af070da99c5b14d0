"""What a restore is asked to do, and the plan of it: what would change, how large, how long, what stands in the way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from resurgam.operations.restore_database import DatabasePlan
from resurgam.operations.restore_files import FilesPlan
from resurgam.policy.estimate import Estimate

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
    """How to restore. `roles`: what to do with roles that the dump names and the server lacks. `safety`: take a backup
    of the present state first; None: as RESTORE_SAFETY_BACKUP says.

    `into`: load the database under this new name, beside the live one, which stays; `to_server`: to another server,
    by the name of a service (pg_service.conf), or "setting" for RESTORE_DATABASE_URL.
    """

    roles: RoleChoice = "fail"
    safety: bool | None = None
    into: str = ""
    to_server: str = ""

    @property
    def elsewhere(self) -> bool:
        """Whether the live database stays as it is."""
        return bool(self.into or self.to_server)


def restore_wanted(request: Mapping[str, Any]) -> tuple[Parts, Wishes]:
    """The parts and wishes in a job's request."""
    parts = Parts(**{part: bool(request[part]) for part in PARTS})
    return parts, Wishes(roles=request.get("roles", "fail"), safety=request.get("safety"))


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
            "database": None if self.database is None else _database_json(self.database),
            "config": None if files is None or not self.parts.config else list(files.config),
            "config_diffs": {name: list(lines) for name, lines in self.config_diffs},
            "files": None if files is None or not self.parts.files else {n: str(p) for n, p in files.trees},
            "files_bytes": 0 if files is None else files.size,
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
        "kept_as": plan.previous if plan.replaces else None,
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
