"""The database half of a drill: read, loaded into a scratch database by a role without superuser rights, compared.

Where our role is a superuser, a throw-away login loads (drill_login.py). If the server lets none in, a throw-away
server is the next choice, and only without its programs a superuser loads, which is told and shows in health.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from resurgam.archive.opening import Archive
from resurgam.clock import Clock
from resurgam.errors import ArchiveError, ClientToolError, RestoreRefused, ResurgamError, VerifyFailed
from resurgam.operations.check_fingerprint import check_loaded, data_differences, dump_differences, recorded_fingerprint
from resurgam.operations.drill_assertions import Checked
from resurgam.operations.drill_login import LoginRefused, PlainPlan, plan_by_login
from resurgam.operations.drill_server import Site, throw_away_site
from resurgam.operations.progress import Progress
from resurgam.operations.restore_database import (
    DatabasePlan,
    LoadedDatabase,
    fill_database,
    load_database,
    open_dump,
    plan_database,
    scan_dump,
    without_event_triggers,
)
from resurgam.policy.drills import table_differences
from resurgam.postgres.connection import Server
from resurgam.postgres.loadcheck import OWNERSHIP
from resurgam.postgres.loader import DumpReader
from resurgam.postgres.plain_script import told
from resurgam.postgres.script import Script
from resurgam.postgres.taking import Taker

Rights = Literal["plain", "superuser"]


@dataclass(slots=True)
class Found:
    """What a drill finds, as it goes on. `rights`: whose the role that loads has; `not_loaded`: sentences, by name."""

    phases: dict[str, float] = field(default_factory=dict)
    differences: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    not_loaded: list[str] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    checked: tuple[Checked, ...] = ()
    archive_digest: str = ""
    fingerprint: str = "not compared"
    kit: str = "not asked"
    server: str = ""
    server_version: int | None = None
    rights: Rights | None = None
    problem: ResurgamError | None = None


@dataclass(frozen=True, slots=True)
class DatabaseDrill:
    """One backup's database and where it goes: `scratch` is what was noted. Throw-away servers end with `lifetime`."""

    archive: Archive
    metadata: dict[str, Any]
    scratch: dict[str, str]
    lifetime: ExitStack
    connections: int
    pg_bin: Path | None
    clock: Clock
    progress: Progress
    found: Found

    def restore(self, site: Site, live: Server) -> tuple[Server, str]:
        """Load and compare; the copy, and options for sessions in it. Raises what planning and loading raise."""
        found = self.found
        with ExitStack() as open_dumps:
            with timed(self.clock, found, "read"):
                dump = open_dumps.enter_context(open_dump(self.archive, self.metadata, Path(self.scratch["path"])))
                script = self._scanned(dump)
            chosen, server = self._planned(site, live, script, dump)
            plan = chosen.plan if isinstance(chosen, PlainPlan) else chosen
            found.server_version = plan.facts.server_version
            found.rights = "superuser" if plan.facts.superuser else "plain"
            with timed(self.clock, found, "load"):
                if isinstance(chosen, PlainPlan):
                    loaded = fill_database(plan, plan.facts, self.connections, self.progress)
                else:
                    loaded = load_database(plan, self.connections, lambda step, data: None, self.progress)
            self._compare(chosen, loaded, script, dump)
        for sentence in loaded.warnings:
            # Owners of large objects, which a login of ours can't give either.
            if isinstance(chosen, PlainPlan) and OWNERSHIP in sentence:
                found.not_loaded.append(f"Owners of large objects: {sentence}")
            else:
                found.warnings.append(sentence)
        found.counts |= {"tables": len(loaded.rows), "rows": sum(loaded.rows.values()), "dump_bytes": script.size}
        return server, without_event_triggers(plan.facts)

    def _scanned(self, dump: DumpReader) -> Script:
        """The script, compared with what was recorded: tables with their rows, and definitions by their text."""
        # Compared here, table by table, rather than refused in one word.
        recorded = self.metadata["database"].get("tables")
        plain = {**self.metadata, "database": {**self.metadata["database"], "tables": None}}
        taker = Taker()
        try:
            script = scan_dump(dump, plain, self.progress, taker)
        except (VerifyFailed, ArchiveError) as error:
            # Its outline does not fit: read whole, it tells which tables differ.
            self.found.differences.append(error.message)
            plain["database"]["outline"] = None
            taker = Taker()
            script = scan_dump(dump, plain, self.progress, taker)
        self.found.differences += table_differences(recorded, script.rows)
        self.found.differences += dump_differences(taker, script, self.metadata)
        return script

    def _planned(
        self, site: Site, live: Server, script: Script, dump: DumpReader
    ) -> tuple[PlainPlan | DatabasePlan, Server]:
        """How it will be loaded, by a role without superuser rights if that can be; and the copy it will be."""
        plan = self._plan_on(site, script, dump)
        self.found.server = site.where
        if not plan.facts.superuser:
            return plan, plan.server.at(plan.fresh)
        chosen = plan_by_login(plan, self.scratch["role"])
        if isinstance(chosen, LoginRefused) and site.where != "embedded":
            refused = f"The server let no role without superuser rights in ({chosen.reason.rstrip('.')})"
            try:
                away = self.lifetime.enter_context(throw_away_site(live, self.metadata, self.pg_bin))
            except ClientToolError:
                self.found.warnings.append(
                    f"{refused}, and there are no programs for a throw-away server: the dump was loaded by the "
                    f"superuser {plan.facts.role}, whose rights all that is in it had."
                )
                return plan, plan.server.at(plan.fresh)
            self.found.warnings.append(f"{refused}: the drill went to a throw-away server.")
            self.found.server = away.where
            plan = self._plan_on(away, script, dump)
            chosen = plan_by_login(plan, self.scratch["role"])
        if isinstance(chosen, LoginRefused):
            raise ClientToolError(f"The throw-away server did not let our role in: {chosen.reason}")
        return chosen, chosen.plan.server

    def _plan_on(self, site: Site, script: Script, dump: DumpReader) -> DatabasePlan:
        target = site.server.named().at(self.scratch["database"])
        restore_id = self.scratch["path"][-21:]
        plan, problems, _ = plan_database(
            target, script, dump, self.metadata, restore_id, roles=site.roles, live_side="new"
        )
        if problems:
            raise RestoreRefused(tuple(problems), "A restore there would be refused as well: mend these.")
        return replace(plan, fresh=self.scratch["database"])

    def _compare(
        self, chosen: PlainPlan | DatabasePlan, loaded: LoadedDatabase, script: Script, dump: DumpReader
    ) -> None:
        found, plan = self.found, chosen.plan if isinstance(chosen, PlainPlan) else chosen
        left_out, login = (chosen.plain.left_out, chosen.login) if isinstance(chosen, PlainPlan) else ((), "")
        found.not_loaded += told(left_out)
        if recorded_fingerprint(self.metadata) is None:
            return
        with timed(self.clock, found, "compare"):
            differ = [
                *data_differences(left_out, script, dump, self.metadata),
                *check_loaded(
                    plan,
                    loaded,
                    self.metadata,
                    pg_bin=self.pg_bin,
                    clock=self.clock,
                    progress=self.progress,
                    left_out=left_out,
                    login=login,
                ),
            ]
        found.fingerprint = "different" if differ else "equal"
        found.differences += differ


@contextmanager
def timed(clock: Clock, found: Found, phase: str) -> Iterator[None]:
    """Add what the block takes to a phase, in seconds."""
    began = clock.monotonic()
    try:
        yield
    finally:
        found.phases[phase] = found.phases.get(phase, 0.0) + clock.monotonic() - began
