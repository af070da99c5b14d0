"""Builds the parts from the settings; the one module that knows them all.

Every face (command line, the manual's Python calls, later the API) asks this object and nothing below it. Operations
are imported when they are asked for: a list needs neither psycopg nor the loader, and is to be quick.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from resurgam.catalog.catalog import Catalog
from resurgam.clock import Clock, SystemClock
from resurgam.errors import ResurgamError
from resurgam.jobs import ended as endings
from resurgam.jobs.dead import see_to_the_dead
from resurgam.jobs.ended import Ended
from resurgam.jobs.kept import Keeping
from resurgam.jobs.line import in_line
from resurgam.jobs.recorded import Asked, Boundary
from resurgam.operations.holdings import Holdings
from resurgam.operations.inventory import Inventory
from resurgam.operations.progress import Progress, Silent
from resurgam.runlog import RunLog
from resurgam.settings import Settings, load_settings
from resurgam.stores.folder import BackupFolder
from resurgam.stores.mounted import RemoteFolder

if TYPE_CHECKING:
    from resurgam.archive.sealing import ArchiveKeys
    from resurgam.catalog.state import State
    from resurgam.jobs.announce import Announcer, Kept
    from resurgam.operations.backup import Application, BackupResult
    from resurgam.operations.deletion import DeleteResult
    from resurgam.operations.drill import DrillResult
    from resurgam.operations.health import Folders
    from resurgam.operations.listing import Listing
    from resurgam.operations.repository_opening import RepositoryAccess
    from resurgam.operations.restore import Parts, RestorePlan, RestoreResult, Restoring, Wishes
    from resurgam.operations.restore_beside import BesideResult
    from resurgam.operations.restore_plan import BesidePlan
    from resurgam.operations.retention import PruneResult, Retention
    from resurgam.operations.verify import VerifyResult
    from resurgam.operations.verify_all import VerifyAllResult
    from resurgam.policy.health import HealthReport
    from resurgam.policy.schedule import Plan
    from resurgam.postgres.connection import Server

Result = TypeVar("Result")
CATALOG_NAME = "catalog.sqlite"
DISABLED = "Backups are disabled (BACKUP_ENABLED=false); nothing was done."


@dataclass
class Service:
    """One application under protection. Methods raise ResurgamError; results have `to_json`."""

    settings: Settings
    environment: Mapping[str, str] = field(repr=False)
    clock: Clock = field(default_factory=SystemClock)
    progress: Progress = field(default_factory=Silent)
    asked: Asked = field(default_factory=Asked)
    read_all: bool = False

    @classmethod
    def from_environment(cls, environment: Mapping[str, str], progress: Progress | None = None) -> Service:
        """Load the settings and build; nothing is opened yet. SettingsError names everything that is wrong."""
        return cls(load_settings(environment), environment, progress=progress or Silent())

    def __enter__(self) -> Service:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        state, inventory, repository = (self.__dict__.pop(part, None) for part in ("state", "inventory", "repository"))
        if repository is not None:
            repository.close()
        if state is not None:
            state.close()
        if inventory is not None:
            inventory.catalog.close()
        for part in ("holdings", "listing", "folders", "announcer"):  # they hold what is closed now
            self.__dict__.pop(part, None)

    # The parts

    @cached_property
    def server(self) -> Server:
        from resurgam.postgres.connection import Server

        return Server(self.settings.database, self.settings.backup_connect_timeout, self.environment)

    @cached_property
    def folder(self) -> BackupFolder:
        return BackupFolder(self.settings.backup_dir)

    @cached_property
    def holdings(self) -> Holdings:
        from resurgam.places import holdings_of

        access = self.repository
        return holdings_of(self.settings, self.folder, access, self.clock, self.keys, read_all=self.read_all)

    @cached_property
    def repository(self) -> RepositoryAccess | None:
        """The way to the repository; None where backups are archives."""
        from resurgam.places import repository_access_of

        return repository_access_of(self.settings, self.environment, self.clock)

    @cached_property
    def keys(self) -> ArchiveKeys:
        """What opens encrypted archives."""
        from resurgam.operations.archive_keys import archive_keys_of

        return archive_keys_of(self.settings, self.environment)

    @cached_property
    def remote(self) -> RemoteFolder | None:
        path = self.settings.remote_backup_path
        return RemoteFolder(path) if self.settings.remote_backup_enabled and path is not None else None

    @cached_property
    def inventory(self) -> Inventory:
        return self._inventory(Catalog.open(self.settings.backup_dir / CATALOG_NAME))

    def _inventory(self, catalog: Catalog) -> Inventory:
        return Inventory(self.folder, self.holdings, self.remote, catalog, keys=self.keys)

    @cached_property
    def listing(self) -> Listing:
        """The backups for a process that is asked often."""
        from resurgam.operations.listing import Listing

        return Listing(self._inventory(self.inventory.catalog), self.clock)

    def on_behalf_of(self, asked: Asked) -> Service:
        """The same open parts, for a job that somebody else asked for; not to be closed."""
        other = copy.copy(self)
        other.asked = asked
        # It notes what it could read: each job has its own.
        other.inventory = self._inventory(self.inventory.catalog)
        return other

    @cached_property
    def folders(self) -> Folders:
        from resurgam.operations.health import Folders

        access = self.repository
        if access is None:
            return Folders(self.settings, lambda: self.listing)
        from resurgam.operations.doctor_repository import look_at

        return Folders(self.settings, lambda: self.listing, repository=lambda: look_at(access))

    @cached_property
    def state(self) -> State:
        """What can't be rebuilt; runs that died are marked as failed when it is opened."""
        from resurgam.catalog.state import State

        state_file = self.settings.backup_state_file
        if state_file.parent == self.folder.path:
            self.folder.prepare()
        state = State.open(state_file, catalog_dir=self.folder.path, clock=self.clock)
        state.jobs.settle_dead()
        return state

    @cached_property
    def plans(self) -> tuple[Plan, ...]:
        """What the built-in schedule runs, and when."""
        from resurgam.jobs.schedule import plans_of
        from resurgam.jobs.zone import schedule_zone

        schedule = self.settings.schedule
        return plans_of(schedule, self.settings.app_name, schedule_zone(schedule.timezone, self.environment))

    @cached_property
    def log(self) -> RunLog:
        return RunLog(self.settings.backup_log_file, self.clock)

    @cached_property
    def announcer(self) -> Announcer:
        """Who tells people what became of a job; nobody, unless the settings name somebody."""
        return self._announcer(self.state)

    def _announcer(self, kept: Kept) -> Announcer:
        from resurgam.jobs.announce import Announcer

        told = self.settings.messages
        return Announcer(kept, told, self.settings.app_name, self.log, self.clock, self.environment)

    @cached_property
    def application(self) -> Application:
        from resurgam.assembly import application_of

        return application_of(self.settings, self.server)

    @cached_property
    def retention(self) -> Retention:
        from resurgam.assembly import retention_of

        return retention_of(self.settings)

    # What a user asks for

    def backup(self, *, wait: bool = False) -> BackupResult:
        """Take a backup, copy it, prune. With `wait` it stands in line behind another run rather than being refused."""
        from resurgam.assembly import back_up_by

        def run(progress: Progress) -> BackupResult:
            parts = (self.application, self.inventory, self.retention, self.state)
            return back_up_by(self.settings, *parts, self.clock, progress)

        result = self._recorded("backup", self.settings.app_name, self._in_line(run, wait), endings.backup_ended)
        if not self.settings.drills.each_backup:
            return result
        from resurgam.operations.drill import drilled

        return drilled(result, self.on_behalf_of(replace(self.asked, job_id=None)).drill)

    def list_backups(self) -> list[dict[str, Any]]:
        """The manual's list, the newest first."""
        self.inventory.refresh()
        return [self.inventory.summary(record) for record in self.inventory.records()]

    def show(self, name: str) -> dict[str, Any]:
        """One backup: the manual's fields, its copies, its metadata."""
        self.inventory.refresh()
        return self.inventory.details(self.inventory.looked_at(self.inventory.find(name)))

    def verify(self, name: str, *, full: bool = True) -> VerifyResult:
        """Check every byte of a backup's best copy; not `full`, of one in a repository, its structure and a share."""
        from resurgam.operations.verify_share import verify_record

        def run(progress: Progress) -> VerifyResult:
            self.inventory.refresh()
            return verify_record(self.inventory, self.inventory.find(name), progress, self.clock.now(), full=full)

        if not self.folder.is_writable and self.asked.job_id is None:
            return run(self.progress)  # a folder on a read-only disk can be verified too, without a record of it
        return self._recorded("verify", name, run, endings.verify_ended)

    def verify_all(self, *, full: bool = True) -> VerifyAllResult:
        """The same of every backup, the newest first. VerifyFailed names all that are not sound."""
        from resurgam.operations.verify_all import verify_all

        def run(progress: Progress) -> VerifyAllResult:
            return verify_all(self.inventory, progress, self.clock.now(), full=full)

        if not self.folder.is_writable and self.asked.job_id is None:
            return run(self.progress)
        return self._recorded("verify", "all", run, endings.verify_all_ended)

    def restore(self, name: str, parts: Parts, wishes: Wishes | None = None, *, wait: bool = False) -> RestoreResult:
        """Restore beside the live side, check, swap."""
        run = self._in_line(lambda progress: self._restoring(progress).restore(name, parts, wishes), wait)
        return self._recorded("restore", name, run, endings.restore_ended)

    def plan_restore(self, name: str, parts: Parts, wishes: Wishes | None = None) -> RestorePlan:
        """What a restore would do, how long it should take, and what stands in its way; nothing is touched."""
        return self._restoring(self.progress).plan(name, parts, wishes)

    def restore_beside(self, name: str, wishes: Wishes, *, wait: bool = False) -> BesideResult:
        """Restore what leaves everything live as it is: elsewhere, or tables, schemas and files under new names."""
        from resurgam.operations.restore_beside import restore_beside

        run = self._in_line(lambda progress: restore_beside(self._restoring(progress), name, wishes), wait)
        return self._recorded("restore", name, run, endings.beside_ended)

    def plan_beside(self, name: str, wishes: Wishes) -> BesidePlan:
        """What that would make, and what stands in its way; nothing is touched."""
        from resurgam.operations.restore_beside import plan_beside

        return plan_beside(self._restoring(self.progress), name, wishes)

    def drill(self, name: str | None = None) -> DrillResult:
        """Restore a backup, the newest good one unless named, where nobody is harmed, and judge the copy."""
        from resurgam.catalog.audit import Actor
        from resurgam.operations.drill import drilling_of
        from resurgam.places import escrowed_kit

        def run(progress: Progress) -> DrillResult:
            actor = Actor(self.asked.actor, None, self.asked.origin)
            parts = (self.application, self.inventory, self.state)
            prove = escrowed_kit(self.settings, self.repository)
            return drilling_of(self.settings, *parts, actor, self.clock, progress, prove).drill(name)

        return self._recorded("drill", name or self.settings.app_name, run, endings.drill_ended)

    def delete(self, name: str, *, local_only: bool = False, dry_run: bool = False) -> DeleteResult:
        """Delete a backup everywhere, or its local copy alone."""
        from resurgam.operations.deletion import delete

        def run(progress: Progress) -> DeleteResult:
            with self.folder.lock():
                return delete(self.inventory, self.state.pinned(), name, local_only=local_only, dry_run=dry_run)

        if dry_run:
            return run(self.progress)
        return self._recorded("delete", name, run, endings.delete_ended)

    def prune(self, *, dry_run: bool = False, accept: bool = False, wait: bool = False) -> PruneResult:
        """Delete what retention no longer keeps; with `accept` although a backup looked suspicious."""
        from resurgam.catalog.state import state_to_look_at
        from resurgam.operations.clocks import clocks_agree
        from resurgam.operations.retention import prune_and_collect

        def run(progress: Progress, state: State | None = None) -> PruneResult:
            with self.folder.lock() if not dry_run else contextlib.nullcontext():
                self.inventory.refresh()
                agree = clocks_agree(self.clock, self.holdings.time, self.server, dry_run=dry_run)
                parts = (self.inventory, self.retention, state or self.state, self.clock.now())
                return prune_and_collect(*parts, progress, clocks_agree=agree, dry_run=dry_run, accept=accept)

        if dry_run:
            with state_to_look_at(self.settings.backup_state_file, lambda: self.state, self.clock) as state:
                return run(self.progress, state)
        return self._recorded("prune", self.settings.app_name, self._in_line(run, wait), endings.prune_ended)

    def pin(self, name: str, *, remove: bool = False) -> str:
        """Keep a backup whatever retention says, or no longer; answers its name."""
        self.inventory.refresh()
        record = self.inventory.find(name)
        (self.state.unpin if remove else self.state.pin)(record.name)
        return record.name

    def health(self) -> HealthReport:
        """How the backups stand, with reasons and figures. What is broken is a reason, not an error."""
        from resurgam.operations.health import gather_health
        from resurgam.policy.health import assess

        now = self.clock.now()
        facts = gather_health(self.settings, self.folders.look(), lambda: self.state, self.plans, now)
        return assess(facts, self.settings.health, now)

    def warnings(self) -> tuple[str, ...]:
        """What a user should know besides the result."""
        state = self.__dict__.get("state")
        inventory = self.__dict__.get("inventory")
        return (
            *self.settings.warnings,
            *(state.warnings if state is not None else ()),
            *(inventory.warnings if inventory is not None else ()),
            *((self.log.trouble,) if self.log.trouble else ()),
        )

    def _restoring(self, progress: Progress) -> Restoring:
        from resurgam.assembly import restoring_of

        return restoring_of(self.settings, self.application, self.inventory, lambda: self.state, self.clock, progress)

    def sweep(self) -> bool:
        """Settle what died, remove partial files; False while another run is at work."""
        from resurgam.operations.sweep_dead import sweep_dead

        return sweep_dead(self.state, self.folder, lambda: self.server, self.settings.drills, self.log.warning)

    def keeping(self) -> Keeping:
        """What restores kept, to be swept."""
        return Keeping(self.state, self.folder, lambda: self.server, self.settings.restore_keep, self.clock, self.log)

    def recorded(
        self, kind: str, target: str, run: Callable[[Progress], Result], ended: Callable[[Result], Ended], *, wait: bool
    ) -> Result:
        """Run what another module of the service does (`keeping.py`, …), as a job."""
        return self._recorded(kind, target, self._in_line(run, wait), ended)

    def _in_line(self, run: Callable[[Progress], Result], wait: bool) -> Callable[[Progress], Result]:
        return in_line(run, lambda: self.state, self.asked.job_id, self.clock) if wait else run

    def _recorded(
        self,
        kind: str,
        target: str,
        run: Callable[[Progress], Result],
        ended: Callable[[Result], Ended],
    ) -> Result:
        try:
            if self.asked.job_id is None:  # else there is a history, in which its failure is kept
                self.folder.prepare()
            state = self.state
            see_to_the_dead(state, self.log, self.announcer.died)
        except ResurgamError as error:
            # There is no history to keep it in; who watches the log, or gets messages, must hear of it all the same.
            self.log.error(f"{kind} {target}: failed: {error.message}", code=error.code)
            if self.asked.job_id is None:  # else its runner tells
                from resurgam.jobs.announce import Unopened

                self._announcer(Unopened(error.message)).unkept(kind, target, error)
            raise
        if kind in ("backup", "restore"):
            self.keeping().sweep()
        boundary = Boundary(state, self.log, self.asked, self.announcer)
        return boundary.run(kind, target, run, ended, self.progress)
