"""Drill: restore a backup where nobody is harmed, and find out whether it gives back what was there.

The same road as a restore as far as the swap: the dump is read, loaded into a scratch database and counted, the files
are written with every digest checked. Then the copy is compared with what the backup says of itself, asked what
drill.toml asks, and removed, whatever came of it (docs/ordering.md, "Drills"). The live side is never touched.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from resurgam import __version__
from resurgam.archive.extract import ExtractLimits, ExtractReport, extract
from resurgam.archive.foreign import ForeignArchive
from resurgam.archive.opening import Archive
from resurgam.catalog.audit import Actor
from resurgam.catalog.catalog import BackupRecord
from resurgam.catalog.drills import DrillOutcome
from resurgam.catalog.state import State
from resurgam.clock import Clock
from resurgam.durable import replace_file
from resurgam.errors import ArchiveError, NotFoundError, RestoreFailed, RestoreRefused, ResurgamError, VerifyFailed
from resurgam.operations.backup import Application, BackupResult
from resurgam.operations.drill_assertions import Restored, check_assertions
from resurgam.operations.drill_database import DatabaseDrill, Found, timed
from resurgam.operations.drill_recovery import FOLDER, recover_drills, remove_scratch
from resurgam.operations.drill_server import noted_server, site_of, where_of
from resurgam.operations.inventory import Inventory
from resurgam.operations.progress import Progress
from resurgam.operations.run_ids import new_id
from resurgam.policy.drills import count_differences, evidence_bytes, tree_differences
from resurgam.postgres.connection import short_name
from resurgam.settings import DrillRules, Settings
from resurgam.settings.drill_file import Assertion, read_drill_file

FORMAT = 1
# What of a drill a restore would take as well.
_RTO = ("read", "load", "files")
# Errors that say something of the backup; others say that the drill could not be carried out.
_VERDICTS = (ArchiveError, VerifyFailed, RestoreFailed)


@dataclass(frozen=True, slots=True)
class DrillResult:
    """How a drill ended. `report` is the evidence, `digest` its SHA-256; `path` where it lies beside the backup."""

    outcome: DrillOutcome
    report: dict[str, Any]
    digest: str
    path: Path | None
    warnings: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        return self.outcome == "passed"

    def to_json(self) -> dict[str, Any]:
        return {"success": self.passed, **self.report, "digest": self.digest}


@dataclass(slots=True)
class Drilling:
    """What every step of a drill needs."""

    application: Application
    inventory: Inventory
    state: State
    rules: DrillRules
    connections: int
    pg_bin: Path | None
    actor: Actor
    clock: Clock
    progress: Progress
    prove_kit: Callable[[], object] | None = None

    def drill(self, name: str | None) -> DrillResult:
        """Drill the backup of that name, or the newest good one. NotFoundError if there is none.

        What speaks against the backup is in the result; an error that only kept the drill from being carried out is
        raised, after it was recorded.
        """
        self.inventory.folder.prepare()
        warnings, _ = recover_drills(self.state, self.application.server, self.rules, self.inventory.folder.path)
        self.inventory.refresh()
        record = self._chosen(name)
        assertions = () if self.rules.file is None else read_drill_file(self.rules.file)
        drill_id = new_id(self.clock.now())
        name_of_ours = short_name(self._database_name(), f"_drill_{drill_id}")
        scratch = {
            "where": where_of(self.rules),
            "path": str(self.inventory.folder.path / f"{FOLDER}{drill_id}"),
            "database": name_of_ours,
            "role": name_of_ours,
            **noted_server(self.rules, self.application.server),
        }
        begun_at = self.clock.now()
        number = self.state.drills.begin(record.name, scratch)
        found = Found(warnings=list(warnings))
        outcome: DrillOutcome = "error"
        try:
            outcome = self._outcome(record, assertions, scratch, number, found)
        finally:
            result = self._conclude(number, record, outcome, found, begun_at)
        if found.problem is not None and outcome == "error":
            raise found.problem
        return result

    def _chosen(self, name: str | None) -> BackupRecord:
        if name is not None:
            return self.inventory.find(name)
        self.inventory.holdings.require_readable()
        newest = self._newest()
        if newest is None:
            raise NotFoundError(f"There is no good backup of {self.application.name} to drill.", "`resurgam backup`")
        return newest

    def _newest(self) -> BackupRecord | None:
        own = (one for one in self.inventory.records() if one.name.rpartition("_backup_")[0] == self.application.name)
        return next((one for one in own if one.condition != "damaged"), None)

    def _database_name(self) -> str:
        return self.application.server.database.name or self.application.name

    def _outcome(
        self,
        record: BackupRecord,
        assertions: tuple[Assertion, ...],
        scratch: dict[str, str],
        number: int,
        found: Found,
    ) -> DrillOutcome:
        """Restore, compare, ask, remove. An error of ours is kept in `found`; anything else passes, after removing."""
        try:
            try:
                self._restore(record, assertions, scratch, found)
            finally:
                with timed(self.clock, found, "cleanup"):
                    remove_scratch(scratch, self.application.server, self.rules)
                    self.state.drills.cleaned(number)
        except ResurgamError as error:
            found.problem = error
            found.differences.extend(getattr(error, "problems", (error.message,)))
            refused = isinstance(error, RestoreRefused) and scratch["where"] == "same"
            return "failed" if refused or isinstance(error, _VERDICTS) else "error"
        except BaseException as error:
            found.differences.append(f"It was not carried out to its end: {' '.join(str(error).split())[:500]}")
            raise
        return "failed" if found.differences else "passed"

    def _restore(
        self, record: BackupRecord, assertions: tuple[Assertion, ...], scratch: dict[str, str], found: Found
    ) -> None:
        folder = Path(scratch["path"])
        folder.mkdir(0o700)
        with ExitStack() as open_parts:
            archive = self.inventory.open(record)
            open_parts.callback(archive.close)
            metadata = archive.metadata()
            found.archive_digest = "" if isinstance(archive, ForeignArchive) else archive.digest
            live = self.application.server
            site = open_parts.enter_context(site_of(self.rules, live, metadata, self.pg_bin))
            about = (archive, metadata, scratch, open_parts, self.connections, self.pg_bin)
            server, options = DatabaseDrill(*about, self.clock, self.progress, found).restore(site, live)
            with timed(self.clock, found, "files"):
                self._restore_files(archive, metadata, folder, found)
            with timed(self.clock, found, "assertions"):
                self.progress.phase("Asking what drill.toml asks")
                base = self.rules.file.parent if self.rules.file is not None else self.application.folder
                copy = Restored(server, options, folder / "files", base)
                found.checked = check_assertions(assertions, copy, self.clock)
            self._prove_kit(found)
            found.differences += [f"{one.kind} {one.name!r}: {one.message}." for one in found.checked if not one.passed]

    def _prove_kit(self, found: Found) -> None:
        """A kit that no longer opens the repository is found in a drill, rather than on the day it is needed."""
        if self.prove_kit is None:
            return
        self.progress.phase("Proving the recovery kit")
        with timed(self.clock, found, "kit"):
            try:
                self.prove_kit()
                found.kit = "proven"
            except ResurgamError as error:
                found.kit = "failed"
                found.differences.append(f"The recovery kit does not open the repository: {error.message}")

    def _restore_files(self, archive: Archive, metadata: dict[str, Any], folder: Path, found: Found) -> None:
        self.progress.phase("Restoring the files")
        reports = {}
        for part in ("config", "files"):
            (folder / part).mkdir(0o700)
            reports[part] = self._extracted(archive, folder / part, f"{part}/".encode())
            # Readable for us alone, whatever the backup's own folder had.
            (folder / part).chmod(0o700)
        files = reports["files"]
        found.counts |= {"files": sum(report.files for report in reports.values())}
        found.counts |= {"files_bytes": sum(report.bytes for report in reports.values())}
        found.differences += tree_differences(metadata, (files.files, files.symlinks, files.hardlinks))
        found.differences += count_differences(metadata, reports["config"].files)

    def _extracted(self, archive: Archive, target: Path, prefix: bytes) -> ExtractReport:
        entries = archive.contents(lambda entry: entry.path.startswith(prefix) or entry.path + b"/" == prefix)
        sparse = sum(entry.size for entry in archive.entries() if entry.sparse)
        limits = ExtractLimits(bytes=shutil.disk_usage(target).free + sparse)
        return extract(entries, prefix, target, limits=limits, own=False, progress=self.progress.advance)

    def _conclude(
        self, number: int, record: BackupRecord, outcome: DrillOutcome, found: Found, begun_at: datetime
    ) -> DrillResult:
        """Keep the result: in the state, beside the backup, and its digest in the audit log."""
        finished_at = self.clock.now()
        rto = sum(found.phases.get(phase, 0.0) for phase in _RTO)
        newest = self._newest() or record
        rpo = max(0.0, (begun_at - newest.taken_at).total_seconds())
        head = self.state.audit.last()
        report = {
            "format": FORMAT,
            "resurgam_version": __version__,
            "application": self.application.name,
            "backup_name": record.name,
            "backup_taken_at": record.taken_at.isoformat(),
            "backup_bytes": record.size,
            "archive_digest": found.archive_digest,
            "drill_id": number,
            "started_at": begun_at.isoformat(),
            "finished_at": finished_at.isoformat(),
            "outcome": outcome,
            "server": found.server or where_of(self.rules),
            "server_version": found.server_version,
            "rights": found.rights,
            "phases": {phase: round(seconds, 3) for phase, seconds in found.phases.items()},
            "rto_seconds": round(rto, 3),
            "rpo_seconds": round(rpo, 3),
            **found.counts,
            "fingerprint": found.fingerprint,
            "recovery_kit": found.kit,
            "assertions": [one.to_json() for one in found.checked],
            "differences": list(dict.fromkeys(found.differences)),
            "warnings": found.warnings,
            "not_loaded": found.not_loaded,
            "audit_before": None if head is None else {"id": head.id, "digest": head.digest},
        }
        data, digest = evidence_bytes(report)
        whole = outcome in ("passed", "failed")
        self.state.drills.end(
            number, outcome, report, digest, finished_at=finished_at, rto=rto if whole else None, rpo=rpo
        )
        self.state.audit.append(
            self.actor.name,
            self.actor.role,
            self.actor.origin,
            "drill evidence",
            record.name,
            "ok" if outcome == "passed" else "failed",
            {"digest": digest, "outcome": outcome, "rto_seconds": report["rto_seconds"], "drill_id": number},
        )
        path, told = self._keep_beside(record, data)
        return DrillResult(outcome, report, digest, path, (*found.warnings, *told))

    def _keep_beside(self, record: BackupRecord, data: bytes) -> tuple[Path | None, tuple[str, ...]]:
        path = self.inventory.folder.evidence_path(record.name)
        if not self.inventory.holdings.has(record.name):
            return None, ()
        try:
            replace_file(path, data)
        except OSError as error:
            return None, (f"The drill's evidence could not be kept as {path}: {error.strerror}.",)
        return path, ()


def drilling_of(
    settings: Settings,
    application: Application,
    inventory: Inventory,
    state: State,
    actor: Actor,
    clock: Clock,
    progress: Progress,
    prove_kit: Callable[[], object] | None = None,
) -> Drilling:
    """A drill by the settings. `prove_kit` opens the repository by the escrowed kit alone, where there is one."""
    return Drilling(
        application,
        inventory,
        state,
        settings.drills,
        settings.restore_connections,
        settings.backup_pg_bin,
        actor,
        clock,
        progress,
        prove_kit,
    )


def drilled(result: BackupResult, drill: Callable[[str], DrillResult]) -> BackupResult:
    """A backup's result after its drill: one that fails makes it degraded, though the backup is taken."""
    try:
        found = drill(result.name)
    except ResurgamError as error:
        failure = f"It could not be drilled: {error.message}"
    else:
        if found.passed:
            return result
        failure = f"Its drill failed: {' '.join(found.report['differences'][:5])}"
    return replace(result, failures=(*result.failures, failure))
