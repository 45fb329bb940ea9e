"""An engine without a model and without a clock of its own: the test delivers the hops."""

import threading
import types
from collections.abc import Callable
from typing import Any

import numpy as np

from vasa_jax.errors import UserError
from vasa_jax.inference.stream import Chunk
from vasa_jax.media.tags import Tags
from vasa_jax.serve.engine import Busy, Delivery, Engine, Session

SIDE, HOP = 32, 5


def chunk(first: int, sound: np.ndarray | None = None, heard: int = 0, side: int = SIDE) -> Chunk:
    """A hop of grey frames, each as bright as its number; the first `heard` have sound."""
    frames = np.stack([np.full((side, side, 3), (first + i) % 256, np.uint8) for i in range(HOP)])
    sound = np.zeros(640 * HOP, np.float32) if sound is None else sound
    return Chunk(first, frames, sound, None, np.arange(HOP) >= heard)


class FakeSession(Session):
    """Keeps what it is told; plays what was pushed, frame by frame, when it is asked to `play`."""

    def __init__(self, deliver: Callable[[Delivery], None], microphone: bool, wishes: dict[str, Any]):
        self.deliver, self.microphone, self.wishes = deliver, microphone, wishes
        self.pushed: list[np.ndarray] = []
        self.said: list[Any] = []
        self.queue = np.zeros(0, np.float32)
        self.frame, self.lock, self.tags = 0, threading.Lock(), Tags(identity="0badcafe")
        self.closed, self.reason = False, ""

    def push(self, samples):
        samples = np.asarray(samples)
        self.pushed.append(samples)
        scale = 32768 if samples.dtype == np.int16 else 1
        with self.lock:
            self.queue = np.concatenate([self.queue, samples.astype(np.float32) / np.float32(scale)])

    def say_no_more(self):
        self.said.append("no more")

    def interrupt(self):
        self.said.append("interrupt")
        with self.lock:
            self.queue = self.queue[:0]

    def change(self, ease=400.0, **wishes):
        if "nonsense" in wishes:
            raise UserError("nonsense is unknown")
        self.said.append((ease, wishes))

    def play(self, due: float = 0.0, late: int = 0) -> None:
        """Delivers a hop of what waits."""
        with self.lock:
            sound, self.queue = self.queue[: 640 * HOP], self.queue[640 * HOP :]
        heard = -(-len(sound) // 640)
        hop = chunk(self.frame, np.pad(sound, (0, 640 * HOP - len(sound))), heard)
        self.frame += HOP
        self.deliver(Delivery(hop, due, None, due, late))


class FakeEngine(Engine):
    """Room for `most` sessions."""

    def __init__(self, most: int = 4):
        self.most, self.hop, self.all = most, HOP, []

    @property
    def sessions(self):
        return sum(not session.closed for session in self.all)

    def sit(self, image, **wishes):
        return types.SimpleNamespace(height=SIDE, width=SIDE, remarks=())

    def open(self, sitting, deliver, *, microphone=True, **wishes):
        if self.sessions >= self.most:
            raise Busy(self.most)
        self.all.append(FakeSession(deliver, microphone, wishes))
        return self.all[-1]

    def start(self):
        pass

    def stop(self):
        pass
