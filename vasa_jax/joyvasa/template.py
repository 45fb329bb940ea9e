"""From JoyVASA's normalised motion to LivePortrait's: the statistics of the motion template, and a calm head.

A frame is exp (21 points times 3, point after point), scale, t (3), pitch, yaw, roll, then numbers without meaning:

    exp = v std + mean,        every other part = v (max - min) + min.                           (1)

JoyVASA smooths all but exp with a = 0.01, so strongly that the head hardly moves:

    y_0 = x_0,   y_i = a x_i + (1 - a) y_{i-1}.                                                  (2)
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from vasa_jax.errors import UserError

POINTS = 21
SIZES = {"exp": 3 * POINTS, "scale": 1, "t": 3, "pitch": 1, "yaw": 1, "roll": 1}
"""Numbers of each part, in order: 70 of a frame."""
SMOOTHING = 0.01


class FaceMotion(NamedTuple):
    """LivePortrait's motion, one row a frame.

    exp: (t, 21, 3) offsets of the keypoints. scale: (t, 1). t: (t, 3); both in the units of the warping grid, where the
    picture is [-1, 1]. pitch, yaw, roll: (t, 1), degrees.
    """

    exp: Any
    scale: Any
    t: Any
    pitch: Any
    yaw: Any
    roll: Any


def denormalise(
    motion: Float[Array | np.ndarray, "frames d"], template: Mapping[str, np.ndarray | float]
) -> FaceMotion:
    """Equation (1).

    Args:
        motion: normalised, at least 70 numbers a frame; more are ignored.
        template: JoyVASA's motion template: `mean_exp` and `std_exp` of 63 numbers, and `min_` and `max_` of scale, t,
            pitch, yaw and roll, of any shape that holds as many numbers as the part has.

    Raises:
        UserError: fewer numbers a frame, or statistics that are missing or of another size.
    """
    if motion.shape[1] < sum(SIZES.values()):
        raise UserError(f"{motion.shape[1]} numbers a frame are too few: motion has {sum(SIZES.values())}")
    parts, begin = {}, 0
    for name, size in SIZES.items():
        if name == "exp":
            offset, factor = _numbers(template, "mean_exp", size), _numbers(template, "std_exp", size)
        else:
            offset = _numbers(template, f"min_{name}", size)
            factor = _numbers(template, f"max_{name}", size) - offset
        parts[name] = jnp.asarray(motion[:, begin : begin + size]) * factor[None] + offset[None]
        begin += size
    return FaceMotion(**parts | {"exp": parts["exp"].reshape(-1, POINTS, 3)})


def smooth(motion: FaceMotion, alpha: float = SMOOTHING) -> FaceMotion:
    """Equation (2) over everything but exp.

    Raises:
        UserError: alpha outside (0, 1]; 1 changes nothing.
    """
    if not 0 < alpha <= 1:
        raise UserError(f"{alpha=} must be above 0 and at most 1")

    def average(x: Array) -> Array:
        def body(y: Array, row: Array) -> tuple[Array, Array]:
            y = alpha * row + (1 - alpha) * y
            return y, y

        return jnp.concatenate([x[:1], jax.lax.scan(body, x[0], x[1:])[1]])

    return FaceMotion(motion.exp, *(average(jnp.asarray(part)) for part in motion[1:]))


def _numbers(template: Mapping[str, Any], name: str, size: int) -> Float[np.ndarray, " size"]:
    if name not in template:
        raise UserError(f"the template has no {name!r}; it holds {', '.join(sorted(template))}")
    numbers = np.asarray(template[name], np.float32).reshape(-1)
    if len(numbers) != size:
        raise UserError(f"the template's {name!r} has {len(numbers)} numbers, not {size}")
    return numbers
