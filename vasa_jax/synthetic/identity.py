"""Who a synthetic person is: some seventy numbers for proportions, skin, hair, eyes, mouth, clothes and surroundings.

Lengths are factors around 1 or offsets in world units (head half-height about 0.62); colours are linear mixtures of
hand-made palettes of natural tones, RGB in 0..1. Everything is drawn from one key, so a seed is a person.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from vasa_jax.errors import UserError

# Natural tones, from light to dark (skin), common to rare (hair, eyes). RGB in 0..1 as displayed.
SKIN_TONES = ((0.97, 0.84, 0.76), (0.94, 0.77, 0.65), (0.87, 0.68, 0.53), (0.76, 0.56, 0.41), (0.61, 0.42, 0.29),
              (0.46, 0.30, 0.20), (0.34, 0.22, 0.15))  # fmt: skip
HAIR_TONES = ((0.09, 0.07, 0.07), (0.19, 0.12, 0.08), (0.33, 0.20, 0.11), (0.47, 0.30, 0.15), (0.58, 0.27, 0.12),
              (0.82, 0.64, 0.33), (0.70, 0.50, 0.26), (0.60, 0.59, 0.58), (0.86, 0.85, 0.82))  # fmt: skip
HAIR_ODDS = (0.22, 0.18, 0.16, 0.10, 0.09, 0.09, 0.08, 0.05, 0.03)
EYE_TONES = ((0.30, 0.17, 0.08), (0.42, 0.26, 0.11), (0.25, 0.45, 0.68), (0.36, 0.52, 0.34), (0.45, 0.52, 0.57),
             (0.52, 0.40, 0.16))  # fmt: skip
EYE_ODDS = (0.26, 0.2, 0.2, 0.14, 0.1, 0.1)
# Hair styles: volume, length, hairline, fringe, wave. Length 0 ends above the ear, 1 falls over the shoulders.
HAIR_STYLES = (
    (0.0, 0.0, 0.0, 0.0, 0.0),  # bald
    (0.35, 0.05, 0.10, 0.0, 0.1),  # cropped
    (0.7, 0.2, 0.0, 0.1, 0.3),  # short
    (0.9, 0.3, -0.02, 0.85, 0.2),  # short with a fringe
    (0.8, 0.62, 0.0, 0.1, 0.4),  # to the chin
    (0.8, 0.6, 0.0, 0.9, 0.2),  # to the chin with a fringe
    (0.85, 1.0, 0.02, 0.1, 0.6),  # long
    (1.7, 0.35, 0.02, 0.2, 1.0),  # a round cloud of curls
)
STYLE_ODDS = (0.1, 0.17, 0.17, 0.1, 0.12, 0.08, 0.16, 0.1)


class Identity(NamedTuple):
    """One person, float32; every field may carry the same leading shape (colours and light end in 3).

    Factors are around 1, offsets around 0; amounts run over 0..1. The names say what they change.
    """

    head_width: Float[Array, "..."]
    head_height: Float[Array, "..."]
    jaw_width: Float[Array, "..."]
    chin_length: Float[Array, "..."]
    cheek: Float[Array, "..."]
    neck_width: Float[Array, "..."]
    shoulder_width: Float[Array, "..."]
    ear_size: Float[Array, "..."]
    eye_size: Float[Array, "..."]
    eye_spacing: Float[Array, "..."]
    eye_height: Float[Array, "..."]
    eye_roundness: Float[Array, "..."]
    eye_tilt: Float[Array, "..."]
    iris_size: Float[Array, "..."]
    iris_colour: Float[Array, "... 3"]
    brow_thickness: Float[Array, "..."]
    brow_height: Float[Array, "..."]
    brow_arch: Float[Array, "..."]
    brow_darkness: Float[Array, "..."]
    nose_width: Float[Array, "..."]
    nose_length: Float[Array, "..."]
    nose_projection: Float[Array, "..."]
    mouth_width: Float[Array, "..."]
    mouth_height: Float[Array, "..."]
    upper_lip: Float[Array, "..."]
    lower_lip: Float[Array, "..."]
    lip_colour: Float[Array, "... 3"]
    skin_colour: Float[Array, "... 3"]
    blush: Float[Array, "..."]
    freckles: Float[Array, "..."]
    hair_colour: Float[Array, "... 3"]
    hair_volume: Float[Array, "..."]
    hair_length: Float[Array, "..."]
    hairline: Float[Array, "..."]
    fringe: Float[Array, "..."]
    hair_wave: Float[Array, "..."]
    hair_parting: Float[Array, "..."]
    beard: Float[Array, "..."]
    moustache: Float[Array, "..."]
    glasses: Float[Array, "..."]
    glasses_roundness: Float[Array, "..."]
    glasses_colour: Float[Array, "... 3"]
    clothes_colour: Float[Array, "... 3"]
    clothes_second_colour: Float[Array, "... 3"]
    clothes_stripes: Float[Array, "..."]
    collar: Float[Array, "..."]
    background_colour: Float[Array, "... 3"]
    background_second_colour: Float[Array, "... 3"]
    background_angle: Float[Array, "..."]
    background_wave: Float[Array, "..."]
    light: Float[Array, "... 3"]
    light_warmth: Float[Array, "..."]


def colour_of(numbers: Float[Array, " 3"], saturation: float, low: float, high: float) -> Float[Array, " 3"]:
    """The colour of three numbers in 0..1: hue, saturation up to `saturation`, and brightness in low..high."""
    hue, strength, value = numbers
    wheel = 0.5 + 0.5 * jnp.cos(2 * jnp.pi * (hue - jnp.arange(3) / 3))
    return (low + (high - low) * value) * (1.0 - saturation * strength * (1.0 - wheel))


def _colour(key: Key[Array, ""], saturation: float, low: float, high: float) -> Float[Array, " 3"]:
    """A random one of these colours."""
    return colour_of(jax.random.uniform(key, (3,)), saturation, low, high)


def sample_identity(key: Key[Array, ""]) -> Identity:
    """Draw a person.

    Args:
        key: a typed JAX key.

    Returns:
        An `Identity` without leading axes; use `jax.vmap` for many.
    """
    keys = iter(jax.random.split(key, 32))
    bell = jnp.clip(jax.random.normal(next(keys), (30,)), -2.0, 2.0)
    flat = jax.random.uniform(next(keys), (12,))

    tone = flat[0] * (len(SKIN_TONES) - 1)
    ladder = jnp.array(SKIN_TONES)
    rung = jnp.minimum(tone.astype(jnp.int32), len(SKIN_TONES) - 2)
    skin = ladder[rung] + (ladder[rung + 1] - ladder[rung]) * (tone - rung)
    skin = jnp.clip(skin * (1.0 + 0.03 * jax.random.normal(next(keys), (3,))), 0.05, 1.0)
    darkness = flat[0]

    # Dark skin mostly comes with dark hair and brown eyes; a few people dye their hair.
    hair_odds = jnp.array(HAIR_ODDS)
    hair_odds = hair_odds * jnp.where(jnp.arange(len(HAIR_ODDS)) < 3, 1.0, jnp.clip(1.5 - 1.7 * darkness, 0.08, 1.0))
    hair = jnp.array(HAIR_TONES)[jax.random.categorical(next(keys), jnp.log(hair_odds))]
    hair = jnp.where(flat[1] < 0.05, _colour(next(keys), 0.8, 0.4, 0.8), hair)
    hair = jnp.clip(hair * (1.0 + 0.12 * jax.random.normal(next(keys))), 0.03, 0.95)
    eye_odds = jnp.array(EYE_ODDS)
    eye_odds = eye_odds * jnp.where(jnp.arange(len(EYE_ODDS)) < 2, 1.0, jnp.clip(1.6 - 1.8 * darkness, 0.1, 1.0))
    iris = jnp.array(EYE_TONES)[jax.random.categorical(next(keys), jnp.log(eye_odds))]
    iris = jnp.clip(iris * (1.0 + 0.15 * jax.random.normal(next(keys))), 0.05, 0.8)

    style = jax.random.categorical(next(keys), jnp.log(jnp.array(STYLE_ODDS)))
    volume, length, hairline, fringe, wave = jnp.array(HAIR_STYLES)[style]
    worn = volume > 0
    jitter = jax.random.normal(next(keys), (5,))
    volume = jnp.where(worn, jnp.clip(volume * (1.0 + 0.15 * jitter[0]), 0.25, 2.2), 0.0)
    length = jnp.where(worn, jnp.clip(length + 0.05 * jitter[1], 0.0, 1.1), 0.0)

    short = length < 0.5  # people with short hair or none may wear a beard
    bearded = short & (flat[2] < 0.35)
    beard = jnp.where(bearded, 0.35 + 0.65 * flat[3], 0.0)
    moustache = jnp.where(bearded & (flat[4] < 0.8) | (short & (flat[4] > 0.95)), 0.4 + 0.6 * flat[3], 0.0)

    redness = jnp.array([0.82, 0.36, 0.34])
    tinted = skin * jnp.array([0.92, 0.66, 0.66])
    lip = tinted + 0.5 * flat[5] * (redness * (1.1 - 0.5 * darkness) - tinted)
    azimuth, elevation = jnp.radians(40.0 * bell[28]), jnp.radians(35.0 + 10.0 * bell[29])
    light = jnp.stack(
        [jnp.cos(elevation) * jnp.sin(azimuth), -jnp.sin(elevation), -jnp.cos(elevation) * jnp.cos(azimuth)]
    )
    background = _colour(next(keys), 0.6, 0.25, 0.9)
    drift = _colour(next(keys), 0.6, 0.25, 0.9)
    return Identity(
        head_width=1.0 + 0.05 * bell[0],
        head_height=1.0 + 0.03 * bell[1],
        jaw_width=1.0 + 0.10 * bell[2],
        chin_length=0.025 * bell[3],
        cheek=0.5 + 0.25 * bell[4],
        neck_width=1.0 + 0.10 * bell[5],
        shoulder_width=1.0 + 0.08 * bell[6],
        ear_size=1.0 + 0.12 * bell[7],
        eye_size=1.0 + 0.06 * bell[8],
        eye_spacing=1.0 + 0.035 * bell[9],
        eye_height=0.012 * bell[10],
        eye_roundness=1.0 + 0.10 * bell[11],
        eye_tilt=0.07 * bell[12],
        iris_size=1.0 + 0.06 * bell[13],
        iris_colour=iris,
        brow_thickness=1.0 + 0.3 * bell[14],
        brow_height=0.012 * bell[15],
        brow_arch=1.0 + 0.35 * bell[16],
        brow_darkness=0.75 + 0.25 * flat[6],
        nose_width=1.0 + 0.14 * bell[17],
        nose_length=0.02 * bell[18],
        nose_projection=1.0 + 0.14 * bell[19],
        mouth_width=1.0 + 0.06 * bell[20],
        mouth_height=0.012 * bell[21],
        upper_lip=1.0 + 0.22 * bell[22],
        lower_lip=1.0 + 0.22 * bell[23],
        lip_colour=jnp.clip(lip, 0.05, 1.0),
        skin_colour=skin,
        blush=0.5 + 0.25 * bell[24],
        freckles=jnp.where(flat[7] < 0.2, (1.0 - darkness) * flat[8], 0.0),
        hair_colour=hair,
        hair_volume=volume,
        hair_length=length,
        hairline=hairline + 0.02 * jitter[2],
        fringe=jnp.where(worn, jnp.clip(fringe + 0.08 * jitter[3], 0.0, 1.0), 0.0),
        hair_wave=jnp.clip(wave + 0.15 * jitter[4], 0.0, 1.0),
        hair_parting=0.8 * bell[25],
        beard=beard,
        moustache=moustache,
        glasses=jnp.where(flat[9] < 0.22, 1.0, 0.0),
        glasses_roundness=flat[10],
        glasses_colour=_colour(next(keys), 0.7, 0.08, 0.4),
        clothes_colour=_colour(next(keys), 0.75, 0.15, 0.9),
        clothes_second_colour=_colour(next(keys), 0.75, 0.2, 0.95),
        clothes_stripes=jnp.where(flat[11] < 0.35, 0.5 + 0.5 * flat[3], 0.0),
        collar=0.5 + 0.25 * bell[26],
        background_colour=background,
        background_second_colour=0.55 * background + 0.45 * drift,
        background_angle=2 * jnp.pi * flat[8],
        background_wave=flat[5],
        light=light,
        light_warmth=bell[27],
    )


def identity_from_seed(seed: int) -> Identity:
    """The person of a seed (see `splits`).

    Args:
        seed: a non-negative integer below 2**32.

    Raises:
        UserError: if the seed is outside that range.
    """
    if not 0 <= seed < 2**32:
        raise UserError(f"{seed=} must be in 0 .. 2**32 - 1")
    return sample_identity(jax.random.fold_in(jax.random.key(0), seed))
