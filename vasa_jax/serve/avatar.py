"""A face for a voice agent: speech is pushed as it is synthesised, pictures with their sound come out in rhythm.

Speech may come faster than it is spoken; it waits its turn. Frames come from the opening to the closing, 25 a second,
silent ones where nothing is to be said, and each brings its own 640 samples: picture and sound have one clock. An
utterance ends where `end` says so; the frame that shows its last sample says it is finished. `clear` cuts everything
off at once, as when a person begins to speak, and tells how much had been heard; the face goes on from its pose.

```
async with Avatar(vasa_jax.load("demo"), "portrait.png") as avatar:
    await avatar.push_audio(speech, rate=24_000)  # from any task, as often as there is some
    avatar.end()
    async for frame in avatar.frames():
        show(frame.picture, frame.sound)  # uint8 (h, w, 3), float32 (640,)
        if frame.finished is not None:
            break
```

What is pushed goes to the engine in whole frames of 640 samples, the last one filled up with silence. So a frame that
the engine delivers with sound shows exactly the next of these, or, where it was under way when `clear` was called, one
that is no longer wanted.
"""

import asyncio
import contextlib
import dataclasses
import math
from collections import deque
from collections.abc import AsyncIterator
from typing import Any, NamedTuple, Unpack

import numpy as np
import soxr
from jaxtyping import Float, UInt8

from vasa_jax.arrays import FPS, SAMPLE_RATE, SAMPLES_PER_FRAME
from vasa_jax.errors import UserError
from vasa_jax.inference.offline import Model, Wishes
from vasa_jax.inference.stream import EASE, Sitting, checked_sound
from vasa_jax.media.image import ImageSource
from vasa_jax.media.tags import Tags
from vasa_jax.serve.clock import Clock
from vasa_jax.serve.engine import Delivery, Engine, Session

RATES = 8_000, 192_000
"""Of speech that is pushed, from and to, in Hz."""
MOST = 2 * FPS
"""Frames that may wait for who takes them; older ones are gone."""
FADE = 160
"""Samples in which a voice that is cut off fades: 10 ms."""


class Frame(NamedTuple):
    """What is shown and heard now.

    picture: uint8. sound: float32, that of this frame and of any before it that were skipped, for who takes frames too
    slowly gets fewer pictures but all the sound. time: seconds from the opening to the first sample of the sound.
    speaking: whether this sound is of an utterance, and not silence between them. finished: seconds of an utterance
    whose last sample this frame shows, else None.
    """

    picture: UInt8[np.ndarray, "h w 3"]
    sound: Float[np.ndarray, " n"]
    time: float
    speaking: bool
    finished: float | None


@dataclasses.dataclass(eq=False)
class _Utterance:
    """samples: that were pushed. frames: into which they were cut. shown: of these. ended: whether all were pushed."""

    samples: int = 0
    frames: int = 0
    shown: int = 0
    ended: bool = False


class _Waiting(NamedTuple):
    number: int
    due: float
    picture: np.ndarray
    sound: np.ndarray
    utterance: _Utterance | None


class Avatar:
    """One portrait that speaks for an agent; an asynchronous context manager. All methods belong to one event loop.

    Attributes:
        height, width: of pictures, in pixels, once it is open. tags: for containers of them, with the mark in their
        pixels, likewise. skipped: pictures that were not taken in time.
    """

    def __init__(
        self,
        model: Model | Engine,
        image: ImageSource | Sitting,
        *,
        clock: Clock = Clock(),  # noqa: B008
        **wishes: Unpack[Wishes],
    ):
        """Nothing is opened yet.

        Args:
            model: any pair, for an engine of its own; or an engine that runs, whose hop, look-ahead and idle hold.
            image: as of `Model.animate`, or an engine's `Sitting`.
            clock: for tests.
            wishes: as of `Stream`.

        Raises:
            UserError: a hop or look-ahead out of range.
        """
        self._own = not isinstance(model, Engine)
        rhythm: Any = {name: value for name, value in wishes.items() if name in ("hop", "look_ahead")}
        self._engine = model if isinstance(model, Engine) else Engine(model, most=1, idle=math.inf, **rhythm)
        self._image, self._wishes, self._clock = image, wishes, clock
        self._session: Session | None = None
        self.height = self.width = self.skipped = 0
        self.tags = Tags()
        self._frames: deque[_Waiting] = deque()
        self._come = asyncio.Event()
        self._utterances: deque[_Utterance] = deque()
        self._expected: deque[tuple[np.ndarray, _Utterance]] = deque()
        self._rest = np.zeros(0, np.float32)
        self._resampler: tuple[int, soxr.ResampleStream] | None = None

    async def __aenter__(self) -> "Avatar":
        """Opens the picture and begins. Raises UserError for one that cannot be used, Busy where there is no room."""
        self._loop = asyncio.get_running_loop()
        if self._own:
            self._engine.start()
        try:
            await asyncio.to_thread(self._begin)
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(self, *error: Any) -> None:
        """Ends the session, and the engine where it is its own."""
        await self._close()

    async def push_audio(self, samples: np.ndarray, rate: int = SAMPLE_RATE) -> None:
        """Appends speech, (n,) mono, float in [-1, 1] or int16, to the utterance that is under way, or begins one.

        Raises:
            UserError: what is no sound, a rate out of range, more than ten minutes that wait, a session that has ended.
        """
        samples = checked_sound(samples)
        if not RATES[0] <= rate <= RATES[1]:
            raise UserError(f"rate {rate} is out of range; push speech of {RATES[0]} to {RATES[1]} Hz")
        if not len(samples):
            return
        if not self._utterances or self._utterances[-1].ended:
            self._utterances.append(_Utterance())
        if self._resampler is not None and self._resampler[0] != rate:
            self._say(self._held_back())
        if rate != SAMPLE_RATE:
            if self._resampler is None:
                self._resampler = rate, soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32")
            samples = self._resampler[1].resample_chunk(samples)
        self._say(samples)

    def end(self) -> None:
        """Says that the utterance is whole. Nothing where none is under way."""
        if not self._utterances or self._utterances[-1].ended:
            return
        self._say(self._held_back())
        if len(self._rest):
            self._say(np.zeros(SAMPLES_PER_FRAME - len(self._rest), np.float32), padding=True)
        self._utterances[-1].ended = True
        self._live().say_no_more()
        self._come.set()

    def clear(self) -> float | None:
        """Cuts off what is said and all that waits.

        Returns:
            Seconds of the utterance under way that were heard, None where there was none.
        """
        if not self._utterances:
            return None
        heard = self._utterances[0].shown * SAMPLES_PER_FRAME / SAMPLE_RATE
        if self._session is not None and not self._session.closed:
            self._session.interrupt()
        self._utterances.clear()
        self._expected.clear()
        self._rest, self._resampler = self._rest[:0], None
        fade = np.linspace(1, 0, FADE, dtype=np.float32)
        for i, frame in enumerate(self._frames):
            sound = np.zeros_like(frame.sound)
            sound[:FADE] = frame.sound[:FADE] * fade
            self._frames[i] = frame._replace(sound=sound, utterance=None)
            fade = np.zeros_like(fade)
        return heard

    def change(self, ease: float = EASE, **wishes: Any) -> None:
        """Asks for another gaze, emotion and so on; see `Session.change`."""
        self._live().change(ease, **wishes)

    @property
    def speaking(self) -> bool:
        """Whether something is being said, or waits to be."""
        return bool(self._utterances)

    async def frames(self) -> AsyncIterator[Frame]:
        """Frames as they are due, from now until the avatar closes. For one who takes them.

        Raises:
            UserError: the session ended for another reason than closing.
        """
        while True:
            now = self._clock.now()
            if not self._frames:
                self._come.clear()
                if self._live_or_none() is None:
                    return
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._come.wait(), 1.0)
            elif self._frames[0].due > now:
                await self._clock.sleep(self._frames[0].due - now)
            else:
                yield self._take(now)

    def _take(self, now: float) -> Frame:
        """The newest picture whose time has come, with all the sound until then."""
        taken = [self._frames.popleft()]
        while self._frames and self._frames[0].due <= now:
            taken.append(self._frames.popleft())
        self.skipped += len(taken) - 1
        for frame in taken:
            if frame.utterance is not None:
                frame.utterance.shown += 1
        finished = None
        if self._utterances and self._utterances[0].ended and self._utterances[0].shown >= self._utterances[0].frames:
            finished = self._utterances.popleft().samples / SAMPLE_RATE
        sound = np.concatenate([frame.sound for frame in taken])
        speaking = any(frame.utterance is not None for frame in taken)
        return Frame(taken[-1].picture, sound, taken[0].number / FPS, speaking, finished)

    def _begin(self) -> None:
        """In a thread: the picture is encoded, the session opened."""
        image = self._image
        sitting = image if isinstance(image, Sitting) else self._engine.sit(image, **self._wishes)
        self.height, self.width = sitting.height, sitting.width
        self._session = self._engine.open(sitting, self._deliver, microphone=False, **self._wishes)
        self.tags = self._session.tags

    async def _close(self) -> None:
        if self._session is not None:
            self._session.close()
        if self._own:
            await asyncio.to_thread(self._engine.stop)
        self._come.set()

    def _live(self) -> Session:
        session = self._live_or_none()
        if session is None:
            raise UserError("the avatar is not open; use it inside `async with Avatar(...)`")
        return session

    def _live_or_none(self) -> Session | None:
        """The session, None before and after. Raises UserError where it has failed."""
        if self._session is not None and self._session.closed and self._session.reason != "closed":
            raise UserError(self._session.reason)
        return None if self._session is None or self._session.closed else self._session

    def _held_back(self) -> Float[np.ndarray, " n"]:
        """What resampling has not given yet of the sound until now."""
        if self._resampler is None:
            return np.zeros(0, np.float32)
        resampler, self._resampler = self._resampler[1], None
        return resampler.resample_chunk(np.zeros(0, np.float32), last=True)

    def _say(self, samples: Float[np.ndarray, " n"], padding: bool = False) -> None:
        """Gives the engine all whole frames that there are."""
        session, utterance = self._live(), self._utterances[-1]
        utterance.samples += 0 if padding else len(samples)
        samples = np.concatenate([self._rest, np.clip(samples, -1, 1)])
        whole = len(samples) // SAMPLES_PER_FRAME * SAMPLES_PER_FRAME
        if whole:
            session.push(samples[:whole])
            self._expected.extend((block, utterance) for block in samples[:whole].reshape(-1, SAMPLES_PER_FRAME))
            utterance.frames += whole // SAMPLES_PER_FRAME
        self._rest = samples[whole:]

    def _deliver(self, delivery: Delivery) -> None:
        """In the engine's thread."""
        with contextlib.suppress(RuntimeError):  # the loop has ended, and with it who would see this
            self._loop.call_soon_threadsafe(self._receive, delivery)

    def _receive(self, delivery: Delivery) -> None:
        chunk = delivery.chunk
        for i, (picture, lacking) in enumerate(zip(chunk.frames, chunk.lacking, strict=True)):
            sound, utterance = chunk.sound[SAMPLES_PER_FRAME * i :][:SAMPLES_PER_FRAME], None
            if not lacking and self._expected and np.array_equal(self._expected[0][0], sound):
                utterance = self._expected.popleft()[1]
            else:
                sound = np.zeros(SAMPLES_PER_FRAME, np.float32)
            self._frames.append(_Waiting(chunk.first + i, delivery.due + i / FPS, picture, sound, utterance))
        while len(self._frames) > MOST:
            gone = self._frames.popleft()
            self.skipped += 1
            if gone.utterance is not None:
                gone.utterance.shown += 1
        self._come.set()
