"""Eyes that look elsewhere: stage 2 learns to obey a gaze from codes whose gaze was turned.

What a model is told must be what its motion shows. Stage 1 reads a gaze off pictures with a gain below 1 (of what
people look up or down, the demo's encoder sees a third), so that a label of the world asks for more than the code ever
holds. The code's own gaze is therefore the condition, the mean over the window. And people seldom look far aside: with
a share of the samples the gaze of the whole sample, context and window, is shifted by one random angle each way, the
code along with the condition, so that far directions are as common as near ones.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from vasa_jax.arrays import Motion
from vasa_jax.autoencoder.gaze import gaze_of, look

EYES = 2
"""Folded into a sample's key for the shift of its gaze."""
SHARE = 0.7
"""Of the samples whose gaze is shifted."""


def turn_eyes(
    reach: float, context: int, batch: dict[str, Array], keys: Key[Array, " b"] | None = None
) -> dict[str, Array]:
    """A batch of `motion.objective` whose condition is the code's own gaze.

    Args:
        reach: in radians; shifts are uniform in -reach..reach for both angles.
        context: K, frames before the window.
        batch: as `motion.objective.batch_spec` says.
        keys: one a sample; None shifts nothing, as in validation.
    """
    motion = Motion(batch["motion_pose"], batch["motion_dynamics"])
    gaze = gaze_of(motion)
    if keys is not None:

        def shift(key: Array) -> Array:
            u = jax.random.uniform(jax.random.fold_in(key, EYES), (3,))
            return jnp.where(u[0] < SHARE, reach * (2 * u[1:] - 1), 0)

        gaze = gaze + jax.vmap(shift)(keys)[:, None]
        motion = look(motion, gaze)
    return batch | {"motion_dynamics": motion.dynamics, "gaze": gaze[:, context:].mean(1)}
