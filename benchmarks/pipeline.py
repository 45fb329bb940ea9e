"""How fast is the whole way, from a photo and a sound to a video file? End to end, by part, for both pairs of models.

    python -m benchmarks.pipeline [--platform cpu|gpu|tpu] [--models demo public] [--seconds 10] [--repeats 3]

A photo of 720 x 1280 pixels and pink noise; the box is given. `public` is LivePortrait and JoyVASA in their released
sizes with random weights, which cost what trained ones cost; it looks for landmarks, and its frames go back into the
whole photo. The first run compiles and is told apart; of the others the medians are printed, and the 10th
to 90th percentile of the whole.
"""

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks import timing
from benchmarks.liveportrait import FEATURES, IMAGE, POINTS, VOLUME, numbers, random_variables
from vasa_jax.arrays import FPS, SAMPLE_RATE
from vasa_jax.convert.pair import NETWORKS
from vasa_jax.faces.box import Box
from vasa_jax.inference.load import load
from vasa_jax.inference.offline import Model
from vasa_jax.inference.public import PublicFace, PublicMotion, PublicPair
from vasa_jax.joyvasa.motion_generator import RELEASED
from vasa_jax.joyvasa.template import SIZES
from vasa_jax.media.video import VideoWriter

PARTS = ("portrait", "motion", "render", "encode")
PHOTO, BOX = (1280, 720), Box(360.0, 420.0, 600.0)


def random_public() -> Model:
    """The public pair with random weights."""
    corrector = {"stitching": 126, "retarget_eye": 66, "retarget_lip": 65}
    inputs: dict[str, Any] = {name: [numbers((1, size))] for name, size in corrector.items()}
    inputs |= {"appearance": [numbers(IMAGE)], "motion_extractor": [numbers(IMAGE)]}
    inputs |= {"warping": [numbers(VOLUME), numbers(POINTS), numbers(POINTS)], "generator": [numbers(FEATURES)]}
    inputs["motion_generator"] = [numbers((1, 64_000)), numbers((1, RELEASED.window, RELEASED.motion))]
    tensors: dict[str, Any] = {name: random_variables(NETWORKS[name][0], given) for name, given in inputs.items()}
    template = {"mean_exp": np.zeros(SIZES["exp"]), "std_exp": np.full(SIZES["exp"], 0.01)}
    for name in ("scale", "t", "pitch", "yaw", "roll"):
        low, high = (1.0, 1.2) if name == "scale" else (-0.1, 0.1)
        template |= {f"min_{name}": np.full(SIZES[name], low), f"max_{name}": np.full(SIZES[name], high)}
    tensors["template"] = template
    return Model(PublicPair(PublicFace(tensors), PublicMotion(tensors)))


def run(model: Model, photo: np.ndarray, sound: np.ndarray, out: Path) -> dict[str, float]:
    """Seconds by part of one video; "compile" is waiting for compilers, "whole" is all."""
    start, before, encoding = time.perf_counter(), dict(model.seconds), 0.0
    performance = model.perform(photo, sound, box=BOX)
    with VideoWriter(out, FPS, (performance.height, performance.width), sound) as writer:
        for frame in performance.frames:
            begun = time.perf_counter()
            writer.write(frame)
            encoding += time.perf_counter() - begun
    parts = {name: model.seconds[name] - before[name] for name in ("compile", *PARTS[:-1])}
    return parts | {"encode": encoding, "whole": time.perf_counter() - start}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    timing.add_platform_flag(parser)
    parser.add_argument("--models", nargs="+", default=["demo", "public"], help="bundled, a folder, or public")
    parser.add_argument("--seconds", type=float, default=10.0, help="of sound")
    parser.add_argument("--repeats", type=timing.positive, default=3, help="timed videos")
    flags = parser.parse_args(arguments)
    timing.start(flags)
    random = np.random.default_rng(0)
    photo = random.integers(0, 256, (*PHOTO, 3), np.uint8)
    white = np.fft.rfft(random.normal(size=round(flags.seconds * SAMPLE_RATE)))
    sound = np.fft.irfft(white / np.sqrt(1 + np.arange(len(white)))).astype(np.float32)
    frames = round(flags.seconds * FPS)
    print(f"\n{flags.seconds:g} s of sound, {frames} frames; seconds by part\n")
    heads = "".join(f" {part:>9}" for part in PARTS)
    print(f"{'model':<10} {'size':>9} {'first':>8} {'compile':>8}{heads} {'whole':>9} {'10..90 %':>16} {'frames/s':>9}")
    for name in flags.models:
        model = random_public() if name == "public" else load(name)
        with tempfile.TemporaryDirectory() as folder:
            runs = [run(model, photo, sound, Path(folder) / "a.mp4") for _ in range(flags.repeats + 1)]
        first, later = runs[0], runs[1:]
        low, whole, high = np.quantile([each["whole"] for each in later], [0.1, 0.5, 0.9])
        parts = "".join(f" {np.median([each[part] for each in later]):>9.2f}" for part in PARTS)
        size = "x".join(map(str, PHOTO[::-1])) if model.pair.pastes else f"{model.size}x{model.size}"
        print(
            f"{name:<10} {size:>9} {first['whole']:>8.1f} {first['compile']:>8.1f}{parts} {whole:>9.2f} "
            f"{f'{low:.2f}..{high:.2f}':>16} {frames / whole:>9.2f}"
        )
        jax.clear_caches()


if __name__ == "__main__":
    main()
