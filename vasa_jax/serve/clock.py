"""What the live server knows of time, so that tests can bring their own."""

import asyncio
import dataclasses
import time
from collections.abc import Awaitable, Callable


@dataclasses.dataclass(frozen=True)
class Clock:
    """now: seconds, as `due` of deliveries. sleep: for so many of them."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
