"""The way from the engine to one viewer: a short queue that drops its own oldest pictures, and what it measures.

The engine hands over a hop from its own thread and never waits. Whoever sends takes the hops out in order, one at a
time; where a viewer takes them slower than they come, the pictures of the oldest hops that wait are dropped and their
sound is kept, and a viewer who takes nothing for `PATIENCE` seconds is given up. Nobody else notices either.
"""

import asyncio
import threading
import time
from collections import deque
from typing import Any

import numpy as np

from vasa_jax.arrays import FPS
from vasa_jax.serve.clock import Latencies
from vasa_jax.serve.containers import Hop
from vasa_jax.serve.engine import Delivery

WAITING = 2
"""Hops that may wait with their pictures."""
PATIENCE = 10.0
"""Seconds of sound that may wait."""


class Viewer:
    """A queue of hops; `put` is called by the engine's thread, all else by the event loop's."""

    def __init__(self) -> None:
        """Belongs to the loop that runs."""
        self._loop, self._lock, self._there = asyncio.get_running_loop(), threading.Lock(), asyncio.Event()
        self._hops: deque[tuple[Hop, Delivery]] = deque()
        self._latencies = Latencies()
        self.dropped = self.late = self.frame = 0
        self.stalled = False

    def put(self, delivery: Delivery) -> None:
        """Takes a hop; returns at once."""
        chunk = delivery.chunk
        hop = Hop(int(chunk.first), len(chunk.frames), np.asarray(chunk.frames), np.asarray(chunk.sound))
        thin = delivery._replace(chunk=None)
        with self._lock:
            self._hops.append((hop, thin))
            self.late, self.frame = delivery.late, hop.first + hop.count
            if len(self._hops) > WAITING:
                old, its = self._hops[-1 - WAITING]
                if old.frames is not None:
                    self._hops[-1 - WAITING] = old._replace(frames=None), its
                    self.dropped += old.count
            if sum(hop.count for hop, _ in self._hops) > PATIENCE * FPS:
                self._hops.clear()
                self.stalled = True
        try:
            self._loop.call_soon_threadsafe(self._there.set)
        except RuntimeError:  # the loop has ended, and the session is about to
            return

    async def take(self) -> tuple[Hop, Delivery]:
        """The next hop, and when it came, without its chunk."""
        while True:
            with self._lock:
                if self._hops:
                    return self._hops.popleft()
                self._there.clear()
            await self._there.wait()

    def sent(self, delivery: Delivery) -> None:
        """Says that a hop's bytes were made and are on their way."""
        if delivery.arrived is not None:
            self._latencies.add(time.monotonic() - delivery.arrived)

    def report(self) -> dict[str, Any]:
        """What a `state` says: late and dropped frames, milliseconds of latency."""
        return {"frame": self.frame, "late": self.late, "dropped": self.dropped, "latency": self._latencies.report()}
