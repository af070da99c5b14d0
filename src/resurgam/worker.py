"""`python -m resurgam.worker`: runs one queued job, in a process that is there for it alone.

The job's number and the environment to take the settings from come as JSON on stdin, because an environment variable
or an argument would show a secret to others. Signals unwind it as they do the command line.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

from resurgam.errors import ResurgamError, UsageError
from resurgam.memory import collect_rarely, use_one_arena
from resurgam.stopping import StopSignals, unwind_main_thread


def main() -> int:
    """0 if the job was done, 1 if it failed; how is in its row. 128 and a number if a signal ended it."""
    use_one_arena()
    collect_rarely()
    stop = StopSignals()
    stop.install()
    try:
        told = json.load(sys.stdin.buffer)
        return _run(int(told["job"]), told["environ"])
    except ResurgamError as error:
        sys.stderr.write(f"{error.message}\n")
        return stop.exit_code or 1
    except KeyboardInterrupt:
        return stop.exit_code or 1


def _run(job_id: int, environ: Mapping[str, str]) -> int:
    from resurgam.jobs.recorded import Asked
    from resurgam.service import Service

    with Service.from_environment(environ) as service:
        job = service.state.jobs.take_over(job_id)
        service.asked = Asked(job.origin, job.actor, job.request, job.id, unwind_main_thread)
        _operate(service, job.kind, job.request)
    return 0


def _operate(service: Any, kind: str, request: Mapping[str, Any]) -> None:
    wait = bool(request.get("wait"))
    if kind == "backup":
        service.backup(wait=wait)
    elif kind == "verify" and request.get("name"):
        service.verify(str(request["name"]))
    elif kind == "verify":
        service.verify_all()
    elif kind == "prune":
        service.prune(accept=bool(request.get("accept")), wait=wait)
    elif kind == "drill":
        service.drill(str(request.get("name") or "") or None)
    elif kind == "restore":
        from resurgam.operations.restore_plan import restore_wanted

        parts, wishes = restore_wanted(request)
        if wishes.beside:
            service.restore_beside(str(request["name"]), wishes, wait=wait)
        else:
            service.restore(str(request["name"]), parts, wishes, wait=wait)
    elif kind == "undo":
        from resurgam.keeping import undo

        accept = bool(request.get("accept_changes"))
        undo(service, str(request.get("restore_id") or ""), accept_changes=accept, wait=wait)
    else:
        raise UsageError(f"There is no job of the kind {kind}.")


if __name__ == "__main__":
    sys.exit(main())
