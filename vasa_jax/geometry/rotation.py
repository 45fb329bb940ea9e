"""Rotations, the rigid transform of a head, and directions of gaze (VASA-1 section 3.1: `z_pose` and its warps).

A pose is six numbers: pitch, yaw, roll in radians about x, y, z; tx, ty in crop units (half the picture is 1); and the
natural logarithm of the head's distance over the training mean. With the usual right-handed elementary matrices

    R = (Rz(roll) Ry(yaw) Rx(pitch))^T,   s = exp(-log distance),   t = (tx, ty, 0)                              (1)

and points as row vectors, the posed point and its inverse are

    p' = s (p R) + t,   p = ((p' - t) R^T) / s                                                                   (2)

so a positive yaw turns the face to the viewer's left, a positive pitch looks down, a positive roll is clockwise in the
picture. Gaze is (theta, phi) in the camera's frame, as L2CS-Net writes it:

    d = (sin theta cos phi, -sin phi, -cos theta cos phi)                                                        (3)

theta > 0 looks to the viewer's right, phi > 0 up, (0, 0) into the camera. Products are written as broadcast sums, so
that no accelerator rounds coordinates to TF32 or bfloat16.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float


def rotation_matrix(
    pitch: Float[Array, " *batch"], yaw: Float[Array, " *batch"], roll: Float[Array, " *batch"]
) -> Float[Array, "*batch 3 3"]:
    """R of equation 1 for angles in radians; multiply row vectors by it from the right."""
    cx, sx, cy, sy, cz, sz = jnp.cos(pitch), jnp.sin(pitch), jnp.cos(yaw), jnp.sin(yaw), jnp.cos(roll), jnp.sin(roll)
    rows = (
        (cz * cy, sz * cy, -sy),
        (cz * sy * sx - sz * cx, sz * sy * sx + cz * cx, cy * sx),
        (cz * sy * cx + sz * sx, sz * sy * cx - cz * sx, cy * cx),
    )
    return jnp.stack([jnp.stack(row, axis=-1) for row in rows], axis=-2)


def pose_rotation(pose: Float[Array, "*batch 6"]) -> Float[Array, "*batch 3 3"]:
    """R of equation 1 from the first three numbers of a pose."""
    return rotation_matrix(pose[..., 0], pose[..., 1], pose[..., 2])


def rotation_angles(
    rotation: Float[Array, "*batch 3 3"],
) -> tuple[Float[Array, " *batch"], Float[Array, " *batch"], Float[Array, " *batch"]]:
    """Pitch, yaw and roll in radians of R of equation 1; inverts `rotation_matrix` for yaws within 90 degrees."""
    pitch = jnp.arctan2(rotation[..., 1, 2], rotation[..., 2, 2])
    yaw = -jnp.arcsin(jnp.clip(rotation[..., 0, 2], -1.0, 1.0))
    roll = jnp.arctan2(rotation[..., 0, 1], rotation[..., 0, 0])
    return pitch, yaw, roll


def _rows_times(points: Float[Array, "*batch 3"], matrix: Float[Array, "*#batch 3 3"]) -> Float[Array, "*batch 3"]:
    first, second, third = (points[..., i, None] * matrix[..., i, :] for i in range(3))
    return first + second + third


def _fit(x: Array, points: Array, kept: int) -> Array:
    """Insert axes after the first one of x, so that its last `kept` axes line up with the last ones of points."""
    return x.reshape(x.shape[0], *(1,) * (points.ndim - 2), *x.shape[x.ndim - kept :])


def apply_pose(points: Float[Array, "b *space 3"], pose: Float[Array, "b 6"]) -> Float[Array, "b *space 3"]:
    """Points of the canonical head, carried into the picture's frame: equation 2, left."""
    turned = _rows_times(points, _fit(pose_rotation(pose), points, 2))
    return _fit(jnp.exp(-pose[:, 5:]), points, 1) * turned + _fit(_translation(pose), points, 1)


def remove_pose(points: Float[Array, "b *space 3"], pose: Float[Array, "b 6"]) -> Float[Array, "b *space 3"]:
    """Points of the picture's frame, carried back to the canonical head: equation 2, right; inverts `apply_pose`."""
    shifted = points - _fit(_translation(pose), points, 1)
    back = _rows_times(shifted, _fit(jnp.swapaxes(pose_rotation(pose), -1, -2), points, 2))
    return back * _fit(jnp.exp(pose[:, 5:]), points, 1)


def _translation(pose: Float[Array, "*batch 6"]) -> Float[Array, "*batch 3"]:
    return jnp.concatenate([pose[..., 3:5], jnp.zeros_like(pose[..., :1])], axis=-1)


def gaze_direction(gaze: Float[Array, "*batch 2"]) -> Float[Array, "*batch 3"]:
    """Unit vector of equation 3 from (theta, phi) in radians."""
    theta, phi = gaze[..., 0], gaze[..., 1]
    return jnp.stack([jnp.sin(theta) * jnp.cos(phi), -jnp.sin(phi), -jnp.cos(theta) * jnp.cos(phi)], axis=-1)


def gaze_angles(direction: Float[Array, "*batch 3"]) -> Float[Array, "*batch 2"]:
    """(theta, phi) in radians of a direction of any length but zero; inverts `gaze_direction`."""
    x, y, z = direction[..., 0], direction[..., 1], direction[..., 2]
    return jnp.stack([jnp.arctan2(x, -z), jnp.arctan2(-y, jnp.sqrt(x * x + z * z))], axis=-1)


def gaze_in_head(gaze: Float[Array, "*batch 2"], pose: Float[Array, "*batch 6"]) -> Float[Array, "*batch 2"]:
    """Gaze (theta, phi) in the camera's frame, seen from the head, as blend shapes measure it; frontal: no change."""
    return gaze_angles(_rows_times(gaze_direction(gaze), jnp.swapaxes(pose_rotation(pose), -1, -2)))
