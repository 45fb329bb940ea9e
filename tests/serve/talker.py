"""An engine without a model: a grey picture whose middle is as bright as the sound of its frame is loud."""

import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from vasa_jax.errors import UserError
from vasa_jax.inference.stream import Chunk
from vasa_jax.media.tags import Tags
from vasa_jax.serve.engine import Busy, Delivery

SIDE, HOP = 64, 5
GAIN = 1500.0
"""Levels of brightness for a loudness of 1."""


class Seat(NamedTuple):
    height: int = SIDE
    width: int = SIDE
    remarks: tuple[str, ...] = ()


class TalkerSession:
    """What `tests.serve.talker.Talker` opens."""

    def __init__(self, deliver: Callable[[Delivery], None], microphone: bool, wishes: dict[str, Any]):
        self.deliver, self.microphone, self.wishes = deliver, microphone, wishes
        self.closed, self.reason, self.said, self.tags = False, "", [], Tags(identity="0badcafe")
        self.sound, self.frame, self.lock = np.zeros(0, np.float32), 0, threading.Lock()
        self.arrived: float | None = None

    @property
    def waiting(self) -> int:
        return len(self.sound)

    def push(self, samples):
        if self.closed:
            raise UserError(f"the session has ended: {self.reason}")
        with self.lock:
            self.sound = np.concatenate([self.sound, samples])
            self.arrived = time.monotonic()

    def say_no_more(self):
        self.said.append("no more")

    def interrupt(self):
        self.said.append("interrupt")
        self.sound = self.sound[:0]

    def change(self, ease=400.0, **wishes):
        if wishes.get("emotion") == "joyless":
            raise UserError("emotion 'joyless' is unknown")
        self.said.append((ease, wishes))

    def close(self, reason="closed"):
        self.closed, self.reason = True, self.reason or reason

    def play(self) -> None:
        """Delivers a hop of what waits, silence behind it."""
        with self.lock:
            sound, self.sound = self.sound[: 640 * HOP], self.sound[640 * HOP :]
        count, sound = len(sound), np.pad(sound, (0, 640 * HOP - len(sound)))
        levels = np.clip(40 + GAIN * np.sqrt(np.mean(sound.reshape(HOP, 640) ** 2, axis=1)), 0, 255)
        frames = np.full((HOP, SIDE, SIDE, 3), 90, np.uint8)
        frames[:, SIDE // 4 : -SIDE // 4, SIDE // 4 : -SIDE // 4] = levels[:, None, None, None].astype(np.uint8)
        lacking = np.arange(HOP) >= -(-count // 640)
        now, first = time.monotonic(), self.frame
        self.frame += HOP
        self.deliver(Delivery(Chunk(first, frames, sound, None, lacking), now, self.arrived, now, 0))


class Talker:
    """As `vasa_jax.serve.engine.Engine`; a thread ticks where it is started, else a test does."""

    hop = HOP

    def __init__(self, most: int = 4):
        self.most, self.all, self.sat = most, [], []
        self._stopping, self._thread = threading.Event(), None

    @property
    def sessions(self) -> int:
        return sum(not session.closed for session in self.all)

    def sit(self, image, **wishes):
        if np.asarray(image).std() == 0:
            raise UserError("there is no face in the image")
        self.sat.append(wishes)
        return Seat()

    def open(self, sitting, deliver, *, microphone=True, **wishes):
        if wishes.get("emotion") == "joyless":
            raise UserError("emotion 'joyless' is unknown")
        if self.sessions >= self.most:
            raise Busy(self.most)
        self.all = [session for session in self.all if not session.closed]
        self.all.append(TalkerSession(deliver, microphone, wishes))
        return self.all[-1]

    def tick(self) -> None:
        for session in list(self.all):
            if not session.closed:
                session.play()

    def _run(self) -> None:
        due = time.monotonic()
        while not self._stopping.wait(max(0.0, due - time.monotonic())):
            due += HOP / 25
            self.tick()

    def __enter__(self):
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error):
        self._stopping.set()
        self._thread.join()
