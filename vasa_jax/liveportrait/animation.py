"""From motion to the keypoints that W is given, by the originals' rules: LivePortrait's, and JoyVASA's for speech.

With a source s, driving frames i and the first of them 0, x = s (c R + e) + (tx, ty, 0) as in `keypoints`:

1. e, R, s and t of a frame come from source and driver by region, relative to frame 0 or absolute (`mix`);
2. expression-friendly (relative, several frames): x <- (x - x_0) g + x_s, g the ratio of the hulls of x_s and x_0;
3. without retargeting: stitching, then the constant that closes the source's lips; with it: x_s (relative) or x
   (absolute) plus what the eye and lip networks answer to the driver's ratios, then stitching;
4. x <- x_s + (x - x_s) times the multiplier.

The order is the originals' own and shows: retargeting discards a relative motion, and the multiplier scales stitching.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from vasa_jax.liveportrait.driving import DrivingMotion
from vasa_jax.liveportrait.keypoints import LIPS, HeadMotion, amplify, correct, hull_multiplier, place, relative_motion

EYES = (11, 13, 15, 16, 18)
"""Keypoints of the eyes."""
OPEN_LIPS = 0.03
"""Lip ratio from which on the source's mouth counts as open."""
Region = Literal["all", "exp", "pose", "lip", "eyes"]


def _absolute() -> np.ndarray:
    covered = np.zeros((21, 3), bool)
    covered[[1, 2, 6, *range(11, 21)]] = True
    covered[3:5, 1] = covered[[5, 8], 2] = covered[9, 1:] = True
    return covered


ABSOLUTE = _absolute()
"""(21, 3) the expression numbers that an absolute driver sets; the others stay the source's."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rules:
    """What the originals' flags say; the defaults are LivePortrait's command line."""

    relative: bool = True  # motion since the driver's first frame, not the driver's own
    region: Region = "all"  # what is driven; the rest stays the source's
    friendly: bool = True  # the driving option "expression-friendly"; else "pose-friendly"
    multiplier: float = 1.0  # of the whole motion
    stitching: bool = True  # mend the shoulders
    close_lips: bool = False  # normalise the lips of a source whose mouth is open (relative)
    retarget_eyes: bool = False  # follow the driver's eye ratio instead of its motion
    retarget_lips: bool = False  # follow the driver's lip ratio instead of its motion


class Source(NamedTuple):
    """A portrait: canonical keypoints (21, 3), its own motion without leading axis, eye (2,) and lip ratios (1,)."""

    keypoints: Any
    motion: HeadMotion
    eyes: Any
    lips: Any

    @property
    def placed(self) -> Float[Array, "1 21 3"]:
        """x_s."""
        return place(jnp.asarray(self.keypoints)[None], _lead(self.motion))


class Correctors(NamedTuple):
    """The three small networks: (t, features) to (t, 63), stitching to (t, 65)."""

    stitching: Callable[[Any], Any]
    eyes: Callable[[Any], Any]
    lips: Callable[[Any], Any]


def drive(
    source: Source,
    driver: DrivingMotion,
    rules: Rules,
    correctors: Correctors,
    neutral: Float[np.ndarray, "21 3"] | None = None,
) -> Float[Array, "t 21 3"]:
    """Keypoints of every driving frame, by LivePortrait's rules.

    Args:
        source: the portrait.
        driver: t frames.
        rules: what is done.
        correctors: of the same model.
        neutral: the expression that a single driving picture is taken relative to; zeros where None.
    """
    motion, several = driver.motion, len(driver.motion.scale) > 1
    first = HeadMotion(*(part[:1] for part in motion))
    if not several and rules.relative:
        still = jnp.zeros((1, 21, 3)) if neutral is None or rules.region == "eyes" else jnp.asarray(neutral)[None]
        first = first._replace(expression=still)
    x = place(jnp.asarray(source.keypoints)[None], mix(source.motion, motion, first, rules))
    return _finish(source, x, rules, correctors, driver, rules.friendly and rules.relative and several)


def calmest(motion: HeadMotion) -> HeadMotion:
    """The frame (1, ...) of a motion whose expression is smallest and whose head is turned least, each in units of its
    mean: what other frames are taken relative to."""
    size = np.abs(np.asarray(motion.expression)).mean((1, 2))
    turn = 1 - np.trace(np.asarray(motion.rotation), axis1=1, axis2=2) / 3
    index = int(np.argmin(size / (size.mean() + 1e-9) + turn / (turn.mean() + 1e-9)))
    return HeadMotion(*(np.asarray(part)[index : index + 1] for part in motion))


def animate(
    source: Source,
    motion: HeadMotion,
    calm: HeadMotion,
    correctors: Correctors,
    *,
    face: float = 1.0,
    head: float = 1.0,
    mouth: float = 1.0,
    blink: float = 1.0,
    position: tuple[float, float] = (0.0, 0.0),
    zoom: float = 1.0,
) -> Float[Array, "t 21 3"]:
    """Keypoints of every frame of any driver, as this project moves a portrait: relative to a calm frame, each region
    with a strength of its own.

        e = e_s + k (e_i - e_calm),      R = (R_i R_calm^T)^h R_s,
        s = z s_s (s_i / s_calm)^h,      t = t_s + h (t_i - t_calm) + p

    then stitching, and the constant that closes the source's lips where its mouth is open. k is `face` times `mouth`
    for the lips' keypoints and `blink` for the eyes', h is `head`, z `zoom` and p `position`.

    Args:
        source: the portrait.
        motion: t frames.
        calm: the frame (1, ...) that they are relative to.
        correctors: of the same model.
        face, head, mouth, blink: strengths; 1 is as the driver moves.
        position: added to the translation, in the units of keypoints (half the picture is 1).
        zoom: factor of the scale.
    """
    from scipy.spatial.transform import Rotation  # here, since no video of the demo should wait for it

    own = _lead(source.motion)
    points = np.arange(21)
    strength = face * np.where(np.isin(points, LIPS), mouth, np.where(np.isin(points, EYES), blink, 1.0))
    expression = own.expression + strength[None, :, None] * (jnp.asarray(motion.expression) - calm.expression)
    turned = (
        Rotation.from_matrix(np.asarray(motion.rotation)) * Rotation.from_matrix(np.asarray(calm.rotation)[0]).inv()
    )
    rotation = jnp.asarray((turned**head).as_matrix() @ np.asarray(own.rotation, np.float64), jnp.float32)
    scale = zoom * own.scale * (jnp.asarray(motion.scale) / calm.scale) ** head
    shift = np.array([[*position, 0.0]], np.float32)
    translation = own.translation + head * (jnp.asarray(motion.translation) - calm.translation) + shift
    x = place(jnp.asarray(source.keypoints)[None], HeadMotion(rotation, expression, scale, translation))
    return _finish(source, x, Rules(close_lips=True), correctors, None, False)


def follow_speech(source: Source, motion: HeadMotion, rules: Rules, correctors: Correctors) -> Float[Array, "t 21 3"]:
    """Keypoints of every frame of motion from speech, by JoyVASA's rules.

    Scale, translation and, in "all" and "pose", rotation are relative; so is the expression, but for the lips, which
    are the driver's own in "all" and "exp". `rules.relative` decides about steps 2 and 3 alone; retargeting has no
    network behind it: with it, relative, the face stays the source's.
    """
    first = HeadMotion(*(part[:1] for part in motion))
    lips = LIPS if rules.region in ("all", "exp") else ()
    moved = relative_motion(_lead(source.motion), motion, first, lips)
    turned = moved.rotation if rules.region in ("all", "pose") else _lead(source.motion).rotation
    driven = {"all": range(21), "exp": range(21), "lip": LIPS, "pose": (), "eyes": ()}[rules.region]
    expression = jnp.where(_rows(driven), moved.expression, _lead(source.motion).expression)
    x = place(jnp.asarray(source.keypoints)[None], HeadMotion(turned, expression, moved.scale, moved.translation))
    if rules.relative and (rules.retarget_eyes or rules.retarget_lips):
        x = jnp.broadcast_to(source.placed, x.shape)
        still = dataclasses.replace(rules, retarget_eyes=False, retarget_lips=False, close_lips=False)
        return _finish(source, x, still, correctors, None, False)
    rules = dataclasses.replace(rules, retarget_eyes=False, retarget_lips=False)
    return _finish(source, x, rules, correctors, None, rules.friendly and rules.relative)


def mix(source: HeadMotion, driver: HeadMotion, first: HeadMotion, rules: Rules) -> HeadMotion:
    """Step 1: the motion of t frames, from a source without leading axis, a driver (t, ...) and its first (1, ...)."""
    own, region = _lead(source), rules.region
    moved = relative_motion(own, driver, first)
    if not rules.relative:
        expression = jnp.where(ABSOLUTE, jnp.asarray(driver.expression), own.expression)
        moved = HeadMotion(driver.rotation, expression, own.scale, driver.translation)
    rows = {"all": range(21), "exp": range(21), "pose": (), "lip": LIPS, "eyes": EYES}[region]
    expression = (
        moved.expression if region in ("all", "exp") else jnp.where(_rows(rows), moved.expression, own.expression)
    )
    if region in ("lip", "eyes") and not rules.relative:
        expression = jnp.where(_rows(rows), jnp.asarray(driver.expression), own.expression)
    if region in ("all", "pose"):
        return moved._replace(expression=expression, scale=moved.scale if region == "all" else own.scale)
    return own._replace(expression=expression)


def _finish(
    source: Source,
    x: Float[Array, "t 21 3"],
    rules: Rules,
    correctors: Correctors,
    driver: DrivingMotion | None,
    friendly: bool,
) -> Float[Array, "t 21 3"]:
    """Steps 2 to 4."""
    own = source.placed
    if friendly:
        x = amplify(x, x[:1], own, hull_multiplier(np.asarray(own[0]), np.asarray(x[0])))
    if rules.retarget_eyes or rules.retarget_lips:
        assert driver is not None
        x = (own if rules.relative else x) + _retargeted(source, rules, correctors, driver)
        x = _stitched(own, x, rules, correctors)
    else:
        x = _stitched(own, x, rules, correctors)
        if rules.close_lips and rules.relative and float(np.asarray(source.lips).squeeze()) >= OPEN_LIPS:
            asked = jnp.asarray([[float(np.asarray(source.lips).squeeze()), 0.0]], jnp.float32)
            x = x + _answer(correctors.lips, own, asked)
    return amplify(x, own, own, rules.multiplier)


def _stitched(own: Array, x: Array, rules: Rules, correctors: Correctors) -> Array:
    if not rules.stitching:
        return x
    both = jnp.concatenate([jnp.broadcast_to(own, x.shape), x], 1).reshape(len(x), -1)
    return correct(x, jnp.asarray(correctors.stitching(both)))


def _retargeted(source: Source, rules: Rules, correctors: Correctors, driver: DrivingMotion) -> Array:
    """What the eye and lip networks answer; of the driver's eyes the left one alone counts."""
    count = len(driver.motion.scale)
    total = jnp.zeros((count, 21, 3))
    if rules.retarget_eyes:
        asked = jnp.asarray(driver.eyes)[:, :1]
        total += _answer(correctors.eyes, source.placed, jnp.concatenate([_rows_of(source.eyes, count), asked], 1))
    if rules.retarget_lips:
        asked = jnp.asarray(driver.lips)
        total += _answer(correctors.lips, source.placed, jnp.concatenate([_rows_of(source.lips, count), asked], 1))
    return total


def _answer(network: Callable[[Any], Any], own: Array, asked: Float[Array, "t k"]) -> Float[Array, "t 21 3"]:
    features = jnp.concatenate([_rows_of(own.reshape(-1), len(asked)), asked], 1)
    return jnp.asarray(network(features)).reshape(-1, 21, 3)


def _rows_of(row: Any, count: int) -> Array:
    row = jnp.asarray(row).reshape(-1)
    return jnp.broadcast_to(row, (count, row.shape[0]))


def _rows(points: Any) -> np.ndarray:
    """(1, 21, 1): whether a keypoint is among some."""
    return np.isin(np.arange(21), list(points))[None, :, None]


def _lead(motion: HeadMotion) -> HeadMotion:
    return HeadMotion(*(jnp.asarray(part)[None] for part in motion))
