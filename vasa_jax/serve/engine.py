"""The engine: one thread that makes the frames of all live sessions, in rhythm.

A tick comes once a hop (`inference.pacing`). In it every open session gets its next hop of frames, all of them
generated and drawn together (`inference.stream.pull_together`), with silence where no sound has come, so that a session
goes on for as long as it is open: its head moves, its eyes blink. What was made is handed to the session's `deliver`,
which returns at once; the engine waits for nobody. A client that is slow drops its own frames behind that door, one
that fails ends its own session, and the others do not notice.

Sound that comes as it is spoken (`microphone`) begins with `SPARE` of it kept back against packets that come late, and
never waits longer than `MOST_WAITING`: what is older is left out. Sound that was made at once, as an agent's, waits its
turn.
"""

import collections
import logging
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple, Unpack

import numpy as np

from vasa_jax.arrays import FPS, SAMPLE_RATE, SAMPLES_PER_FRAME
from vasa_jax.errors import UserError
from vasa_jax.faces.box import Box
from vasa_jax.inference.offline import Model, Wishes
from vasa_jax.inference.pacing import Pace
from vasa_jax.inference.pair import Options
from vasa_jax.inference.stream import EASE, HOP, LOOK_AHEAD, Chunk, Sitting, Stream, checked_sound, pull_together
from vasa_jax.media.image import ImageSource

SPARE = SAMPLE_RATE * 60 // 1000
"""Samples of a microphone that are kept back where speech sets in."""
MOST_WAITING = SAMPLE_RATE * 600 // 1000
"""Samples of a microphone that wait at most, beside the look-ahead."""
LONGEST_SPEECH = SAMPLE_RATE * 600
"""Samples that may wait in all; nobody listens to more."""
RETRY_AFTER = 10.0
"""Seconds after which one who found no place may ask again."""

_log = logging.getLogger(__name__)


class Busy(UserError):
    """There is no place for another session.

    Attributes:
        retry_after: seconds after which to ask again.
    """

    def __init__(self, most: int):
        """`most`: sessions that are open."""
        super().__init__(f"all {most} places are taken; come back in {RETRY_AFTER:g} seconds")
        self.retry_after = RETRY_AFTER


class Delivery(NamedTuple):
    """A hop of frames as it leaves the engine; times are those of `time.monotonic`, in seconds.

    chunk: the frames. due: when the first of them shows. arrived: when the last sample came that they show, None for
    silence. ready: when they were there. late: frames of this session so far that were ready after they were due.
    """

    chunk: Chunk
    due: float
    arrived: float | None
    ready: float
    late: int


class Session:
    """One portrait that speaks; all its doors are safe for any thread and return at once.

    Attributes:
        height, width: of frames, in pixels. tags: of the stream, with the mark in its frames. closed: whether it has
        ended. reason: why, "closed", "idle", or one line of what went wrong. late: frames so far that were ready after
        they were due.
    """

    def __init__(self, stream: Stream, deliver: Callable[[Delivery], None], microphone: bool):
        """Of `Engine.open`. The stream is the engine's thread's alone: what comes waits in an inbox until its tick."""
        self.height, self.width, self.tags = stream.height, stream.width, stream.tags
        self.closed, self.reason, self.late = False, "", 0
        self.deliver = deliver
        self.stream, self._microphone = stream, microphone
        self._lock = threading.Lock()
        self._inbox: list[Callable[[], None]] = []
        self._arrivals: collections.deque[tuple[int, float]] = collections.deque()  # samples until then, and when
        self._pushed = self._heard = self._taken = 0  # samples that came, that the stream got, that it shows no more
        self._whole = False
        self.touched = time.monotonic()

    @property
    def waiting(self) -> int:
        """Samples that were pushed and belong to frames that were not made."""
        return self._pushed - self._taken

    def push(self, samples: np.ndarray) -> None:
        """Appends sound, (n,) at 16 kHz, float32 in [-1, 1] or int16.

        Raises:
            UserError: what is no sound (`Stream.push`), more than can wait, or a session that has ended.
        """
        samples = checked_sound(samples)
        if self.waiting + len(samples) > LONGEST_SPEECH:
            raise UserError(f"more than {LONGEST_SPEECH // SAMPLE_RATE} seconds of sound wait; send less at once")
        self._put(lambda: self._hear(samples), len(samples))

    def say_no_more(self) -> None:
        """What waits is the rest of an utterance: it is spoken without waiting for more."""
        self._put(lambda: setattr(self, "_whole", True))

    def interrupt(self) -> None:
        """Drops the sound that waits; the face goes on from where it is."""
        self._put(self.stream.interrupt)

    def change(self, ease: float = EASE, **wishes: Any) -> None:
        """Asks for something else from the next hop on; see `Stream.change`, also for what it raises."""
        self.stream.check_change(ease, **wishes)
        self._put(lambda: self.stream.change(ease, **wishes))

    def close(self, reason: str = "closed") -> None:
        """Ends it; nothing is delivered any more."""
        self.closed, self.reason = True, self.reason or reason

    def begin(self) -> int:
        """Of the engine's thread: does what waits in the inbox; returns the samples to keep back, see `Stream.pull`."""
        with self._lock:
            inbox, self._inbox = self._inbox, []
        for act in inbox:
            act()
        if not self._microphone:
            return 0 if self._whole else SAMPLES_PER_FRAME * self.stream.listening.hop
        most = MOST_WAITING + SAMPLES_PER_FRAME * self.stream.listening.heard
        self.stream.drop(max(0, self.stream.waiting - most))
        return SPARE

    def idle_since(self, now: float) -> float:
        """Seconds since something was asked for, 0 while speech waits."""
        return 0.0 if self.waiting >= SAMPLES_PER_FRAME * self.stream.listening.hop else now - self.touched

    def end(self, chunk: Chunk, due: float, ready: float) -> Delivery:
        """Of the engine's thread: what becomes of a chunk that was made."""
        self._taken = self._heard - self.stream.waiting
        while self._arrivals and self._arrivals[0][0] < self._taken:
            self._arrivals.popleft()
        came = self._arrivals[0][1] if self._arrivals and not chunk.lacking.all() else None
        self.late += sum(ready > due + i / FPS for i in range(len(chunk.frames)))
        return Delivery(chunk, due, came, ready, self.late)

    def _hear(self, samples: np.ndarray) -> None:
        self.stream.push(samples)
        self._heard += len(samples)
        self._whole = False

    def _put(self, act: Callable[[], None], samples: int = 0) -> None:
        if self.closed:
            raise UserError(f"the session has ended: {self.reason}")
        with self._lock:
            self._inbox.append(act)
            self.touched = time.monotonic()
            if samples:
                self._pushed += samples
                self._arrivals.append((self._pushed, self.touched))


class Engine:
    """The thread, a model and its sessions; a context manager.

    Attributes:
        model: any pair. hop, look_ahead: frames, the same for all sessions. most: sessions at once.
    """

    def __init__(
        self,
        model: Model,
        *,
        hop: int = HOP,
        look_ahead: int = LOOK_AHEAD,
        most: int = 4,
        idle: float = 300.0,
        badge: bool = False,
    ):
        """Nothing is computed yet.

        Args:
            model: any pair.
            hop, look_ahead: frames that are made together, and frames of sound that they wait for.
            most: sessions at once, 1 or more.
            idle: seconds without sound or a change after which a session ends.
            badge: whether every session's frames have the notice that people see (`provenance.badge`).

        Raises:
            UserError: numbers out of range.
        """
        if most < 1:
            raise UserError(f"sessions {most} is out of range; give 1 or more")
        model.asked(hop=hop, look_ahead=look_ahead)
        self.model, self.hop, self.look_ahead, self.most, self.idle = model, hop, look_ahead, most, idle
        self._rhythm: Any = {"hop": hop, "look_ahead": look_ahead}
        self._badge: Any = {"badge": True} if badge else {}
        self._sessions: list[Session] = []
        self._reserved = 0
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._together = 1
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begins ticking; programs for several sessions are compiled meanwhile, until then they go one by one."""
        self._stopping.clear()
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()
        if self.most > 1:
            threading.Thread(target=self._rehearse, name="rehearsal", daemon=True).start()

    def stop(self) -> None:
        """Ends all sessions and the thread."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
        for session in self._taken():
            session.close("the server stops")
        with self._lock:
            self._sessions.clear()

    def __enter__(self) -> "Engine":
        """Starts."""
        self.start()
        return self

    def __exit__(self, *error: Any) -> None:
        """Stops."""
        self.stop()

    @property
    def sessions(self) -> int:
        """How many are open."""
        return len(self._taken())

    def sit(self, image: ImageSource, **wishes: Unpack[Wishes]) -> Sitting:
        """Opens and encodes a picture, which takes a moment; raises UserError for one that cannot be used."""
        return Sitting(self.model, image, **wishes | self._rhythm)

    def open(
        self,
        sitting: Sitting,
        deliver: Callable[[Delivery], None],
        *,
        microphone: bool = True,
        **wishes: Unpack[Wishes],
    ) -> Session:
        """A new session, which begins with the next tick. It takes a moment: the stream is tried once.

        Args:
            sitting: the picture.
            deliver: gets each hop, from the engine's thread; it must return at once.
            microphone: whether sound comes as it is spoken.
            wishes: as of `Stream`, but hop and look-ahead, which are the engine's, as is a badge.

        Raises:
            Busy: where all places are taken.
            UserError: a wish that cannot be done.
        """
        with self._lock:
            self._sessions = [session for session in self._sessions if not session.closed]
            if len(self._sessions) + self._reserved >= self.most:
                raise Busy(self.most)
            self._reserved += 1
        try:
            stream = self._stream(sitting, **wishes)
            stream.interrupt()  # silence comes before the first sound
            session = Session(stream, deliver, microphone)
        except BaseException:
            with self._lock:
                self._reserved -= 1
            raise
        with self._lock:
            self._reserved -= 1
            self._sessions.append(session)
        return session

    def _stream(self, sitting: Sitting, **wishes: Any) -> Stream:
        return Stream(self.model, sitting, **wishes | self._rhythm | self._badge)

    def _taken(self) -> list[Session]:
        with self._lock:
            return [session for session in self._sessions if not session.closed]

    def _run(self) -> None:
        pace = Pace(time.monotonic(), self.hop)
        while not self._stopping.wait(pace.wait(time.monotonic())):
            due = pace.tick(time.monotonic())
            self._tick(due)

    def _tick(self, due: float) -> None:
        """One hop of every session; those that sample alike go together."""
        now = time.monotonic()
        groups: dict[Options, list[Session]] = {}
        for session in self._taken():
            if session.idle_since(now) > self.idle:
                session.close("idle")
            else:
                groups.setdefault(session.stream.options, []).append(session)
        with self._lock:
            self._sessions = [session for session in self._sessions if not session.closed]
        for alike in groups.values():
            for i in range(0, len(alike), self._together):
                self._make(alike[i : i + self._together], due)

    def _make(self, sessions: list[Session], due: float) -> None:
        """A hop of these sessions. Where one fails in company, each is tried alone, and it ends."""
        try:
            spares = [session.begin() for session in sessions]
            chunks = pull_together([session.stream for session in sessions], now=True, spare=spares)
        except Exception as error:  # noqa: BLE001 (whatever it is, the other sessions go on)
            if len(sessions) == 1:
                sessions[0].close(_line(error))
                return
            for session in sessions:
                self._make([session], due)
            return
        ready = time.monotonic()
        for session, chunk in zip(sessions, chunks, strict=True):
            if chunk is None or session.closed:
                continue
            try:
                session.deliver(session.end(chunk, due, ready))
            except Exception as error:  # noqa: BLE001 (a client's failure is its own)
                session.close(_line(error))

    def _rehearse(self) -> None:
        """Compiles what makes 2, 4, ... sessions together, beside the sessions that there are."""
        side = self.model.face.sees
        try:
            grey, whole = np.full((side, side, 3), 128, np.uint8), Box(side / 2, side / 2, side)
            sitting = Sitting(self.model, grey, box=whole, square=True, **self._rhythm)
            streams = [self._stream(sitting) for _ in range(1 << (self.most - 1).bit_length())]
            count = 2
            while count <= len(streams) and not self._stopping.is_set():
                pull_together(streams[:count], now=True)
                self._together, count = count, 2 * count
        except Exception:  # noqa: BLE001 (sessions go on without)
            _log.exception("sessions cannot be made together; they go one by one")


def _line(error: Exception) -> str:
    """What a client is told; a mistake of ours goes to the log with its traceback."""
    if isinstance(error, UserError):
        return str(error)
    _log.error("a session failed", exc_info=error)
    return "the server made a mistake; its log says more"
