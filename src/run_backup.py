"""The manual's `python run_backup.py`, for cron and systemd: takes a backup, exits 0 or 1.

A degraded run (the backup is whole, its remote copy failed) exits 1 as well: the manual's cron line sends all output
to a file, so that the exit code and the log's ERROR line are all that an unattended failure can be seen by.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from resurgam.clock import SystemClock
from resurgam.errors import ResurgamError, SettingsError
from resurgam.memory import collect_rarely, use_one_arena
from resurgam.runlog import RunLog
from resurgam.stopping import StopSignals, unwind_main_thread


def main() -> int:
    """0 if the backup was taken, or BACKUP_ENABLED is false; 1 otherwise; 128 and a number if a signal ended it."""
    use_one_arena()
    collect_rarely()
    stop = StopSignals()
    stop.install()
    try:
        return _run()
    except SettingsError as error:
        _log_settings(error)
        return _failed(error)
    except ResurgamError as error:
        return stop.exit_code or _failed(error)
    except KeyboardInterrupt:
        sys.stderr.write("The backup was ended; nothing was published.\n")
        return stop.exit_code or 1


def _run() -> int:
    from resurgam.jobs.recorded import Asked
    from resurgam.service import DISABLED, Service

    with Service.from_environment(os.environ) as service:
        service.asked = Asked("cli", "run_backup", cancel=unwind_main_thread)
        if not service.settings.backup_enabled:
            service.log.info(DISABLED)
            sys.stdout.write(DISABLED + "\n")
            return 0
        result = service.backup()
        for warning in (*service.warnings(), *result.warnings):
            sys.stderr.write(f"Warning: {warning}\n")
    answer = result.to_json()
    sys.stdout.write(f"Backup {answer['backup_name']}: {answer['size_mb']} MB in {answer['seconds']:.1f} s\n")
    sys.stdout.write(f"  {answer['archive_path']}\n")
    for failure in result.failures:
        sys.stderr.write(f"ERROR: the backup is whole, but: {failure}\n")
    return 1 if result.failures else 0


def _failed(error: ResurgamError) -> int:
    sys.stderr.write(f"ERROR: {error.message}\n")
    if error.hint:
        sys.stderr.write(f"What to do: {error.hint}\n")
    return 1


def _log_settings(error: SettingsError) -> None:
    """No settings, no log file; where the environment says plainly where it is, the failure stands there too."""
    folder = Path(os.environ.get("APP_DIR") or "/app")
    if folder.is_dir():
        log = RunLog(folder / (os.environ.get("BACKUP_LOG_FILE") or "logs/backup.log"), SystemClock())
        log.error(f"backup: failed: {error.message}")


if __name__ == "__main__":
    sys.exit(main())
