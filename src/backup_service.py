"""The manual's `from backup_service import backup_service`. Importing it opens and writes nothing."""

from __future__ import annotations

import os
from typing import Any


class BackupService:
    """Backups by the settings in the environment, read anew by each call."""

    def create_full_backup(self) -> dict[str, Any]:
        """Take a backup: the manual's `backup` object, or `{"success": False, "error": …}`."""
        from resurgam.jobs.answers import answered
        from resurgam.jobs.recorded import Asked
        from resurgam.service import DISABLED, Service

        def run() -> dict[str, Any]:
            with Service.from_environment(os.environ) as service:
                service.asked = Asked("python")
                if not service.settings.backup_enabled:
                    return {"success": False, "error": DISABLED, "code": "disabled", "hint": ""}
                return service.backup().to_json()

        return answered(run)


backup_service = BackupService()
