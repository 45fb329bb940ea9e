"""What surrounds a synthetic head: a calm background or one of a look's, and a neck on clothed shoulders.

The body lives in the camera frame. It follows the head's place only partly and never turns, so that the head visibly
turns on its neck. Strokes are those of `paint`; u, v are the picture's crop units, the focal length is D0.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vasa_jax.synthetic.head import Vector, length, wave
from vasa_jax.synthetic.identity import Identity
from vasa_jax.synthetic.looks import Look
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


def backdrop(u: Array, v: Array, identity: Identity, look: Look) -> tuple[Stroke, ...]:
    """One of the backgrounds `looks.SCENES`, as three strokes."""
    a, b, c = look.colours
    first, full = look.shapes[0], jnp.ones_like(u)
    angle, pitch = 2 * jnp.pi * first[0], 2.5 * jnp.exp(2.2 * first[1])
    across, down = u * jnp.cos(angle) + v * jnp.sin(angle), v * jnp.cos(angle) - u * jnp.sin(angle)

    def calm() -> tuple[Stroke, ...]:
        return (*background(u, v, identity), stroke(c, 0.0 * u, full))

    def gradient() -> tuple[Stroke, ...]:
        round_, linear = length(u - 2.0 * first[2] + 1.0, v - 2.0 * first[3] + 1.0), 0.5 + 0.5 * across
        mix = smooth(0.0, 1.0, jnp.where(first[1] < 0.5, 0.7 * round_, linear))
        return stroke(a, full, full), stroke(b, mix, full), stroke(c, 0.0 * u, full)

    def blobs() -> tuple[Stroke, ...]:
        amounts = [
            soft(length(u - 2.4 * x + 1.2, v - 2.4 * y + 1.2) - 0.1 - 0.5 * size, 0.03 + 0.4 * edge)
            for x, y, size, edge in look.shapes
        ]
        odd, even = jnp.maximum(amounts[1], amounts[3]), jnp.maximum(amounts[2], amounts[4])
        return stroke(a, full, full), stroke(b, odd, full), stroke(c, 0.9 * even, full)

    def clouds() -> tuple[Stroke, ...]:
        coarse = wave(1.3 * pitch * across + 2.0 * wave(1.1 * pitch * down)) * wave(
            pitch * down + 1.5 * wave(2.0 * across)
        )
        fine = wave(2.9 * pitch * across + 2.0 * coarse) * wave(3.1 * pitch * down + 2.0 * coarse)
        mix = 0.5 + 0.35 * coarse + 0.25 * fine
        return (
            stroke(a, full, full),
            stroke(b, jnp.clip(mix, 0.0, 1.0), full),
            stroke(c, jnp.maximum(coarse, 0.0), full),
        )

    def pattern() -> tuple[Stroke, ...]:
        one, two = smooth(-0.2, 0.2, wave(1.6 * pitch * across)), smooth(-0.2, 0.2, wave(1.6 * pitch * down))
        crossed = jnp.where(first[2] < 0.3, one, jnp.where(first[2] < 0.6, one * two, one + two - 2.0 * one * two))
        return stroke(a, full, full), stroke(b, crossed, full), stroke(c, 0.7 * two * (first[3] < 0.3), full)

    def room() -> tuple[Stroke, ...]:
        def box(shape: Array) -> Array:
            x, y, wide, tall = shape
            beside = jnp.abs(u - 2.4 * x + 1.2) - 0.08 - 0.5 * wide
            return soft(jnp.maximum(beside, jnp.abs(v - 2.0 * y + 1.0) - 0.08 - 0.6 * tall), 0.01 + 0.15 * first[2])

        boxes = (
            jnp.maximum(box(look.shapes[1]), box(look.shapes[2])),
            jnp.maximum(box(look.shapes[3]), box(look.shapes[4])),
        )
        floor = soft(0.2 + 0.6 * first[3] - v, 0.02)
        shade = 1.0 - 0.15 * length(u, v)
        return stroke(a, full, shade), stroke(b, jnp.maximum(boxes[0], floor), shade), stroke(c, boxes[1], shade)

    return jax.lax.switch(look.scene, (calm, gradient, blobs, clouds, pattern, room))


def body(
    u: Array,
    v: Array,
    identity: Identity,
    centre: Vector,
    base: Vector,
    pixel: Float[Array, ""],
    look: Look | None = None,
) -> tuple[tuple[Stroke, ...], Float[Array, "h w"]]:
    """Neck and shoulders.

    Args:
        u, v: crop units, planes.
        identity: sizes, clothes and light.
        centre: the head's centre in the camera frame, scalars.
        base: the upper end of the neck, inside the head, in the camera frame, scalars.
        pixel: size of a pixel at the head's depth.
        look: its camera and fabric; None is the plain world's.

    Returns:
        Strokes, and the depth of the front surface in the camera frame (far away where there is none).
    """
    distance = DISTANCE if look is None else DISTANCE * look.reach
    bx, by, bz = 0.8 * centre[0], 0.8 * centre[1], centre[2]
    light = (identity.light[0], identity.light[1], identity.light[2])

    # Shoulders: one wide ellipsoid. `closest` is the ray's closest approach in units of the radii.
    middle, radii = (bx, by + 1.36, bz + 0.16), (1.02 * identity.shoulder_width, 0.56, 0.42)
    ray = (u / distance, v / distance, 1.0)
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
    weave = lit
    if look is not None:
        thread = wave(look.fabric_wave[0] * x) * wave(look.fabric_wave[1] * y + wave(0.3 * look.fabric_wave[0] * x))
        weave = lit * (1.0 + look.fabric * thread)
    neckline = length(x / (0.30 + 0.10 * identity.collar), (y - 0.74) / (0.16 + 0.16 * identity.collar))
    hem = 0.7 * jnp.clip(1.0 - ((neckline - 1.06) / 0.12) ** 2, 0.0, 1.0)
    bare = soft((neckline - 1.0) * 0.25, 1.5 * pixel)
    depth = jnp.where(shoulders > 0.0, t, 1e3)

    # Neck: a tube from the head to between the shoulders, widening downwards.
    end = (bx, by + 0.92, bz + 0.14)
    top = (distance * base[0] / base[2], distance * base[1] / base[2])
    ex, ey = distance * end[0] / end[2] - top[0], distance * end[1] / end[2] - top[1]
    h = jnp.clip(((u - top[0]) * ex + (v - top[1]) * ey) / (ex * ex + ey * ey), 0.0, 1.0)
    axis = base[2] + h * (end[2] - base[2])
    radius = identity.neck_width * (0.215 + 0.15 * smooth(0.55, 1.1, h) ** 2) * distance / axis
    across, below = u - top[0] - h * ex, v - top[1] - h * ey
    tube = soft(length(across, below) - radius, pixel)
    lateral = jnp.clip(across / radius, -1.0, 1.0)
    front = jnp.sqrt(1.0 - lateral * lateral + 1e-6)
    lit_tube = 0.50 + 0.45 * jnp.clip(lateral * light[0] - front * light[2], 0.0, 1.0)
    lit_tube = lit_tube * (0.62 + 0.38 * smooth(0.20, 0.95, h))  # the head's shadow
    clothed = soft((1.0 - neckline) * 0.25, 1.5 * pixel) * smooth(0.5, 0.8, h) * shoulders
    depth = jnp.where(tube > 0.5, jnp.minimum(depth, axis - 0.2 * front), depth)
    strokes = (
        stroke(identity.clothes_colour, shoulders, weave),
        stroke(identity.clothes_second_colour, shoulders * stripes, weave),
        stroke(identity.clothes_second_colour, shoulders * hem, lit),
        stroke(identity.skin_colour, shoulders * bare, 0.86 * lit),
        stroke(identity.skin_colour, tube * (1.0 - clothed), lit_tube),
    )
    return strokes, depth
