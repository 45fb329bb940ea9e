"""Does the mouth follow the voice at any volume? Real speech at several levels, and how well the motion follows it.

    VASA_JAX_ASSETS=assets python -m benchmarks.volume [--model demo] [--seconds 10] [SPEECH ...]

Every file, and, without names, every file of VASA_JAX_ASSETS/speech, is played at each volume, clipped at full scale.

follows  the best absolute correlation of a number of the dynamics code with the logarithm of the loudness, 0..1
opens    how much wider the mouth, 0 closed to 1 open, is in the loud half of the frames than in the quiet fifth
"""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from benchmarks import timing
from vasa_jax.arrays import SAMPLE_RATE, SAMPLES_PER_FRAME
from vasa_jax.autoencoder.config import LABEL_UNIT
from vasa_jax.errors import UserError
from vasa_jax.inference import Model, load
from vasa_jax.media.audio import AudioReader
from vasa_jax.metrics.correlation import pearson

VOLUMES = (0.1, 0.25, 0.5, 1.0, 2.0)
"""Factors of the recording."""
LEAST = 0.7
"""What `follows` must reach everywhere."""
QUIET = 1e-3
"""Added to the loudness before its logarithm: what is below counts as silence."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    timing.add_platform_flag(parser)
    parser.add_argument("speech", nargs="*", help="sound files; without any, those of VASA_JAX_ASSETS/speech")
    parser.add_argument("--model", default="demo", help="name of a bundled model, or a release folder")
    parser.add_argument("--seconds", type=float, default=10.0, help="from the beginning of each file")
    parser.add_argument("--volumes", type=float, nargs="+", default=VOLUMES, help="factors of the recording")
    parser.add_argument("--steps", type=timing.positive, default=30, help="of the sampler")
    parser.add_argument("--seed", type=int, default=0, help="of the motion")
    flags = parser.parse_args(arguments)
    timing.start(flags)
    files = [Path(name) for name in flags.speech] or _assets()
    model = load(flags.model)
    print(f"{'follows (opens) at volume':<28}" + "".join(f"{volume:>14g}" for volume in flags.volumes))
    for file in files:
        sound = np.concatenate(list(AudioReader(file)))[: int(flags.seconds * SAMPLE_RATE)]
        cells = []
        for volume in flags.volumes:
            code = dynamics(model, np.clip(volume * sound, -1, 1), flags.steps, flags.seed)
            follows, opens = judge(sound, code)
            cells.append(f"{follows:.2f} ({opens:+.2f}){' ' if follows >= LEAST else '!'}")
        print(f"{file.name:<28}" + "".join(f"{cell:>14}" for cell in cells), flush=True)
    print(f"! below {LEAST}")


def dynamics(model: Model, sound: Float[np.ndarray, " n"], steps: int, seed: int) -> Float[np.ndarray, "t z"]:
    """The dynamics code of a grey portrait that says a sound at 16 kHz."""
    portrait = model.portrait(np.full((model.size, model.size, 3), 128, np.uint8))
    return np.concatenate([part.dynamics for part in model.motions(portrait, sound, steps=steps, seed=seed)])


def judge(sound: Float[np.ndarray, " n"], code: Float[np.ndarray, "t z"]) -> tuple[float, float]:
    """`follows` and `opens` of a code for the sound that it says, at 16 kHz."""
    loud = loudness(sound, len(code))
    quiet, half = np.quantile(loud, [0.2, 0.5])
    mouth = LABEL_UNIT[0] * code[:, 0]
    opens = mouth[loud >= half].mean() - mouth[loud <= quiet].mean()
    return max(abs(pearson(loud, number)) for number in code.T), float(opens)


def loudness(sound: Float[np.ndarray, " n"], frames: int) -> Float[np.ndarray, " t"]:
    """Logarithm of the RMS of each frame's samples, and of `QUIET`."""
    padded = np.pad(sound, (0, max(0, frames * SAMPLES_PER_FRAME - len(sound))))[: frames * SAMPLES_PER_FRAME]
    return np.log(np.sqrt(np.square(padded.reshape(frames, -1)).mean(1)) + QUIET)


def _assets() -> list[Path]:
    folder = os.environ.get("VASA_JAX_ASSETS")
    if not folder:
        raise UserError("there is no speech: name sound files, or set VASA_JAX_ASSETS to a folder with speech/")
    return sorted((Path(folder) / "speech").iterdir())


if __name__ == "__main__":
    main()
