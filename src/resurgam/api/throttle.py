"""Slows failed tries to get in, by the client's address; a credential that counts never waits.

Failures of one address stand in one line, so that guessing in parallel is no quicker than one by one. The line is so
long at most that its last waits `_LONGEST_LINE`: whoever sends more must not fill the memory with requests that wait.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections import OrderedDict, deque
from dataclasses import dataclass, field

from resurgam.clock import Clock
from resurgam.policy.throttle import COUNTED, WINDOW, delay

_ADDRESSES = 10_000
_LONGEST_LINE = 30.0


@dataclass(slots=True)
class _Line:
    failures: deque[float] = field(default_factory=lambda: deque(maxlen=COUNTED))
    free_at: float = 0.0


class Throttle:
    """The failures of the last minute; lost with the process."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        # By the moment of the last failure, oldest first.
        self._lines: OrderedDict[str, _Line] = OrderedDict()

    async def failed(self, address: str) -> None:
        """Note a failure of that client, and return when it may be answered."""
        wait = self.note(address)
        if wait:
            await asyncio.sleep(wait)

    def note(self, address: str) -> float:
        """Note a failure; in how many seconds it may be answered."""
        now = self._clock.monotonic()
        network = _network(address)
        line = self._lines.pop(network, None) or _Line()
        self._lines[network] = line
        self._forget(now)
        line.failures.append(now)
        recent = sum(moment > now - WINDOW for moment in line.failures)
        line.free_at = min(max(line.free_at, now) + delay(recent), now + _LONGEST_LINE)
        return line.free_at - now

    def __len__(self) -> int:
        """How many addresses are remembered."""
        return len(self._lines)

    def _forget(self, now: float) -> None:
        while self._lines:
            line = next(iter(self._lines.values()))
            if len(self._lines) <= _ADDRESSES and (not line.failures or line.failures[-1] > now - WINDOW):
                break
            self._lines.popitem(last=False)


def _network(address: str) -> str:
    """The address; of IPv6 the network of 64 bits, all of which one client can have."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((int(parsed), 64), strict=False))
    return address
