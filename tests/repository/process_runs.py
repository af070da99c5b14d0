"""A backup or a prune of a real folder in a process of its own, which can be killed and stopped (test_processes.py).

python -m tests.repository.process_runs backup FOLDER NUMBER | prune FOLDER
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from resurgam.clock import SystemClock
from resurgam.errors import ResurgamError
from resurgam.operations.collection import Limits, collect
from resurgam.operations.progress import Silent
from resurgam.repository.repository import Repository
from resurgam.stores.object_folder import FolderStore
from tests.repository.scenes import Files, sample_dump, secrets_of, take

PACK = 64 << 10


def dump(number: int) -> bytes:
    """Half of it is every day's, half of it this day's."""
    return sample_dump(0, 800_000) + sample_dump(number, 800_000)


def opened(folder: Path) -> Repository:
    return Repository.open(FolderStore(folder), secrets_of)


def back_up(folder: Path, number: int) -> bytes:
    return take(opened(folder), number, Files({b"files/x.txt": b"x" * number}), dump(number), pack_size=PACK)


def prune(folder: Path) -> int:
    repository = opened(folder)
    return collect(
        repository, Limits(accept=True), clock=SystemClock(), progress=Silent(), pack_size=PACK
    ).deleted_packs


def main(verb: str, folder: str, number: str = "0") -> int:
    print("ready", flush=True)
    begun = time.perf_counter()
    try:
        if verb == "backup":
            print("committed", back_up(Path(folder), int(number)).hex(), flush=True)
        else:
            print("pruned", prune(Path(folder)), flush=True)
    except ResurgamError as error:
        print("failed", error.message, flush=True)
        return 1
    print("seconds", time.perf_counter() - begun, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
