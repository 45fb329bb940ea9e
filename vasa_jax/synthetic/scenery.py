"""What surrounds a synthetic head: a calm background, and a neck on clothed shoulders.

The body lives in the camera frame. It follows the head's place only partly and never turns, so that the head visibly
turns on its neck. Strokes are those of `paint`; u, v are the picture's crop units, the focal length is D0.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vasa_jax.synthetic.head import Vector, length, wave
from vasa_jax.synthetic.identity import Identity
from vasa_jax.synthetic.paint import Stroke, smooth, soft, stroke

DISTANCE = 6.0  # D0: mean distance and focal length [world units]


def background(u: Array, v: Array, identity: Identity) -> tuple[Stroke, ...]:
    """A gradient between two related colours, slightly darker in the corners."""
    angle = identity.background_angle
    along = u * jnp.cos(angle) + v * jnp.sin(angle)
    across = v * jnp.cos(angle) - u * jnp.sin(angle)
    mix = 0.5 + 0.38 * along + 0.14 * identity.background_wave * wave(2.2 * across + 4.0 * identity.background_wave)
    shade = 1.0 - 0.10 * (u * u + v * v)
    first = stroke(identity.background_colour, jnp.ones_like(u), shade)
    return first, stroke(identity.background_second_colour, jnp.clip(mix, 0.0, 1.0), shade)


def body(
    u: Array, v: Array, identity: Identity, centre: Vector, base: Vector, pixel: Float[Array, ""]
) -> tuple[tuple[Stroke, ...], Float[Array, "h w"]]:
    """Neck and shoulders.

    Args:
        u, v: crop units, planes.
        identity: sizes, clothes and light.
        centre: the head's centre in the camera frame, scalars.
        base: the upper end of the neck, inside the head, in the camera frame, scalars.
        pixel: size of a pixel at the head's depth.

    Returns:
        Strokes, and the depth of the front surface in the camera frame (far away where there is none).
    """
    bx, by, bz = 0.8 * centre[0], 0.8 * centre[1], centre[2]
    light = (identity.light[0], identity.light[1], identity.light[2])

    # Shoulders: one wide ellipsoid. `closest` is the ray's closest approach in units of the radii.
    middle, radii = (bx, by + 1.36, bz + 0.16), (1.02 * identity.shoulder_width, 0.56, 0.42)
    ray = (u / DISTANCE, v / DISTANCE, 1.0)
    a = sum((r / q) ** 2 for r, q in zip(ray, radii, strict=True))
    b = sum(r * m / q**2 for r, m, q in zip(ray, middle, radii, strict=True))
    c = sum((m / q) ** 2 for m, q in zip(middle, radii, strict=True))
    closest = jnp.sqrt(jnp.maximum(c - b * b / a, 0.0))
    shoulders = soft((closest - 1.0) * 0.56, pixel)
    t = (b - jnp.sqrt(jnp.maximum(b * b - a * (c - 1.0), 0.0))) / a
    n = tuple((t * r - m) / q**2 for r, m, q in zip(ray, middle, radii, strict=True))
    facing = sum(x * k for x, k in zip(n, light, strict=True)) * jax.lax.rsqrt(sum(x * x for x in n) + 1e-9)
    lit = 0.62 + 0.42 * jnp.clip(facing, 0.0, 1.0)
    x, y = t * ray[0] - bx, t * ray[1] - by
    stripes = smooth(-0.35, 0.35, wave(2 * jnp.pi * (y - 0.25 * x * x) / 0.17)) * identity.clothes_stripes
    neckline = length(x / (0.30 + 0.10 * identity.collar), (y - 0.74) / (0.16 + 0.16 * identity.collar))
    hem = 0.7 * jnp.clip(1.0 - ((neckline - 1.06) / 0.12) ** 2, 0.0, 1.0)
    bare = soft((neckline - 1.0) * 0.25, 1.5 * pixel)
    depth = jnp.where(shoulders > 0.0, t, 1e3)

    # Neck: a tube from the head to between the shoulders, widening downwards.
    end = (bx, by + 0.92, bz + 0.14)
    top = (DISTANCE * base[0] / base[2], DISTANCE * base[1] / base[2])
    ex, ey = DISTANCE * end[0] / end[2] - top[0], DISTANCE * end[1] / end[2] - top[1]
    h = jnp.clip(((u - top[0]) * ex + (v - top[1]) * ey) / (ex * ex + ey * ey), 0.0, 1.0)
    axis = base[2] + h * (end[2] - base[2])
    radius = identity.neck_width * (0.215 + 0.15 * smooth(0.55, 1.1, h) ** 2) * DISTANCE / axis
    across, below = u - top[0] - h * ex, v - top[1] - h * ey
    tube = soft(length(across, below) - radius, pixel)
    lateral = jnp.clip(across / radius, -1.0, 1.0)
    front = jnp.sqrt(1.0 - lateral * lateral + 1e-6)
    lit_tube = 0.50 + 0.45 * jnp.clip(lateral * light[0] - front * light[2], 0.0, 1.0)
    lit_tube = lit_tube * (0.62 + 0.38 * smooth(0.20, 0.95, h))  # the head's shadow
    clothed = soft((1.0 - neckline) * 0.25, 1.5 * pixel) * smooth(0.5, 0.8, h) * shoulders
    depth = jnp.where(tube > 0.5, jnp.minimum(depth, axis - 0.2 * front), depth)
    strokes = (
        stroke(identity.clothes_colour, shoulders, lit),
        stroke(identity.clothes_second_colour, shoulders * stripes, lit),
        stroke(identity.clothes_second_colour, shoulders * hem, lit),
        stroke(identity.skin_colour, shoulders * bare, 0.86 * lit),
        stroke(identity.skin_colour, tube * (1.0 - clothed), lit_tube),
    )
    return strokes, depth
