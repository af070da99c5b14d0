"""Makes the folders ready, before the first backup."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from resurgam.catalog.state import State
from resurgam.stores.folder import BackupFolder
from resurgam.stores.mounted import RemoteFolder


def set_up(folder: BackupFolder, open_state: Callable[[], State], remote: RemoteFolder | None) -> Iterator[str]:
    """BACKUP_DIR, the state, the remote folder's marker; a sentence for each."""
    folder.prepare()
    yield f"BACKUP_DIR {folder.path} is ready."
    yield f"The state {open_state().path} is ready."
    if remote is not None:
        remote.set_up()
        yield f"REMOTE_BACKUP_PATH {remote.path} bears its marker file and may be written."
