"""LivePortrait's motion as stage 2 learns it: a head pose and a dynamics code, `arrays.Motion`.

Seventy numbers describe a frame for JoyVASA: the expression (21 points times 3), scale, translation (3), pitch, yaw and
roll. Here six of them are the head pose, in the terms of `geometry.rotation`, whose equation 1 is LivePortrait's own:

    (pitch, yaw, roll, tx, ty, -log scale)                                                       (1)

and the other 64 the dynamics code: the expression, point after point, and the tz that no network reads, a hundredth of
it, so that the normalisation of `motion.statistics` is the expression's.
"""

import jax.numpy as jnp

from vasa_jax.arrays import Motion
from vasa_jax.geometry.rotation import pose_rotation, rotation_angles
from vasa_jax.liveportrait.keypoints import HeadMotion

DYNAMICS_DIM = 64
"""Size of the dynamics code."""
DEPTH_UNIT = 100.0
"""What tz is divided by."""


def to_code(motion: HeadMotion) -> Motion:
    """Equation (1): LivePortrait's motion, any leading axes, to a pose (..., 6) and a dynamics code (..., 64)."""
    rotation, expression, scale, translation = (jnp.asarray(part) for part in motion)
    angles = jnp.stack(rotation_angles(rotation), -1)
    pose = jnp.concatenate([angles, translation[..., :2], -jnp.log(scale)], -1)
    points = expression.reshape(*expression.shape[:-2], DYNAMICS_DIM - 1)
    return Motion(pose, jnp.concatenate([points, translation[..., 2:] / DEPTH_UNIT], -1))


def from_code(motion: Motion) -> HeadMotion:
    """The inverse of `to_code`."""
    pose, dynamics = (jnp.asarray(part) for part in motion)
    expression = dynamics[..., :-1].reshape(*dynamics.shape[:-1], -1, 3)
    translation = jnp.concatenate([pose[..., 3:5], dynamics[..., -1:] * DEPTH_UNIT], -1)
    return HeadMotion(pose_rotation(pose), expression, jnp.exp(-pose[..., 5:]), translation)
