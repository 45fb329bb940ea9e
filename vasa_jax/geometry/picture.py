"""Two-dimensional sampling of pictures, and the face crop that follows the head.

The dynamics encoder looks at the face through a crop that is centred, upright and of constant size: a similarity
transform taken from the head pose. What is left to see in it is what the code is for: lips, lids, gaze, expression
(VASA-1 section 3.1 asks for dynamics apart from pose; the crop is our way to make that easy to learn).
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vasa_jax.geometry.grid import clamped, interpolate
from vasa_jax.geometry.rotation import rotation_matrix

FACE_CENTRE = (0.0, 0.05, -0.3)
"""The point between nose and mouth in canonical head units (half a picture = 1 at the mean distance), before
rotation."""


def sample_2d(picture: Float[Array, "b h w c"], place: Float[Array, "b h2 w2 2"]) -> Float[Array, "b h2 w2 c"]:
    """Bilinear look-up with border clamp, align_corners=True.

    Args:
        picture: (b, h, w, c).
        place: (x, y) of every output pixel, [-1, 1] from the centre of the first to the centre of the last pixel.

    Returns:
        (b, h2, w2, c) in the units and the dtype of `picture`.
    """
    _, h, w, _ = picture.shape
    return interpolate(picture, (clamped(place[..., 1], h), clamped(place[..., 0], w)))


def resample(picture: Float[Array, "b h w c"], size: int) -> Float[Array, "b h2 w2 c"]:
    """Pictures at another size by Lanczos' filter of three lobes, which when it shrinks passes nothing finer than the
    new pixels; align_corners=True.

    Args:
        picture: (b, h, w, c). The filter overshoots at edges: clip what must stay within 0..1.
        size: side of the new pictures in pixels, 2 or more.
    """
    b, h, w, c = picture.shape
    scale = jnp.array([(size - 1) / (side - 1) for side in (h, w)], picture.dtype)
    shift = 0.5 - 0.5 * scale  # pixel centres lie at whole numbers and a half there
    return jax.image.scale_and_translate(picture, (b, size, size, c), (1, 2), scale, shift, "lanczos3")


def face_crop_grid(pose: Float[Array, "b 6"], size: int, reach: float) -> Float[Array, "b h w 2"]:
    """Where the pixels of the upright face crop lie in the picture.

    Args:
        pose: pitch, yaw, roll (radians), tx, ty (crop units), log distance.
        size: side of the crop in pixels.
        reach: half the side of the crop in canonical head units.

    Returns:
        (x, y) in crop units, for `sample_2d`.
    """
    scale = jnp.exp(-pose[:, 5])
    rotation = rotation_matrix(pose[:, 0], pose[:, 1], pose[:, 2])
    centre = pose[:, 3:5] + scale[:, None] * (jnp.asarray(FACE_CENTRE, pose.dtype)[None, None] @ rotation)[:, 0, :2]
    side = jnp.linspace(-reach, reach, size, dtype=pose.dtype)
    x, y = side[None, None, :], side[None, :, None]
    cos, sin, scale = (part[:, None, None] for part in (jnp.cos(pose[:, 2]), jnp.sin(pose[:, 2]), scale))
    across = scale * (cos * x - sin * y) + centre[:, 0, None, None]
    down = scale * (sin * x + cos * y) + centre[:, 1, None, None]
    return jnp.stack([across, down], -1)


def face_crop(
    picture: Float[Array, "b h w c"], pose: Float[Array, "b 6"], size: int, reach: float
) -> Float[Array, "b h2 w2 c"]:
    """The upright face crop (b, size, size, c) of `picture`; the pose gets no gradient."""
    return sample_2d(picture, face_crop_grid(jax.lax.stop_gradient(pose), size, reach))


def in_plane_grid(pose: Float[Array, "1 6"], moved: Float[Array, "n 6"], size: int) -> Float[Array, "n h w 2"]:
    """Where a picture of a head at `pose` already shows what a picture at `moved` would, if only roll, tx, ty and log
    distance have changed.

    These four act behind pitch and yaw, so equation 2 of `geometry.rotation` gives one similarity for all depths:
    with Q the turn by the difference of the rolls, u = (s / s') (u' - t') Q + t. A pinhole camera agrees for the plane
    of the head's centre; what lies z before it, at distance Z, moves by Z / (Z - z) times as much.

    Args:
        pose, moved: pitch and yaw are not read.
        size: side of the pictures in pixels.

    Returns:
        (x, y) in crop units, for `sample_2d`; beyond [-1, 1] where the picture does not reach.
    """
    side = jnp.linspace(-1.0, 1.0, size, dtype=pose.dtype)
    x = side[None, None, :] - moved[:, 3, None, None]
    y = side[None, :, None] - moved[:, 4, None, None]
    angle, scale = (part[:, None, None] for part in (pose[:, 2] - moved[:, 2], jnp.exp(moved[:, 5] - pose[:, 5])))
    across = scale * (jnp.cos(angle) * x - jnp.sin(angle) * y) + pose[:, 3, None, None]
    down = scale * (jnp.sin(angle) * x + jnp.cos(angle) * y) + pose[:, 4, None, None]
    return jnp.stack([across, down], -1)
