"""The manual's `from restore_service import restore_service`. Importing it opens and writes nothing."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from resurgam.operations.restore import Parts

_FLAGS = {"restore_database": "database", "restore_config": "config", "restore_files": "files"}


class RestoreService:
    """Restores by the settings in the environment, read anew by each call."""

    def restore_from_backup(self, backup_name: str, options: Mapping[str, bool] | None = None) -> dict[str, Any]:
        """Restore what the three flags say; one that is missing is true. Unknown or malformed ones touch nothing."""
        from resurgam.jobs.answers import answered
        from resurgam.jobs.recorded import Asked
        from resurgam.service import Service

        def run() -> dict[str, Any]:
            parts = _parts(options)
            with Service.from_environment(os.environ) as service:
                service.asked = Asked("python")
                return service.restore(backup_name, parts).to_json()

        return answered(run)

    def verify_backup(self, backup_name: str) -> dict[str, Any]:
        """Check every byte of a backup: the manual's `verification` object, or `{"success": False, "error": …}`."""
        from resurgam.jobs.answers import answered
        from resurgam.jobs.recorded import Asked
        from resurgam.service import Service

        def run() -> dict[str, Any]:
            with Service.from_environment(os.environ) as service:
                service.asked = Asked("python")
                return service.verify(backup_name).to_json()

        return answered(run)


def _parts(options: Mapping[str, bool] | None) -> Parts:
    from resurgam.errors import UsageError
    from resurgam.operations.restore import Parts

    given = {} if options is None else options
    wrong = not isinstance(given, Mapping) or any(
        key not in _FLAGS or not isinstance(value, bool) for key, value in given.items()
    )
    if wrong:
        raise UsageError(
            "The options of a restore are restore_database, restore_config and restore_files, each True or False; "
            "nothing was touched."
        )
    return Parts(**{_FLAGS[key]: value for key, value in given.items()})


restore_service = RestoreService()
