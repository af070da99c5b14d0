"""Clients that query one database without a pause and connect again as soon as they fail: `python bench/hammer.py N`.

Each client is one connection. It begins at once, says `ready` when all of them have had an answer, and ends when its
standard input does. Then it prints, as JSON, each client's failed spans: from its last answer before a failure to its
next one, as two readings of the monotonic clock, which all processes share.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

import psycopg

# Fails on a database that is not whole.
_QUERY = "SELECT id FROM public.users ORDER BY id LIMIT 1"
_PAUSE_SECONDS = 0.01

Span = tuple[float, float]


async def _client(over: asyncio.Event, ready: asyncio.Semaphore) -> list[Span]:
    """One client until `over`; a span that is open then ends with it."""
    spans: list[Span] = []
    connection: psycopg.AsyncConnection | None = None
    answered, failed, first = time.monotonic(), False, True
    while not over.is_set():
        try:
            if connection is None:
                connection = await psycopg.AsyncConnection.connect(autocommit=True)
            await connection.execute(_QUERY)
        except psycopg.Error:
            failed = True
            if connection is not None:
                await connection.close()
                connection = None
            await asyncio.sleep(_PAUSE_SECONDS)
            continue
        now = time.monotonic()
        if failed:
            spans.append((answered, now))
        answered, failed = now, False
        if first:
            ready.release()
            first = False
    if failed:
        spans.append((answered, time.monotonic()))
    if connection is not None:
        await connection.close()
    return spans


async def _hammer(count: int) -> list[list[Span]]:
    over, ready = asyncio.Event(), asyncio.Semaphore(0)
    clients = [asyncio.create_task(_client(over, ready)) for _ in range(count)]
    for _ in range(count):
        await ready.acquire()
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    over.set()
    return list(await asyncio.gather(*clients))


if __name__ == "__main__":
    print(json.dumps(asyncio.run(_hammer(int(sys.argv[1])))))
