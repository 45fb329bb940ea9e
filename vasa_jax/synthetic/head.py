"""Shape of a synthetic head: a smooth union of ellipsoids, given as a signed distance in the head's own frame.

Head frame: world units (head half-height about 0.62), x right, y down, z away from the viewer, origin at the head's
centre, face along -z. One ellipsoid with centre c and radii r has the first-order distance

    e(p) = k0 (k0 - 1) / k1,   k0 = |(p - c) / r|,   k1 = |(p - c) / r^2|,                                    (1)

two of them are joined by the polynomial smooth minimum of width k

    min_k(a, b) = min(a, b) - max(k - |a - b|, 0)^2 / (4 k).                                                  (2)

The head is mirror symmetric, so paired parts use |x|. The jaw moves the chin and the lower face, a smile lifts the
cheeks, rounding pushes the lips forward. A ray finds the surface by a fixed number of sphere-tracing steps, which also
gives its smallest distance: the analytic soft edge. Everything is elementwise over a picture and vmaps over samples.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vasa_jax.synthetic.identity import Identity
from vasa_jax.synthetic.state import State

Vector = tuple[Array, ...]  # x, y, z planes (or scalars) of one shape
STEPS = 12  # sphere-tracing steps; more only sharpen grazing silhouettes
OVERSTEP = 1.15  # steps are this much longer than the distance; one of the wrong sign leads back
STRIDE = 0.010  # rays that graze an edge move on by this much at least, times the number of the step

JAW_DROP = 0.20  # how far the lower lip falls with the jaw wide open
JAW_LIFT = 0.018  # how far the upper lip rises with it
TEETH_LIFT = 0.034  # the upper lip's share of drawing the lips apart
TEETH_DROP = 0.034  # the lower lip's share
ROUND_CLOSE = 0.30  # the part of the jaw's opening that full rounding takes away
WIDEST = JAW_DROP + JAW_LIFT + TEETH_LIFT + TEETH_DROP  # inner-lip opening that counts as 1


class Mouth(NamedTuple):
    """Mouth measures of one sample in the head frame [world units]; scalars.

    half_width: of the inner opening. middle: y of the closed lips. corner: y of the corners.
    top, bottom: y of the inner edge of upper and lower lip at the centre. drop: how far the lower jaw hangs.
    roundness: shape of the lip curve from a parabola (0) to an ellipse (1).
    upper, lower: thickness of the lips.
    """

    half_width: Float[Array, ""]
    middle: Float[Array, ""]
    corner: Float[Array, ""]
    top: Float[Array, ""]
    bottom: Float[Array, ""]
    drop: Float[Array, ""]
    roundness: Float[Array, ""]
    upper: Float[Array, ""]
    lower: Float[Array, ""]


class Eyes(NamedTuple):
    """Eye measures of one sample in the head frame [world units]; scalars, mirrored for the other eye.

    x, y: centre. half_width, height: of the fully open lids. radius: of the eyeball. tilt: slope of the corners.
    """

    x: Float[Array, ""]
    y: Float[Array, ""]
    half_width: Float[Array, ""]
    height: Float[Array, ""]
    radius: Float[Array, ""]
    tilt: Float[Array, ""]


def mouth_of(identity: Identity, state: State) -> Mouth:
    """Where the lips are. All outputs are monotone in jaw, teeth, width, rounding and corner pull."""
    drop = JAW_DROP * state.jaw * (1.0 - ROUND_CLOSE * state.rounding)
    lift = JAW_LIFT * state.jaw * (1.0 - ROUND_CLOSE * state.rounding)
    middle = 0.315 + identity.mouth_height - 0.010 * state.corner_pull
    stretch = 1.0 + 0.20 * state.lip_width + 0.12 * state.corner_pull + 0.05 * state.teeth - 0.06 * state.jaw
    half_width = 0.19 * identity.mouth_width * stretch * (1.0 - 0.45 * state.rounding)
    purse = 1.0 + 0.35 * state.rounding - 0.12 * state.lip_width - 0.10 * state.teeth
    return Mouth(
        half_width=half_width,
        middle=middle,
        corner=middle + 0.30 * drop - 0.060 * state.corner_pull,
        top=middle - lift - TEETH_LIFT * state.teeth,
        bottom=middle + drop + TEETH_DROP * state.teeth,
        drop=drop,
        roundness=0.6 * state.rounding + 0.4 * state.jaw,
        upper=0.036 * identity.upper_lip * purse,
        lower=0.046 * identity.lower_lip * purse,
    )


def opening(state: State) -> Float[Array, "..."]:
    """Inner-lip opening at the mouth's centre, 0 closed .. 1 widest, exactly as `mouth_of` draws it."""
    hang = (JAW_DROP + JAW_LIFT) * state.jaw * (1.0 - ROUND_CLOSE * state.rounding)
    return (hang + (TEETH_LIFT + TEETH_DROP) * state.teeth) / WIDEST


def eyes_of(identity: Identity) -> Eyes:
    """Where the eyes are."""
    half_width = 0.152 * identity.eye_size
    return Eyes(
        x=0.200 * identity.eye_spacing,
        y=-0.035 + identity.eye_height,
        half_width=half_width,
        height=0.092 * identity.eye_size * identity.eye_roundness,
        radius=1.06 * half_width,
        tilt=identity.eye_tilt,
    )


def ellipsoid(p: Vector, centre: tuple, radii: tuple) -> Array:
    """First-order signed distance to an axis-aligned ellipsoid, equation (1); same shape as the planes of p."""
    inverse = [1.0 / r for r in radii]  # per sample, not per pixel
    q = [(a - c) * r for a, c, r in zip(p, centre, inverse, strict=True)]
    square = q[0] ** 2 + q[1] ** 2 + q[2] ** 2 + 1e-6
    slope = sum((a * r) ** 2 for a, r in zip(q, inverse, strict=True)) + 1e-6
    return (square - jnp.sqrt(square)) * jax.lax.rsqrt(slope)


def join(a: Array, b: Array, width: float) -> Array:
    """Smooth minimum of two distances, equation (2)."""
    return jnp.minimum(a, b) - jnp.maximum(width - jnp.abs(a - b), 0.0) ** 2 / (4.0 * width)


def cut(a: Array, b: Array, width: float) -> Array:
    """Smooth maximum: what of a lies outside of the body whose distance is -b."""
    return -join(-a, -b, width)


def wave(x: Array) -> Array:
    """A sine to within 0.002, from a floor and two parabolas: several times faster than the real one on a CPU."""
    turn = x * (0.5 / jnp.pi)
    turn = turn - jnp.floor(turn + 0.5)
    arch = turn * (8.0 - 16.0 * jnp.abs(turn))
    return arch * (0.775 + 0.225 * jnp.abs(arch))


def length(x: Array, y: Array) -> Array:
    """Euclidean length of a planar vector, smooth at zero."""
    return jnp.sqrt(x * x + y * y + 1e-8)


def skin_distance(p: Vector, identity: Identity, state: State) -> Array:
    """Signed distance to the skin (with ears, nose and lips) at head-frame points; equations (1) and (2)."""
    x, y, z = p
    mirrored = (jnp.abs(x), y, z)
    mouth = mouth_of(identity, state)
    wide, tall = identity.head_width, identity.head_height
    drop, smile = mouth.drop, state.corner_pull
    chin = 0.47 + identity.chin_length + 0.85 * drop
    cranium = ellipsoid(p, (0.0, -0.15, 0.07), (0.455 * wide, 0.465 * tall, 0.50))
    face = ellipsoid(p, (0.0, 0.08 + 0.25 * drop, -0.04), (0.405 * wide, 0.47 + 0.30 * drop, 0.40))
    jaw = ellipsoid(p, (0.0, chin - 0.03, -0.19 + 0.25 * drop), (0.225 * wide * identity.jaw_width, 0.16, 0.20))
    cheek = ellipsoid(
        mirrored,
        (0.215 * wide, 0.155 - 0.03 * smile, -0.265),
        (0.15, 0.13, 0.125 + 0.02 * identity.cheek + 0.012 * smile),
    )
    socket = ellipsoid(mirrored, (0.20 * identity.eye_spacing, -0.035 + identity.eye_height, -0.47), (0.16, 0.10, 0.09))
    longer, out = identity.nose_length, identity.nose_projection
    slope = z + 0.42 * (y - 0.05)  # the bridge leans forward towards the tip
    bridge = ellipsoid((x, y, slope), (0.0, 0.03 + 0.5 * longer, -0.40), (0.050, 0.16 + 0.5 * longer, 0.085 * out))
    tip = ellipsoid(p, (0.0, 0.145 + longer, -0.455 - 0.05 * out), (0.062 * identity.nose_width, 0.052, 0.075 * out))
    wing = ellipsoid(
        mirrored, (0.058 * identity.nose_width, 0.160 + longer, -0.445), (0.042 * identity.nose_width, 0.040, 0.055)
    )
    lips = ellipsoid(
        p,
        (0.0, 0.5 * (mouth.top + mouth.bottom), -0.365 - 0.045 * state.rounding + 0.15 * drop),
        (0.85 * mouth.half_width, 0.055 + 0.5 * (mouth.bottom - mouth.top), 0.075 + 0.03 * state.rounding),
    )
    ear = ellipsoid(mirrored, (0.455 * wide, 0.03, 0.06), (0.055, 0.125 * identity.ear_size, 0.075 * identity.ear_size))
    distance = join(join(cranium, face, 0.10), jaw, 0.14)
    distance = join(distance, cheek, 0.10)
    distance = cut(distance, -socket, 0.06)
    distance = join(distance, lips, 0.05)
    nose = join(join(bridge, tip, 0.05), wing, 0.025)
    distance = join(distance, nose, 0.035)
    return join(distance, ear, 0.03)


def hair_distance(p: Vector, identity: Identity) -> Array:
    """Signed distance to the hair shell: a cap, a curtain for long hair, minus a window for the face."""
    x, y, z = p
    volume, fall = identity.hair_volume, identity.hair_length
    wide, tall = identity.head_width, identity.head_height
    thick = 0.020 + 0.075 * volume
    curls = jnp.maximum(volume - 1.0, 0.0)
    bumps = 0.010 * identity.hair_wave * wave(17.0 * x + 2.0) * wave(15.0 * y) * wave(16.0 * z + 1.0)
    cap = ellipsoid(
        p, (0.0, -0.155 - 0.06 * curls, 0.09), (0.455 * wide + thick, 0.465 * tall + thick, 0.50 + 0.7 * thick)
    )
    curtain = ellipsoid(p, (0.0, 0.05 + 0.34 * fall, 0.16), (0.46 * wide + 0.10 * fall, 0.42 + 0.30 * fall, 0.36))
    shell = join(cap, curtain + jnp.maximum(0.5 - fall, 0.0), 0.08)
    # The lower end: above the ears for short hair, always lower at the back.
    end = -0.10 + 1.05 * fall + 0.05 * identity.hair_wave * fall * wave(9.0 * x)
    shell = cut(shell, y - end - 0.55 * jnp.maximum(z - 0.02, 0.0), 0.04)
    # The window through which the face looks, an elliptic tunnel; a fringe lowers its upper edge.
    fringe = identity.fringe
    top = -0.43 + identity.hairline + 0.20 * fringe + 0.018 * (0.4 + identity.hair_wave) * fringe * wave(21.0 * x)
    top = top + 0.10 * identity.hair_parting * x * (1.0 - 0.5 * fringe)
    low = 1.3
    inside = length(x * (1.0 / (0.47 * wide)), (y - 0.5 * (top + low)) / (0.5 * (low - top))) - 1.0
    depth = -0.10 + 1.2 * jnp.maximum(y - 0.42, 0.0)  # below the chin it opens further, for the neck
    window = jnp.maximum(0.47 * inside, z - depth)
    return cut(shell, -window, 0.04) + bumps


def hull(identity: Identity) -> tuple[tuple, tuple]:
    """Centre and radii of an ellipsoid that holds head and hair, scalars."""
    thick = 0.020 + 0.075 * identity.hair_volume
    fall = identity.hair_length
    return (0.0, 0.10 * fall, -0.02), (
        0.54 * identity.head_width + thick + 0.08 * fall,
        0.78 + thick + 0.22 * fall,
        0.66 + thick,
    )


def trace(
    distance: Callable[[Vector], Array], origin: Vector, ray: Vector, bounds: tuple[tuple, tuple], brink: Array
) -> tuple[Array, Array]:
    """Follow rays to a surface.

    Args:
        distance: signed distance at head-frame points.
        origin: ray origin in the head frame, scalars.
        ray: unit directions in the head frame, planes (h, w).
        bounds: centre and radii of an ellipsoid that holds the surface; rays start where they enter it.
        brink: distance beyond which a ray has not arrived and moves on by `STRIDE` at least.

    Returns:
        Distance along the ray (h, w) and the smallest signed distance met on the way (h, w).
    """
    centre, radii = bounds
    start = [(o - c) / r for o, c, r in zip(origin, centre, radii, strict=True)]
    slope = [a / r for a, r in zip(ray, radii, strict=True)]
    square = sum(a * a for a in slope)
    half = sum(o * a for o, a in zip(start, slope, strict=True))
    root = jnp.sqrt(jnp.maximum(half * half - square * (sum(o * o for o in start) - 1.0), 0.0))
    entry = -(half + root) / square

    # A step first moves by the distance found before, so that XLA computes each distance once.
    def step(i: Array, carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        along, nearest, here = carry
        least = jnp.where(i < STEPS - 2, STRIDE * i, 0.0)
        along = along + jnp.where(here > brink, jnp.maximum(OVERSTEP * here, least), OVERSTEP * here)
        here = distance(tuple(o + along * r for o, r in zip(origin, ray, strict=True)))
        return along, jnp.where(i > 0, jnp.minimum(nearest, carry[2]), nearest), here

    none = jnp.zeros_like(entry)
    along, nearest, here = jax.lax.fori_loop(0, STEPS, step, (entry, none + 10.0, none))
    return along + OVERSTEP * here, jnp.minimum(nearest, here)


def normal(distance: Callable[[Vector], Array], p: Vector) -> Vector:
    """Unit normals of a distance field at points p (planes): differences towards the corners of a tetrahedron."""
    corners = 0.004 * jnp.array([[1.0, -1.0, -1.0], [-1.0, 1.0, -1.0], [-1.0, -1.0, 1.0], [1.0, 1.0, 1.0]])
    values = jax.lax.map(lambda corner: distance(tuple(a + corner[i] for i, a in enumerate(p))), corners)
    gradient = [sum(corners[k, i] * values[k] for k in range(4)) for i in range(3)]
    scale = jax.lax.rsqrt(sum(g * g for g in gradient) + 1e-20)
    return tuple(g * scale for g in gradient)


def surface_depth(identity: Identity, state: State, x: Array, y: Array) -> Array:
    """z of the skin in front of head-frame (x, y), any shape: an orthographic look along +z."""
    return jax.lax.fori_loop(0, 12, lambda _, z: z + skin_distance((x, y, z), identity, state), jnp.full_like(x, -0.75))
