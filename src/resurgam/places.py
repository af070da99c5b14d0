"""Where the settings say that backups are kept. Apart from `assembly.py`, so that a list needs no more than this."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from resurgam.archive.sealing import ArchiveKeys
from resurgam.clock import Clock
from resurgam.operations.archive_holdings import ArchiveHoldings
from resurgam.operations.archive_keys import sealing_of
from resurgam.operations.holdings import Holdings
from resurgam.settings import Settings
from resurgam.stores.folder import BackupFolder

if TYPE_CHECKING:
    from resurgam.operations.repository_opening import RepositoryAccess


def holdings_of(
    settings: Settings,
    folder: BackupFolder,
    access: RepositoryAccess | None,
    clock: Clock,
    keys: ArchiveKeys,
    *,
    read_all: bool,
) -> Holdings:
    """Where backups are kept; `keys` are for archives. A repository is opened when it is first asked for something."""
    rules = settings.repository
    if access is None or rules is None:
        return ArchiveHoldings(folder, keys, sealing_of(settings, keys))
    from resurgam.operations.repository_holdings import RepositoryHoldings

    return RepositoryHoldings(folder, access, clock, prune_limit=rules.prune_limit, read_all=rules.read_all or read_all)


def repository_access_of(settings: Settings, environment: Mapping[str, str], clock: Clock) -> RepositoryAccess | None:
    """The way to the repository, by the one key that is set; without one, by the recovery kit. None for archives."""
    rules = settings.repository
    if rules is None:
        return None
    from resurgam.keys.unlock import Unlocking
    from resurgam.operations.repository_opening import RepositoryAccess

    given = (rules.passphrase, rules.command or None, rules.identity_file, rules.writer_key_file)
    unlocking = Unlocking(
        passphrase=rules.passphrase,
        passphrase_command=rules.command,
        identity_file=rules.identity_file,
        kit_file=None if any(one is not None for one in given) else rules.kit_file,
        writer_key_file=rules.writer_key_file,
        environ=environment,
    )
    cache = settings.backup_dir / "repository-cache"
    return RepositoryAccess(rules.place, unlocking, environment, cache, settings.app_name, clock)


def escrowed_kit(settings: Settings, access: RepositoryAccess | None) -> Callable[[], object] | None:
    """Proves the recovery kit by its escrowed copy; None where the settings name none."""
    kit = settings.repository.kit_file if settings.repository is not None else None
    if access is None or kit is None:
        return None
    from resurgam.keys.unlock import read_kit
    from resurgam.operations.repository_keys import prove_kit

    return lambda: prove_kit(access.keys(), read_kit(kit).text.reveal())
