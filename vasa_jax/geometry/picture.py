"""Two-dimensional sampling of pictures, and the face crop that follows the head.

The dynamics encoder looks at the face through a crop that is centred, upright and of constant size: a similarity
transform taken from the head pose. What is left to see in it is what the code is for: lips, lids, gaze, expression
(VASA-1 section 3.1 asks for dynamics apart from pose; the crop is our way to make that easy to learn).
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

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
        (b, h2, w2, c) in the units of `picture`.
    """
    b, h, w, c = picture.shape
    x = jnp.clip((place[..., 0] + 1.0) * (0.5 * (w - 1)), 0.0, w - 1.0)
    y = jnp.clip((place[..., 1] + 1.0) * (0.5 * (h - 1)), 0.0, h - 1.0)
    left, top = jnp.floor(x), jnp.floor(y)
    right_share, bottom_share = (x - left)[..., None], (y - top)[..., None]
    left, top = left.astype(jnp.int32), top.astype(jnp.int32)
    right, bottom = jnp.minimum(left + 1, w - 1), jnp.minimum(top + 1, h - 1)
    flat = picture.reshape(b, h * w, c)

    def look(row: Array, column: Array) -> Array:
        return jax.vmap(lambda pixels, index: pixels.at[index].get(mode="clip"))(flat, row * w + column)

    upper = look(top, left) * (1.0 - right_share) + look(top, right) * right_share
    lower = look(bottom, left) * (1.0 - right_share) + look(bottom, right) * right_share
    return upper * (1.0 - bottom_share) + lower * bottom_share


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
