"""Colours of a synthetic face: smooth distance functions painted on the head's surface, in front-view coordinates.

A feature is a signed distance in the head frame's (x, y), negative inside; its soft edge is one pixel wide, which is
the anti-aliasing. It becomes a `Stroke`, and strokes are laid over each other,

    c <- c + a (k s - c),                                                                                     (1)

with opacity a and shade s planes (h, w) and k a fixed colour. Two features have depth of their own: behind the lids
lies a real sphere whose iris surrounds the gaze direction, behind the lips lie teeth and tongue on planes further in,
found by following the ray. All colours are RGB in 0..1.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vasa_jax.synthetic.head import Eyes, Mouth, Vector, length, wave
from vasa_jax.synthetic.identity import Identity
from vasa_jax.synthetic.state import State

WHITE = (1.0, 1.0, 1.0)
BLACK = (0.0, 0.0, 0.0)
IVORY = (0.96, 0.94, 0.88)
SCLERA = (0.96, 0.94, 0.93)
PUPIL = (0.03, 0.03, 0.03)
THROAT = (0.30, 0.07, 0.08)
TONGUE = (0.80, 0.36, 0.38)

Colours = tuple[Array, ...]  # three planes (h, w): red, green, blue


class Stroke(NamedTuple):
    """One layer of paint, equation (1).

    colour: RGB. shade: factor on the colour, a plane or one number. amount: opacity 0..1.
    """

    colour: Float[Array, " 3"]
    shade: Float[Array, "h w"] | Float[Array, ""]
    amount: Float[Array, "h w"]


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


def stroke(colour: Array | tuple, amount: Array, shade: Array | float = 1.0) -> Stroke:
    """A stroke from an RGB colour, an opacity and a shade."""
    return Stroke(jnp.asarray(colour, jnp.float32), jnp.asarray(shade, jnp.float32), amount)


def shadow(amount: Array) -> Stroke:
    """A stroke that darkens by a factor of 1 - amount."""
    return stroke(BLACK, jnp.clip(amount, 0.0, 1.0))


def seen(flag: Array, painter: Callable[..., tuple], *args: object) -> tuple:
    """What a painter gives where its part can be seen, else zeros: strokes without opacity.

    Besides the time saved, the conditional ends XLA's fusions: on a CPU it would otherwise compute every opacity once
    more for each colour channel and each later stroke.
    """
    empty = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(painter, *args))
    return jax.lax.cond(flag, lambda: painter(*args), lambda: empty)


def lay(flag: Array, under: Colours, strokes: tuple[Stroke, ...]) -> Colours:
    """Lay strokes over three colour planes, equation (1), if the flag says that they can be seen."""

    def over() -> Colours:
        planes = under
        for colour, shade, amount in strokes:
            planes = tuple(c + amount * (k * shade - c) for c, k in zip(planes, colour, strict=True))
        return planes

    return jax.lax.cond(flag, over, lambda: under)


def soft(distance: Array, width: Array | float) -> Array:
    """Coverage 0..1 of a feature from its signed distance: 1 inside, a ramp of the given width at the edge."""
    return jnp.clip(0.5 - distance / width, 0.0, 1.0)


def between(top: Array, y: Array, bottom: Array, width: Array) -> Array:
    """Coverage 0..1 of a gap between two edges; nothing remains of it when they meet, unlike an edge's half."""
    return jnp.maximum(soft(top - y, width) + soft(y - bottom, width) - 1.0, 0.0)


def smooth(low: Array | float, high: Array | float, x: Array) -> Array:
    """A cubic step: 0 at low and below, 1 at high and beyond (low may exceed high)."""
    t = jnp.clip((x - low) / (high - low), 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


def bump(x: Array, width: Array | float) -> Array:
    """A bell of height 1 that vanishes beyond 2 widths: a cheap stand-in for exp(-(x / width)^2)."""
    t = jnp.maximum(1.0 - 0.25 * (x / width) ** 2, 0.0)
    return t * t * t * t


def skin(surface: Surface, identity: Identity, state: State, eyes: Eyes, mouth: Mouth) -> tuple[Stroke, ...]:
    """Bare skin: blush, freckles, folds, hollows and nostrils."""
    x, y, z = surface.point
    side = jnp.abs(x)
    cheeks = bump(side - 0.24, 0.11) * bump(y - 0.16, 0.09)
    nose = bump(x, 0.06) * bump(y - 0.15 - identity.nose_length, 0.06)
    blush = identity.blush * (0.75 * cheeks + 0.35 * nose)
    spots = wave(71.0 * x + 3.0 * wave(37.0 * y)) * wave(67.0 * y + 2.0 * wave(41.0 * x))
    speckle = 0.3 * identity.freckles * smooth(0.45, 0.8, spots) * smooth(0.15, 0.02, jnp.abs(y - 0.10))
    # The hollow around the eyes, the fold from nose to mouth, the crease between drawn brows, the brow's lines.
    hollow = 0.14 * bump(side - eyes.x, 0.17) * bump(y - eyes.y + 0.02, 0.11)
    start = 0.085 * identity.nose_width
    reach = jnp.clip((y - 0.19) / (mouth.corner - 0.17), 0.0, 1.0)
    path = start + (mouth.half_width + 0.055 - start) * reach
    along = smooth(0.17, 0.22, y) * smooth(mouth.corner + 0.05, mouth.corner - 0.03, y)
    fold = bump(side - path, 0.015) * along * (0.10 + 0.24 * jnp.maximum(state.corner_pull, 0.0))
    frown = 0.32 * bump(side - 0.026, 0.011) * bump(y - eyes.y + 0.13, 0.045) * state.brow_furrow
    lines = (0.5 + 0.5 * wave(95.0 * (y + 0.27) - 6.0 * side * side)) * bump(y + 0.29, 0.05) * smooth(0.26, 0.12, side)
    lines = 0.18 * jnp.maximum(state.brow_raise, 0.0) * lines
    hole = length((side - 0.036 * identity.nose_width) / 1.5, y - 0.193 - identity.nose_length) - 0.011
    nostril = 0.6 * soft(hole, surface.pixel) * (z < -0.3)
    shade = (1.0 - speckle) * (1.0 - hollow) * (1.0 - fold) * (1.0 - frown) * (1.0 - lines) * (1.0 - nostril)
    rosy = identity.skin_colour * jnp.array([1.0, 0.72, 0.70])
    return stroke(identity.skin_colour, jnp.ones_like(x), shade), stroke(rosy, blush, shade)


def beard(surface: Surface, identity: Identity, mouth: Mouth) -> tuple[Stroke, ...]:
    """Beard and moustache over the skin, with a soft outline and a fine grain."""
    x, y, z = surface.point
    side = jnp.abs(x)
    grain = 0.88 + 0.12 * wave(83.0 * x + 2.0 * wave(31.0 * y)) * wave(61.0 * y)
    edge = 0.28 + 0.7 * jnp.maximum(0.22 - side, 0.0) - 1.1 * jnp.maximum(side - 0.27, 0.0)
    lower = smooth(edge - 0.04, edge + 0.05, y) * smooth(0.10, -0.02, z)
    centre, half = 0.5 * (mouth.top + mouth.bottom), 0.5 * (mouth.bottom - mouth.top)
    around = length(side / (mouth.half_width + 0.045), (y - centre) / (half + 0.062))
    lower = lower * smooth(0.97, 1.10, around)
    over = bump(y - (mouth.top - mouth.upper - 0.030 + 0.45 * side * side), 0.026)
    over = over * smooth(mouth.half_width + 0.05, mouth.half_width - 0.03, side) * (z < -0.2)
    amount = jnp.clip(identity.beard * lower + 1.2 * identity.moustache * over, 0.0, 1.0)
    return (stroke(0.85 * identity.hair_colour, 0.92 * amount, grain),)


def brows(surface: Surface, identity: Identity, state: State, eyes: Eyes) -> tuple[Stroke, ...]:
    """Eyebrows: an arched stroke that rises, falls and draws together."""
    x, y, z = surface.point
    side = jnp.abs(x)
    inner = eyes.x - 0.135 - 0.030 * state.brow_furrow
    s = jnp.clip((side - inner) / (0.29 - 0.010 * state.brow_furrow), -0.2, 1.2)
    up = jnp.maximum(state.brow_raise, 0.0)
    line = eyes.y - 0.150 - identity.brow_height - 0.052 * state.brow_raise - 0.012 * up * (1.0 - s)
    line = line - 0.036 * identity.brow_arch * (4.0 * s * (1.0 - s)) + 0.016 * s
    line = line + 0.050 * state.brow_furrow * (1.0 - s) * (1.0 - s)
    thick = 0.020 * identity.brow_thickness * (1.0 - 0.45 * s)
    ends = jnp.maximum(inner - side, side - inner - 0.285)
    amount = soft(jnp.maximum(jnp.abs(y - line) - thick, ends), 1.6 * surface.pixel) * (z < 0.0)
    return (stroke(0.70 * identity.hair_colour, 0.9 * identity.brow_darkness * amount),)


def lid_lines(s: Array, eyes: Eyes, lids: Array) -> tuple[Array, Array]:
    """y of the upper and lower lid's edge at s in -1..1 across the eye, for a lid opening of 0..1."""
    arch = 1.0 - s * s
    bow = jnp.sqrt(jnp.maximum(arch, 1e-4)) * (0.35 + 0.65 * arch)
    upper = eyes.y + eyes.height * bow * (0.36 - 1.38 * lids)
    lower = eyes.y + eyes.height * bow * (0.36 + 0.22 * lids)
    return upper, lower


def eye(
    surface: Surface, identity: Identity, state: State, eyes: Eyes, depth: Array, gaze: Vector
) -> tuple[Stroke, ...]:
    """Both eyes: lids, crease, lashes, and between the lids a sphere with iris, pupil and highlight.

    Args:
        surface: the picture.
        identity: colours.
        state: lids.
        eyes: sizes.
        depth: z of the eyeballs' centres, scalar.
        gaze: unit gaze direction in the head frame, scalars.
    """
    x, y, z = surface.point
    front = (z < 0.0) * 1.0
    lids = jnp.where(x > 0.0, state.lids[1], state.lids[0])
    across = jnp.abs(x) - eyes.x
    level = y + eyes.tilt * across
    s = jnp.clip(across / eyes.half_width, -1.0, 1.0)
    upper, lower = lid_lines(s, eyes, lids)
    wide, _ = lid_lines(s, eyes, jnp.float32(1.0))
    beyond = jnp.abs(across) - eyes.half_width
    opened = between(upper, level, lower, surface.pixel) * soft(beyond, surface.pixel) * front
    lid = soft(jnp.maximum(jnp.maximum(wide - 0.012 - level, level - lower), beyond), 2.0 * surface.pixel) * front
    crease = 0.30 * bump(level - wide + 0.020, 0.012) * soft(beyond, 0.04) * front

    # The eyeball, hit by the ray; chords are measured in eyeball radii.
    side = jnp.where(x > 0.0, 1.0, -1.0)
    offset = (surface.origin[0] - side * eyes.x, surface.origin[1] - eyes.y, surface.origin[2] - depth)
    towards = -sum(o * r for o, r in zip(offset, surface.ray, strict=True))
    square = sum(o * o for o in offset) - towards**2
    t = towards - jnp.sqrt(jnp.maximum(eyes.radius**2 - square, 0.0))
    n = tuple((o + t * r) / eyes.radius for o, r in zip(offset, surface.ray, strict=True))
    chord = jnp.sqrt(jnp.maximum(2.0 - 2.0 * sum(a * g for a, g in zip(n, gaze, strict=True)), 0.0))
    width = 1.2 * surface.pixel / eyes.radius
    iris = 0.46 * identity.iris_size
    lit = 0.80 + 0.20 * jnp.clip(sum(a * b for a, b in zip(n, surface.light, strict=True)), 0.0, 1.0)
    rim = 1.15 - 0.75 * smooth(0.55 * iris, iris, chord)
    half = tuple(a - r for a, r in zip(surface.light, surface.ray, strict=True))
    glint = sum(a * h for a, h in zip(n, half, strict=True)) * jax.lax.rsqrt(sum(h * h for h in half) + 1e-6)
    glint = soft(jnp.sqrt(jnp.maximum(2.0 - 2.0 * glint, 0.0)) - 0.11, width)
    vault = 0.62 + 0.38 * smooth(0.0, 0.045, level - upper)  # the shadow of the lid and of the corners
    vault = vault * (1.0 - 0.25 * smooth(0.75, 1.0, jnp.abs(s)))

    lash = soft(jnp.maximum(jnp.abs(level - upper + 0.004) - 0.009, beyond - 0.006), surface.pixel) * front
    below = soft(jnp.maximum(jnp.abs(level - lower) - 0.003, beyond), surface.pixel) * front
    dark = 0.25 * identity.hair_colour
    return (
        stroke(identity.skin_colour * jnp.array([0.88, 0.80, 0.79]), 0.8 * lid),
        shadow(crease),
        stroke(SCLERA, opened, lit * vault),
        stroke(identity.iris_colour, opened * soft(chord - iris, width), rim * vault),
        stroke(PUPIL, opened * soft(chord - 0.45 * iris, width)),
        stroke(WHITE, 0.9 * opened * glint, vault),
        stroke(dark, 0.35 * below),
        stroke(dark, 0.92 * lash),
    )


def lips(surface: Surface, identity: Identity, mouth: Mouth, depth: Array) -> tuple[Stroke, ...]:
    """Lips and, between them, teeth, tongue and the dark of the mouth.

    Args:
        surface: the picture.
        identity: lip colour.
        mouth: measures of the lips.
        depth: z of the skin at the mouth, scalar.
    """
    x, y, z = surface.point
    side = jnp.abs(x)
    front = (z < -0.12) * 1.0
    s = jnp.minimum(side / mouth.half_width, 1.0)
    arch = jnp.maximum(1.0 - s * s, 1e-4)
    bow = arch + mouth.roundness * (jnp.sqrt(arch) - arch)
    inner_up = mouth.corner + (mouth.top - mouth.corner) * bow
    inner_low = mouth.corner + (mouth.bottom - mouth.corner) * bow
    reach = mouth.half_width + 0.022
    beyond = side - reach
    body = jnp.sqrt(jnp.maximum(1.0 - jnp.minimum(side / reach, 1.0) ** 2, 1e-4))
    dip = 1.0 - 0.28 * bump(side, 0.028) + 0.12 * bump(side - 0.05, 0.03)
    outer_up = inner_up - mouth.upper * body * dip
    outer_low = inner_low + mouth.lower * body
    lip = soft(jnp.maximum(jnp.maximum(outer_up - y, y - outer_low), beyond), 1.4 * surface.pixel) * front
    hole = between(inner_up, y, inner_low, surface.pixel) * soft(side - mouth.half_width, surface.pixel) * front
    seam = soft(jnp.maximum(jnp.abs(y - 0.5 * (inner_up + inner_low)) - 0.004, beyond + 0.012), surface.pixel) * front
    on_low, on_up = (y - inner_low) / mouth.lower, (inner_up - y) / mouth.upper
    shade = 0.86 + 0.30 * bump(on_low - 0.40, 0.33) - 0.12 * jnp.clip(1.0 - on_up, 0.0, 1.0)
    under = 0.16 * bump(y - outer_low - 0.028, 0.020) * smooth(reach, 0.4 * reach, side) * front

    def plane(level: Array) -> tuple[Array, Array]:
        t = (level - surface.origin[2]) / surface.ray[2]
        return surface.origin[0] + t * surface.ray[0], surface.origin[1] + t * surface.ray[1]

    # Inside: the teeth stand on an arch, so their rows bend to the sides; the lower row hangs with the jaw.
    px, py = plane(depth + 0.035)
    bend = 0.9 * px * px
    jaw = mouth.middle + mouth.drop
    upper = soft(jnp.maximum(py - (mouth.middle + 0.032 - bend), mouth.middle - 0.06 - py), surface.pixel)
    lower = soft(jnp.maximum((jaw + 0.008 + 0.6 * bend) - py, py - jaw - 0.09), surface.pixel)
    ivory = 1.0 - 0.10 * smooth(0.8, 1.0, wave(2 * jnp.pi * px / 0.046 + 0.5 * jnp.pi))
    ivory = ivory * (0.45 + 0.55 * smooth(0.19, 0.10, jnp.abs(px)))
    tx, ty = plane(depth + 0.11)
    mound = length(tx / 0.125, (ty - jaw - 0.035) / (0.055 + 0.30 * mouth.drop))
    tongue = soft((mound - 1.0) * 0.08, 2.0 * surface.pixel) * smooth(0.02, 0.08, mouth.drop)
    near = 0.72 + 0.28 * smooth(0.0, 0.03, jnp.minimum(y - inner_up, inner_low - y))  # the lips' shadow
    return (
        shadow(under),
        stroke(identity.lip_colour, 0.95 * lip, shade),
        stroke(0.35 * identity.lip_colour, 0.8 * seam),
        stroke(THROAT, hole, near),
        stroke(TONGUE, hole * tongue, near * (1.05 - 0.35 * mound * mound)),
        stroke(IVORY, hole * lower, 0.90 * ivory * near),
        stroke(IVORY, hole * upper, ivory * near),
    )


def hair(surface: Surface, identity: Identity, cover: Array) -> tuple[Stroke, ...]:
    """Hair with soft strands that fall from the crown, where `cover` (h, w) says that hair lies."""
    x, y, z = surface.point
    around = x / (0.3 + length(x, z - 0.25) - z)
    strand = wave(26.0 * around + 5.0 * identity.hair_wave * wave(7.0 * y + 2.0 * x))
    strand = strand + 0.6 * wave(47.0 * around + 3.0 * wave(9.0 * y))
    return (stroke(identity.hair_colour, cover, 1.0 + 0.10 * strand),)


def glasses(surface: Surface, identity: Identity, eyes: Eyes, along: Array) -> tuple[Stroke, ...]:
    """Two rims and a bridge on a plane before the eyes, and sidepieces on slanted planes towards the ears.

    Args:
        surface: the picture.
        identity: shape and colour.
        eyes: where the lenses are.
        along: distance along the ray at which the head hides what lies behind (h, w).
    """
    front = -0.56
    origin, ray = surface.origin, surface.ray
    t = (front - origin[2]) / ray[2]
    x, y = origin[0] + t * ray[0], origin[1] + t * ray[1]
    a, b = ((jnp.abs(x) - eyes.x - 0.005) / 0.180) ** 2, ((y - eyes.y - 0.012) / 0.140) ** 2
    square = jnp.sqrt(a * a * a + b * b * b + 1e-6)
    norm = jnp.sqrt(a + b + (1.0 - identity.glasses_roundness) * (square - a - b) + 1e-6)
    rims = jnp.abs(norm - 1.0) * 0.155 - 0.012
    bridge = jnp.maximum(jnp.abs(y - eyes.y + 0.02 + 2.0 * x * x) - 0.011, jnp.abs(x) - 0.03)
    before = (t < along + 0.04) * 1.0
    frame = soft(jnp.minimum(rims, bridge), surface.pixel) * before
    lens = 0.06 * soft(norm - 1.0, 0.03) * before
    arms = jnp.zeros_like(frame)
    ear, hinge = 0.46 * identity.head_width + 0.02, eyes.x + 0.175
    slant = (ear - hinge) / -front
    for sign in (-1.0, 1.0):
        t = (ear + slant * origin[2] - sign * origin[0]) / (sign * ray[0] - slant * ray[2])
        y, z = origin[1] + t * ray[1], origin[2] + t * ray[2]
        bar = jnp.maximum(jnp.abs(y - eyes.y + 0.02) - 0.012, jnp.maximum(front - z, z - 0.04))
        arms = jnp.maximum(arms, soft(bar, surface.pixel) * (t < along + 0.02))
    return stroke(WHITE, lens), stroke(identity.glasses_colour, jnp.maximum(frame, arms))
