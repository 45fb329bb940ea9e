"""How much of a driver's expression arrives in the picture: transfer gain, and reconstruction on unseen people.

The face latent space (VASA-1 section 3.1) may learn pose and colours and nothing else, and PSNR does not show it: a
blurred eye beats a sharp wrong one. So the world changes ONE control c of a driver frame and we look at what changes in
the picture:

    gain(c) = <d_out, d_true> / <d_true, d_true>          (1)

d_true is the change of the world's picture, d_out the change of the network's picture of the same person, encoded from
another frame (the source), when its motion encoder is shown the two driver frames. Products run over all pixels,
colours and people. 1 is perfect, 0 is nothing; a change at the wrong place adds nothing, so (1) punishes blur and a
wrong head pose too.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, UInt8

from vasa_jax.arrays import Motion, Portrait
from vasa_jax.autoencoder.config import AutoencoderConfig
from vasa_jax.autoencoder.model import Autoencoder
from vasa_jax.errors import UserError
from vasa_jax.geometry.picture import face_crop_grid
from vasa_jax.synthetic.identity import Identity, sample_identity
from vasa_jax.synthetic.render import labels, render
from vasa_jax.synthetic.splits import seeds as seeds_of
from vasa_jax.synthetic.state import State, random_state, with_head_pose

BATCH = 16
"""People in one call of the network: counts that are multiples of it compile each function once."""
KEPT_SIZE = 256
"""Side of the largest pictures that are rendered once for all evaluations of a run: at 512 a chunk takes 600 MB."""
CONTROLS = {
    "jaw": (0.05, 0.8),
    "gaze_x": (-0.4, 0.4),
    "gaze_y": (-0.3, 0.3),
    "lids": (0.1, 0.9),
    "corner_pull": (-0.8, 0.8),
    "rounding": (0.05, 0.9),
    "lip_width": (-0.9, 0.9),
    "brow_raise": (-0.8, 0.8),
    "yaw": (-0.35, 0.35),
    "pitch": (-0.2, 0.2),
}
"""The controls of (1) with the two values they move to, in units of `synthetic.state.State` (angles in radians)."""
FACE_RADIUS = 0.5
"""Of the disc that counts as the face, in canonical head units."""
POSE_CONTROLS = ("yaw", "pitch")
_VECTORS = {"gaze_x": ("gaze", 0), "gaze_y": ("gaze", 1), "pitch": ("rotation", 0), "yaw": ("rotation", 1)}
_POSE_ERRORS = ("pitch_deg", "yaw_deg", "roll_deg", "tx", "ty", "log_distance")


class Face(NamedTuple):
    """A face model as three functions of pictures (b, h, w, 3) float32 0..1; a test may put an oracle in its place.

    encode: pictures to portraits, any pytree with leading axis b.
    motion: pictures to `Motion` (pose (b, 6), dynamics (b, z)).
    render: (portraits, motion) to pictures.
    """

    encode: Callable[[Array], Any]
    motion: Callable[[Array], Motion]
    render: Callable[[Any, Motion], Array]


class DrivenFrames(NamedTuple):
    """World frames of one chunk of people, numpy, float32 0..1; every person has one source and one base driver.

    source: (b, h, w, 3), the frame that the portrait is encoded from.
    base: (b, h, w, 3), the driver before the change.
    changed: per control the driver after it, (b, h, w, 3) each.
    """

    source: np.ndarray
    base: np.ndarray
    changed: dict[str, np.ndarray]


class Pairs(NamedTuple):
    """Two independent frames of each of b people with the truth of the second, numpy.

    source, driver: (b, h, w, 3) float32 0..1.
    pose: (b, 6), gaze: (b, 2) in the camera frame, mouth: (b,), lids: (b, 2) of the driver.
    regions: (b, 3, 4), its two eyes and mouth as (cx, cy, rx, ry) in crop units.
    copied: (b, h, w, 3), the source's expression and gaze at the driver's head pose: what pose alone can give.
    """

    source: np.ndarray
    driver: np.ndarray
    pose: np.ndarray
    gaze: np.ndarray
    mouth: np.ndarray
    lids: np.ndarray
    regions: np.ndarray
    copied: np.ndarray


def network_face(config: AutoencoderConfig, params: dict[str, Any]) -> Face:
    """The trained autoencoder as a `Face`; `params` is that of the `Autoencoder` alone. Compiled once a config."""
    return Face(
        functools.partial(_encode, config, params),
        functools.partial(_motion, config, params),
        functools.partial(_render, config, params),
    )


def evaluate(config: AutoencoderConfig, params: dict[str, Any], count: int = 16) -> dict[str, float]:
    """What the training loop logs beside the loss, on people of the validation split.

    Args:
        config: the network's sizes.
        params: stage-1 parameters, with the network's under "autoencoder".
        count: people behind every gain; three times as many behind PSNR and pose errors.

    Returns:
        `gain/<control>`; `psnr/all`, `psnr/eyes`, `psnr/mouth` in dB; `pose/<angle>_deg`, `pose/tx`, `pose/ty` and
        `pose/log_distance`.
    """
    face = network_face(config, params["autoencoder"])
    people = seeds_of("validation")
    gains = transfer_gain(face, people[:count], config.image_size)
    rebuilt = held_out_psnr(face, people[count : 4 * count], config.image_size)
    return {f"gain/{control}": gain for control, gain in gains.items()} | rebuilt


def transfer_gain(
    face: Face,
    seeds: Sequence[int],
    size: int,
    controls: Sequence[str] = tuple(CONTROLS),
    own_pose: bool = False,
) -> dict[str, float]:
    """Equation (1) for each control.

    The pose is always the network's own prediction, never the label. For a control of the expression both pictures are
    rendered at the pose predicted for the base driver, so that only the dynamics code carries the change; with
    `own_pose` each picture gets the pose predicted for its own driver, so that a pose that wobbles with the expression
    counts too. The pose controls (yaw, pitch) always do.

    Args:
        face: the model to judge.
        seeds: people of the world; one source and one base driver each, the same on every call.
        size: side of the pictures in pixels.
        controls: names out of `CONTROLS`.
        own_pose: see above.

    Returns:
        The gain of each control, in the order of `controls`.

    Raises:
        UserError: if a control is unknown or there are no seeds.
    """
    products = gain_products(face, seeds, size, controls, own_pose)
    return {control: float(along.sum() / max(total.sum(), 1e-12)) for control, (along, total) in products.items()}


def gain_products(
    face: Face,
    seeds: Sequence[int],
    size: int,
    controls: Sequence[str] = tuple(CONTROLS),
    own_pose: bool = False,
) -> dict[str, tuple[Float[np.ndarray, " b"], Float[np.ndarray, " b"]]]:
    """Both products of equation (1) for each control and person; arguments and errors as of `transfer_gain`."""
    if unknown := [control for control in controls if control not in CONTROLS]:
        raise UserError(f"control={unknown[0]!r} is unknown; choose among {', '.join(CONTROLS)}")
    if not seeds:
        raise UserError("seeds is empty: a gain needs at least one person")
    parts: dict[str, list[np.ndarray]] = {control: [] for control in controls}
    for chunk in batched(seeds):
        frames = driven_frames(chunk, size, tuple(controls))
        portrait = face.encode(jax.device_put(frames.source))
        base_motion = face.motion(jax.device_put(frames.base))
        base = _host(face.render(portrait, base_motion))
        for control, changed in frames.changed.items():
            motion = face.motion(jax.device_put(changed))
            if not own_pose and control not in POSE_CONTROLS:
                motion = Motion(base_motion.pose, motion.dynamics)
            d_out = _host(face.render(portrait, motion)) - base
            d_true = changed.astype(np.float64) - frames.base
            parts[control].append(np.stack([(d_out * d_true).sum((1, 2, 3)), (d_true * d_true).sum((1, 2, 3))]))
    joined = {control: np.concatenate(part, 1) for control, part in parts.items()}
    return {control: (along, total) for control, (along, total) in joined.items()}


def held_out_psnr(face: Face, seeds: Sequence[int], size: int) -> dict[str, float]:
    """Self-driven reconstruction: a source and an independent driver of one person, at the predicted pose.

    Args:
        face: the model to judge.
        seeds: people of the world, one pair of frames each.
        size: side of the pictures in pixels.

    Returns:
        Means over pictures of what `reconstructions` measures.
    """
    return {name: float(values.mean()) for name, values in reconstructions(face, seeds, size).items()}


def reconstructions(face: Face, seeds: Sequence[int], size: int) -> dict[str, Float[np.ndarray, " b"]]:
    """Self-driven reconstruction of every person; arguments as of `held_out_psnr`.

    Returns:
        PSNR in dB of the whole picture, inside the ellipses of both eyes and of the mouth (`psnr/all`, `psnr/eyes`,
        `psnr/mouth`), the absolute pose errors (`pose/pitch_deg`, `pose/yaw_deg`, `pose/roll_deg` in degrees,
        `pose/tx`, `pose/ty` in crop units, `pose/log_distance`), and the high-frequency energy of the picture and of
        the true one (`detail/made`, `detail/true`; see `detail`).
    """
    rows: list[dict[str, np.ndarray]] = []
    for chunk in batched(seeds):
        pairs = world_pairs(chunk, size)
        motion = face.motion(jax.device_put(pairs.driver))
        picture = _host(face.render(face.encode(jax.device_put(pairs.source)), motion))
        error = np.abs(_host(motion.pose) - pairs.pose)
        error[:, :3] = np.degrees(error[:, :3])
        rows.append(picture_psnr(picture, pairs.driver, pairs.regions))
        rows[-1] |= {f"pose/{name}": error[:, i] for i, name in enumerate(_POSE_ERRORS)}
        rows[-1] |= {"detail/made": detail(picture), "detail/true": detail(pairs.driver)}
    return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}


def detail(picture: Float[np.ndarray, "b h w 3"]) -> Float[np.ndarray, " b"]:
    """High-frequency energy of pictures: the mean square of what a picture departs from its 3x3 mean by."""
    picture = np.asarray(picture, np.float64)
    inner = picture[:, 1:-1, 1:-1]
    height, width = inner.shape[1:3]
    around = sum(picture[:, y : y + height, x : x + width] for y in range(3) for x in range(3))
    return np.square(inner - around / 9).mean((1, 2, 3))


def finest_octave(picture: Float[np.ndarray, "b h w 3"]) -> Float[np.ndarray, "b h w"]:
    """Energy of the finest level of the Laplacian pyramid (Burt and Adelson 1983, "The Laplacian Pyramid as a Compact
    Image Code") at each pixel: the square of what a picture departs by from itself at half the side, mean of the
    colours; filters are binomial, of five taps, and borders are repeated."""

    def along(x: np.ndarray, axis: int) -> np.ndarray:
        count = x.shape[axis]
        padded = np.take(x, np.clip(np.arange(-2, count + 2), 0, count - 1), axis)
        parts = [weight / 16 * np.take(padded, range(k, k + count), axis) for k, weight in enumerate((1, 4, 6, 4, 1))]
        return np.sum(parts, axis=0)

    def blur(x: np.ndarray) -> np.ndarray:
        return along(along(x, 1), 2)

    picture = np.asarray(picture, np.float64)
    halved, places = np.zeros_like(picture), np.zeros((1, *picture.shape[1:3], 1))
    halved[:, ::2, ::2], places[:, ::2, ::2] = blur(picture)[:, ::2, ::2], 1.0
    return np.square(picture - blur(halved) / blur(places)).mean(-1)


def face_disc(pose: Float[np.ndarray, "n 6"], size: int) -> Bool[np.ndarray, "n h w"]:
    """The face of heads at some poses, in pictures of `size` pixels: a disc of half a head around the point between
    nose and mouth."""
    centre = np.asarray(face_crop_grid(jnp.asarray(pose), 1, 0.0))
    side = np.linspace(-1.0, 1.0, size)
    radius = FACE_RADIUS * np.exp(-pose[:, 5])[:, None, None]
    return np.hypot(side[None, None, :] - centre[..., 0], side[None, :, None] - centre[..., 1]) < radius


def masked_psnr(
    picture: Float[np.ndarray, "n h w 3"], truth: Float[np.ndarray, "n h w 3"], mask: Bool[np.ndarray, "n h w"]
) -> Float[np.ndarray, " n"]:
    """PSNR in dB of each picture inside of its mask."""
    square = np.square(picture.astype(np.float64) - truth).mean(-1)
    return -10.0 * np.log10((square * mask).sum((1, 2)) / np.maximum(mask.sum((1, 2)), 1) + 1e-10)


def clip_psnr(face: Face, frames: UInt8[np.ndarray, "b n h w 3"]) -> float:
    """Self-driven reconstruction of any clips, without labels: every clip's first frame, moved as its others.

    Args:
        face: the model to judge.
        frames: n frames of each of b clips, n at least 2.

    Returns:
        The mean PSNR in dB over b (n - 1) pictures, at the pose that the model predicts.
    """
    source = np.repeat(frames[:, :1], frames.shape[1] - 1, 1)
    sources, drivers = (np.float32(x.reshape(-1, *x.shape[2:])) / 255.0 for x in (source, frames[:, 1:]))
    picture = _in_chunks(lambda pair: face.render(face.encode(pair[0]), face.motion(pair[1])), (sources, drivers))
    square = np.square(picture.astype(np.float64) - drivers).mean((1, 2, 3))
    return float((-10.0 * np.log10(square + 1e-10)).mean())


def follow(
    face: Face, source: UInt8[np.ndarray, "h w 3"], frames: UInt8[np.ndarray, "t h w 3"]
) -> UInt8[np.ndarray, "t h w 3"]:
    """One picture, moved as a clip moves."""
    drivers = np.float32(frames) / 255.0
    sources = np.broadcast_to(np.float32(source) / 255.0, drivers.shape)
    picture = _in_chunks(lambda pair: face.render(face.encode(pair[0]), face.motion(pair[1])), (sources, drivers))
    return np.round(np.clip(picture, 0.0, 1.0) * 255.0).astype(np.uint8)


def picture_psnr(
    picture: Float[np.ndarray, "b h w 3"], target: Float[np.ndarray, "b h w 3"], regions: Float[np.ndarray, "b 3 4"]
) -> dict[str, Float[np.ndarray, " b"]]:
    """PSNR in dB per picture: `psnr/all`, and inside the ellipses `psnr/eyes` (both) and `psnr/mouth`.

    Args:
        picture, target: pictures, 0..1.
        regions: eyes and mouth as (cx, cy, rx, ry) in crop units; an ellipse covers at least the pixel at its centre.
    """
    square = np.square(picture.astype(np.float64) - target).mean(-1)
    size = square.shape[1]
    side = np.linspace(-1.0, 1.0, size)
    cx, cy, rx, ry = (part[:, :, None, None] for part in np.moveaxis(np.asarray(regions, np.float64), -1, 0))
    x = (side[None, None, None, :] - cx) / np.maximum(rx, 1.5 / size)
    y = (side[None, None, :, None] - cy) / np.maximum(ry, 1.5 / size)
    inside = x * x + y * y <= 1.0
    masks = {"all": np.ones_like(square), "eyes": inside[:, :2].any(1), "mouth": inside[:, 2]}
    psnr = {}
    for name, mask in masks.items():
        mean = (square * mask).sum((1, 2)) / np.maximum(mask.sum((1, 2)), 1)
        psnr[f"psnr/{name}"] = -10.0 * np.log10(mean + 1e-10)
    return psnr


def _kept(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function of (seeds, size, ...), which keeps its last results, but not those of large pictures."""
    cached = functools.lru_cache(maxsize=8)(function)

    @functools.wraps(function)
    def either(seeds: tuple[int, ...], size: int, *more: Any) -> Any:
        return (cached if size <= KEPT_SIZE else function)(seeds, size, *more)

    return either


@_kept
def driven_frames(seeds: tuple[int, ...], size: int, controls: tuple[str, ...]) -> DrivenFrames:
    """World frames behind `transfer_gain` for a chunk of people; rendered once and kept.

    The base driver has its eyes open (so that gaze can be seen) and is random otherwise. Each control moves to
    whichever of its two values in `CONTROLS` lies farther from the base's.
    """
    people = people_of(seeds)
    source, base = random_states(seeds, 0), random_states(seeds, 1)
    base = base._replace(lids=np.maximum(base.lids, 0.6))
    changed = {control: photograph(people, _move(base, control), size) for control in controls}
    return DrivenFrames(photograph(people, source, size), photograph(people, base, size), changed)


@_kept
def world_pairs(seeds: tuple[int, ...], size: int) -> Pairs:
    """World frames behind `held_out_psnr` for a chunk of people; rendered once and kept."""
    people = people_of(seeds)
    source, driver = random_states(seeds, 2), random_states(seeds, 3)
    posed = with_head_pose(source, driver)
    truth = {name: np.asarray(value) for name, value in labels(people, driver).items()}
    pictures = [photograph(people, state, size) for state in (source, driver, posed)]
    mouth = truth["mouth"].reshape(len(seeds))
    labelled = (truth["pose"], truth["gaze"], mouth, truth["lids"], truth["regions"])
    return Pairs(pictures[0], pictures[1], *labelled, pictures[2])


def people_of(seeds: Sequence[int]) -> Identity:
    """The people of some seeds, (b,): those of `identity_from_seed`, many at once."""
    return _in_chunks(_people, np.asarray(seeds, np.uint32))


def random_states(seeds: Sequence[int], index: int) -> State:
    """One `random_state` a seed, (b, ...); `index` gives further independent ones."""
    return _in_chunks(functools.partial(_states, jnp.asarray(index)), np.asarray(seeds, np.uint32))


def photograph(people: Identity, states: State, size: int) -> Float[np.ndarray, "b h w 3"]:
    """Pictures 0..1 of b people in b states, `BATCH` at a time, so that each size is compiled once."""
    return _in_chunks(lambda pair: render(pair[0], pair[1], size), (people, states))


def _in_chunks(function: Callable[[Any], Any], rows: Any) -> Any:
    """A function of pytrees with leading axis b, on chunks of `BATCH` rows, the last one filled up; numpy arrays."""
    count = len(jax.tree.leaves(rows)[0])
    parts = []
    for first in range(0, count, BATCH):
        index = np.minimum(np.arange(first, first + BATCH), count - 1)
        part = jax.device_get(function(jax.tree.map(lambda x, index=index: np.asarray(x)[index], rows)))
        parts.append(jax.tree.map(lambda x, kept=count - first: x[:kept], part))
    return jax.tree.map(lambda *pieces: np.concatenate(pieces), *parts)


@jax.jit
def _people(seeds: Array) -> Identity:
    return jax.vmap(lambda seed: sample_identity(jax.random.fold_in(jax.random.key(0), seed)))(seeds)


@jax.jit
def _states(index: Array, seeds: Array) -> State:
    root = jax.random.fold_in(jax.random.key(7), index)
    return jax.vmap(lambda seed: random_state(jax.random.fold_in(root, seed)))(seeds)


def _move(state: State, control: str) -> State:
    """The state with one control at whichever of its two values is farther away."""
    low, high = CONTROLS[control]
    field, index = _VECTORS.get(control, (control, None))
    value = getattr(state, field)
    if index is None:
        return state._replace(**{field: np.where(value > 0.5 * (low + high), low, high).astype(np.float32)})
    moved = value.copy()
    moved[:, index] = np.where(value[:, index] > 0.5 * (low + high), low, high)
    return state._replace(**{field: moved})


def batched(seeds: Sequence[int]) -> list[tuple[int, ...]]:
    """Seeds in tuples of `BATCH`; the last one may be shorter."""
    return [tuple(seeds[first : first + BATCH]) for first in range(0, len(seeds), BATCH)]


def _host(x: Array) -> np.ndarray:
    """An array as float64 on the host."""
    return np.asarray(jax.device_get(x), np.float64)


@functools.partial(jax.jit, static_argnums=0)
def _encode(config: AutoencoderConfig, params: dict[str, Any], picture: Array) -> Portrait:
    portrait: Any = Autoencoder(config).apply({"params": params}, picture, method="encode")
    return portrait


@functools.partial(jax.jit, static_argnums=0)
def _motion(config: AutoencoderConfig, params: dict[str, Any], picture: Array) -> Motion:
    motion: Any = Autoencoder(config).apply({"params": params}, picture, method="motion")
    return Motion(motion.pose.astype(jnp.float32), motion.dynamics.astype(jnp.float32))


@functools.partial(jax.jit, static_argnums=0)
def _render(config: AutoencoderConfig, params: dict[str, Any], portrait: Portrait, motion: Motion) -> Array:
    picture: Any = Autoencoder(config).apply({"params": params}, portrait, motion, method="render")
    return picture.astype(jnp.float32)
