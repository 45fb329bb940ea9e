"""Does anything grow, drift or slip in hours? Hours of sound through the offline driver, or through a stream.

    python -m benchmarks.soak --offline 2 [--model demo] [--sampler dpm++ --steps 5] [--out talk.mp4]
    python -m benchmarks.soak --stream 1 [--paced] [--drawn 10] [--out talk.mp4]

People of the synthetic world whom no model has met take turns of a minute. Offline their sound becomes a video file as
`infer.py` writes it: watermarked, encoded, signed. As a stream it becomes fragments as `infer.py --stream` writes them,
as fast as the machine can or, `--paced`, by the clock. (The live server is soaked by `benchmarks.sessions --slope`.)
The file is removed at the end unless `--out` keeps it. With `--drawn 10` the pictures of the first ten seconds are
shown again and again, which leaves out what costs most and watches all the rest. Ctrl-C ends a run early, and what was
made until then is measured. Printed every quarter of an hour of sound and at the end:

    memory  slope of the process's own memory (resident, without what is mapped from files, which the system drops and
            reads again as it likes) over the hours of sound, the first sixth left out: caches fill first
    drift   slope over minutes of what the `drift` judge looks at, from means over ten seconds, and of the distance of
            the code from the training mean
    skew    at the end, from the file as PyAV reads it: how much later the sound comes than its picture, found by
            correlation with what was spoken and by comparison with the frames that were drawn

A slope is that of least squares through the means of twelve equal parts of the run, with Student's t: neighbouring
values are alike, means of long parts hardly so (batch means, Law and Carson 1979). Of several curves one may be off by
chance, so "drift" is said where the interval at 1 - 0.05 / curves leaves out 0.
"""

import argparse
import collections
import itertools
import math
import signal
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import av
import numpy as np
import soundfile
import soxr
from jaxtyping import Float, UInt8
from scipy import stats

from benchmarks import timing
from benchmarks.latency import PERSON
from vasa_jax.arrays import FPS, SAMPLE_RATE, Motion
from vasa_jax.errors import UserError
from vasa_jax.inference.load import load
from vasa_jax.inference.offline import Model
from vasa_jax.inference.stream import Stream
from vasa_jax.inference.vasa import KIND
from vasa_jax.media.live import LiveWriter
from vasa_jax.media.video import VideoWriter
from vasa_jax.metrics.judges.evidence import SPEAKERS, take_of
from vasa_jax.metrics.judges.motion import BLOCK, COMPONENTS, slope
from vasa_jax.motion.statistics import Statistics
from vasa_jax.provenance.credentials import sealer
from vasa_jax.provenance.keys import own_signing
from vasa_jax.provenance.watermark import marking
from vasa_jax.synthetic.clip import make_clip
from vasa_jax.synthetic.performance import perform

TURN = 60.0
"""Seconds that a person speaks."""
REPORT = 15.0
"""Minutes of sound between two tables."""
SETTLE = 1 / 6
"""Share of a run in which caches fill."""
PARTS = 12
"""Of a run, whose means a line is led through."""
LEVEL = 0.95
KEPT = 4 * FPS
"""Last frames that are compared with the file."""
FARTHEST = 10
"""Frames by which a picture is looked for earlier and later."""
HEARD = 8.0
"""Seconds of sound at the end that are compared with what was spoken."""
LATEST = 0.5
"""Seconds by which sound is looked for earlier and later."""
BARS = {"memory": 20.0, "skew": 20.0}
"""MB an hour that the upper end of the slope stays below, and milliseconds."""


class Slope(NamedTuple):
    """A straight line's. value: a unit of time. low, high: its interval at 95 %. chance: how often a slope of 0 gives
    one as large."""

    value: float
    low: float
    high: float
    chance: float


class Skew(NamedTuple):
    """Of the end of a file, in milliseconds: how much later than its time the sound comes, and the picture; how much
    longer the track of sound is."""

    sound: float
    picture: float
    longer: float


class Curves(list):
    """Takes stretches of motion, as `Model.perform` keeps them, and keeps means over ten seconds alone."""

    def __init__(self, statistics: Statistics):
        """Nothing yet.

        Args:
            statistics: of the model's training, from whose mean the code's distance is counted.
        """
        super().__init__()
        self._mean, self._turn, self._scale = (
            np.asarray(getattr(statistics, name), np.float64)
            for name in ("dynamics_mean", "rotation", "dynamics_scale")
        )
        self._waiting: list[np.ndarray] = []
        self._last: np.ndarray | None = None
        self.units = {name: unit for name, (unit, _) in COMPONENTS.items()} | {"code": "deviations", "step": "deg"}
        self.means: list[np.ndarray] = []

    def append(self, motion: Motion) -> None:
        """Takes a stretch."""
        take = take_of(motion)
        code = (take.dynamics - self._mean) @ self._turn / self._scale
        angles = np.degrees(np.asarray(take.pose[:, :3], np.float64))
        before = angles[:1] if self._last is None else self._last
        steps = np.abs(np.diff(angles, axis=0, prepend=before)).mean(1)
        self._last = angles[-1:]
        columns = [curve(take) for _, curve in COMPONENTS.values()]
        self._waiting.append(np.stack([*columns, np.sqrt(np.square(code).mean(1)), steps], axis=1))
        while sum(map(len, self._waiting)) >= BLOCK:
            rows = np.concatenate(self._waiting)
            self.means.append(rows[:BLOCK].mean(0, dtype=np.float64))
            self._waiting = [rows[BLOCK:]]


class Watch:
    """What is seen of a run while it runs: memory, motion and the last frames."""

    def __init__(self, hours: float, statistics: Statistics):
        """The clock begins.

        Args:
            hours: of sound that are to come.
            statistics: see `Curves`.
        """
        import psutil

        self._process, self._began, self._hours = psutil.Process(), time.perf_counter(), hours
        self.curves = Curves(statistics)
        self.memory: list[float] = []
        self.last: collections.deque[np.ndarray] = collections.deque(maxlen=KEPT)
        self.frames, self.stopped = 0, False
        signal.signal(signal.SIGINT, lambda number, frame: setattr(self, "stopped", True))

    def see(self, frame: UInt8[np.ndarray, "h w c"]) -> None:
        """Takes a frame that was written; looks at the memory, and prints, when it is time."""
        self.last.append(frame)
        self.frames += 1
        if self.frames % BLOCK == 0:
            memory = self._process.memory_info()
            self.memory.append((memory.rss - getattr(memory, "shared", 0)) / 1e6)  # told by Linux alone
        if self.frames % round(REPORT * 60 * FPS) == 0 and self.frames < round(self._hours * 3600 * FPS):
            print(self.table(), flush=True)

    def table(self) -> str:
        """Speed, memory and drift so far."""
        seconds, hours = time.perf_counter() - self._began, self.frames / FPS / 3600
        speed = f"{self.frames / seconds:.1f} frames a second" if seconds else ""
        lines = [f"{hours:.2f} h of sound in {seconds / 3600:.2f} h: {self.frames} frames, {speed}", ""]
        return "\n".join([*lines, memory_row(np.array(self.memory)), "", drift_table(self.curves)])


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs, measures and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    timing.add_platform_flag(parser)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--offline", type=float, metavar="HOURS", help="of sound through the offline driver")
    which.add_argument("--stream", type=float, metavar="HOURS", help="of sound through a stream")
    parser.add_argument("--paced", action="store_true", help="the stream by the clock")
    parser.add_argument("--model", default="demo", help="name of a bundled model, or a release folder")
    parser.add_argument("--sampler", help="the model's own by default, or the stream's")
    parser.add_argument("--steps", type=timing.positive, help="of the sampler, likewise")
    parser.add_argument("--drawn", type=float, metavar="SECONDS", help="that are drawn, and shown again and again")
    parser.add_argument("--out", type=Path, help="keeps the video: for --stream .mp4, else see infer.py")
    flags = parser.parse_args(arguments)
    if flags.paced and flags.stream is None:
        parser.error("--paced is of --stream")
    timing.start(flags)
    hours = flags.stream if flags.offline is None else flags.offline
    wishes: dict[str, Any] = {name: value for name in ("sampler", "steps") if (value := getattr(flags, name))}
    with tempfile.TemporaryDirectory() as folder:
        sound, out = Path(folder) / "sound.wav", flags.out or Path(folder) / "talk.mp4"
        speak(sound, 3600 * hours)
        model = load(flags.model)
        if model.pair.kind != KIND:
            raise UserError(f"a model of kind {model.pair.kind!r} speaks other coordinates than the drift judge's")
        portrait = make_clip(PERSON, 1 / FPS, model.size).frames[0]
        watch = Watch(hours, model.motion.statistics)
        with mock.patch.object(model.face, "render", looped(model.face.render, flags.drawn)):
            if flags.stream is None:
                offline(model, portrait, sound, out, watch, wishes)
            else:
                stream(model, portrait, sound, out, watch, wishes, flags.paced)
        print(watch.table())
        print(f"\n{out.stat().st_size / 1e6:.1f} MB written\n{skew_row(skew(out, sound, watch.last, watch.frames))}")


def speak(path: Path, seconds: float) -> None:
    """Writes speech, 16 kHz mono, 16 bits: every minute another person's, in turn from the first one again."""
    with soundfile.SoundFile(path, "w", SAMPLE_RATE, 1, "PCM_16", format="WAV") as file:
        turns = math.ceil(seconds / TURN)
        for turn in range(turns):
            length = min(TURN, seconds - turn * TURN)
            file.write(perform(SPEAKERS[turn % len(SPEAKERS)], length, None).audio)


def looped(render: Callable, seconds: float | None) -> Callable:
    """What draws, or shows again what it drew of the first so many seconds."""
    if seconds is None:
        return render
    kept, calls = [], itertools.count()

    def call(portrait: Any, motion: Any) -> Any:
        if sum(len(frames) for frames, _ in kept) < seconds * FPS:
            kept.append(render(portrait, motion))
            return kept[-1]
        return kept[next(calls) % len(kept)]

    return call


def offline(model: Model, portrait: np.ndarray, sound: Path, out: Path, watch: Watch, wishes: dict[str, Any]) -> None:
    """A video file, as `infer.py` writes it."""
    performance = model.perform(portrait, str(sound), watch.curves, square=True, **wishes)
    marked = marking(performance.frames, int(performance.provenance.mark, 16))
    seal = sealer(performance.provenance, own_signing())
    with VideoWriter(out, FPS, (performance.height, performance.width), sound, seal=seal) as writer:
        for frame in marked:
            writer.write(frame)
            watch.see(frame)
            if watch.stopped:
                break


def stream(
    model: Model, portrait: np.ndarray, sound: Path, out: Path, watch: Watch, wishes: dict[str, Any], paced: bool
) -> None:
    """Fragments, as `infer.py --stream` writes them."""
    from vasa_jax.doors import live

    one = Stream(model, portrait, square=True, **wishes)
    made = live.paced if paced else live.at_once
    with (
        open(sound, "rb", buffering=0) as source,
        open(out, "wb", buffering=0) as file,
        LiveWriter(file, (one.height, one.width)) as writer,
    ):
        for chunk in made(one, source):
            writer.write(chunk.frames, chunk.sound)
            watch.curves.append(chunk.motion)
            for frame in chunk.frames:
                watch.see(frame)
            if watch.stopped:
                break


def fit(times: Float[np.ndarray, " n"], values: Float[np.ndarray, " n"]) -> Slope:
    """The slope of `PARTS` values or more that follow each other evenly (see above)."""
    length = len(values) // PARTS
    begun = len(values) - PARTS * length  # what the parts leave over is at the beginning
    means = (values[begun:] - values[-1]).reshape(PARTS, length).mean(1)
    middles = times[begun:].reshape(PARTS, length).mean(1)
    value, centred = slope(middles, means), middles - middles.mean()
    rest = means - means.mean() - value * centred
    error = math.sqrt(float(rest @ rest) / (PARTS - 2) / float(centred @ centred))
    wide = float(stats.t.ppf(0.5 + LEVEL / 2, PARTS - 2)) * error
    chance = float(2 * stats.t.sf(abs(value) / error, PARTS - 2)) if error else float(value == 0)
    return Slope(value, value - wide, value + wide, chance)


def memory_row(megabytes: Float[np.ndarray, " n"]) -> str:
    """Memory, one value each ten seconds of sound."""
    settled = megabytes[round(SETTLE * len(megabytes)) :]
    if len(settled) < PARTS:
        return "memory: too short a run"
    hours = np.arange(len(settled)) * BLOCK / FPS / 3600
    line = fit(hours, settled)
    if line.high > BARS["memory"]:
        verdict = "BEYOND the bar" if line.low > 0 else "too short a run to tell"
    else:
        verdict = "grows within the bar" if line.low > 0 else "flat"
    return (
        f"memory: {settled[0]:.1f} MB at first, {settled[-1]:.1f} at last, {settled.max():.1f} at most; slope "
        f"{line.value:+.2f} [{line.low:+.2f}, {line.high:+.2f}] MB an hour of sound: {verdict} "
        f"({BARS['memory']:g})"
    )


def drift_table(curves: Curves) -> str:
    """A row a curve: slope a minute with its interval, and the change over the run in deviations of its means."""
    means = np.array(curves.means)
    if len(means) < PARTS:
        return "drift: too short a run"
    minutes = (np.arange(len(means)) + 0.5) * BLOCK / FPS / 60
    lines = [f"{'drift of':<10} {'slope a minute, 95 %':>32} {'over the run':>13}  unit", ""]
    for (name, unit), column in zip(curves.units.items(), means.T, strict=True):
        line = fit(minutes, column)
        change = line.value * (minutes[-1] - minutes[0]) / max(float(column.std()), 1e-12)
        apart = "  drift" if line.chance < (1 - LEVEL) / len(curves.units) else ""
        ends = f"{line.value:+.5f} [{line.low:+.5f}, {line.high:+.5f}]"
        lines.append(f"{name:<10} {ends:>32} {change:+13.2f}  {unit}{apart}")
    return "\n".join(lines)


def skew(path: Path, sound: Path, last: Iterable[UInt8[np.ndarray, "h w c"]], frames: int) -> Skew:
    """How sound and picture lie at the end of a file.

    Args:
        path: of the video.
        sound: what was spoken, 16 kHz.
        last: frames that were drawn, the last ones.
        frames: how many were drawn in all.
    """
    pictures, voice, begins, ends = read_end(path)
    drawn = list(last)
    first, height, width = frames - len(drawn), *pictures[-1][1].shape[:2]
    drawn = np.stack(drawn)[:, :height, :width].astype(np.float32)
    found = []
    for time_, picture in pictures:
        at = round(time_ * FPS) - first
        places = [place for place in range(at - FARTHEST, at + FARTHEST + 1) if 0 <= place < len(drawn)]
        if len(places) == 2 * FARTHEST + 1:
            off = [float(np.square(drawn[place] - picture).mean()) for place in places]
            found.append(time_ - (first + places[int(np.argmin(off))]) / FPS)
    start = max(0, round((begins - LATEST) * SAMPLE_RATE))
    reach = round(begins * SAMPLE_RATE) - start
    spoken, _ = soundfile.read(sound, reach + len(voice) + round(LATEST * SAMPLE_RATE), start, dtype="float32")
    return Skew(1e3 * lag(voice, spoken, reach), 1e3 * float(np.median(found)) if found else math.nan, 1e3 * ends)


def lag(heard: Float[np.ndarray, " n"], spoken: Float[np.ndarray, " m"], reach: int) -> float:
    """Seconds by which what is heard comes late.

    Args:
        heard: 16 kHz.
        spoken: 16 kHz, of which sample number `reach` should be the first one that is heard.
    """
    widest = round(LATEST * SAMPLE_RATE)
    middle = heard[widest : len(heard) - widest].astype(np.float64)  # so that both ends stay inside what was spoken
    total = len(middle) + len(spoken)
    likeness = np.fft.irfft(np.fft.rfft(spoken, total) * np.conj(np.fft.rfft(middle, total)), total)
    shifts = np.arange(-widest, widest + 1)
    places = reach + widest - shifts
    inside = (places >= 0) & (places + len(middle) <= len(spoken))
    return float(shifts[inside][int(np.argmax(likeness[places[inside]]))]) / SAMPLE_RATE


def read_end(path: Path) -> tuple[list[tuple[float, np.ndarray]], Float[np.ndarray, " n"], float, float]:
    """The last pictures of a file with their times in seconds; its last sound, 16 kHz mono, and the time of its first
    sample; and the seconds by which the track of sound is longer. Nothing else of the file is decoded."""
    with av.open(str(path)) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        groups: collections.deque[list[Any]] = collections.deque([[]])  # of pictures, from a key frame to the next
        rate = audio.codec_context.sample_rate
        sounds: collections.deque[Any] = collections.deque(maxlen=math.ceil((HEARD + 1) * rate / 1024))
        longest = {video: 0.0, audio: 0.0}
        for packet in container.demux(video, audio):
            if packet.pts is None:
                continue
            end = float((packet.pts + (packet.duration or 0)) * packet.time_base)
            longest[packet.stream] = max(longest[packet.stream], end)
            if packet.stream is audio:
                sounds.append(packet)
            else:
                if packet.is_keyframe:
                    groups.append([])
                groups[-1].append(packet)
                while sum(map(len, groups)) - len(groups[0]) >= KEPT:
                    groups.popleft()
        seen = [
            (float(frame.pts * video.time_base), frame.to_ndarray(format="rgb24").astype(np.float32))
            for frame in _decoded(video, itertools.chain(*groups))
        ]
        blocks = list(_decoded(audio, sounds))[2:]  # the first ones lack what came before
        begins = float(blocks[0].pts * audio.time_base)
        voice = np.concatenate([np.asarray(block.to_ndarray(), np.float32).mean(0) for block in blocks])
    heard = soxr.resample(voice, rate, SAMPLE_RATE) if rate != SAMPLE_RATE else voice
    return seen, heard, begins, longest[audio] - longest[video]


def _decoded(stream: Any, packets: Iterable[Any]) -> Iterator[Any]:
    for packet in packets:
        yield from packet.decode()
    yield from stream.codec_context.decode(None)


def skew_row(found: Skew) -> str:
    """Skew in words."""
    apart = found.sound - found.picture
    verdict = "within" if abs(apart) <= BARS["skew"] else "BEYOND"
    return (
        f"skew at the end: {apart:+.1f} ms (sound {found.sound:+.1f}, picture {found.picture:+.1f} from its time; the "
        f"track of sound is {found.longer:+.1f} ms longer): {verdict} the bar of {BARS['skew']:g} ms"
    )


if __name__ == "__main__":
    main()
