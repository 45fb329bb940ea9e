"""What a face says as tracks of WebRTC: pictures and sound on one clock, which counts frames.

Frame i of a session has the time stamp i / 25 s, and its 640 samples at 16 kHz, as 1920 at 48 kHz, the same. When they
are sent is the delivery's to say: frame i of a hop 40 ms times i after `due`, sound in blocks of 20 ms likewise, so
that a receiver, which knows time stamps by when they were sent, shows both together. What is behind is left out and
never waited for: of pictures whose time has come the newest is sent. Sound is not left out, for the ear hears gaps,
until more waits than `BACKLOG`; then its silences are.
"""

import asyncio
from collections import deque
from fractions import Fraction
from typing import NamedTuple

import av
import numpy as np
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack
from jaxtyping import Float, Int16, UInt8

from vasa_jax.arrays import FPS, SAMPLE_RATE, SAMPLES_PER_FRAME
from vasa_jax.serve.clock import Clock

RATE, BLOCK = 48_000, 960
"""Samples a second of sound that is sent, and of a block of 20 ms, as Opus has it."""
TICKS = 90_000
"""Of the clock of pictures a second."""
BACKLOG, MOST = 50, 250
"""Blocks of sound that may wait: over the first number silent ones are left out, over the second the oldest."""
SILENT = 33
"""Samples up to here, of 32767, are silence: -60 dB."""


class _Waiting(NamedTuple):
    """A picture (number of the frame) or a block of sound (time stamp), and when it is due."""

    at: int
    due: float
    content: np.ndarray


class _Track(MediaStreamTrack):
    """What both have: a queue, and waiting for what is due. All of it runs in the event loop's thread."""

    def __init__(self, clock: Clock):
        super().__init__()
        self._clock = clock
        self._queue: deque[_Waiting] = deque()
        self._come = asyncio.Event()

    def stop(self) -> None:
        """Ends the track; who waits for it learns so."""
        super().stop()
        self._queue.clear()
        self._come.set()

    def _thin(self, now: float) -> None:
        """Leaves out what is behind."""

    async def _next(self) -> _Waiting:
        while self.readyState == "live":
            now = self._clock.now()
            self._thin(now)
            if not self._queue:
                self._come.clear()
                await self._come.wait()
            elif self._queue[0].due > now:
                await self._clock.sleep(self._queue[0].due - now)
            else:
                return self._queue.popleft()
        raise MediaStreamError


class Pictures(_Track):
    """The frames. `skipped`: how many were left out; `every`: all others are, where the way is congested."""

    kind = "video"

    def __init__(self, clock: Clock):
        super().__init__(clock)
        self.sent, self.skipped, self.every = 0, 0, 1

    def put(self, first: int, frames: UInt8[np.ndarray, "t h w 3"], due: float) -> None:
        """Takes a hop, whose first frame has the number `first` and is due then. Of those before, one hop may wait."""
        height, width = (length // 2 * 2 for length in frames.shape[1:3])
        for i, frame in enumerate(frames[:, :height, :width]):
            self._queue.append(_Waiting(first + i, due + i / FPS, frame))
        while len(self._queue) > 2 * len(frames):
            self._drop()
        self._come.set()

    async def recv(self) -> av.VideoFrame:
        """The newest frame whose time has come, when it has. Raises MediaStreamError at the end."""
        number, _, content = await self._next()
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(content), format="rgb24")
        picture.pts, picture.time_base = number * TICKS // FPS, Fraction(1, TICKS)
        self.sent += 1
        return picture

    def _thin(self, now: float) -> None:
        while self._queue and (self._queue[0].at % self.every or (len(self._queue) > 1 and self._queue[1].due <= now)):
            self._drop()

    def _drop(self) -> None:
        self._queue.popleft()
        self.skipped += 1


class Sound(_Track):
    """Their sound, 1 ms later than it was, since resampling hears so far ahead. `skipped`: blocks left out."""

    kind = "audio"

    def __init__(self, clock: Clock):
        super().__init__(clock)
        self.skipped = 0
        self._resampler = av.AudioResampler(format="s16", layout="mono", rate=RATE)
        self._rest: np.ndarray | None = None

    def put(self, first: int, sound: Float[np.ndarray, " n"], due: float) -> None:
        """Takes a hop's sound, 640 samples a frame, the first of which has the number `first` and is due then."""
        fine = self._fine(sound)
        start = first * SAMPLES_PER_FRAME * RATE // SAMPLE_RATE
        for at in range(0, len(fine) - BLOCK + 1, BLOCK):
            self._queue.append(_Waiting(start + at, due + at / RATE, fine[at : at + BLOCK]))
        if len(self._queue) > BACKLOG:
            self._trim()
        self._come.set()

    async def recv(self) -> av.AudioFrame:
        """The next block, when its time has come. Raises MediaStreamError at the end."""
        stamp, _, content = await self._next()
        block = av.AudioFrame.from_ndarray(content[None], format="s16", layout="mono")
        block.sample_rate, block.pts, block.time_base = RATE, stamp, Fraction(1, RATE)
        return block

    def _fine(self, sound: Float[np.ndarray, " n"]) -> Int16[np.ndarray, " m"]:
        """At the rate that is sent: three samples for each, of which the resampler holds back a few once."""
        coarse = np.round(np.clip(sound, -1, 1) * 32767).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(coarse[None], format="s16", layout="mono")
        frame.sample_rate = SAMPLE_RATE
        parts = [part.to_ndarray()[0] for part in self._resampler.resample(frame)]
        count = len(coarse) * RATE // SAMPLE_RATE
        rest = np.zeros(count - sum(map(len, parts)), np.int16) if self._rest is None else self._rest
        fine = np.concatenate([rest, *parts])
        self._rest = fine[count:]
        return fine[:count]

    def _trim(self) -> None:
        over = len(self._queue) - BACKLOG
        kept: deque[_Waiting] = deque()
        for block in self._queue:
            if over > 0 and np.abs(block.content).max() <= SILENT:
                over -= 1
            else:
                kept.append(block)
        while len(kept) > MOST:
            kept.popleft()
        self.skipped += len(self._queue) - len(kept)
        self._queue = kept
