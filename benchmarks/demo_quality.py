"""How alive is a demo model? Its numbers on people it has never met, beside the bars it is asked to reach.

    python -m benchmarks.demo_quality [--model demo] [--clips 20] [--seconds 4] [--json OUT]

(a) Transfer gain of every control and reconstruction PSNR on identities of the "test" split (VASA-1 section 3.1;
`metrics.transfer`). (b) Lip sync (section 3.2): clips of the same split go through the path of `Model.animate`; a
probe trained on true frames of other people
    reads the mouth off the generated frames; correlation with the true mouth per clip, with audio deranged, and with
    audio nulled.
(c) The same rendered frames seen by MediaPipe's Face Landmarker, where VASA_JAX_ASSETS holds its model and it is
installed.

A bar is passed or missed, never moved: the first is for a model trained on two CPU cores, the second for one from an
accelerator.
"""

import argparse
import json
import os
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from benchmarks import timing
from vasa_jax.geometry.rotation import gaze_in_head
from vasa_jax.inference import Model, load
from vasa_jax.metrics import landmarks, probe, transfer
from vasa_jax.metrics.correlation import bootstrap_interval, derangement, lagged_correlation, pearson
from vasa_jax.metrics.lip_sync import Read, SpokenClip, speak, spoken_clips
from vasa_jax.metrics.probe import Reading
from vasa_jax.synthetic.splits import seeds

BARS = {
    "gain/jaw": (0.3, 0.7),
    "gain/gaze_x": (0.1, 0.5),
    "gain/gaze_y": (0.1, 0.5),
    "gain/lids": (0.1, 0.5),
    "psnr/all": (22.0, 26.0),
    "sync/own": (0.3, 0.6),
}
"""Least values: for two CPU cores, and for an accelerator."""
NO_SYNC = 0.1
"""With audio deranged the whole 95 % interval of the correlation must lie within ± this."""
DERANGEMENTS = (0, 1, 2)


class Sync(NamedTuple):
    """Correlations of generated mouths with the truth, (clips, draws) each, and the frames of the first draw.

    zero: at lag 0. best: at the best lag. lag: that lag in frames. motion: deviation of the mouth over the true one's.
    """

    zero: np.ndarray
    best: np.ndarray
    lag: np.ndarray
    motion: np.ndarray
    frames: list[np.ndarray]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print the tables."""
    flags = _flags(arguments)
    timing.start(flags)
    started = time.perf_counter()
    model = load(flags.model)
    size = model.size
    config = probe.ProbeConfig(
        size=size, crop=max(8, round(0.75 * size)), people=flags.probe_people, steps=flags.probe_steps
    )
    params = probe.load_or_train(flags.cache, config)
    read = partial(probe.read, config, params)
    _lap(started, "model loaded, probe ready")

    numbers: dict[str, float] = {}
    people = seeds("test")[: flags.people]
    face = transfer.network_face(model.face.config, model.face.params)
    numbers |= face_numbers(face, people, size)
    _print_face(numbers)
    true, driven, truth = driven_frames(face, people, size)
    seen = {"true frames": probe.error(read(true / np.float32(255)), truth)}
    seen["rendered"] = probe.error(read(driven / np.float32(255)), truth)
    _print_readings("The probe on true and on rendered drivers", seen)
    numbers |= {f"probe/{where}/{name}": value for where, rows in seen.items() for name, value in rows.items()}
    _lap(started, "gains, PSNR and readings")

    clips = spoken_clips(seeds("test")[len(people) :], flags.clips, flags.seconds, size)
    sync = lip_sync(model, clips, read, flags.seed)
    numbers |= sync_numbers(clips, sync)
    _print_sync(clips, sync, numbers)
    _lap(started, "lip sync")

    assets = os.environ.get("VASA_JAX_ASSETS")
    if reason := landmarks.why_unavailable(assets):
        print(f"\nMediaPipe's Face Landmarker was not asked: {reason}.")
    else:
        numbers |= landmark_numbers(Path(str(assets)) / landmarks.MODEL_FILE, true, driven, truth, clips, sync["own"])
        _lap(started, "Face Landmarker")
    if flags.json:
        Path(flags.json).write_text(json.dumps(_report(flags, numbers), indent=2) + "\n")


def _flags(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    timing.add_platform_flag(parser)
    parser.add_argument("--model", default="demo", help="name of a bundled model, or a release folder")
    parser.add_argument("--clips", type=timing.positive, default=20, help="clips of speech; 2 or more")
    parser.add_argument("--seconds", type=float, default=4.0, help="length of each clip")
    parser.add_argument("--people", type=timing.positive, default=32, help="identities behind gains and PSNR")
    parser.add_argument("--seed", type=int, default=0, help="of the generated motion")
    parser.add_argument("--cache", default="build/probe", help="folder that keeps the trained probe")
    parser.add_argument("--probe-people", type=timing.positive, default=6144, help="true frames the probe trains on")
    parser.add_argument("--probe-steps", type=timing.positive, default=2000, help="training steps of the probe")
    parser.add_argument("--json", help="also write every number here")
    flags = parser.parse_args(arguments)
    if flags.clips < 2:
        parser.error("--clips must be 2 or more: one clip has nobody to exchange its audio with")
    return flags


def face_numbers(face: transfer.Face, people: Sequence[int], size: int) -> dict[str, float]:
    """Gains, the same with every frame's own pose, PSNR and pose errors, and the PSNR of two simple rivals."""
    numbers = {f"gain/{name}": gain for name, gain in transfer.transfer_gain(face, people, size).items()}
    own = transfer.transfer_gain(face, people, size, own_pose=True)
    numbers |= {f"gain_own_pose/{name}": gain for name, gain in own.items()}
    numbers |= transfer.held_out_psnr(face, people, size)
    rivals: dict[str, list[np.ndarray]] = {}
    for chunk in transfer.batched(people):
        pairs = transfer.world_pairs(chunk, size)
        for rival, picture in (("source", pairs.source), ("pose_only", pairs.copied)):
            for name, psnr in transfer.picture_psnr(picture, pairs.driver, pairs.regions).items():
                rivals.setdefault(f"{rival}/{name}", []).append(psnr)
    return numbers | {name: float(np.concatenate(parts).mean()) for name, parts in rivals.items()}


def driven_frames(face: transfer.Face, people: Sequence[int], size: int) -> tuple[np.ndarray, np.ndarray, Reading]:
    """The drivers of `held_out_psnr` as uint8 (t, h, w, 3): the world's, the network's, and what is true of both."""
    true, driven, truth = [], [], []
    for chunk in transfer.batched(people):
        pairs = transfer.world_pairs(chunk, size)
        motion = face.motion(jax.device_put(pairs.driver))
        driven.append(_bytes(jax.device_get(face.render(face.encode(jax.device_put(pairs.source)), motion))))
        true.append(_bytes(pairs.driver))
        head_gaze = np.asarray(gaze_in_head(jax.numpy.asarray(pairs.gaze), jax.numpy.asarray(pairs.pose)))
        truth.append((pairs.pose, pairs.mouth, pairs.lids, head_gaze))
    return np.concatenate(true), np.concatenate(driven), Reading(*map(np.concatenate, zip(*truth, strict=True)))


def lip_sync(model: Model, clips: list[SpokenClip], read: Read, seed: int) -> dict[str, Sync]:
    """Every clip with its own audio, another's (three derangements) and none; and the probe on true frames."""
    own = [[(clip, clip.audio, "audio")] for clip in clips]
    orders = [derangement(len(clips), order) for order in DERANGEMENTS]
    others = [[(clip, clips[order[i]].audio, "audio") for order in orders] for i, clip in enumerate(clips)]
    nothing = [[(clip, clip.audio, "null")] for clip in clips]

    def of(rows: list) -> Sync:
        drawn = [
            [speak(model, clip, audio, read, hear, seed + i) for clip, audio, hear in row] for i, row in enumerate(rows)
        ]
        mouths = [[reading.mouth for reading, _ in row] for row in drawn]
        return _compare(clips, mouths, [row[0][1] for row in drawn])

    true = _compare(clips, [[read(clip.frames.astype(np.float32) / 255).mouth] for clip in clips], [])
    strangers = _compare(clips, [[clips[order[i]].truth.mouth for order in orders] for i in range(len(clips))], [])
    return {
        "probe on true frames": true,
        "another's true mouth": strangers,
        "own": of(own),
        "deranged": of(others),
        "nulled": of(nothing),
    }


def _compare(clips: list[SpokenClip], mouths: list[list[np.ndarray]], frames: list[np.ndarray]) -> Sync:
    lagged = [[lagged_correlation(c.truth.mouth, m) for m in row] for c, row in zip(clips, mouths, strict=True)]
    motion = [[m.std() / max(c.truth.mouth.std(), 1e-6) for m in row] for c, row in zip(clips, mouths, strict=True)]
    zero, best, lag = (np.array([[float(value[i]) for value in row] for row in lagged]) for i in range(3))
    return Sync(zero, best, lag, np.array(motion), frames)


def sync_numbers(clips: list[SpokenClip], sync: dict[str, Sync]) -> dict[str, float]:
    """Means over clips with 95 % intervals, at lag 0 and at the best lag; and own minus nulled."""
    numbers: dict[str, float] = {}
    for row, one in sync.items():
        for name, value in (("", one.zero), ("/best_lag", one.best), ("/lag", one.lag), ("/motion", one.motion)):
            low, high = bootstrap_interval(value)
            numbers |= {
                f"sync/{row}{name}": float(value.mean()),
                f"sync/{row}{name}/low": low,
                f"sync/{row}{name}/high": high,
            }
    difference = sync["own"].zero - sync["nulled"].zero
    low, high = bootstrap_interval(difference)
    return numbers | {
        "sync/own - nulled": float(difference.mean()),
        "sync/own - nulled/low": low,
        "sync/own - nulled/high": high,
    }


def landmark_numbers(
    model: Path, true: np.ndarray, driven: np.ndarray, truth: Reading, clips: list[SpokenClip], own: Sync
) -> dict[str, float]:
    """What the Face Landmarker makes of true and rendered frames: print and return correlations and detection rates."""
    numbers: dict[str, float] = {}
    print(f"\nMediaPipe's Face Landmarker, {len(true)} drivers and {len(clips)} clips: correlation with the truth")
    for where, frames in (("true frames", true), ("rendered", driven)):
        seen = landmarks.read(model, frames)
        numbers |= {f"landmarker/{where}/{name}": value for name, value in _landmark_row(seen, truth).items()}
    names = [name.rsplit("/", 1)[1] for name in numbers if name.startswith("landmarker/rendered/")]
    print("  " + " " * 12 + "".join(f"{name:>9}" for name in names))
    for where in ("true frames", "rendered"):
        print(f"  {where:<12}" + "".join(f"{numbers[f'landmarker/{where}/{name}']:>9.2f}" for name in names))
    for where, films in (("true clips", [clip.frames for clip in clips]), ("own audio", own.frames)):
        seen = [landmarks.read(model, film) for film in films]
        follows = np.array([_known(s.jaw_open, clip.truth.mouth) for s, clip in zip(seen, clips, strict=True)])
        low, high = bootstrap_interval(follows)
        numbers[f"landmarker/{where}/jaw_open"] = float(follows.mean())
        numbers[f"landmarker/{where}/found"] = float(np.mean([s.found.mean() for s in seen]))
        print(
            f"  jawOpen per clip, {where}: {follows.mean():.2f} [{low:.2f}, {high:.2f}], "
            f"face found in {numbers[f'landmarker/{where}/found']:.0%} of the frames"
        )
    return numbers


def _landmark_row(seen: landmarks.Landmarks, truth: Reading) -> dict[str, float]:
    pairs = {
        "jaw_open": (seen.jaw_open, truth.mouth),
        "blink": (seen.blink.mean(-1), 1.0 - truth.lids.mean(-1)),
        "gaze_x": (seen.gaze[:, 0], truth.gaze[:, 0]),
        "gaze_y": (seen.gaze[:, 1], truth.gaze[:, 1]),
        "pitch": (seen.rotation[:, 0], truth.pose[:, 0]),
        "yaw": (seen.rotation[:, 1], truth.pose[:, 1]),
        "roll": (seen.rotation[:, 2], truth.pose[:, 2]),
    }
    return {"found": float(seen.found.mean())} | {name: _known(*pair) for name, pair in pairs.items()}


def _known(seen: np.ndarray, true: np.ndarray) -> float:
    """Correlation over the frames in which a face was found; 0 where there are fewer than three."""
    found = np.isfinite(seen)
    return pearson(seen[found], true[found]) if found.sum() > 2 else 0.0


def _print_face(numbers: dict[str, float]) -> None:
    print(f"\n{'transfer gain':<14} {'dynamics':>9} {'own pose':>9}   (1 perfect, 0 nothing)")
    for control in transfer.CONTROLS:
        gain = numbers[f"gain/{control}"]
        own = numbers[f"gain_own_pose/{control}"]
        print(f"  {control:<12} {gain:>9.3f} {own:>9.3f}   {_verdict(f'gain/{control}', gain)}")
    print(f"\n{'PSNR, dB':<24} {'all':>6} {'eyes':>6} {'mouth':>6}")
    for row, prefix in (
        ("copy of the source", "source/"),
        ("true pose, source's face", "pose_only/"),
        ("the model", ""),
    ):
        cells = " ".join(f"{numbers[f'{prefix}psnr/{region}']:>6.1f}" for region in ("all", "eyes", "mouth"))
        print(f"{row:<24} {cells}" + ("" if prefix else f"   {_verdict('psnr/all', numbers['psnr/all'])}"))
    angles = ", ".join(f"{name} {numbers[f'pose/{name}_deg']:.1f}" for name in ("pitch", "yaw", "roll"))
    print(f"pose error, degrees: {angles}")


def _print_readings(title: str, seen: dict[str, dict[str, float]]) -> None:
    print(f"\n{title}: correlation (mean absolute error)")
    names = sorted({name.split("/")[0] for rows in seen.values() for name in rows})
    print("  " + " " * 12 + "".join(f"{name:>15}" for name in names))
    for where, rows in seen.items():
        cells = (f"{rows[f'{name}/correlation']:.2f} ({rows[f'{name}/error']:.2f})" for name in names)
        print(f"  {where:<12}" + "".join(f"{cell:>15}" for cell in cells))


def _print_sync(clips: list[SpokenClip], sync: dict[str, Sync], numbers: dict[str, float]) -> None:
    print("\nMouth opening, generated against true: correlation at lag 0 (at the best lag, which)")
    columns = ("probe on true frames", "own", "deranged", "nulled")
    print(f"  {'clip':>8} " + " ".join(f"{name:>20}" for name in columns))
    for i, clip in enumerate(clips):
        cells = [f"{sync[c].zero[i, 0]:.2f} ({sync[c].best[i, 0]:.2f}, {sync[c].lag[i, 0]:+.0f})" for c in columns]
        print(f"  {clip.seed:>8} " + " ".join(f"{cell:>20}" for cell in cells))
    print(f"\n  {'mean over clips':<22} {'lag 0 [95 %]':>22} {'best lag':>9} {'lag':>6} {'amplitude':>10}")
    for row in sync:
        value, low, high = (numbers[f"sync/{row}{end}"] for end in ("", "/low", "/high"))
        line = f"  {row:<22} {f'{value:.3f} [{low:.3f}, {high:.3f}]':>22} {numbers[f'sync/{row}/best_lag']:>9.3f}"
        print(f"{line} {numbers[f'sync/{row}/lag']:>6.1f} {numbers[f'sync/{row}/motion']:>10.2f}")
    low, high = numbers["sync/deranged/low"], numbers["sync/deranged/high"]
    print(f"  own audio: {_verdict('sync/own', numbers['sync/own'])}")
    print(f"  deranged: 95 % interval within ±{NO_SYNC}: {_passed(-NO_SYNC <= low and high <= NO_SYNC)}")
    low, high = numbers["sync/own - nulled/low"], numbers["sync/own - nulled/high"]
    print(f"  own above nulled: by {numbers['sync/own - nulled']:.3f} [{low:.3f}, {high:.3f}]: {_passed(low > 0)}")


def _verdict(name: str, value: float) -> str:
    if name not in BARS:
        return ""
    cores, accelerator = BARS[name]
    return f"bar {cores:g}: {_passed(value >= cores)}; accelerator {accelerator:g}: {_passed(value >= accelerator)}"


def _passed(passed: bool) -> str:
    return "pass" if passed else "MISS"


def _report(flags: argparse.Namespace, numbers: dict[str, float]) -> dict[str, Any]:
    """Everything for a model card, rounded to four digits."""
    setting = {name: getattr(flags, name) for name in ("model", "clips", "seconds", "people", "seed")}
    return {
        "machine": timing.machine().splitlines(),
        "setting": setting,
        "bars": {name: {"cores": cores, "accelerator": accelerator} for name, (cores, accelerator) in BARS.items()},
        "numbers": {name: round(value, 4) for name, value in numbers.items()},
    }


def _bytes(pictures: np.ndarray) -> np.ndarray:
    return np.round(np.clip(np.asarray(pictures), 0, 1) * 255).astype(np.uint8)


def _lap(started: float, what: str) -> None:
    print(f"[{time.perf_counter() - started:6.1f} s] {what}", flush=True)


if __name__ == "__main__":
    main()
