"""Normalisation of motion: what the diffusion sees as unit variance.

The dynamics code of a face autoencoder has few directions that matter (in MegaPortraits' 18 of 512 carry 99 % of the
variance, says EMOPortraits), so that dividing every dimension by its own deviation would turn most of the loss into
noise. With the training set's mean mu, its principal axes Q (columns, largest first) and deviations sd along them,

    y = (z_dyn - mu) Q / max(sd, 0.1 sd_1),                                                      (1)

and pose is divided by its own deviation. A normalised frame is [pose (6), dynamics (z)]. The statistics are constants
of a run and travel with its weights.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from vasa_jax.arrays import POSE_DIM, Motion
from vasa_jax.errors import UserError

FLOOR = 0.1
"""Least scale of a direction of dynamics, in deviations of the first one."""
POSE_FLOOR = 1e-4
"""Least scale of a pose component, in its own units: one that never moves is divided by this."""
MEAN_OFF = 1.0
"""Mean of a normalised component, in deviations, from which statistics are said to fit motion badly."""
DEVIATION_OFF = 2.0
"""Factor of a deviation, likewise."""


class Statistics(NamedTuple):
    """Constants of equation (1), float32.

    pose_mean, pose_scale: (6,), units of the pose. dynamics_mean: (z,). rotation: (z, z), orthogonal, columns are axes.
    dynamics_scale: (z,), along the axes, never increasing.
    """

    pose_mean: Float[Array, " 6"]
    pose_scale: Float[Array, " 6"]
    dynamics_mean: Float[Array, " z"]
    rotation: Float[Array, "z z"]
    dynamics_scale: Float[Array, " z"]


def fit(motion: Motion) -> Statistics:
    """Measure the statistics of a training set, on the host, in float64.

    Args:
        motion: raw pose (..., 6) and dynamics (..., z); every frame counts once.

    Raises:
        UserError: fewer than two frames, a number that is not finite, or dynamics that never change.
    """
    pose, dynamics = _rows(motion)
    pose_deviation = pose.std(0)
    variance, axes = np.linalg.eigh(np.cov(dynamics, rowvar=False, bias=True).reshape(dynamics.shape[1], -1))
    deviation, axes = np.sqrt(np.maximum(variance[::-1], 0)), axes[:, ::-1]
    if not deviation[0] > 0:
        raise UserError(f"the dynamics of all {len(dynamics)} frames are equal; train stage 1 further")
    largest = np.abs(axes).argmax(0)
    axes = axes * np.sign(axes[largest, np.arange(axes.shape[1])])  # an axis has no sign of its own: fix one
    return Statistics(
        *(
            jnp.asarray(value, jnp.float32)
            for value in (
                pose.mean(0),
                np.maximum(pose_deviation, POSE_FLOOR),
                dynamics.mean(0),
                axes,
                np.maximum(deviation, FLOOR * deviation[0]),
            )
        )
    )


def normalise(statistics: Statistics, motion: Motion) -> Float[Array, "*batch d"]:
    """Raw motion (..., 6) and (..., z) to one normalised vector a frame, (..., 6 + z): equation (1)."""
    s = _like(statistics, motion.dynamics)
    pose = (motion.pose - s.pose_mean) / s.pose_scale
    dynamics = _times(motion.dynamics - s.dynamics_mean, statistics.rotation) / s.dynamics_scale
    return jnp.concatenate([pose, dynamics], axis=-1)


def denormalise(statistics: Statistics, x: Float[Array, "*batch d"]) -> Motion:
    """The inverse of `normalise`: (..., 6 + z) to raw motion."""
    s = _like(statistics, x)
    pose = x[..., :POSE_DIM] * s.pose_scale + s.pose_mean
    dynamics = _times(x[..., POSE_DIM:] * s.dynamics_scale, statistics.rotation.T) + s.dynamics_mean
    return Motion(pose, dynamics)


class Agreement(NamedTuple):
    """How motion looks through statistics: where these were measured on it, with mean 0 and deviation 1 or, where a
    floor of equation (1) holds, less.

    mean, deviation: (6 + z,), of normalised pose and dynamics. floored: (6 + z,) bool, where a floor holds.
    """

    mean: Float[np.ndarray, " d"]
    deviation: Float[np.ndarray, " d"]
    floored: Bool[np.ndarray, " d"]


def compare(statistics: Statistics, motion: Motion) -> Agreement:
    """Compare statistics with motion that they were not measured on.

    Args:
        statistics: those that training will use.
        motion: raw training data, pose (..., 6) and dynamics (..., z); every frame counts once.

    Raises:
        UserError: another size of dynamics, fewer than two frames, or a number that is not finite.
    """
    pose, _ = _rows(motion)
    pose = (pose - np.asarray(statistics.pose_mean, np.float64)) / np.asarray(statistics.pose_scale, np.float64)
    scale = np.asarray(statistics.dynamics_scale, np.float64)
    y = np.concatenate([pose, _turned(statistics, motion) / scale], axis=1)
    floored = [np.asarray(statistics.pose_scale) <= POSE_FLOOR * 1.01, scale <= FLOOR * 1.01 * scale[0]]
    return Agreement(y.mean(0), y.std(0), np.concatenate(floored))


def agrees(agreement: Agreement) -> bool:
    """Whether motion is normalised well enough to go on training with: no component's mean is farther off than
    `MEAN_OFF`, no deviation by more than the factor `DEVIATION_OFF`."""
    return bool((_off(agreement) <= 1).all())


def describe_agreement(agreement: Agreement) -> str:
    """In words: how many components are off, and the one that is farthest."""
    off = _off(agreement)
    i = int(off.argmax())
    name = f"pose[{i}]" if i < POSE_DIM else f"dynamics axis {i - POSE_DIM}"
    return (
        f"{int((off > 1).sum())} of {len(off)} normalised components are off; the farthest, {name}, has mean "
        f"{agreement.mean[i]:.3g} and deviation {agreement.deviation[i]:.3g}, not 0 and 1"
    )


def spectrum(statistics: Statistics, motion: Motion) -> Float[np.ndarray, " z"]:
    """The deviation of the dynamics along each axis of the statistics, raw units. Raises UserError as `compare`."""
    return _turned(statistics, motion).std(0)


def describe(spectrum: Float[np.ndarray, " z"]) -> str:
    """One line about a spectrum of deviations: how many directions matter, and the largest of them."""
    share = np.cumsum(np.square(spectrum)) / np.square(spectrum).sum()
    needed = [int(np.searchsorted(share, part) + 1) for part in (0.9, 0.99)]
    largest = " ".join(f"{value:.3g}" for value in spectrum[:8])
    return (
        f"dynamics: {needed[0]} of {len(spectrum)} directions carry 90 % of the variance, {needed[1]} carry 99 %; "
        f"{int((spectrum > FLOOR * spectrum[0]).sum())} are above the floor; deviations {largest}"
    )


def _off(agreement: Agreement) -> Float[np.ndarray, " d"]:
    """How far each component is off, 1 at the limits of `agrees`."""
    wide = np.log(np.maximum(agreement.deviation, 1e-9)) / np.log(DEVIATION_OFF)
    wide = np.where(agreement.floored, np.maximum(wide, 0), np.abs(wide))
    return np.maximum(np.abs(agreement.mean) / MEAN_OFF, wide)


def _turned(statistics: Statistics, motion: Motion) -> np.ndarray:
    """Dynamics along the axes of the statistics, (frames, z), float64."""
    _, dynamics = _rows(motion)
    size = statistics.dynamics_mean.shape[0]
    if dynamics.shape[1] != size:
        raise UserError(f"motion has {dynamics.shape[1]} dynamics dimensions, its statistics have {size}; refit them")
    return (dynamics - np.asarray(statistics.dynamics_mean, np.float64)) @ np.asarray(statistics.rotation, np.float64)


def _rows(motion: Motion) -> tuple[np.ndarray, np.ndarray]:
    """Frames as rows, float64; refuses what has no statistics."""
    pose, dynamics = (np.asarray(part, np.float64).reshape(-1, np.shape(part)[-1]) for part in motion)
    if len(pose) < 2 or len(pose) != len(dynamics):
        raise UserError(f"{len(pose)} frames of pose and {len(dynamics)} of dynamics: statistics need two or more")
    for name, value in (("pose", pose), ("dynamics", dynamics)):
        if not np.isfinite(value).all():
            raise UserError(f"{name} holds {np.size(value) - np.isfinite(value).sum()} numbers that are not finite")
    return pose, dynamics


def _like(statistics: Statistics, x: Array) -> Statistics:
    """The vectors of the statistics with the rank and dtype of x."""
    lead = (1,) * (x.ndim - 1)
    return Statistics(*(value.reshape(*lead, -1).astype(x.dtype) if value.ndim == 1 else value for value in statistics))


def _times(x: Array, matrix: Array) -> Array:
    """x (..., z) times a matrix, in full float32 on every accelerator."""
    return jnp.matmul(x, matrix.astype(x.dtype), precision=jax.lax.Precision.HIGHEST)
