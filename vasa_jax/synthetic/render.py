"""The camera of the synthetic world: pictures of people, and the truth about them.

A pinhole camera at the origin looks along +z; the mean distance and the focal length are both D0 = 6, so a point X at
the mean distance appears at u = X in crop units (half the picture = 1, pixel centres from -1 to 1). The head's centre
lies at Z = D0 exp(log distance), X = tx Z / D0, Y = ty Z / D0; head points p (rows) become p @ R + (X, Y, Z).
Layers from back to front: background, shoulders, neck, head with hair, glasses. Nothing is supersampled: every edge
is an analytic ramp one pixel wide.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vasa_jax.geometry.rotation import gaze_angles, gaze_direction, gaze_in_head, pose_rotation
from vasa_jax.synthetic import head, paint
from vasa_jax.synthetic.head import Vector, length, wave
from vasa_jax.synthetic.identity import Identity
from vasa_jax.synthetic.paint import Colour, blend, channels, scale, smooth, soft
from vasa_jax.synthetic.state import State, state_pose

DISTANCE = 6.0  # D0: mean distance and focal length [world units]
GAZE_LIMIT = jnp.radians(40.0)  # eyes turn no further in the head


def _row(matrix: Array, v: Vector) -> Vector:
    """Row vector v (planes or scalars) times a 3 x 3 matrix."""
    return tuple(v[0] * matrix[0, i] + v[1] * matrix[1, i] + v[2] * matrix[2, i] for i in range(3))


def _centre(state: State) -> Vector:
    """The head's centre in the camera frame, scalars."""
    depth = DISTANCE * jnp.exp(state.log_distance)
    return state.translation[0] * depth / DISTANCE, state.translation[1] * depth / DISTANCE, depth


def clamped_gaze(state: State) -> Float[Array, "... 2"]:
    """Gaze (theta, phi) [rad] in the camera frame as drawn: within 40 degrees of straight ahead in the head."""
    pose = state_pose(state)
    within = jnp.clip(gaze_in_head(state.gaze, pose), -GAZE_LIMIT, GAZE_LIMIT)
    rotation = pose_rotation(pose)
    direction = gaze_direction(within)
    return gaze_angles(sum(direction[..., i, None] * rotation[..., i, :] for i in range(3)))


def _background(u: Array, v: Array, identity: Identity) -> Colour:
    """A calm gradient between two related colours."""
    angle = identity.background_angle
    along = u * jnp.cos(angle) + v * jnp.sin(angle)
    across = v * jnp.cos(angle) - u * jnp.sin(angle)
    mix = 0.5 + 0.38 * along + 0.14 * identity.background_wave * wave(2.2 * across + 4.0 * identity.background_wave)
    first, second = channels(identity.background_colour), channels(identity.background_second_colour)
    return scale(blend(first, second, jnp.clip(mix, 0.0, 1.0)), 1.0 - 0.10 * (u * u + v * v))


def _body(
    under: Colour, u: Array, v: Array, identity: Identity, centre: Vector, rotation: Array, pixel: Array
) -> tuple[Colour, Array, Array]:
    """Neck and clothed shoulders: colour, coverage, and depth of the front surface in the camera frame."""
    # The shoulders follow the head's place only partly, and never turn.
    bx, by, bz = 0.8 * centre[0], 0.8 * centre[1], centre[2]
    focal = DISTANCE
    light = channels(identity.light)
    # Shoulders: one wide ellipsoid, hit by the ray (u, v, focal).
    mid = (bx, by + 1.36, bz + 0.16)
    radii = (1.02 * identity.shoulder_width, 0.56, 0.42)
    ray = (u / focal, v / focal, 1.0)
    a = sum((r / q) ** 2 for r, q in zip(ray, radii, strict=True))
    b = sum(r * m / q**2 for r, m, q in zip(ray, mid, radii, strict=True))
    c = sum((m / q) ** 2 for m, q in zip(mid, radii, strict=True))
    # Closest approach in units of the ellipsoid, as a soft edge; then the front hit.
    closest = jnp.sqrt(jnp.maximum(c - b * b / a, 0.0))
    shoulders = soft((closest - 1.0) * 0.56, pixel)
    t = (b - jnp.sqrt(jnp.maximum(b * b - a * (c - 1.0), 0.0))) / a
    n = tuple((t * r - m) / q**2 for r, m, q in zip(ray, mid, radii, strict=True))
    norm = jax.lax.rsqrt(sum(x * x for x in n) + 1e-9)
    lit = 0.62 + 0.42 * jnp.clip(sum(x * k for x, k in zip(n, light, strict=True)) * norm, 0.0, 1.0)
    sx, sy = t * ray[0] - bx, t * ray[1] - by
    stripe = smooth(-0.35, 0.35, wave(2 * jnp.pi * (sy - 0.25 * sx * sx) / 0.17)) * (identity.clothes_stripes > 0)
    cloth = blend(
        channels(identity.clothes_colour), channels(identity.clothes_second_colour), identity.clothes_stripes * stripe
    )
    opening = length(sx / (0.30 + 0.10 * identity.collar), (sy - 0.74) / (0.16 + 0.16 * identity.collar))
    rim = jnp.exp(-(((opening - 1.06) / 0.07) ** 2))
    cloth = scale(blend(cloth, channels(identity.clothes_second_colour), 0.7 * rim), lit)
    flesh = scale(channels(identity.skin_colour), 0.86 * lit)
    top = blend(cloth, flesh, soft((opening - 1.0) * 0.25, 1.5 * pixel))
    colour = blend(under, top, shoulders)
    depth = jnp.where(shoulders > 0.0, t, 1e3)

    # Neck: a tube from the head's base to between the shoulders, widening downwards.
    base = _row(rotation, (0.0, 0.30, 0.16))
    start = tuple(p + q for p, q in zip(base, centre, strict=True))
    end = (bx, by + 0.92, bz + 0.14)
    p0 = (focal * start[0] / start[2], focal * start[1] / start[2])
    p1 = (focal * end[0] / end[2], focal * end[1] / end[2])
    ex, ey = p1[0] - p0[0], p1[1] - p0[1]
    h = jnp.clip(((u - p0[0]) * ex + (v - p0[1]) * ey) / (ex * ex + ey * ey), 0.0, 1.0)
    radius = identity.neck_width * (0.215 + 0.15 * smooth(0.55, 1.1, h) ** 2) * focal / (start[2] + h * (end[2] - start[2]))
    lateral = (u - p0[0] - h * ex) / radius
    away = length(u - p0[0] - h * ex, v - p0[1] - h * ey) - radius
    neck = soft(away, pixel)
    front = jnp.sqrt(jnp.maximum(1.0 - lateral * lateral, 0.0))
    lit = 0.50 + 0.45 * jnp.clip(lateral * light[0] - front * light[2], 0.0, 1.0)
    shade = 0.62 + 0.38 * smooth(0.20, 0.95, h)
    tube = scale(channels(identity.skin_colour), lit * shade)
    clothed = soft((1.0 - opening) * 0.25, 1.5 * pixel) * smooth(0.5, 0.8, h)
    colour = blend(colour, tube, neck * (1.0 - clothed * shoulders))
    depth = jnp.where(neck > 0.5, jnp.minimum(depth, start[2] + h * (end[2] - start[2]) - 0.2 * front), depth)
    return colour, jnp.maximum(shoulders, neck), depth


def _light_up(colour: Colour, n: Vector, surface: paint.Surface, warmth: Array, gloss: Array | float) -> Colour:
    """Key light, sky light from above, a soft rim at grazing view and a broad highlight."""
    light = surface.light
    facing = sum(a * b for a, b in zip(n, light, strict=True))
    key = jnp.clip(0.25 + 0.75 * facing, 0.0, 1.0)
    view = jnp.clip(-sum(a * b for a, b in zip(n, surface.ray, strict=True)), 0.0, 1.0)
    rim = (1.0 - view) ** 3
    strength = 0.40 - 0.08 * n[1] + 0.68 * key + 0.10 * rim
    half = tuple(a - r for a, r in zip(light, surface.ray, strict=True))
    norm = jax.lax.rsqrt(sum(h * h for h in half) + 1e-9)
    shine = gloss * jnp.clip(sum(a * h for a, h in zip(n, half, strict=True)) * norm, 0.0, 1.0) ** 24
    tint = (1.0 + 0.03 * warmth, 1.0, 1.0 - 0.04 * warmth)
    return tuple(c * strength * k + shine for c, k in zip(colour, tint, strict=True))


def _hair(surface: paint.Surface, identity: Identity) -> Colour:
    """Hair with soft strands that fall from the crown."""
    x, y, z = surface.point
    around = x / (0.3 + length(x, z - 0.25) - z)
    strand = wave(26.0 * around + 5.0 * identity.hair_wave * wave(7.0 * y + 2.0 * x))
    strand = strand + 0.6 * wave(47.0 * around + 3.0 * wave(9.0 * y))
    return scale(channels(identity.hair_colour), 1.0 + 0.10 * strand)


def _glasses(under: Colour, surface: paint.Surface, identity: Identity, eyes: head.Eyes, along: Array) -> Colour:
    """Two rims and a bridge on a plane before the eyes, and the sidepieces on their way to the ears."""
    front = -0.56

    def at(axis: int, value: Array | float) -> tuple[Array, Vector]:
        t = (value - surface.origin[axis]) / surface.ray[axis]
        return t, tuple(o + t * r for o, r in zip(surface.origin, surface.ray, strict=True))

    t, (x, y, _) = at(2, jnp.float32(front))
    side = jnp.abs(x) - eyes.x - 0.005
    level = y - eyes.y - 0.012
    a, b = (side / 0.180) ** 2, (level / 0.140) ** 2
    norm = jnp.sqrt(a + b + (1.0 - identity.glasses_roundness) * (jnp.sqrt(a * a * a + b * b * b + 1e-6) - a - b))
    rims = jnp.abs(norm - 1.0) * 0.155 - 0.011
    bridge = jnp.maximum(jnp.abs(level + 0.03 + 2.0 * x * x) - 0.011, jnp.abs(x) - 0.04)
    frame = soft(jnp.minimum(rims, bridge), surface.pixel) * (t < along + 0.05)
    lens = soft(norm - 1.0, 0.03) * (t < along + 0.05)
    outer = 0.175 + eyes.x
    sign = jnp.where(surface.ray[0] > 0.0, -1.0, 1.0)  # only the sidepiece on the viewer's side can be seen
    t, (_, y, z) = at(0, sign * jnp.where(identity.head_width * 0.45 > outer, identity.head_width * 0.45, outer))
    arm = jnp.maximum(jnp.abs(y - eyes.y + 0.01) - 0.012, jnp.maximum(front - z, z - 0.05))
    arm = soft(arm, surface.pixel) * (t < along + 0.03)
    amount = identity.glasses * jnp.maximum(frame, arm)
    colour = blend(under, (jnp.float32(0.9),) * 3, 0.06 * identity.glasses * lens)
    return blend(colour, channels(identity.glasses_colour), amount)


def _draw(identity: Identity, state: State, size: int) -> Float[Array, "h w 3"]:
    """One picture, from scalars."""
    line = jnp.linspace(-1.0, 1.0, size, dtype=jnp.float32)
    u, v = jnp.broadcast_to(line[None, :], (size, size)), jnp.broadcast_to(line[:, None], (size, size))
    rotation = pose_rotation(state_pose(state))
    centre = _centre(state)
    pixel = 2.0 / (size - 1) * centre[2] / DISTANCE

    inverse = 1.0 / jnp.sqrt(u * u + v * v + DISTANCE**2)
    back = rotation.T
    ray = _row(back, (u * inverse, v * inverse, DISTANCE * inverse))
    origin = _row(back, tuple(-c for c in centre))
    light = _row(back, channels(identity.light))
    gaze = _row(back, channels(gaze_direction(clamped_gaze(state))))
    eyes, mouth = head.eyes_of(identity), head.mouth_of(identity, state)

    def skin(p: Vector) -> Array:
        return head.skin_distance(p, identity, state)

    def hair(p: Vector) -> Array:
        return head.hair_distance(p, identity)

    def both(p: Vector) -> Array:
        return jnp.minimum(skin(p), hair(p))

    along, nearest = head.trace(both, origin, ray)
    point = tuple(o + along * r for o, r in zip(origin, ray, strict=True))
    normal = head.normal(both, point)
    hairy = soft(hair(point) - skin(point), 1.2 * pixel)
    settle = jax.lax.optimization_barrier
    point, normal, hairy, ray = settle((point, normal, hairy, ray))
    surface = paint.Surface(point=point, origin=origin, ray=ray, light=light, pixel=pixel)

    eye_depth = head.surface_depth(identity, state, eyes.x, eyes.y) + 0.86 * eyes.radius
    mouth_depth = head.surface_depth(identity, state, jnp.zeros_like(mouth.middle), mouth.middle - 0.05)
    flesh = settle(paint.skin(surface, identity, state, eyes, mouth))
    flesh = settle(paint.beard(flesh, surface, identity, mouth))
    flesh = settle(paint.brows(flesh, surface, identity, state, eyes))
    flesh = settle(paint.lips(flesh, surface, identity, state, mouth, mouth_depth))
    flesh = settle(paint.eye(flesh, surface, identity, state, eyes, eye_depth, gaze))
    flesh = settle(_light_up(flesh, normal, surface, identity.light_warmth, 0.10))
    mane = settle(_light_up(settle(_hair(surface, identity)), normal, surface, identity.light_warmth, 0.14))
    top = blend(flesh, mane, hairy)

    colour = settle(_background(u, v, identity))
    colour, _, depth = settle(_body(colour, u, v, identity, centre, rotation, pixel))
    far = along * DISTANCE * inverse  # depth along the camera's axis
    cover = jnp.clip(1.0 - nearest / pixel, 0.0, 1.0) * soft(far - depth - 0.02, 0.04)
    colour = settle(blend(colour, top, cover))
    colour = _glasses(colour, surface, identity, eyes, jnp.where(nearest < pixel, along, 1e3))
    return jnp.clip(jnp.stack(jnp.broadcast_arrays(*colour), axis=-1), 0.0, 1.0)


@partial(jax.jit, static_argnums=2)
def _render(identity: Identity, state: State, size: int) -> Array:
    return jax.vmap(partial(_draw, size=size))(identity, state)


def render(identity: Identity, state: State, size: int = 128) -> Float[Array, "*b size size 3"]:
    """Draw people.

    Args:
        identity: fields with the same leading shape as the state's, or none at all (one person, many frames).
        state: fields with leading shape (*b).
        size: pixels of a side, at least 8.

    Returns:
        Pictures in 0..1, channels last.

    Raises:
        ValueError: if the size is below 8.
    """
    if size < 8:
        raise ValueError(f"{size=} is too small a picture; use 8 pixels or more")
    shape = state.jaw.shape
    count = state.jaw.size
    states = jax.tree.map(lambda x: x.reshape(count, *x.shape[len(shape) :]), state)
    lead = identity.head_width.ndim
    people = jax.tree.map(lambda x: jnp.broadcast_to(x, (*shape, *x.shape[lead:])).reshape(count, *x.shape[lead:]), identity)
    return _render(people, states, size).reshape(*shape, size, size, 3)


@jax.jit
def _labels(identity: Identity, state: State) -> dict[str, Array]:
    def project(point: Array, radius: tuple[Array, Array]) -> Array:
        at = jnp.stack(_centre(state)) + point @ pose_rotation(state_pose(state))
        return jnp.stack([DISTANCE * at[0] / at[2], DISTANCE * at[1] / at[2], *(r * DISTANCE / at[2] for r in radius)])

    eyes, mouth = head.eyes_of(identity), head.mouth_of(identity, state)
    eye_size = (1.15 * eyes.half_width, 1.25 * eyes.height)
    low, high = mouth.bottom + mouth.lower, mouth.top - mouth.upper
    lips = jnp.stack([jnp.zeros_like(low), 0.5 * (low + high), -0.40 + 0.5 * mouth.drop])
    mouth_size = (1.25 * mouth.half_width, 0.5 * (low - high) + 0.05)
    sides = [jnp.stack([side * eyes.x, eyes.y, jnp.full_like(eyes.y, -0.38)]) for side in (-1.0, 1.0)]
    return {
        "pose": state_pose(state),
        "gaze": clamped_gaze(state),
        "mouth": head.opening(state)[None],
        "lids": state.lids,
        "regions": jnp.stack([project(sides[0], eye_size), project(sides[1], eye_size), project(lips, mouth_size)]),
    }


def labels(identity: Identity, state: State) -> dict[str, Array]:
    """The truth about `render`'s pictures, as a face tracker would give it for real ones.

    Args:
        identity: fields with the same leading shape as the state's, or none at all (one person, many frames).
        state: fields with leading shape (*b).

    Returns:
        float32 arrays: `pose` (*b, 6); `gaze` (*b, 2) [rad], camera frame, as drawn; `mouth` (*b, 1) inner-lip opening 0..1; `lids`
        (*b, 2) 0..1, viewer's left eye first; `regions` (*b, 3, 4): viewer's left eye, right eye, mouth as (cx, cy, rx, ry) [crop units].
    """
    shape = state.jaw.shape
    states = jax.tree.map(lambda x: x.reshape(-1, *x.shape[len(shape) :]), state)
    count, lead = states.jaw.shape[0], identity.head_width.ndim
    people = jax.tree.map(lambda x: jnp.broadcast_to(x, (*shape, *x.shape[lead:])).reshape(count, *x.shape[lead:]), identity)
    return {name: value.reshape(*shape, *value.shape[1:]) for name, value in jax.vmap(_labels)(people, states).items()}
