"""How routes run jobs: started and left alone, or waited for. The job itself goes on whatever becomes of its client."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import Any

from fastapi import Request
from starlette.concurrency import run_in_threadpool

from resurgam.api.call import call_of, caller_of, runtime_of
from resurgam.api.errors import job_refusal
from resurgam.catalog.jobs import Job


def start_job(request: Request, kind: str, target: str, asked: Mapping[str, Any], *, wait: bool = False) -> int:
    """Start it in the background; its id. BusyError if another excludes it, unless it may `wait` in line."""
    runner = runtime_of(request).runner
    job = runner.submit(kind, target, asked, origin="api", actor=caller_of(request).name, wait=wait)
    call_of(request).job_id = job
    return job


async def run_job(request: Request, kind: str, target: str, asked: Mapping[str, Any], *, wait: bool = False) -> Job:
    """Start it and wait for its end. Refusal if it did not end well."""
    runtime = runtime_of(request)
    job_id = await run_in_threadpool(partial(start_job, request, kind, target, asked, wait=wait))
    # Shielded: a client that drops off must not cancel what the runner waits on.
    await asyncio.shield(asyncio.wrap_future(runtime.runner.ended(job_id)))
    runtime.listing.changed()
    job = await run_in_threadpool(runtime.state.jobs.get, job_id)
    if job.outcome not in ("ok", "degraded"):
        raise job_refusal(job)
    return job
