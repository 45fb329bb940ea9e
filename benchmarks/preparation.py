"""Are the labels of prepared clips true, and where does the time go? The world filmed, prepared and held against
itself.

    python -m benchmarks.preparation [--people 12] [--seconds 6] [--size 256] [--split validation]

Each person is filmed as a user would: a picture of the world within a larger one, 25 and 29.97 frames a second, H.264
(CRF 23) with AAC. `prepare_video` makes clips of the films; the first table holds their labels against the truth, frame
by frame, the second tells what a second of processor time does for a clip that is kept. The calibration of
`preparation.labels` was made with people of the training split, the table is about the validation split.
"""

import argparse
import tempfile
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av
import cv2
import jax
import numpy as np
from jaxtyping import Float

from vasa_jax.arrays import FPS, SAMPLE_RATE
from vasa_jax.preparation.config import PreparationConfig
from vasa_jax.preparation.video import Dropped, Helpers, PreparedClip, open_helpers, prepare_video
from vasa_jax.synthetic.clip import shoot
from vasa_jax.synthetic.identity import identity_from_seed
from vasa_jax.synthetic.performance import perform
from vasa_jax.synthetic.splits import seeds

RATES = (Fraction(25), Fraction(30_000, 1001))
BARS = {
    "pitch": ("median error", 3.0),
    "yaw": ("median error", 3.0),
    "roll": ("median error", 3.0),
    "log distance, filmed": ("correlation", 0.95),
    "theta": ("correlation", 0.9),
    "phi": ("correlation", 0.9),
    "mouth": ("correlation", 0.9),
    "lids": ("correlation", 0.8),
}
"""What each label is held to; angles in degrees."""
SPEED = 40.0
"""Pictures a second of a core."""
ENLARGED = 2
"""Factor from the world's pictures to those that are filmed."""
REACH = 8
"""Shifts that are tried for the offset of the mouth, in frames."""


class Film(NamedTuple):
    """A film of one person.

    path: of the file. square: left, top and side of the world's picture in it. truth: labels at `times`, seconds.
    audio: the sound that was put in.
    """

    path: Path
    square: tuple[int, int, int]
    truth: dict[str, np.ndarray]
    times: Float[np.ndarray, " t"]
    audio: np.ndarray


def film(path: Path, seed: int, seconds: float, size: int, rate: Fraction = RATES[0], enlarge: int = 1) -> Film:
    """Film the performance of a seed.

    Args:
        path: of the .mp4 to write.
        seed: of the world.
        seconds: of the performance.
        size: side of the world's picture, which fills the height of a picture of 16 to 9.
        rate: frames a second; a frame shows the middle of its interval, as the world's frames do.
        enlarge: factor by which the world's picture is enlarged before it is filmed.
    """
    performance = perform(seed, seconds)
    count = int(seconds * rate)
    moments = (np.arange(count) + 0.5) / float(rate)
    known = (np.arange(len(performance.states.jaw)) + 0.5) / FPS
    states = jax.tree.map(lambda values: _between(moments, known, np.asarray(values)), performance.states)
    pieces = list(shoot(identity_from_seed(seed), states, size))
    frames = np.concatenate([pictures for pictures, _ in pieces])
    truth = {name: np.concatenate([labels[name] for _, labels in pieces]) for name in pieces[0][1]}
    size *= enlarge
    if enlarge > 1:
        frames = [cv2.resize(one, (size, size), interpolation=cv2.INTER_CUBIC) for one in frames]
    left = (size * 16 // 9 - size) // 2
    wide = (cv2.copyMakeBorder(one, 0, 0, left, left, cv2.BORDER_REPLICATE) for one in frames)
    write_film(path, wide, rate, np.asarray(performance.audio, np.float32))
    return Film(path, (left, 0, size), truth, moments, performance.audio)


def _between(moments: np.ndarray, known: np.ndarray, values: np.ndarray) -> np.ndarray:
    flat = values.reshape(len(values), -1)
    columns = [np.interp(moments, known, column) for column in flat.T]
    return np.stack(columns, 1).reshape(len(moments), *values.shape[1:]).astype(np.float32)


def write_film(
    path: Path,
    frames: Any,
    rate: Fraction,
    audio: np.ndarray | None,
    *,
    shift: float = 0.0,
    times: Sequence[float] | None = None,
    form: str = "yuv420p",
    codec: str = "libx264",
    options: dict[str, str] | None = None,
    aspect: Fraction | None = None,
) -> None:
    """A video with a codec of choice, CRF 23.

    Args:
        path: of the file.
        frames: RGB pictures of one size.
        rate: frames a second.
        audio: float32 mono at 16 kHz, or None.
        shift: seconds by which the sound is late.
        times: of the frames in seconds, for a rate that varies.
        form, codec, options: of FFmpeg.
        aspect: width over height of a pixel.
    """
    with av.open(str(path), "w") as container:
        frames = iter(frames)
        first = next(frames)
        video: Any = container.add_stream(
            codec, rate=rate, options={"crf": "23", "preset": "veryfast"} | (options or {})
        )
        video.height, video.width, video.pix_fmt = *first.shape[:2], form
        video.codec_context.time_base = Fraction(1, 90_000)
        if aspect is not None:
            video.codec_context.sample_aspect_ratio = aspect
        sound: Any = None
        if audio is not None:
            sound = container.add_stream("aac", rate=SAMPLE_RATE, layout="mono")
        i, frame = 0, first
        while frame is not None:
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            picture.time_base = Fraction(1, 90_000)
            picture.pts = round((i / rate if times is None else times[i]) * 90_000)
            container.mux(video.encode(picture))
            i, frame = i + 1, next(frames, None)
        container.mux(video.encode(None))
        if audio is not None:
            for begin in range(0, len(audio), 1024):
                part = av.AudioFrame.from_ndarray(audio[None, begin : begin + 1024], format="fltp", layout="mono")
                part.sample_rate, part.time_base = SAMPLE_RATE, Fraction(1, SAMPLE_RATE)
                part.pts = begin + round(shift * SAMPLE_RATE)
                container.mux(sound.encode(part))
            container.mux(sound.encode(None))


class Row(NamedTuple):
    """A label against its truth over frames of one clip."""

    name: str
    measured: np.ndarray
    true: np.ndarray


def compare(clip: PreparedClip, made: Film, size: int) -> list[Row]:
    """Labels of a clip and the truth at its frames, in the film's units and the crop's."""
    times = float(clip.about["start"]) + (np.arange(len(clip.frames)) + 0.5) / FPS
    truth = {name: _between(times, made.times, values) for name, values in made.truth.items()}
    pose, rows = clip.labels["pose"], []
    for i, name in enumerate(("pitch", "yaw", "roll")):
        rows.append(Row(name, np.degrees(pose[:, i]), np.degrees(truth["pose"][:, i])))
    left, top, side = (float(clip.about[name]) for name in ("left", "top", "side"))
    half, whole = side / 2 * (size - 1) / size, (made.square[2] - 1) / 2
    middle = np.array(made.square[:2]) + made.square[2] / 2
    place = (truth["pose"][:, 3:5] * whole + middle - [left + side / 2, top + side / 2]) / half
    rows += [Row(name, pose[:, 3 + i], place[:, i]) for i, name in enumerate(("tx", "ty"))]
    ratio = np.log(half / whole)
    rows.append(Row("log distance", pose[:, 5], truth["pose"][:, 5] + ratio))
    rows.append(Row("log distance, filmed", pose[:, 5] - ratio, truth["pose"][:, 5]))
    for i, name in enumerate(("theta", "phi")):
        rows.append(Row(name, np.degrees(clip.labels["gaze"][:, i]), np.degrees(truth["gaze"][:, i])))
    rows.append(Row("mouth", clip.labels["mouth"][:, 0], truth["mouth"][:, 0]))
    rows.append(Row("lids", clip.labels["lids"].mean(1), truth["lids"].mean(1)))
    for i, name in enumerate(("lip corners", "brows")):
        rows.append(Row(name, clip.labels["expression"][:, i], truth["expression"][:, i]))
    for i, name in enumerate(("left eye", "right eye", "mouth region")):
        true = (truth["regions"][:, i, :2] * whole + middle - [left + side / 2, top + side / 2]) / half
        rows.append(Row(f"{name}, off", np.hypot(*(clip.labels["regions"][:, i, :2] - true).T), np.zeros(len(true))))
    return rows


def offset(measured: Float[np.ndarray, " t"], true: Float[np.ndarray, " t"]) -> float:
    """Frames by which a curve comes later than the true one, to fractions of a frame (a parabola through the peak)."""
    inner = slice(REACH, len(true) - REACH)
    scores = []
    for shift in range(-REACH, REACH + 1):
        scores.append(np.corrcoef(measured[inner], true[REACH - shift : len(true) - REACH - shift])[0, 1])
    best = int(np.clip(np.argmax(scores), 1, 2 * REACH - 1))
    a, b, c = scores[best - 1 : best + 2]
    return best - REACH + (a - c) / (2 * (a - 2 * b + c) - 1e-12)


def sound_offset(heard: np.ndarray, true: np.ndarray) -> float:
    """Seconds by which a sound comes later than the true one."""
    length = min(len(heard), len(true))
    spectrum = np.fft.rfft(heard[:length], 2 * length) * np.conj(np.fft.rfft(true[:length], 2 * length))
    lag = int(np.argmax(np.fft.irfft(spectrum)))
    return (lag if lag < length else lag - 2 * length) / SAMPLE_RATE


def measure(
    people: range, seconds: float, size: int, rate: Fraction, folder: Path, helpers: Helpers, config: PreparationConfig
) -> tuple[dict[str, list[Row]], list[float], list[float], int]:
    """Rows by label of all clips, offsets of mouths [frames] and sounds [s] by clip, and what was dropped."""
    rows: dict[str, list[Row]] = {}
    mouths, sounds, dropped = [], [], 0
    for seed in people:
        made = film(folder / f"{seed}.mp4", seed, seconds, size, rate, ENLARGED)
        for one in prepare_video(made.path, made.path.name, config, helpers):
            if isinstance(one, Dropped):
                print(f"  {seed}: dropped, {one.reason}")
                dropped += 1
                continue
            for row in compare(one, made, config.size):
                rows.setdefault(row.name, []).append(row)
            mouths.append(offset(rows["mouth"][-1].measured, rows["mouth"][-1].true))
            if one.audio is not None:
                begin = round(float(one.about["start"]) * SAMPLE_RATE)
                sounds.append(sound_offset(one.audio, made.audio[begin : begin + len(one.audio)]))
        made.path.unlink()
    return rows, mouths, sounds, dropped


def table(rows: dict[str, list[Row]]) -> list[str]:
    """Lines: label, median error, correlation over all frames, mean correlation within a clip, the bar."""
    lines = [f"{'label':22s} {'frames':>7s} {'median error':>13s} {'correlation':>12s} {'in a clip':>10s}  bar"]
    for name, parts in rows.items():
        measured, true = (np.concatenate([getattr(part, key) for part in parts]) for key in ("measured", "true"))
        known = np.isfinite(measured)
        error = float(np.median(np.abs(measured - true)[known]))
        whole = correlation(measured, true)
        each = [correlation(part.measured, part.true) for part in parts if np.std(part.true) > 1e-3]
        kind, bar = BARS.get(name, ("", 0.0))
        verdict = ""
        if kind:
            good = error <= bar if kind == "median error" else whole >= bar
            verdict = f"{'met' if good else 'MISSED'}: {kind} {bar:g}"
        inner = float(np.mean(each)) if each else float("nan")
        lines.append(f"{name:22s} {known.sum():7d} {error:13.3f} {whole:12.3f} {inner:10.3f}  {verdict}")
    return lines


def correlation(measured: Float[np.ndarray, " t"], true: Float[np.ndarray, " t"]) -> float:
    """Over the frames that have both; nan for a constant."""
    known = np.isfinite(measured) & np.isfinite(true)
    if known.sum() < 3 or np.std(measured[known]) < 1e-9 or np.std(true[known]) < 1e-9:
        return float("nan")
    return float(np.corrcoef(measured[known], true[known])[0, 1])


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, default=12)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--split", default="validation")
    given = parser.parse_args()
    people = seeds(given.split)[given.first : given.first + given.people]
    config = PreparationConfig(size=512)
    with tempfile.TemporaryDirectory() as name, open_helpers(config) as helpers:
        for rate in RATES:
            helpers.seconds.clear()
            before = helpers.pictures
            rows, mouths, sounds, dropped = measure(
                people, given.seconds, given.size, rate, Path(name), helpers, config
            )
            print(f"\n{given.people} people of {given.split}, {float(rate):.2f} frames/s: {dropped} clips dropped")
            print("\n".join(table(rows)))
            print(f"mouth late by {np.median(mouths):+.2f} frames (worst {max(mouths, key=abs):+.2f})")
            if sounds:
                print(f"sound late by {1e3 * np.median(sounds):+.1f} ms (worst {1e3 * max(sounds, key=abs):+.1f})")
            count = helpers.pictures - before
            total = sum(helpers.seconds.values())
            print(f"where the time goes, ms of a core a picture ({count} of them, {ENLARGED * given.size} lines):")
            seconds = sorted(helpers.seconds.items(), key=lambda item: -item[1])
            kinds = (f"{kind} {1e3 * value / count:.2f}" for kind, value in seconds)
            print("  " + ", ".join(kinds))
            print(f"  {count / total:.1f} pictures/s a core; the bar is {SPEED:g}")


if __name__ == "__main__":
    main()
