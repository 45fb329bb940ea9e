"""The arithmetic between LivePortrait's networks: keypoints, relative motion, landmark ratios (sections 3.1 to 3.3).

A face has 21 canonical keypoints c (its shape) and, per frame, a rotation R, an expression e (an offset a point), a
scale s and a translation t. Points are row vectors, x right, y down, z into the picture, -1..1 over the warping grid:

    x = s (c R + e) + (tx, ty, 0),   R = (Rz(roll) Ry(yaw) Rx(pitch))^T                                          (1)

A driving sequence moves a source by its change since its own first frame 0:

    R' = R_i R_0^T R_s,   e' = e_s + e_i - e_0,   s' = s_s s_i / s_0,   t' = t_s + t_i - t_0                     (2)

All functions take any leading axes.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from vasa_jax.errors import UserError
from vasa_jax.geometry.rotation import rotation_matrix

LIPS = (6, 12, 14, 17, 19, 20)
"""Keypoints of the lips."""

_BINS, _BIN_DEGREES, _OFFSET_DEGREES = 66, 3.0, 97.5


class HeadMotion(NamedTuple):
    """How a head is held and bent.

    rotation: (..., 3, 3), R of equation 1. expression: (..., 21, 3). scale: (..., 1). translation: (..., 3); the third
    number has no effect.
    """

    rotation: Any
    expression: Any
    scale: Any
    translation: Any


def head_pose_degrees(bins: Float[Array, "*batch 66"]) -> Float[Array, " *batch"]:
    """An angle from the 66 outputs of its head: the expected bin, 3 degrees each, from -97.5 to 97.5."""
    expected = (jax.nn.softmax(bins) * jnp.arange(_BINS).reshape((1,) * (bins.ndim - 1) + (-1,))).sum(-1)
    return expected * _BIN_DEGREES - _OFFSET_DEGREES


def read_heads(heads: Mapping[str, Float[Array, "*batch _"]]) -> tuple[Float[Array, "*batch 21 3"], HeadMotion]:
    """Canonical keypoints and motion from the raw heads of the motion extractor."""
    pitch, yaw, roll = (jnp.deg2rad(head_pose_degrees(heads[name])) for name in ("pitch", "yaw", "roll"))
    keypoints, expression = (heads[name].reshape(*pitch.shape, 21, 3) for name in ("kp", "exp"))
    return keypoints, HeadMotion(rotation_matrix(pitch, yaw, roll), expression, heads["scale"], heads["t"])


def place(keypoints: Float[Array, "*#batch 21 3"], motion: HeadMotion) -> Float[Array, "*batch 21 3"]:
    """Equation 1: canonical keypoints, moved."""
    rotation, expression, scale, translation = (jnp.asarray(part) for part in motion)
    turned = (keypoints[..., None] * rotation[..., None, :, :]).sum(-2)  # a sum, so that no accelerator rounds it
    flat = translation.at[..., 2].set(0.0)
    return scale[..., None] * (turned + expression) + flat[..., None, :]


def relative_motion(
    source: HeadMotion, driving: HeadMotion, first: HeadMotion, absolute: tuple[int, ...] = ()
) -> HeadMotion:
    """Equation 2: the source, moved as the driving face moved since its first frame.

    Keypoints in `absolute` take the driving expression itself (LIPS, where the driver is speech and has no first face).
    """
    source, driving, first = (HeadMotion(*map(jnp.asarray, motion)) for motion in (source, driving, first))
    turned = _product(_product(driving.rotation, jnp.swapaxes(first.rotation, -1, -2)), source.rotation)
    expression = source.expression + (driving.expression - first.expression)
    if absolute:
        index = jnp.asarray(absolute)
        expression = expression.at[..., index, :].set(driving.expression[..., index, :])
    scale = source.scale * driving.scale / first.scale
    translation = source.translation + (driving.translation - first.translation)
    return HeadMotion(turned, expression, scale, translation.at[..., 2].set(0.0))


def _product(a: Float[Array, "*#batch 3 3"], b: Float[Array, "*#batch 3 3"]) -> Float[Array, "*batch 3 3"]:
    return (a[..., :, :, None] * b[..., None, :, :]).sum(-2)


def hull_multiplier(source: np.ndarray, first: np.ndarray) -> float:
    """How much larger the source's face is than its first driven one: sqrt of the ratio of the hulls' volumes.

    source, first: (21, 3) keypoints of `place`. Raises UserError where the points lie in a plane.
    """
    from scipy.spatial import ConvexHull, QhullError  # here, since no video of the demo should wait for it

    try:
        volumes = [ConvexHull(np.asarray(points, np.float64)).volume for points in (source, first)]
    except QhullError:
        raise UserError("the keypoints lie in a plane: they have no hull, check the motion") from None
    return float(np.sqrt(volumes[0]) / np.sqrt(volumes[1]))


def amplify(
    driven: Float[Array, "*batch 21 3"],
    first: Float[Array, "*#batch 21 3"],
    source: Float[Array, "*#batch 21 3"],
    multiplier: float,
) -> Float[Array, "*batch 21 3"]:
    """(x_i - x_0) multiplier + x_s. With first = source it is the strength of the motion (1 keeps it)."""
    return (driven - first) * multiplier + source


def correct(driven: Float[Array, "*batch 21 3"], correction: Float[Array, "*batch n"]) -> Float[Array, "*batch 21 3"]:
    """Add the answer of a corrector: 63 offsets, and from stitching (n = 65) two more for all x and y."""
    moved = driven + correction[..., :63].reshape(driven.shape)
    return moved.at[..., :2].add(correction[..., None, 63:]) if correction.shape[-1] == 65 else moved


def eye_ratios(landmarks: Float[Array, "*batch 203 2"]) -> Float[Array, "*batch 2"]:
    """Height over width of both eyes from 203 face landmarks."""
    pairs = ((6, 18, 0, 12), (30, 42, 24, 36))
    return jnp.stack([_ratio(landmarks, *pair) for pair in pairs], -1)


def lip_ratio(landmarks: Float[Array, "*batch 203 2"]) -> Float[Array, "*batch 1"]:
    """Height over width of the inner lips from 203 face landmarks."""
    return _ratio(landmarks, 90, 102, 48, 66)[..., None]


def _ratio(landmarks: Array, upper: int, lower: int, left: int, right: int) -> Array:
    def distance(a: int, b: int) -> Array:
        return jnp.sqrt(jnp.square(landmarks[..., a, :] - landmarks[..., b, :]).sum(-1))

    return distance(upper, lower) / (distance(left, right) + 1e-6)
