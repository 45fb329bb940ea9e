"""What changes from frame to frame in the synthetic world: head pose, gaze and the face's controls.

Conventions are those of the whole project. A head point p (row vector; x right, y down, z into the picture; the face
looks along -z) is posed as s (p @ R) + t with R = (Rz(roll) Ry(yaw) Rx(pitch))^T: yaw > 0 turns the face to the
viewer's left, pitch > 0 looks down, roll > 0 is clockwise in the picture. "Left" is the viewer's left.
Gaze (theta, phi) lives in the camera frame, so the eyes keep their target while the head moves.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key


class State(NamedTuple):
    """One frame's controls, float32, with any common leading shape.

    rotation: (..., 3) pitch, yaw, roll [rad].
    translation: (..., 2) tx, ty of the head centre in crop units (half the picture = 1).
    log_distance: (...,) natural logarithm of the distance over the mean distance.
    gaze: (..., 2) theta > 0 to the viewer's right, phi > 0 up [rad], camera frame.
    lids: (..., 2) viewer's left and right eye, 0 closed .. 0.75 relaxed .. 1 wide.
    brow_raise: (...,) -1 lowered .. 1 raised.
    brow_furrow: (...,) 0 .. 1 drawn together.
    jaw: (...,) 0 closed .. 1 wide open.
    lip_width: (...,) -1 narrow .. 1 wide.
    rounding: (...,) 0 .. 1 pursed forward, as in "oo".
    corner_pull: (...,) -1 sad .. 1 smiling.
    teeth: (...,) 0 .. 1 lips drawn apart so that the teeth show, as in "ee" and "s".
    """

    rotation: Float[Array, "... 3"]
    translation: Float[Array, "... 2"]
    log_distance: Float[Array, "..."]
    gaze: Float[Array, "... 2"]
    lids: Float[Array, "... 2"]
    brow_raise: Float[Array, "..."]
    brow_furrow: Float[Array, "..."]
    jaw: Float[Array, "..."]
    lip_width: Float[Array, "..."]
    rounding: Float[Array, "..."]
    corner_pull: Float[Array, "..."]
    teeth: Float[Array, "..."]


def neutral_state(shape: tuple[int, ...] = ()) -> State:
    """A frontal head at the mean distance, mouth closed, eyes relaxed and looking into the camera.

    Args:
        shape: common leading shape of the fields.
    """
    zero = jnp.zeros(shape, jnp.float32)
    return State(
        rotation=jnp.zeros((*shape, 3), jnp.float32),
        translation=jnp.zeros((*shape, 2), jnp.float32),
        log_distance=zero,
        gaze=jnp.zeros((*shape, 2), jnp.float32),
        lids=jnp.full((*shape, 2), 0.75, jnp.float32),
        brow_raise=zero,
        brow_furrow=zero,
        jaw=zero,
        lip_width=zero,
        rounding=zero,
        corner_pull=zero,
        teeth=zero,
    )


def random_state(key: Key[Array, ""]) -> State:
    """One state drawn with independent, wide controls: what stage 1 learns to reconstruct.

    Standard deviations: pitch 10, yaw 18, roll 8 degrees (clipped at 24, 40 and 22), translation 0.06 crop units,
    log distance 0.12; gaze is uniform within 30 degrees
    sideways and 20 up or down; 15 % of the eyes are closed or nearly so; every mouth
    control is independent of the others.

    Args:
        key: a typed JAX key.

    Returns:
        A `State` without leading axes; use `jax.vmap` for many.
    """
    keys = jax.random.split(key, 12)
    spread = jnp.radians(jnp.array([10.0, 18.0, 8.0], jnp.float32))
    limit = jnp.radians(jnp.array([24.0, 40.0, 22.0], jnp.float32))
    rotation = jnp.clip(spread * jax.random.normal(keys[0], (3,)), -limit, limit)
    translation = jnp.clip(0.06 * jax.random.normal(keys[1], (2,)), -0.18, 0.18)
    log_distance = jnp.clip(0.12 * jax.random.normal(keys[2]), -0.3, 0.3)
    gaze = jnp.radians(jnp.array([30.0, 20.0])) * jax.random.uniform(keys[3], (2,), minval=-1.0, maxval=1.0)
    lid, shut, wink = jax.random.uniform(keys[4], (3,))
    lid = jnp.where(shut < 0.15, 0.15 * lid, 0.5 + 0.5 * lid)
    lids = jnp.clip(lid + 0.04 * (wink - 0.5) * jnp.array([-1.0, 1.0]), 0.0, 1.0)
    brow_raise = jnp.clip(0.5 * jax.random.normal(keys[5]), -1.0, 1.0)
    # Half of the frames leave a control near its rest, the other half use its full range.
    amount = jax.random.uniform(keys[6], (4,))
    used = jax.random.bernoulli(keys[7], jnp.array([0.4, 0.8, 0.4, 0.5]))
    furrow, jaw, rounding, teeth = jnp.where(used, amount, 0.1 * amount)
    lip_width = jax.random.uniform(keys[8], minval=-1.0, maxval=1.0)
    corner_pull = jnp.clip(0.55 * jax.random.normal(keys[9]), -1.0, 1.0)
    return State(
        rotation=rotation,
        translation=translation,
        log_distance=log_distance,
        gaze=gaze,
        lids=lids,
        brow_raise=brow_raise,
        brow_furrow=furrow,
        jaw=jaw,
        lip_width=lip_width,
        rounding=rounding,
        corner_pull=corner_pull,
        teeth=teeth,
    )


def state_pose(state: State) -> Float[Array, "... 6"]:
    """Pose vector (pitch, yaw, roll [rad], tx, ty [crop units], log distance) of a state."""
    return jnp.concatenate([state.rotation, state.translation, state.log_distance[..., None]], axis=-1)


def with_head_pose(state: State, other: State) -> State:
    """A state whose head is placed as in another (rotation, translation, distance); expression and gaze stay."""
    return state._replace(rotation=other.rotation, translation=other.translation, log_distance=other.log_distance)
