"""The smoother of head poses: a head moves slowly, what measures its pose frame by frame is noisy.

Whittaker's smoother (Eilers 2003, "A perfect smoother", equation 4, with differences of order 3): of a sequence y, the
x that minimises |y - x|^2 + l |D x|^2, with D the third differences. It is linear,

    x = (I + l D'D)^-1 y,        response 1 / (1 + l (2 sin(pi f / F))^6)  at f of F = 25 Hz,    (1)

keeps quadratics and sums as they are, and needs no frames beyond the ends. l follows from the cutoff, the frequency of
response 1/2. The same smoother makes the targets of training and is the last layer of the network, see
`motion.denoiser`: what the network cannot say it need not learn to leave out.
"""

import functools

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from vasa_jax.arrays import FPS, POSE_DIM


@functools.cache
def smoother(frames: int, cutoff: float) -> Float[np.ndarray, "t t"]:
    """The matrix of equation (1) for sequences of that length, float64.

    Args:
        frames: 1 or more.
        cutoff: in Hz, above 0 and up to half of `FPS`.
    """
    weight = (2 * np.sin(np.pi * cutoff / FPS)) ** -6.0
    differences = np.diff(np.eye(frames), 3, axis=0) if frames > 3 else np.zeros((0, frames))
    return np.linalg.inv(np.eye(frames) + weight * differences.T @ differences)


def smooth_head(cutoff: float, motion: Float[Array, "*batch t d"]) -> Float[Array, "*batch t d"]:
    """Motion whose first `POSE_DIM` numbers are smoothed along time; the others stay as they are."""
    matrix = jnp.asarray(smoother(motion.shape[-2], cutoff), motion.dtype)
    pose = jnp.einsum("st,...td->...sd", matrix, motion[..., :POSE_DIM], precision="highest")
    return jnp.concatenate([pose, motion[..., POSE_DIM:]], axis=-1)
