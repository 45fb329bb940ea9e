"""What a stage 2 run asks of itself now and then: judges of motion, on its own held-out clips.

The clips are those of the run, synthetic or real, so the truth is their motion as stage 1 reads it, with its noise:
numbers over it are kinder than those of `evaluate`, which knows the world. Generation goes through the session step, as
in `Model.motions`, and nothing is rendered.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from vasa_jax.arrays import SAMPLES_PER_FRAME, Motion
from vasa_jax.inference.offline import first, windows
from vasa_jax.inference.pair import Options
from vasa_jax.inference.vasa import MotionModel
from vasa_jax.metrics.correlation import pearson
from vasa_jax.metrics.judges.motion import deviation, second_difference, step, steps_at
from vasa_jax.metrics.judges.protocol import ratio


class Spoken(NamedTuple):
    """A held-out clip: sound (n,) at 16 kHz, its motion (t, ...) as stage 1 reads it, and how far the mouth is truly
    open, (t,), None where that is not known or where the code's first number is not the mouth."""

    sound: Float[np.ndarray, " n"]
    motion: Motion
    mouth: Any


def judge_motion(model: MotionModel, clips: Sequence[Spoken], steps: int, seed: int = 0) -> dict[str, float]:
    """Seams, jitter, amplitude and lip sync of motion that is generated for held-out sounds.

    Args:
        model: stage 2; its motion is the code's own, whoever draws it.
        clips: longer than a window, or there is no seam to judge.
        steps: of the sampler.
        seed: of the motion.

    Returns:
        `seam/pose`, `seam/dynamics` (1 is none), `jitter` and `amplitude` of the pose over those of the clips, and
        `mouth`, the mean correlation, where it is known; see `judges.motion`. Numbers without a value are left out.
    """
    made = [_generated(model, clip.sound, steps, seed + number) for number, clip in enumerate(clips)]
    true = [Motion(*(np.asarray(part, np.float64) for part in clip.motion)) for clip in clips]
    poses, codes = (deviation([getattr(motion, part) for motion in true]) for part in Motion._fields)
    hop = model.needs.hop
    columns = {
        "seam/pose": [steps_at(motion.pose, hop, poses) for motion in made],
        "seam/dynamics": [steps_at(motion.dynamics, hop, codes) for motion in made],
        "jitter": [_both(second_difference, pair, poses) for pair in zip(made, true, strict=True)],
        "amplitude": [_both(step, pair, poses) for pair in zip(made, true, strict=True)],
    }
    numbers = {name: ratio(*np.array(pairs).T) for name, pairs in columns.items()}
    mouths = [
        pearson(clip.mouth[: len(motion.pose)], motion.dynamics[: len(clip.mouth), 0])
        for clip, motion in zip(clips, made, strict=True)
        if clip.mouth is not None
    ]
    if mouths:
        numbers["mouth"] = float(np.mean(mouths))
    return {name: value for name, value in numbers.items() if np.isfinite(value)}


def _both(number: Any, pair: tuple[Motion, Motion], unit: np.ndarray) -> tuple[float, float]:
    made, true = pair
    return number(made.pose / unit), number(true.pose / unit)


def _generated(model: MotionModel, sound: np.ndarray, steps: int, seed: int) -> Motion:
    """Motion of a sound, window by window; of the code's own kind, so of `MotionModel.step` itself."""
    controls, needs = model.make_controls(), model.needs
    carry, parts = model.start(jax.random.key(seed)), []
    sound = sound[: len(sound) // SAMPLES_PER_FRAME * SAMPLES_PER_FRAME]
    for samples, count in windows([sound], needs):
        carry, drawn = MotionModel.step(
            model, carry, jnp.asarray(samples), needs.window, needs.hop, controls, Options(steps=steps)
        )
        parts.append(first(drawn, count))
    return Motion(*(np.concatenate(part).astype(np.float64) for part in zip(*parts, strict=True)))
