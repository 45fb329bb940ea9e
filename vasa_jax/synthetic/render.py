"""The camera of the synthetic world: pictures of people, and the truth about them.

A pinhole camera at the origin looks along +z; the mean distance and the focal length are both D0 = 6, so a point X at
the mean distance appears at u = X in crop units (half the picture = 1, pixel centres from -1 to 1). The head's centre
lies at Z = D0 exp(log distance), X = tx Z / D0, Y = ty Z / D0; head points p (rows) become p @ R + (X, Y, Z).
Layers from back to front: background, shoulders, neck, head with hair, glasses. Nothing is supersampled: every edge
is an analytic ramp one pixel wide. A look (`looks`) changes paint, light and camera; D0 is then that camera's.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vasa_jax.geometry.rotation import gaze_angles, gaze_direction, gaze_in_head, pose_rotation
from vasa_jax.synthetic import head, looks, paint, scenery
from vasa_jax.synthetic.head import Vector
from vasa_jax.synthetic.identity import Identity
from vasa_jax.synthetic.looks import Look
from vasa_jax.synthetic.scenery import DISTANCE
from vasa_jax.synthetic.state import State, state_pose

GAZE_LIMIT = (40.0, 25.0)  # eyes turn no further in the head, sideways and up or down [degrees]


def _turn(v: Vector, matrix: Float[Array, "3 3"]) -> Vector:
    """Row vector v (planes or scalars) times a matrix."""
    return tuple(v[0] * matrix[0, i] + v[1] * matrix[1, i] + v[2] * matrix[2, i] for i in range(3))


def _distance(look: Look | None) -> Array | float:
    """D0 of a camera."""
    return DISTANCE if look is None else DISTANCE * look.reach


def _centre(state: State, distance: Array | float) -> Vector:
    """The head's centre in the camera frame, scalars."""
    depth = distance * jnp.exp(state.log_distance)
    return state.translation[0] * depth / distance, state.translation[1] * depth / distance, depth


def clamped_gaze(state: State) -> Float[Array, "*b 2"]:
    """Gaze (theta, phi) [rad] in the camera frame as drawn: within `GAZE_LIMIT` of straight ahead in the head."""
    pose = state_pose(state)
    theta, phi = jnp.moveaxis(gaze_in_head(state.gaze, pose), -1, 0)
    limit = jnp.radians(jnp.array(GAZE_LIMIT))
    within = jnp.stack([jnp.clip(theta, -limit[0], limit[0]), jnp.clip(phi, -limit[1], limit[1])], axis=-1)
    rotation, direction = pose_rotation(pose), gaze_direction(within)
    return gaze_angles((direction[..., None, :] @ rotation)[..., 0, :])


def _lighting(normal: Vector, ray: Vector, light: Vector, cover: Array) -> tuple[Array, Array]:
    """Key light, sky light from above and a soft rim at grazing view, as a factor; and a broad highlight to add."""
    facing = sum(a * b for a, b in zip(normal, light, strict=True))
    view = jnp.clip(-sum(a * b for a, b in zip(normal, ray, strict=True)), 0.0, 1.0)
    factor = 0.40 - 0.08 * normal[1] + 0.68 * jnp.clip(0.25 + 0.75 * facing, 0.0, 1.0) + 0.10 * (1.0 - view) ** 3
    half = tuple(a - r for a, r in zip(light, ray, strict=True))
    glance = sum(a * h for a, h in zip(normal, half, strict=True)) * jax.lax.rsqrt(sum(h * h for h in half) + 1e-9)
    shine = (0.10 + 0.04 * cover) * jnp.maximum(glance, 0.0) ** 24
    return factor, shine


def _draw(identity: Identity, state: State, look: Look | None, size: int) -> Float[Array, "h w 3"]:
    """One picture, from scalars."""
    line = jnp.linspace(-1.0, 1.0, size, dtype=jnp.float32)
    u, v = jnp.broadcast_to(line[None, :], (size, size)), jnp.broadcast_to(line[:, None], (size, size))
    rotation = pose_rotation(state_pose(state))
    distance = _distance(look)
    centre = _centre(state, distance)
    pixel = 2.0 / (size - 1) * centre[2] / distance
    ahead = distance / jnp.sqrt(u * u + v * v + distance**2)  # cosine between the ray and the camera's axis

    # The camera, the key light and the gaze as the head sees them.
    back = rotation.T
    ray = _turn((u * ahead / distance, v * ahead / distance, ahead), back)
    origin = _turn(tuple(-c for c in centre), back)
    light = _turn(tuple(identity.light), back)
    gaze = _turn(tuple(gaze_direction(clamped_gaze(state))), back)
    eyes, mouth = head.eyes_of(identity), head.mouth_of(identity, state)
    haired = identity.hair_volume > 0.0

    def skin(p: Vector) -> Array:
        return head.skin_distance(p, identity, state)

    def hair(p: Vector) -> Array:
        return jnp.where(haired, head.hair_distance(p, identity), 10.0)

    def either(p: Vector) -> Array:
        return jnp.minimum(skin(p), hair(p))

    along, nearest = head.trace(either, origin, ray, head.hull(identity), 0.5 * pixel)
    point = tuple(o + along * r for o, r in zip(origin, ray, strict=True))
    normal = head.normal(either, point)
    surface = paint.Surface(point=point, origin=origin, ray=ray, light=light, pixel=pixel)
    eye_depth = head.surface_depth(identity, state, eyes.x, eyes.y) + 0.86 * eyes.radius
    mouth_depth = head.surface_depth(identity, state, jnp.zeros_like(mouth.middle), mouth.middle - 0.05)

    base = tuple(p + c for p, c in zip(_turn(tuple(jnp.array([0.0, 0.30, 0.16])), rotation), centre, strict=True))
    ever, facing = centre[2] > 0.0, rotation[2, 2] > -0.5
    blank = (jnp.zeros_like(u),) * 3

    def seen(flag: Array, painter: Callable[..., tuple], *args: object) -> tuple:
        return looks.coloured(look, paint.seen(flag, painter, *args))

    if look is None:
        behind = paint.seen(ever, scenery.background, u, v, identity)
    else:
        behind = paint.seen(ever, scenery.backdrop, u, v, identity, look)
    scene = paint.lay(ever, blank, behind)
    trunk, depth = paint.seen(ever, scenery.body, u, v, identity, centre, base, pixel, look)
    if look is not None:
        trunk = tuple(s._replace(colour=0.5 * (look.sky + look.sun) * s.colour) for s in looks.coloured(look, trunk))
    scene = paint.lay(ever, scene, trunk)

    shaggy = identity.beard + identity.moustache > 0.0
    mane = paint.seen(haired, lambda: (paint.soft(hair(point) - skin(point), 1.2 * pixel),))[0]
    top = paint.lay(ever, blank, seen(ever, paint.skin, surface, identity, state, eyes, mouth))
    top = paint.lay(shaggy, top, seen(shaggy, paint.beard, surface, identity, mouth))
    top = paint.lay(facing, top, seen(facing, paint.brows, surface, identity, state, eyes))
    top = paint.lay(facing, top, seen(facing, paint.lips, surface, identity, mouth, mouth_depth))
    top = paint.lay(facing, top, seen(facing, paint.eye, surface, identity, state, eyes, eye_depth, gaze))
    top = paint.lay(haired, top, seen(haired, paint.hair, surface, identity, mane))
    if look is None:
        factor, shine = paint.seen(ever, _lighting, normal, ray, light, mane)
        tint = (1.0 + 0.03 * identity.light_warmth, 1.0, 1.0 - 0.04 * identity.light_warmth)
        lit = tuple(c * factor * k for c, k in zip(top, tint, strict=True))
    else:
        axis = _turn(tuple(look.shade_axis), back)
        along_axis = sum(a * (p - o) for a, p, o in zip(axis, point, origin, strict=True))
        grain = paint.seen(ever, lambda: (looks.texture(look, point),))[0]
        sky, sun, shine = paint.seen(ever, looks.lighting, look, normal, ray, light, along_axis, mane)
        lit = tuple(c * grain * (sky * a + sun * b) for c, a, b in zip(top, look.sky, look.sun, strict=True))
    solid = jnp.clip(1.0 - nearest / pixel, 0.0, 1.0) * paint.soft(along * ahead - depth - 0.02, 0.04)
    planes = tuple(b + solid * (c + shine - b) for b, c in zip(scene, lit, strict=True))
    worn, hides = identity.glasses > 0.0, jnp.where(nearest < pixel, along, 1e3)
    planes = paint.lay(worn, planes, seen(worn, paint.glasses, surface, identity, eyes, hides))
    return jnp.clip(jnp.stack(planes, axis=-1), 0.0, 1.0)


@partial(jax.jit, static_argnums=3)
def _render(identity: Identity, state: State, look: Look | None, size: int) -> Float[Array, "b h w 3"]:
    return jax.lax.map(lambda one: _draw(one[0], one[1], one[2], size), (identity, state, look))


def _flat(identity: Identity, state: State, look: Look | None) -> tuple[tuple[int, ...], Identity, State, Look | None]:
    """The common leading shape, and all arguments with exactly one leading axis."""
    shape, count = state.jaw.shape, state.jaw.size

    def spread(tree: Any, lead: int) -> Any:
        whole = jax.tree.map(lambda x: jnp.broadcast_to(x, (*shape, *x.shape[lead:])) if not lead else x, tree)
        return jax.tree.map(lambda x: x.reshape(count, *x.shape[len(shape) :]), whole)

    worn = None if look is None else spread(look, look.style.ndim)
    return shape, spread(identity, identity.head_width.ndim), spread(state, len(shape)), worn


def render(
    identity: Identity, state: State, size: int = 128, look: Look | None = None
) -> Float[Array, "*b size size 3"]:
    """Draw people.

    Args:
        identity: fields with the same leading shape as the state's, or none at all (one person, many frames).
        state: fields with leading shape (*b).
        size: pixels of a side, at least 8.
        look: fields with the same leading shape, or none at all (one clip, many frames); None is the plain world. What
            it says of the picture as a whole, `film.finish` does.

    Returns:
        Pictures in 0..1, channels last.

    Raises:
        ValueError: if the size is below 8.
    """
    if size < 8:
        raise ValueError(f"{size=} is too small a picture; use 8 pixels or more")
    shape, *flat = _flat(identity, state, look)
    return _render(*flat, size).reshape(*shape, size, size, 3)


@jax.jit
def _labels(identity: Identity, state: State, look: Look | None) -> dict[str, Array]:
    distance = _distance(look)
    rotation, centre = pose_rotation(state_pose(state)), _centre(state, distance)
    eyes, mouth = head.eyes_of(identity), head.mouth_of(identity, state)

    def region(x: Array, y: Array, z: Array, rx: Array, ry: Array) -> Array:
        at = tuple(p + c for p, c in zip(_turn((x, y, z), rotation), centre, strict=True))
        return distance / at[2] * jnp.stack([at[0], at[1], rx, ry])

    high, low = mouth.top - mouth.upper, mouth.bottom + mouth.lower
    eye = (eyes.y, jnp.float32(-0.38), 1.15 * eyes.half_width, 1.3 * eyes.height)
    lips = (0.0 * low, 0.5 * (low + high), -0.42 + 0.4 * mouth.drop, 1.25 * mouth.half_width, 0.5 * (low - high) + 0.05)
    return {
        "pose": state_pose(state),
        "gaze": clamped_gaze(state),
        "mouth": head.opening(state)[None],
        "lids": state.lids,
        "expression": jnp.stack([state.corner_pull, state.brow_raise]),
        "regions": jnp.stack([region(-eyes.x, *eye), region(eyes.x, *eye), region(*lips)]),
    }


def labels(identity: Identity, state: State, look: Look | None = None) -> dict[str, Array]:
    """The truth about `render`'s pictures, as a face tracker would give it for real ones.

    Args:
        identity: fields with the same leading shape as the state's, or none at all (one person, many frames).
        state: fields with leading shape (*b).
        look: as for `render`; only its camera counts, and only for `regions`.

    Returns:
        float32 arrays: `pose` (*b, 6); `gaze` (*b, 2) [rad], camera frame, as drawn; `mouth` (*b, 1) inner-lip opening
        0..1; `lids` (*b, 2) 0..1, viewer's left eye first; `expression` (*b, 2): lip corners -1 sad .. 1 smiling, brows
        -1 lowered .. 1 raised; `regions` (*b, 3, 4): viewer's left eye, right eye and mouth as (cx, cy, rx, ry)
        [crop units].
    """
    shape, *flat = _flat(identity, state, look)
    truth = jax.vmap(_labels)(*flat)
    return {name: value.reshape(*shape, *value.shape[1:]) for name, value in truth.items()}
