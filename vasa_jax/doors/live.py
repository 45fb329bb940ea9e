"""`infer.py --stream`: sound on standard input, a talking face on standard output.

    espeak-ng --stdout "hello" | python infer.py --image portrait.png --stream --out - | ffplay -

Frames are made as fast as their sound comes and the machine allows; `--paced`, in real time (`inference.pacing`): a
thread reads, and at each tick of the clock a hop is made of what there is, with silence for what is missing. A reader
who leaves and a signal to end are ordinary ends of a stream: what was written is whole up to there.
"""

import os
import queue
import sys
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from vasa_jax.arrays import SAMPLE_RATE
from vasa_jax.command import check_stopped
from vasa_jax.errors import UserError

if TYPE_CHECKING:
    from vasa_jax.doors.infer import Models, Options
    from vasa_jax.inference.stream import Chunk, Stream

ELSEWHERE = (
    *("audio", "driving", "pose_from", "dynamics_from", "save_motion", "show_crop", "fit", "parity", "jobs"),
    *("sign_with", "tsa"),
)
"""Options that a stream has no use for."""
PIECES = 16
"""Pieces of sound that a thread has read ahead at most; what writes more into the pipe waits."""


def stream(options: "Options", models: "Models") -> None:
    """Does what the options say, and reports on standard error; a reader who leaves and a signal end it quietly.

    Raises:
        UserError: an option or an input that cannot be used.
    """
    from vasa_jax.doors.infer import check_wishes, wishes_of
    from vasa_jax.inference.stream import Stream
    from vasa_jax.media.live import LiveWriter

    for name in ELSEWHERE:
        if getattr(options, name):
            raise UserError(f"--{name.replace('_', '-')} does nothing with --stream; leave it out")
    if options.image is None or options.out != "-":
        raise UserError("--stream needs --image PORTRAIT and --out -: the video goes to standard output")
    wishes: dict[str, Any] = wishes_of(options)
    check_wishes(wishes)
    into, out = (_descriptor(file) for file in (sys.stdin, sys.stdout))
    if os.isatty(into):
        raise UserError("standard input is a terminal; lead a sound into it: SOUND | python infer.py --stream ...")
    if os.isatty(out):
        raise UserError("standard output is a terminal; lead the video elsewhere: ... --out - | ffplay -")
    model = models.load(options.model, options.dtype, options.speech)
    live = Stream(model, options.image, **wishes)
    for remark in live.remarks:
        sys.stderr.write(f"infer: {remark}\n")
    count, made = 0, paced if options.paced else at_once
    try:
        with (
            open(into, "rb", buffering=0, closefd=False) as source,
            LiveWriter(_Pipe(out), (live.height, live.width), options.container, live.tags) as writer,
        ):
            for chunk in made(live, source):
                check_stopped()
                if not count:
                    sys.stderr.write(f"infer: the frames carry the mark {live.tags.identity}\n")
                writer.write(chunk.frames, chunk.sound)
                count = writer.frames
    except (BrokenPipeError, KeyboardInterrupt):
        pass
    sys.stderr.write(f"infer: {count} frames of {live.width}x{live.height}\n")


def at_once(live: "Stream", source: Any) -> Iterator["Chunk"]:
    """Each hop as soon as its sound is there."""
    from vasa_jax.media.live import read_sound

    for samples in read_sound(source):
        live.push(samples)
        while (chunk := live.pull()) is not None:
            yield chunk
    live.end()
    while (chunk := live.pull()) is not None:
        yield chunk


def paced(live: "Stream", source: Any) -> Iterator["Chunk"]:
    """A hop at each tick, until the sound has ended and was spoken."""
    from vasa_jax.inference.pacing import Pace
    from vasa_jax.serve.engine import SPARE

    pieces: queue.Queue[np.ndarray | BaseException | None] = queue.Queue(PIECES)
    threading.Thread(target=_read, args=(source, pieces), name="sound", daemon=True).start()
    live.interrupt()  # silence comes before the first sound
    pace, open_ = Pace(time.monotonic(), live.listening.hop), True
    while True:
        time.sleep(pace.wait(time.monotonic()))
        pace.tick(time.monotonic())
        while open_ and live.waiting < SAMPLE_RATE:
            try:
                piece = pieces.get_nowait()
            except queue.Empty:
                break
            if isinstance(piece, BaseException):
                raise piece
            if piece is None:
                open_ = False
                live.end()
            else:
                live.push(piece)
        chunk = live.pull(now=True, spare=SPARE)
        if chunk is None:
            break
        yield chunk
    if pace.late:
        sys.stderr.write(f"infer: the machine was too slow for its clock {pace.late} times\n")


def _read(source: Any, pieces: "queue.Queue[np.ndarray | BaseException | None]") -> None:
    """Reads the sound to its end, which is None, or to what stands in its way."""
    from vasa_jax.media.live import read_sound

    try:
        for samples in read_sound(source):
            pieces.put(samples)
        pieces.put(None)
    except Exception as error:  # noqa: BLE001 (raised where it is taken)
        pieces.put(error)


def _descriptor(file: Any) -> int:
    """The number of a standard stream, of which none may be missing."""
    if file is None:
        raise UserError("--stream needs standard input and standard output; start it with both")
    return file.fileno()


class _Pipe:
    """A descriptor that takes all bytes at once and keeps none."""

    def __init__(self, number: int):
        self._file = open(number, "wb", buffering=0, closefd=False)  # noqa: SIM115

    def write(self, data: bytes) -> int:
        """Writes all of it. Raises BrokenPipeError where the reader has left."""
        left = memoryview(data)
        while left:
            left = left[self._file.write(left) :]
        return len(data)
