"""What health is judged by: values alone, gathered elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from resurgam.catalog.catalog import BackupRecord
    from resurgam.catalog.drills import Drill
    from resurgam.catalog.history import Run


@dataclass(frozen=True, slots=True)
class Disk:
    """A file system's room, in bytes; `free` is what we may use."""

    free: int
    total: int


@dataclass(frozen=True, slots=True)
class RemoteFacts:
    """The remote folder: `problem` is "" where it can be read."""

    path: str
    problem: str = ""
    disk: Disk | None = None


@dataclass(frozen=True, slots=True)
class RepositoryFacts:
    """A repository: how its recovery kit stands, since when it is `proven`; bytes of all packs, and of those that wait
    to be removed; `free` bytes where that is told. `troubles`: sentences on the key ring and on manifests.
    `writes_only`: this machine's key reads no backup, so that it can't list them."""

    url: str
    kit: Literal["none", "unproven", "proven"] = "none"
    proven: datetime | None = None
    slots: int = 1
    size: int = 0
    waiting: int = 0
    free: int | None = None
    troubles: Sequence[str] = ()
    writes_only: bool = False


@dataclass(frozen=True, slots=True)
class ScheduleFacts:
    """The built-in schedule: when the loop last said that it lives, when each task starts next, and since when one
    should have started that nobody started; `verifies`, `drills`: such is a task of it."""

    heartbeat: datetime | None = None
    next_due: Mapping[str, datetime] = field(default_factory=dict)
    overdue: Mapping[str, datetime] = field(default_factory=dict)
    verifies: bool = False
    drills: bool = False


@dataclass(frozen=True, slots=True)
class ClockJump:
    """The wall clock went `seconds` further (or back, if negative) than time did."""

    at: datetime
    seconds: float


@dataclass(frozen=True, slots=True)
class Trouble:
    """A part that could not even be looked at."""

    code: str
    message: str
    hint: str


@dataclass(frozen=True, slots=True)
class KeptAside:
    """What a restore or an undo kept of what it replaced, for `resurgam undo`; `size` in bytes, None where not known.

    `until`: when it is removed, None for never. `problem`: why it stays although its time is over, or "".
    """

    what: Literal["database", "files"]
    place: str
    size: int | None
    until: datetime | None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Running:
    """A job under way."""

    id: int
    kind: str


@dataclass(frozen=True, slots=True)
class HealthFacts:
    """One application at one moment.

    `backups` are its own, newest first; `others` counts those of other names in the same folders. `last_backups` are
    the latest that ended `ok`, `degraded` or `failed`, newest first, `last_verifies` likewise; `last_success` holds the
    latest `ok` or `degraded` run of each kind, `last_end` the latest that ended in any way. `counts`: runs of 30 days
    by kind and outcome. `schedule` is None where none is set, `remote` where no copies are made. `channels_failing`:
    labels. `key_doubt`: why nobody knows that new archives can be opened, "" if somebody does.
    """

    application: str
    enabled: bool
    folder: str
    retention_days: int
    max_backups: int
    backups: Sequence[BackupRecord] = ()
    others: int = 0
    disk: Disk | None = None
    remote: RemoteFacts | None = None
    repository: RepositoryFacts | None = None
    remote_enabled: bool = False
    last_backups: Sequence[Run] = ()
    last_verifies: Sequence[Run] = ()
    last_success: Mapping[str, Run] = field(default_factory=dict)
    last_end: Mapping[str, Run] = field(default_factory=dict)
    counts: Mapping[tuple[str, str], int] = field(default_factory=dict)
    running: Sequence[Running] = ()
    schedule: ScheduleFacts | None = None
    clock_jumps: Sequence[ClockJump] = ()
    channels_failing: Sequence[str] = ()
    unfinished_restores: Sequence[str] = ()
    kept: Sequence[KeptAside] = ()
    last_drill: Drill | None = None
    frozen: Sequence[str] = ()
    unavailable: Sequence[str] = ()
    troubles: Sequence[Trouble] = ()
    key_doubt: str = ""

    @property
    def place(self) -> str:
        """Where the backups lie."""
        return self.repository.url if self.repository is not None else self.folder

    @property
    def disk_path(self) -> str:
        """What `disk` was measured of: the repository if it is a folder, else BACKUP_DIR."""
        return self.place if self.place.startswith("/") else self.folder
