"""What the live server knows of time: a clock, so that tests can bring their own, and latencies."""

import asyncio
import dataclasses
import time
from collections import deque
from collections.abc import Awaitable, Callable

import numpy as np

REMEMBERED = 256
"""Hops that latency is told of."""


@dataclasses.dataclass(frozen=True)
class Clock:
    """now: seconds, as `due` of deliveries. sleep: for so many of them."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep


class Latencies:
    """Those of the last hops that were sent."""

    def __init__(self) -> None:
        """Of none yet."""
        self._seconds: deque[float] = deque(maxlen=REMEMBERED)

    def add(self, seconds: float) -> None:
        """Remembers one."""
        self._seconds.append(seconds)

    def report(self) -> dict[str, float] | None:
        """Median and 95th percentile in milliseconds; None before the first."""
        if not self._seconds:
            return None
        p50, p95 = np.percentile(np.array(self._seconds), [50, 95])
        return {"p50": round(1000 * float(p50), 1), "p95": round(1000 * float(p95), 1)}
