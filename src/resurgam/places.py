"""Where the settings say that backups are kept. Apart from `assembly.py`, so that a list needs no more than this."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from resurgam.archive.sealing import ArchiveKeys
from resurgam.clock import Clock
from resurgam.operations.archive_holdings import ArchiveHoldings
from resurgam.operations.archive_keys import sealing_of
from resurgam.operations.holdings import Holdings
from resurgam.settings import RepositoryRules, Settings
from resurgam.stores.folder import BackupFolder

if TYPE_CHECKING:
    from resurgam.operations.repository_opening import RepositoryAccess


def holdings_of(
    settings: Settings,
    folder: BackupFolder,
    environment: Mapping[str, str],
    clock: Clock,
    keys: ArchiveKeys,
    *,
    read_all: bool = False,
) -> Holdings:
    """Where backups are kept; `keys` are for archives. A repository is opened when it is first asked for something."""
    rules = settings.repository
    if rules is None:
        return ArchiveHoldings(folder, keys, sealing_of(settings, keys))
    from resurgam.operations.repository_holdings import RepositoryHoldings

    access = repository_access_of(settings, rules, environment, clock)
    return RepositoryHoldings(folder, access, clock, prune_limit=rules.prune_limit, read_all=rules.read_all or read_all)


def repository_access_of(
    settings: Settings, rules: RepositoryRules, environment: Mapping[str, str], clock: Clock
) -> RepositoryAccess:
    """The way to the repository, by the one key that is set; without one, by the recovery kit."""
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
