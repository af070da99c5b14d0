"""/api/backups: the manual's routes, then prune, pin and the schedule."""

from __future__ import annotations

from datetime import UTC
from typing import Annotated, Any

from fastapi import Path, Query, Request
from starlette.concurrency import run_in_threadpool

from resurgam.api.call import caller_of, runtime_of
from resurgam.api.errors import Answer, Refusal
from resurgam.api.requests import DrillRequest, PruneRequest, RestorePlanRequest, RestoreRequest, body_in
from resurgam.api.routing import Operation, Routes
from resurgam.api.running import run_job, start_job
from resurgam.api.runtime import Runtime, slowly
from resurgam.api.schemas import (
    Created,
    Deleted,
    Pinned,
    PruneAnswer,
    RestoreStarted,
    Shown,
    Started,
    Summary,
    Verified,
)
from resurgam.api.schemas_jobs import Health, ScheduleShown
from resurgam.api.schemas_restore import RestorePlanned
from resurgam.catalog.catalog import BackupRecord
from resurgam.counting import count_text
from resurgam.errors import DamagedError
from resurgam.jobs.recorded import Asked
from resurgam.jobs.schedule import upcoming
from resurgam.operations.inventory import plain_datetime
from resurgam.operations.restore_plan import restore_wanted
from resurgam.policy.as_of import newest_before, parse_moment
from resurgam.service import DISABLED

Name = Annotated[str, Path(description="The backup's name.", examples=["radiology_backup_20250104_143022"])]
Wait = Annotated[bool, Query(description="Stand in line behind another run, rather than be refused by 409.")]
Limit = Annotated[int, Query(ge=1, le=1000, description="How many at most.")]
_WARNING = "Application may need to be restarted after restore completes"
_PAGE_HEADERS = {
    "Link": {"description": 'The next page, as `<…>; rel="next"`.', "schema": {"type": "string"}},
    "X-Next-Cursor": {"description": "The next page's cursor.", "schema": {"type": "string"}},
}


def create(request: Request, wait: Wait = False) -> Answer:
    """Start a backup in the background."""
    _refuse_disabled(request)
    app = runtime_of(request).service.settings.app_name
    job = start_job(request, "backup", app, {}, wait=wait)
    return Answer({"message": "Backup started in background", "status": "processing", "job_id": job})


async def create_sync(request: Request, wait: Wait = False) -> Answer:
    """Take a backup and wait for it. It goes on if the client goes."""
    _refuse_disabled(request)
    runtime = runtime_of(request)
    job = await run_job(request, "backup", runtime.service.settings.app_name, {}, wait=wait)
    result = dict(job.details.get("result", {}))
    catalog = runtime.service.inventory.catalog

    def metadata() -> Any:
        runtime.listing.records()
        return catalog.metadata(result["backup_name"])

    backup = {**result, "metadata": await run_in_threadpool(metadata)}
    return Answer({"message": "Backup created successfully", "backup": backup, "job_id": job.id})


async def list_backups(
    request: Request,
    limit: Annotated[
        int | None, Query(ge=1, le=1000, description="A page of so many; without it the list is whole.")
    ] = None,
    cursor: Annotated[str | None, Query(max_length=250, description="Where the page before this one ended.")] = None,
) -> Answer:
    """All backups, the newest first; with `limit` or `cursor` a page of them, whose headers lead to the next."""
    listing = runtime_of(request).listing

    def answer() -> Answer:
        if limit is None and cursor is None:
            return Answer([listing.summary(record) for record in listing.records()])
        page, following = listing.page(limit or 100, cursor)
        return Answer([listing.summary(record) for record in page], headers=page_headers(request, following))

    return await slowly(answer)


async def show(request: Request, backup_name: Name) -> Answer:
    """One backup: where its copies are, and what it says of itself."""
    return await slowly(lambda: _shown(runtime_of(request), backup_name))


def _shown(runtime: Runtime, backup_name: str) -> Answer:
    inventory, record = runtime.service.inventory, runtime.listing.find(backup_name)
    return Answer({**inventory.details(record), "pinned": record.name in runtime.state.pinned()})


async def delete(request: Request, backup_name: Name) -> Answer:
    """Delete a backup and its remote copy. One that is pinned stays."""
    runtime = runtime_of(request)
    await run_in_threadpool(runtime.listing.find, backup_name)
    asked = Asked("api", caller_of(request).name, {"name": backup_name})
    try:
        result = await slowly(lambda: runtime.service.on_behalf_of(asked).delete(backup_name))
    finally:
        runtime.listing.changed()
    return Answer(result.to_json())


async def verify(request: Request, backup_name: Name) -> Answer:
    """Check every byte of a backup, and wait for the result; nothing is restored."""
    record = await run_in_threadpool(runtime_of(request).listing.find, backup_name)
    try:
        job = await run_job(request, "verify", record.name, {"name": record.name})
    except Refusal as refusal:
        if refusal.status != 422:
            raise
        message = f"Backup verification failed: {refusal.message}"
        raise Refusal(422, refusal.code, message, refusal.hint, refusal.problems) from None
    return Answer(
        {"message": "Backup verification passed", "verification": job.details.get("result"), "job_id": job.id}
    )


def restore(request: Request, wait: Wait = False) -> Answer:
    """Start a restore in the background. **It replaces the live data**, which are kept beside; `confirm` must be true.

    With `into`, `to_server`, `schemas`, `tables` or `paths` nothing live is touched: what they name comes beside it.
    The body is read as JSON whatever its Content-Type.
    """
    wanted = body_in(request, RestoreRequest)
    record = _named(runtime_of(request), wanted)
    if record.condition == "damaged" and record.locations[0] != "repository":  # there other parts can still be had
        raise DamagedError(f"{record.name} can not be restored: {record.problem}", "Use another backup.")
    job = start_job(request, "restore", record.name, {"name": record.name, **wanted.asked()}, wait=wait)
    return Answer(
        {
            "message": "Restore started in background",
            "backup_name": record.name,
            "backup_date": plain_datetime(record.taken_at),
            "status": "processing",
            "warning": _WARNING,
            "job_id": job,
        }
    )


def _named(runtime: Runtime, wanted: RestorePlanRequest) -> BackupRecord:
    if wanted.as_of:
        return newest_before(runtime.listing.records(), parse_moment(wanted.as_of, UTC))
    return runtime.listing.find(wanted.backup_name)


async def plan_restore(request: Request) -> Answer:
    """What a restore would do, how long it should take, and everything that would refuse it; nothing is touched.

    It reads the backup's dump to its end, which takes some seconds a gigabyte.
    """
    wanted = body_in(request, RestorePlanRequest)
    runtime = runtime_of(request)
    asked = Asked("api", caller_of(request).name)

    def plan() -> Answer:
        name = _named(runtime, wanted).name
        parts, wishes = restore_wanted(wanted.asked())
        service = runtime.service.on_behalf_of(asked)
        if wishes.beside:
            return Answer(service.plan_beside(name, wishes).to_json())
        return Answer(service.plan_restore(name, parts, wishes).to_json())

    return await slowly(plan)


def drill(request: Request) -> Answer:
    """Restore a backup for practice, in the background: into a scratch database and folder, which are removed again.

    The job's result is the evidence; the job fails if anything differs from what was backed up.
    """
    runtime = runtime_of(request)
    named = body_in(request, DrillRequest).backup_name
    name = runtime.listing.find(named).name if named is not None else ""
    job = start_job(request, "drill", name or runtime.service.settings.app_name, {"name": name})
    return Answer({"message": "Drill started in background", "status": "processing", "job_id": job})


def health(request: Request) -> Answer:
    """Whether the backups are well, with every reason why not."""
    return Answer(runtime_of(request).service.health().to_json())


async def prune(request: Request, wait: Wait = False) -> Answer:
    """Delete what the retention no longer keeps, and wait for it; or, as a dry run, only say what that is."""
    runtime = runtime_of(request)
    wanted = body_in(request, PruneRequest)
    if wanted.dry_run:
        service = runtime.service.on_behalf_of(Asked("api", caller_of(request).name))
        planned = (await slowly(lambda: service.prune(dry_run=True, accept=wanted.accept))).to_json()
        message = f"Prune would delete {count_text(planned['deleted'], 'backup')}"
        return Answer({"message": message, "prune": planned, "job_id": None})
    asked = {"accept": wanted.accept}
    job = await run_job(request, "prune", runtime.service.settings.app_name, asked, wait=wait)
    done = job.details.get("result", {})
    return Answer(
        {"message": f"Prune deleted {count_text(done.get('deleted', 0), 'backup')}", "prune": done, "job_id": job.id}
    )


def pin(request: Request, backup_name: Name) -> Answer:
    """Keep a backup whatever the retention says."""
    runtime = runtime_of(request)
    name = runtime.listing.find(backup_name).name
    runtime.state.pin(name)
    return Answer({"backup_name": name, "pinned": True})


def unpin(request: Request, backup_name: Name) -> Answer:
    """Give a backup back to the retention."""
    runtime = runtime_of(request)
    name = runtime.listing.find(backup_name).name
    runtime.state.unpin(name)
    return Answer({"backup_name": name, "pinned": False})


def schedule(request: Request) -> Answer:
    """The built-in schedule: what runs when, and what became of the last run."""
    runtime = runtime_of(request)
    service = runtime.service
    enabled = service.settings.backup_enabled
    tasks = upcoming(runtime.service.plans, runtime.state, service.clock.now(), enabled=enabled)
    return Answer({"enabled": enabled and bool(tasks), "tasks": tasks})


def page_headers(request: Request, cursor: str | None) -> dict[str, str]:
    """How a page of a bare list leads to the next."""
    if cursor is None:
        return {}
    url = request.url.include_query_params(cursor=cursor)
    return {"Link": f'<{url.path}?{url.query}>; rel="next"', "X-Next-Cursor": cursor}


def add_collection(routes: Routes) -> None:
    """The routes without a name in them; they come first, so that no name shadows them."""
    page: dict[int | str, dict[str, Any]] = {200: {"headers": _PAGE_HEADERS}}
    create_errors = (409, 422)
    for method, path, endpoint, operation in (
        ("POST", "create", create, Operation("createBackup", "backups", "operator", Started, create_errors, "backup")),
        (
            "POST",
            "create-sync",
            create_sync,
            Operation("createBackupSync", "backups", "operator", Created, create_errors, "backup"),
        ),
        (
            "GET",
            "list",
            list_backups,
            Operation("listBackups", "backups", "viewer", list[Summary], (422,), responses=page),
        ),
        ("GET", "status/health", health, Operation("getHealth", "health", "viewer", Health)),
        (
            "POST",
            "restore",
            restore,
            Operation("restoreBackup", "backups", "admin", RestoreStarted, (404, 409, 422), "restore", RestoreRequest),
        ),
        (
            "POST",
            "restore/plan",
            plan_restore,
            Operation(
                "planRestore", "backups", "admin", RestorePlanned, (404, 422), "restore-plan", RestorePlanRequest
            ),
        ),
        (
            "POST",
            "prune",
            prune,
            Operation("pruneBackups", "backups", "admin", PruneAnswer, (409, 422), "prune", PruneRequest),
        ),
        (
            "POST",
            "drill",
            drill,
            Operation("drillBackup", "backups", "operator", Started, (404, 422), "drill", DrillRequest),
        ),
        ("GET", "schedule", schedule, Operation("getSchedule", "schedule", "viewer", ScheduleShown)),
    ):
        routes.add(method, f"/api/backups/{path}", endpoint, operation)


def add_named(routes: Routes) -> None:
    """The routes of one backup."""
    for method, path, endpoint, operation in (
        (
            "POST",
            "verify/{backup_name}",
            verify,
            Operation("verifyBackup", "backups", "operator", Verified, (404, 422), "verify"),
        ),
        ("GET", "{backup_name}", show, Operation("getBackup", "backups", "viewer", Shown, (404, 422))),
        (
            "DELETE",
            "{backup_name}",
            delete,
            Operation("deleteBackup", "backups", "admin", Deleted, (404, 409, 422), "delete"),
        ),
        ("POST", "{backup_name}/pin", pin, Operation("pinBackup", "backups", "admin", Pinned, (404, 422), "pin")),
        (
            "DELETE",
            "{backup_name}/pin",
            unpin,
            Operation("unpinBackup", "backups", "admin", Pinned, (404, 422), "unpin"),
        ),
    ):
        routes.add(method, f"/api/backups/{path}", endpoint, operation)


def _refuse_disabled(request: Request) -> None:
    if not runtime_of(request).service.settings.backup_enabled:
        raise Refusal(503, "disabled", DISABLED, "Set BACKUP_ENABLED=true and restart the service.")
