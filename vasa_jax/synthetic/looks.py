"""How the world may look otherwise: domain randomisation of surfaces, styles, light, camera, background and recording.

Networks that saw clean renderings alone make a blur of a photograph or a painting; those that saw every kind of look
take the next one for one more of them (Tobin et al. 2017, arXiv 1703.06907). A `Look` belongs to a clip: its frames
share it, as they share their person. It never touches the truth but where `render.labels` is told of it: the framing
is a move of the head that the labels contain, and a nearer camera is one that they know. Paint of colour k becomes

    k' = P k + g,                                                                                             (1)

which is how stone takes the colours out of a face and leaves it its contrasts.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Integer, Key

from vasa_jax.errors import UserError
from vasa_jax.synthetic.head import Vector, wave
from vasa_jax.synthetic.identity import EYE_TONES, HAIR_STYLES, HAIR_TONES, Identity, colour_of
from vasa_jax.synthetic.paint import Stroke, smooth
from vasa_jax.synthetic.state import State

STYLES = ("photographed", "painted", "drawn", "stone")
SCENES = ("calm", "gradient", "blobs", "clouds", "pattern", "room")
"""Backgrounds, see `scenery.backdrop`; the first is the person's own."""
SCENE_ODDS = (0.25, 0.2, 0.15, 0.13, 0.1, 0.17)
STONES = ((0.92, 0.90, 0.86), (0.78, 0.76, 0.72), (0.80, 0.68, 0.50), (0.58, 0.58, 0.60), (0.58, 0.44, 0.28),
          (0.35, 0.50, 0.44), (0.70, 0.50, 0.38), (0.40, 0.39, 0.40))  # fmt: skip
"""Marble, limestone, sandstone, granite, bronze, green bronze, clay, basalt; RGB in 0..1."""
LUMA = (0.299, 0.587, 0.114)
SHAPES = 6
"""Discs or boxes of a background."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Randomisation:
    """How many of the clips to train on look otherwise, and how; held-out clips never do."""

    share: float = 0.0  # of the clips that are randomised; 0 leaves the world as it is
    painted: float = 0.2  # of those, the share that looks painted
    drawn: float = 0.12  # the share that looks drawn
    stone: float = 0.12  # the share that looks like a statue; what remains looks photographed
    recorded: float = 0.5  # of the randomised, the share that is compressed, and the share that is blurred

    def __post_init__(self):
        for name, value in dataclasses.asdict(self).items():
            if not 0.0 <= value <= 1.0:
                raise UserError(f"randomisation.{name}={value} must lie in [0, 1]")
        if self.painted + self.drawn + self.stone > 1.0:
            raise UserError(
                f"randomisation: {self.painted=}, {self.drawn=} and {self.stone=} are shares of one whole; their sum "
                "must not exceed 1"
            )


class Look(NamedTuple):
    """How one clip looks, float32 but for the two kinds; every field may carry the same leading shape.

    style, scene: places in STYLES and SCENES.
    pigment, ground: P and g of equation (1).
    grain: depth of the surface's texture, a share of its brightness. grain_wave: rad per world unit along x, y, z.
    fabric: the same depth for clothes. fabric_wave: rad per world unit across and down.
    sky, sun: colours (and strengths) of the light from all around and of the key light, 1 as in the plain world.
    hardness: 0 wraps the key light around the head, 1 ends it where the surface turns away.
    shade: share of the key light that a soft stripe of shadow takes. shade_axis: across the stripes, camera frame.
    shade_wave: rad per world unit, and phase.
    reach: distance and focal length of the camera over the plain world's; below 1 is a wide angle.
    offset: shift of the head's centre in crop units. scale: shift of its log distance.
    colours: of the background, one a row. shapes: SHAPES rows of four numbers 0..1.
    gamma, saturation: of the picture, 1 as it is.
    paper, ink: of a drawing. wash: how much of the colours it keeps.
    blur: standard deviation as a share of the picture's side. noise: standard deviation of 0..1.
    loss: coarseness of the compression, step of the lowest frequency of 0..1; 0 is none.
    """

    style: Int[Array, "..."]
    scene: Int[Array, "..."]
    pigment: Float[Array, "... 3 3"]
    ground: Float[Array, "... 3"]
    grain: Float[Array, "..."]
    grain_wave: Float[Array, "... 3"]
    fabric: Float[Array, "..."]
    fabric_wave: Float[Array, "... 2"]
    sky: Float[Array, "... 3"]
    sun: Float[Array, "... 3"]
    hardness: Float[Array, "..."]
    shade: Float[Array, "..."]
    shade_axis: Float[Array, "... 3"]
    shade_wave: Float[Array, "... 2"]
    reach: Float[Array, "..."]
    offset: Float[Array, "... 2"]
    scale: Float[Array, "..."]
    colours: Float[Array, "... 3 3"]
    shapes: Float[Array, "... n 4"]
    gamma: Float[Array, "..."]
    saturation: Float[Array, "..."]
    paper: Float[Array, "... 3"]
    ink: Float[Array, "... 3"]
    wash: Float[Array, "..."]
    blur: Float[Array, "..."]
    noise: Float[Array, "..."]
    loss: Float[Array, "..."]


def plain_look() -> Look:
    """The look of the world where nothing is randomised."""
    zero, one, ones = jnp.float32(0.0), jnp.float32(1.0), jnp.ones(3, jnp.float32)
    return Look(
        style=jnp.int32(0),
        scene=jnp.int32(0),
        pigment=jnp.eye(3, dtype=jnp.float32),
        ground=0.0 * ones,
        grain=zero,
        grain_wave=ones,
        fabric=zero,
        fabric_wave=ones[:2],
        sky=ones,
        sun=ones,
        hardness=zero,
        shade=zero,
        shade_axis=ones,
        shade_wave=ones[:2],
        reach=one,
        offset=0.0 * ones[:2],
        scale=zero,
        colours=jnp.ones((3, 3), jnp.float32),
        shapes=jnp.zeros((SHAPES, 4), jnp.float32),
        gamma=one,
        saturation=one,
        paper=ones,
        ink=0.0 * ones,
        wash=zero,
        blur=zero,
        noise=zero,
        loss=zero,
    )


def look_key(seed: int | Integer[Array, ""]) -> Key[Array, ""]:
    """The key of the look of a seed's clip."""
    return jax.random.fold_in(jax.random.key(2), seed)


def randomise(key: Key[Array, ""], config: Randomisation, identity: Identity) -> tuple[Identity, Look]:
    """Draw how a clip looks.

    Args:
        key: a typed JAX key, the clip's own.
        config: how often.
        identity: without leading axes.

    Returns:
        The person with other light, skin, hair, glasses and colours (the proportions, which are truth, stay), and a
        look without leading axes. Both are plain for 1 - config.share of the keys.
    """
    chosen, person, look = jax.random.split(key, 3)
    varied = _vary(person, identity), _sample(look, config)
    take = jax.random.bernoulli(chosen, config.share)
    return jax.tree.map(lambda new, old: jnp.where(take, new, old), varied, (identity, plain_look()))


def framed(look: Look, states: State) -> State:
    """States as looks of the same leading shape frame them; the pose of the moved head is the truth."""
    return states._replace(translation=states.translation + look.offset, log_distance=states.log_distance + look.scale)


def _pick(table: Sequence[Any], number: Array) -> Array:
    """The row of a table that a number in 0..1 falls on."""
    return jnp.array(table)[jnp.minimum((number * len(table)).astype(jnp.int32), len(table) - 1)]


def _vary(key: Key[Array, ""], identity: Identity) -> Identity:
    """Another light and other colours, hair and glasses; nothing that `render.labels` reads."""
    one, two, three = jax.random.split(key, 3)
    flat, bell = jax.random.uniform(one, (20,)), jax.random.normal(two, (8,))
    hues = jax.random.uniform(three, (4, 3))
    volume, length, hairline, fringe, curl = _pick(HAIR_STYLES, flat[16])
    worn = volume > 0.0
    hair = jnp.where(flat[0] < 0.2, colour_of(hues[0], 0.9, 0.15, 0.95), _pick(HAIR_TONES, flat[17]))
    iris = _pick(EYE_TONES, flat[18]) * (0.6 + 0.9 * flat[1])
    lipstick = jnp.array([0.75, 0.15, 0.22]) * (0.6 + 0.6 * flat[2])
    lips = identity.lip_colour + jnp.where(flat[3] < 0.3, 0.7 * flat[4], 0.0) * (lipstick - identity.lip_colour)
    azimuth, elevation = jnp.radians(140.0 * (flat[5] - 0.5)), jnp.radians(-10.0 + 75.0 * flat[6])
    light = jnp.stack(
        [jnp.cos(elevation) * jnp.sin(azimuth), -jnp.sin(elevation), -jnp.cos(elevation) * jnp.cos(azimuth)]
    )
    return identity._replace(
        skin_colour=jnp.clip(identity.skin_colour * (1.0 + 0.06 * bell[:3]), 0.04, 1.0),
        lip_colour=jnp.clip(lips, 0.03, 1.0),
        iris_colour=jnp.clip(iris, 0.03, 0.9),
        blush=1.2 * flat[7],
        freckles=jnp.where(flat[8] < 0.3, 0.3 + 0.7 * flat[9], identity.freckles),
        brow_darkness=0.35 + 0.65 * flat[10],
        hair_colour=jnp.clip(hair * (1.0 + 0.2 * bell[3]), 0.02, 0.98),
        hair_volume=jnp.where(worn, jnp.clip(volume * (1.0 + 0.25 * bell[4]), 0.25, 2.3), 0.0),
        hair_length=jnp.where(worn, jnp.clip(length + 0.12 * bell[5], 0.0, 1.1), 0.0),
        hairline=hairline + 0.03 * jnp.clip(bell[6], -2.0, 2.0),
        fringe=jnp.where(worn, jnp.clip(fringe + 0.2 * bell[7], 0.0, 1.0), 0.0),
        hair_wave=jnp.clip(curl + 0.5 * (flat[11] - 0.5), 0.0, 1.0),
        glasses=jnp.where(flat[12] < 0.3, 1.0, 0.0),
        glasses_roundness=flat[13],
        glasses_colour=colour_of(hues[1], 0.9, 0.03, 0.95),
        clothes_colour=colour_of(hues[2], 0.9, 0.02, 1.0),
        clothes_second_colour=colour_of(hues[3], 0.9, 0.02, 1.0),
        clothes_stripes=jnp.where(flat[14] < 0.3, 0.3 + 0.7 * flat[15], 0.0),
        light=light,
        light_warmth=jnp.float32(0.0),  # the look's own light has colours
    )


def _sample(key: Key[Array, ""], config: Randomisation) -> Look:
    one, two, three, four = jax.random.split(key, 4)
    flat, hues = jax.random.uniform(one, (44,)), jax.random.uniform(three, (5, 3))
    bell = jnp.clip(jax.random.normal(two, (17,)), -2.0, 2.0)
    shapes = jax.random.uniform(four, (SHAPES, 4))
    cuts = jnp.cumsum(jnp.array([config.painted, config.drawn, config.stone]))
    style = jnp.array([1, 2, 3, 0])[jnp.sum(flat[24] >= cuts)]
    painted, drawn, stone = style == 1, style == 2, style == 3

    luma = jnp.broadcast_to(jnp.array(LUMA), (3, 3))
    rock = jnp.clip(_pick(STONES, flat[25]) * (0.85 + 0.25 * flat[0]) * (1.0 + 0.05 * bell[8:11]), 0.05, 1.0)
    relief = 0.25 + 0.35 * flat[1]  # how much of the colours' contrast a statue keeps
    varnish = (0.6 + 0.5 * flat[2]) * jnp.eye(3) + (0.4 - 0.5 * flat[2]) * luma
    pigment = jnp.where(stone, relief * rock[:, None] * luma, jnp.eye(3))
    pigment = jnp.where(painted, colour_of(hues[0], 0.5, 0.7, 1.1)[:, None] * varnish, pigment)
    ground = jnp.where(stone, (1.0 - 0.6 * relief) * rock, 0.0)

    grain = jnp.where(flat[3] < 0.6, 0.10 * flat[4], 0.0)
    grain = jnp.where(painted, 0.05 + 0.15 * flat[4], jnp.where(stone, 0.05 + 0.18 * flat[4], grain))
    warmth, shadows = 0.16 * bell[0], 0.16 * bell[3]
    sun = jnp.exp(jnp.stack([warmth, 0.05 * bell[1], -warmth])) * jnp.exp(0.1 * bell[2])
    sky = jnp.exp(jnp.stack([shadows, 0.05 * bell[4], -shadows])) * (0.5 + 0.7 * flat[5])
    sun = jnp.where(flat[6] < 0.1, sun * colour_of(hues[1], 0.8, 0.7, 1.3), sun)  # a coloured lamp
    exposure = jnp.exp(0.15 * bell[11]) / (0.45 * sky.mean() + 0.55 * sun.mean())
    backs = jax.vmap(lambda numbers: colour_of(numbers, 0.9, 0.02, 1.0))(hues[2:])
    backs = backs.at[0].set(jnp.where(flat[7] < 0.15, jnp.round(flat[8]) * jnp.ones(3), backs[0]))
    return Look(
        style=style.astype(jnp.int32),
        scene=jnp.sum(flat[26] >= jnp.cumsum(jnp.array(SCENE_ODDS[:-1]))).astype(jnp.int32),
        pigment=pigment,
        ground=ground,
        grain=grain,
        grain_wave=7.0 + 38.0 * flat[27:30],
        fabric=jnp.where(flat[13] < 0.6, 0.05 + 0.3 * flat[14], 0.0),
        fabric_wave=15.0 + 75.0 * flat[30:32],
        sky=exposure * sky,
        sun=exposure * sun,
        hardness=flat[15],
        shade=jnp.where(flat[16] < 0.25, 0.3 + 0.5 * flat[17], 0.0),
        shade_axis=bell[12:15] * jax.lax.rsqrt(jnp.sum(bell[12:15] ** 2) + 1e-6),
        shade_wave=jnp.stack([2.0 + 8.0 * flat[18], 2 * jnp.pi * flat[19]]),
        reach=jnp.clip(jnp.exp(0.28 * bell[5]), 0.6, 1.6),
        offset=0.06 * bell[15:17],
        scale=0.09 * bell[6] - 0.05,
        colours=backs,
        shapes=shapes,
        gamma=jnp.exp(0.16 * bell[7]),
        saturation=jnp.where(flat[20] < 0.1, 0.0, 0.6 + 0.7 * flat[21]),
        paper=1.0 - 0.25 * flat[32] * flat[33:36],
        ink=0.35 * flat[22] * flat[36:39],
        wash=jnp.where(drawn & (flat[23] > 0.4), 1.4 * (flat[23] - 0.3), 0.0),
        blur=jnp.where(flat[9] < config.recorded, 0.010 * flat[10], 0.0),
        noise=jnp.where(drawn, 0.0, 0.03 * flat[39] ** 2),
        loss=jnp.where(flat[11] < config.recorded, 0.008 * jnp.exp(1.8 * flat[12]), 0.0),
    )


def coloured(look: Look | None, strokes: tuple[Stroke, ...]) -> tuple[Stroke, ...]:
    """Strokes of paint as a look mixes it, equation (1)."""
    if look is None:
        return strokes
    return tuple(stroke._replace(colour=look.pigment @ stroke.colour + look.ground) for stroke in strokes)


def texture(look: Look, point: Vector) -> Float[Array, "h w"]:
    """A factor on the colour of the surface at head-frame points: two octaves of waves that bend each other."""
    x, y, z = (p * f for p, f in zip(point, look.grain_wave, strict=True))
    coarse = wave(x + 1.7 * wave(0.6 * y + 0.5 * z)) * wave(y + 1.9 * wave(0.7 * x - 0.4 * z))
    fine = wave(2.3 * x + 1.1 * y + 2.0 * coarse) * wave(2.7 * y - 1.3 * x + 1.5 * coarse + z)
    return 1.0 + look.grain * (0.55 * coarse + 0.45 * fine)


def lighting(
    look: Look, normal: Vector, ray: Vector, light: Vector, along: Array, cover: Array
) -> tuple[Array, Array, Array]:
    """What `render` asks of the plain light, in two parts: planes (h, w) for the sky and for the sun, which their
    colours multiply, and a highlight to add.

    Args:
        look: of the clip.
        normal, ray: unit vectors in the head frame, planes.
        light: unit vector towards the key light, scalars.
        along: how far points lie along `shade_axis`, a plane.
        cover: hair, a plane 0..1.
    """
    facing = sum(a * b for a, b in zip(normal, light, strict=True))
    view = jnp.clip(-sum(a * b for a, b in zip(normal, ray, strict=True)), 0.0, 1.0)
    wrap = 0.25 * (1.0 - look.hardness)
    stripe = smooth(-0.25, 0.25, wave(look.shade_wave[0] * along + look.shade_wave[1]))
    sun = 0.68 * jnp.clip(wrap + (1.0 - wrap) * facing, 0.0, 1.0) * (1.0 - look.shade * stripe)
    sky = 0.40 - 0.08 * normal[1] + 0.10 * (1.0 - view) ** 3
    half = tuple(a - r for a, r in zip(light, ray, strict=True))
    glance = sum(a * h for a, h in zip(normal, half, strict=True)) * jax.lax.rsqrt(sum(h * h for h in half) + 1e-9)
    return sky, sun, (0.10 + 0.04 * cover) * jnp.maximum(glance, 0.0) ** 24
