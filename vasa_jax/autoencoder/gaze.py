"""Where the eyes of a motion look: two labelled numbers of the dynamics code, turned by the head's pose.

The code holds the gaze as the head sees it, in units of `LABEL_UNIT`; people ask for it in the camera's frame.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from vasa_jax.arrays import Motion
from vasa_jax.autoencoder.config import LABEL_UNIT
from vasa_jax.geometry.rotation import gaze_angles, gaze_direction, gaze_in_head, pose_rotation

EYES = slice(3, 5)
"""Where in the code the gaze stands."""


def gaze_of(motion: Motion) -> Float[Array, "*batch 2"]:
    """Where eyes look, (theta, phi) in radians of the camera's frame, of motion (..., 6) and (..., z)."""
    in_head = gaze_direction(LABEL_UNIT[EYES.start] * jnp.asarray(motion.dynamics)[..., EYES])
    return gaze_angles(jnp.einsum("...i,...ij->...j", in_head, pose_rotation(jnp.asarray(motion.pose))))


def look(motion: Motion, gaze: Float[Array, "*batch 2"]) -> Motion:
    """The motion whose eyes look that way, in the camera's frame; all else stays."""
    in_head = gaze_in_head(gaze, jnp.asarray(motion.pose)) / LABEL_UNIT[EYES.start]
    return Motion(motion.pose, jnp.asarray(motion.dynamics).at[..., EYES].set(in_head))
