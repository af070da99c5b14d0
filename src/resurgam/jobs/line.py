"""Standing in line: a job that may not run beside another waits for its turn."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from resurgam.clock import Clock
from resurgam.errors import BusyError
from resurgam.operations.progress import Progress

if TYPE_CHECKING:
    from resurgam.catalog.state import State

Result = TypeVar("Result")
_SECONDS = 1.0


def in_line(
    run: Callable[[Progress], Result], state: Callable[[], State], own: int | None, clock: Clock
) -> Callable[[Progress], Result]:
    """Try again while another run is at work; `own` is the job's number. What is refused as busy has done nothing."""

    def run_in_line(progress: Progress) -> Result:
        told = False
        while True:
            try:
                if own is None or not state().jobs.is_behind(own):
                    return run(progress)
            except BusyError:
                pass  # somebody without a job in our state, or a server that has not noticed a death yet
            if not told:
                progress.phase("Waiting for another run to end")
                told = True
            clock.sleep(_SECONDS)

    return run_in_line
