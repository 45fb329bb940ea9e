"""Colours of a synthetic face: smooth distance functions painted on the head's surface, in front-view coordinates.

A feature is a signed distance in the head frame's (x, y), negative inside; its soft edge is one pixel wide, which is
the anti-aliasing. Two features have depth of their own: behind the lids lies a real sphere whose iris surrounds the
gaze direction, behind the lips lie teeth and tongue on planes further in, found by following the ray.
All planes are (h, w); colours are triples of planes or scalars, RGB in 0..1.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from vasa_jax.synthetic.head import Eyes, Mouth, Vector, length, wave
from vasa_jax.synthetic.identity import Identity
from vasa_jax.synthetic.state import State

Colour = tuple[Array, Array, Array]


class Surface(NamedTuple):
    """What a painter needs to know of one picture, in the head frame.

    point: surface points, planes. origin: the camera, scalars. ray: unit directions, planes.
    light: unit vector towards the key light, scalars. pixel: size of a pixel at the head's depth [world units].
    """

    point: Vector
    origin: Vector
    ray: Vector
    light: Vector
    pixel: Float[Array, ""]


def soft(distance: Array, width: Array | float) -> Array:
    """Coverage 0..1 of a feature from its signed distance: 1 inside, a ramp of the given width at the edge."""
    return jnp.clip(0.5 - distance / width, 0.0, 1.0)


def smooth(low: Array | float, high: Array | float, x: Array) -> Array:
    """A cubic step: 0 at low and below, 1 at high and beyond (low may exceed high)."""
    t = jnp.clip((x - low) / (high - low), 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


def blend(under: Colour, over: Colour, amount: Array) -> Colour:
    """`over` laid on `under` with an opacity of 0..1."""
    return tuple(u + amount * (o - u) for u, o in zip(under, over, strict=True))


def scale(colour: Colour, factor: Array | float) -> Colour:
    """A colour made darker or lighter."""
    return tuple(c * factor for c in colour)


def channels(colour: Float[Array, " 3"]) -> Colour:
    """The three numbers of a colour as scalars."""
    return colour[0], colour[1], colour[2]


def grey(value: float) -> Colour:
    """A neutral colour."""
    return (jnp.float32(value),) * 3


def skin(surface: Surface, identity: Identity, state: State, eyes: Eyes, mouth: Mouth) -> Colour:
    """Bare skin: blush, freckles, folds and stubble-free shadows, not yet lit."""
    x, y, _ = surface.point
    side = jnp.abs(x)
    base = channels(identity.skin_colour)
    red = tuple(c * f for c, f in zip(base, (1.0, 0.72, 0.70), strict=True))
    cheeks = jnp.exp(-(((side - 0.24) / 0.11) ** 2) - ((y - 0.16) / 0.09) ** 2)
    nose = jnp.exp(-((x / 0.06) ** 2) - ((y - 0.15 - identity.nose_length) / 0.06) ** 2)
    colour = blend(base, red, 0.75 * identity.blush * cheeks + 0.35 * identity.blush * nose)
    spots = wave(71.0 * x + 3.0 * wave(37.0 * y)) * wave(67.0 * y + 2.0 * wave(41.0 * x))
    speckle = identity.freckles * smooth(0.45, 0.8, spots) * smooth(0.15, 0.02, jnp.abs(y - 0.10))
    colour = scale(colour, 1.0 - 0.3 * speckle)
    # The hollow around the eyes, the fold from nose to mouth, the crease between drawn brows, the nostrils.
    hollow = jnp.exp(-(((side - eyes.x) / 0.17) ** 2) - ((y - eyes.y + 0.02) / 0.11) ** 2)
    start = 0.085 * identity.nose_width
    reach = jnp.clip((y - 0.19) / (mouth.corner - 0.19 + 0.02), 0.0, 1.0)
    path = start + (mouth.half_width + 0.055 - start) * reach
    along = smooth(0.17, 0.22, y) * smooth(mouth.corner + 0.05, mouth.corner - 0.03, y)
    fold = jnp.exp(-(((side - path) / 0.014) ** 2)) * along * (0.10 + 0.22 * jnp.maximum(state.corner_pull, 0.0))
    frown = jnp.exp(-(((side - 0.026) / 0.010) ** 2) - ((y - eyes.y + 0.13) / 0.045) ** 2) * state.brow_furrow
    brow_up = jnp.maximum(state.brow_raise, 0.0)
    lines = (0.5 + 0.5 * wave(95.0 * (y + 0.27) - 6.0 * side * side)) * jnp.exp(-(((y + 0.29) / 0.05) ** 2))
    lines = lines * smooth(0.26, 0.12, side)
    nostril = soft(
        length((side - 0.036 * identity.nose_width) / 1.5, y - 0.193 - identity.nose_length) - 0.011, surface.pixel
    ) * (surface.point[2] < -0.3)
    shade = 1.0 - 0.14 * hollow - fold - 0.30 * frown - 0.16 * brow_up * lines
    return scale(colour, shade * (1.0 - 0.6 * nostril))


def beard(under: Colour, surface: Surface, identity: Identity, mouth: Mouth) -> Colour:
    """Beard and moustache over the skin, with a soft outline and a fine grain."""
    x, y, z = surface.point
    side = jnp.abs(x)
    hair = scale(channels(identity.hair_colour), 0.85)
    grain = 0.88 + 0.12 * wave(83.0 * x + 2.0 * wave(31.0 * y)) * wave(61.0 * y)
    edge = 0.26 + 0.9 * jnp.maximum(0.24 - side, 0.0) - 1.1 * jnp.maximum(side - 0.3, 0.0)
    lower = smooth(edge - 0.04, edge + 0.05, y) * smooth(0.10, -0.02, z)
    below = mouth.bottom + mouth.lower + 0.015
    clear = smooth(mouth.half_width + 0.045, mouth.half_width + 0.01, side) * smooth(below + 0.03, below, y)
    lower = lower * (1.0 - clear)
    over = jnp.exp(-(((y - (mouth.top - mouth.upper - 0.030 + 0.45 * side * side)) / 0.026) ** 2))
    over = over * smooth(mouth.half_width + 0.05, mouth.half_width - 0.03, side)
    amount = jnp.clip(identity.beard * lower + identity.moustache * 1.2 * over, 0.0, 1.0)
    return blend(under, scale(hair, grain), 0.92 * amount)


def brows(under: Colour, surface: Surface, identity: Identity, state: State, eyes: Eyes) -> Colour:
    """Eyebrows: an arched stroke that rises, falls and draws together."""
    x, y, z = surface.point
    side = jnp.abs(x)
    inner = eyes.x - 0.135 - 0.030 * state.brow_furrow
    s = jnp.clip((side - inner) / (0.29 - 0.010 * state.brow_furrow), -0.2, 1.2)
    lift = 0.052 * state.brow_raise
    line = eyes.y - 0.150 - identity.brow_height - lift - 0.012 * jnp.maximum(state.brow_raise, 0.0) * (1.0 - s)
    arch = 0.036 * identity.brow_arch * (4.0 * s * (1.0 - s)) - 0.016 * s
    line = line - arch + 0.050 * state.brow_furrow * (1.0 - s) * (1.0 - s)
    thick = 0.020 * identity.brow_thickness * (1.0 - 0.45 * s)
    ends = jnp.maximum(inner - side, side - inner - 0.285)
    stroke = soft(jnp.maximum(jnp.abs(y - line) - thick, ends), 1.6 * surface.pixel) * (z < 0.0)
    hair = scale(channels(identity.hair_colour), 0.70)
    return blend(under, hair, identity.brow_darkness * 0.9 * stroke)


def lid_lines(s: Array, eyes: Eyes, lids: Array) -> tuple[Array, Array]:
    """y of the upper and lower lid's edge at s in -1..1 across the eye, for a lid opening of 0..1."""
    bow = jnp.sqrt(jnp.maximum(1.0 - s * s, 1e-4)) * (0.35 + 0.65 * (1.0 - s * s))
    shut = eyes.y + 0.36 * eyes.height * bow
    upper = shut - (1.02 * eyes.height + 0.36 * eyes.height) * lids * bow
    lower = eyes.y + eyes.height * bow * (0.36 + 0.22 * lids)
    return upper, lower


def eyeball(surface: Surface, identity: Identity, eyes: Eyes, depth: Array, gaze: Vector) -> Colour:
    """The sphere behind the lids: white, iris around the gaze direction, pupil and a highlight.

    Args:
        surface: the picture.
        identity: iris colour and size.
        eyes: sizes.
        depth: z of the eyeball's centre, scalar.
        gaze: unit gaze direction in the head frame, scalars.
    """
    right = jnp.where(surface.point[0] > 0.0, 1.0, -1.0)
    centre = (right * eyes.x, eyes.y, depth)
    offset = tuple(o - c for o, c in zip(surface.origin, centre, strict=True))
    towards = -sum(o * r for o, r in zip(offset, surface.ray, strict=True))
    square = sum(o * o for o in offset) - towards**2
    t = towards - jnp.sqrt(jnp.maximum(eyes.radius**2 - square, 0.0))
    n = tuple((o + t * r) / eyes.radius for o, r in zip(offset, surface.ray, strict=True))
    facing = sum(a * g for a, g in zip(n, gaze, strict=True))
    angle = jnp.sqrt(jnp.maximum(2.0 - 2.0 * facing, 0.0))  # chord from the iris centre, in eyeball radii
    width = 1.2 * surface.pixel / eyes.radius
    iris = 0.46 * identity.iris_size
    lit = sum(a * b for a, b in zip(n, surface.light, strict=True))
    white = scale((jnp.float32(0.97), jnp.float32(0.95), jnp.float32(0.94)), 0.78 + 0.22 * jnp.clip(lit, 0.0, 1.0))
    hue = channels(identity.iris_colour)
    rim = scale(hue, 1.15 - 0.75 * smooth(0.55 * iris, iris, angle))
    colour = blend(white, rim, soft(angle - iris, width))
    colour = blend(colour, grey(0.03), soft(angle - 0.45 * iris, width))
    # The highlight is the light mirrored at the cornea: halfway between the light and the viewer.
    half = tuple(a - r for a, r in zip(surface.light, surface.ray, strict=True))
    norm = jnp.sqrt(sum(h * h for h in half) + 1e-6)
    glint = sum(a * h for a, h in zip(n, half, strict=True)) / norm
    return blend(colour, grey(1.0), 0.9 * soft(jnp.sqrt(jnp.maximum(2.0 - 2.0 * glint, 0.0)) - 0.11, width))


def eye(
    under: Colour, surface: Surface, identity: Identity, state: State, eyes: Eyes, depth: Array, gaze: Vector
) -> Colour:
    """Both eyes: lids, crease, lashes, and between the lids the eyeball."""
    x, y, z = surface.point
    side = jnp.abs(x)
    lids = jnp.where(x > 0.0, state.lids[1], state.lids[0])
    s = (side - eyes.x) / eyes.half_width
    level = y + eyes.tilt * (side - eyes.x)
    inside = jnp.clip(s, -1.0, 1.0)
    upper, lower = lid_lines(inside, eyes, lids)
    wide, _ = lid_lines(inside, eyes, jnp.float32(1.0))
    front = (z < 0.0) * 1.0
    beyond = (jnp.abs(s) - 1.0) * eyes.half_width
    edge = jnp.maximum(jnp.maximum(upper - level, level - lower), beyond)
    open_ = soft(edge, surface.pixel) * front
    # Lid skin between the widest and the present edge, its crease above, and a shadow that rounds it.
    lid = soft(jnp.maximum(jnp.maximum(wide - 0.012 - level, level - lower), beyond), 2.0 * surface.pixel) * front
    colour = blend(under, tuple(c * f for c, f in zip(under, (0.88, 0.80, 0.79), strict=True)), lid * (1.0 - open_))
    crease = jnp.exp(-(((level - wide + 0.020) / 0.011) ** 2)) * soft(beyond, 0.04) * front
    colour = scale(colour, 1.0 - 0.30 * crease)
    ball = eyeball(surface, identity, eyes, depth, gaze)
    ball = scale(ball, 0.62 + 0.38 * smooth(0.0, 0.045, level - upper))
    ball = scale(ball, 1.0 - 0.25 * smooth(0.75, 1.0, jnp.abs(s)))
    colour = blend(colour, ball, open_)
    lash = soft(jnp.maximum(jnp.abs(level - upper + 0.004) - 0.009, beyond - 0.006), surface.pixel) * front
    below = soft(jnp.maximum(jnp.abs(level - lower) - 0.003, beyond), surface.pixel) * front
    dark = scale(channels(identity.hair_colour), 0.25)
    return blend(blend(colour, dark, 0.35 * below), dark, 0.92 * lash)


def lips(under: Colour, surface: Surface, identity: Identity, state: State, mouth: Mouth, depth: Array) -> Colour:
    """Lips and, between them, teeth, tongue and the dark of the mouth.

    Args:
        under: skin.
        surface: the picture.
        identity: lip colour.
        state: teeth.
        mouth: measures of the lips.
        depth: z of the skin at the mouth, scalar.
    """
    x, y, z = surface.point
    side = jnp.abs(x)
    front = (z < -0.12) * 1.0
    s = jnp.minimum(side / mouth.half_width, 1.0)
    bow = jnp.maximum(1.0 - s * s, 1e-4)
    bow = bow + mouth.roundness * (jnp.sqrt(bow) - bow)
    inner_up = mouth.corner + (mouth.top - mouth.corner) * bow
    inner_low = mouth.corner + (mouth.bottom - mouth.corner) * bow
    reach = mouth.half_width + 0.022
    r = jnp.minimum(side / reach, 1.0)
    body = jnp.sqrt(jnp.maximum(1.0 - r * r, 1e-4))
    dip = 1.0 - 0.28 * jnp.exp(-((side / 0.028) ** 2)) + 0.12 * jnp.exp(-(((side - 0.05) / 0.03) ** 2))
    outer_up = inner_up - mouth.upper * body * dip
    outer_low = inner_low + mouth.lower * body
    beyond = side - reach
    lip = soft(jnp.maximum(jnp.maximum(outer_up - y, y - outer_low), beyond), 1.4 * surface.pixel) * front
    gap = jnp.maximum(jnp.maximum(inner_up - y, y - inner_low), side - mouth.half_width)
    hole = soft(gap, surface.pixel) * front
    seam = soft(jnp.maximum(jnp.abs(y - 0.5 * (inner_up + inner_low)) - 0.004, beyond + 0.012), surface.pixel) * front
    hue = channels(identity.lip_colour)
    rounded_low = (y - inner_low) / mouth.lower
    rounded_up = (inner_up - y) / mouth.upper
    shade = 0.86 + 0.30 * jnp.exp(-(((rounded_low - 0.40) / 0.33) ** 2)) - 0.12 * jnp.clip(1.0 - rounded_up, 0.0, 1.0)
    shade = shade + 0.06 * soft(y - inner_up, 0.02)
    shadow = jnp.exp(-(((y - outer_low - 0.028) / 0.020) ** 2)) * smooth(reach, 0.4 * reach, side)
    colour = scale(under, 1.0 - 0.16 * shadow * front)
    colour = blend(colour, scale(hue, shade), 0.95 * lip)
    colour = blend(colour, scale(hue, 0.35), 0.8 * seam * (1.0 - hole))
    return blend(colour, _inside(surface, mouth, depth, inner_up, inner_low), hole)


def _inside(surface: Surface, mouth: Mouth, depth: Array, inner_up: Array, inner_low: Array) -> Colour:
    """The mouth's interior, seen through the lips: parallax by following the ray to deeper planes."""

    def plane(z: Array) -> tuple[Array, Array]:
        t = (z - surface.origin[2]) / surface.ray[2]
        return surface.origin[0] + t * surface.ray[0], surface.origin[1] + t * surface.ray[1]

    pixel = surface.pixel
    x, y = plane(depth + 0.035)
    bend = 0.9 * x * x  # the row of teeth is an arch: it recedes and rises to the sides
    jaw = mouth.middle + mouth.drop
    fade = smooth(0.19, 0.10, jnp.abs(x))
    upper = soft(jnp.maximum(y - (mouth.middle + 0.032 - bend), mouth.middle - 0.06 - y), pixel)
    lower = soft(jnp.maximum((jaw + 0.008 + 0.6 * bend) - y, y - jaw - 0.09), pixel)
    lines = 1.0 - 0.10 * smooth(0.8, 1.0, wave(2 * jnp.pi * x / 0.046 + 0.5 * jnp.pi))
    ivory = (jnp.float32(0.96), jnp.float32(0.94), jnp.float32(0.88))
    tx, ty = plane(depth + 0.11)
    dark = scale((jnp.float32(0.30), jnp.float32(0.07), jnp.float32(0.08)), 1.0)
    mound = length(tx / 0.125, (ty - jaw - 0.035) / (0.055 + 0.30 * mouth.drop))
    tongue = scale((jnp.float32(0.80), jnp.float32(0.36), jnp.float32(0.38)), 1.05 - 0.35 * mound * mound)
    colour = blend(dark, tongue, soft((mound - 1.0) * 0.08, 2.0 * pixel) * smooth(0.02, 0.08, mouth.drop))
    colour = blend(colour, scale(ivory, 0.90 * lines * (0.45 + 0.55 * fade)), lower)
    colour = blend(colour, scale(ivory, lines * (0.45 + 0.55 * fade)), upper)
    # The lips throw a soft shadow into the mouth.
    near = jnp.minimum(surface.point[1] - inner_up, inner_low - surface.point[1])
    return scale(colour, 0.72 + 0.28 * smooth(0.0, 0.03, near))
