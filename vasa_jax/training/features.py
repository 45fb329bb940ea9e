"""The training of the world's feature network (`pretrained.world_features`): who, how turned, and what the face does.

A sample is n pictures of one person of the world in independent states, each with another light, background and
clothes. Pictures are recoloured, blurred and made noisy at random, since what the network has to judge later is
rendered, and softer than the world. Two kinds of views go through one trunk: whole pictures at half of their side, and
upright face crops at about the true pose, the first of them cut from a picture at its full side. Three terms:

1. who: the cosines of a crop's vector e with one row w_p for each person of the training clips, through a softmax in
   which the own person's angle counts for more by a margin m (ArcFace, Deng et al. 2019, equation 3),

       L = - log softmax_p(s cos(angle(e, w_p) + m [p is the own]))                                              (1)

   In the world a person *is* some numbers, so rows need not be learned from thousands of pictures of each: w_p are the
   numbers of the face (`TRAITS`), standardised. They are constants that depend on the seeds alone, and no sample sees
   another's;
2. the pose: squared error of the six numbers in `POSE_UNIT`, in whole pictures;
3. the expression: squared error of the twelve numbers in their units, in all views; the gaze of closed eyes does not
   count.
"""

import functools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

from vasa_jax.arrays import Average
from vasa_jax.autoencoder.augmentation import jitter_colour
from vasa_jax.data.pictures import reduce_picture
from vasa_jax.data.pipeline import Sample
from vasa_jax.data.records import CorruptRecordError, Record, StoredClip, write_clip
from vasa_jax.errors import UserError
from vasa_jax.geometry.picture import face_crop
from vasa_jax.geometry.rotation import gaze_in_head
from vasa_jax.metrics.recognition import explained, verification
from vasa_jax.nn import cost
from vasa_jax.nn.resize import average_pool, enlarge
from vasa_jax.pretrained import world_features
from vasa_jax.pretrained.world_features import EXPRESSION, POSE_UNIT, Seen, WorldFeaturesConfig
from vasa_jax.synthetic.identity import Identity, sample_identity
from vasa_jax.synthetic.render import labels, render
from vasa_jax.synthetic.state import State, random_state
from vasa_jax.training.config import FeaturesObjectiveConfig, PeopleWorld

CONTROLS = tuple(EXPRESSION)[5:]
"""Fields of `synthetic.state.State` that a record keeps as its label `controls`, in this order."""
LABELS = {"pose": (6,), "gaze": (2,), "mouth": (1,), "lids": (2,), "controls": (len(CONTROLS),)}
"""Labels a picture of a sample."""
SURROUNDINGS = (
    *("background_colour", "background_second_colour", "background_angle", "background_wave"),
    *("clothes_colour", "clothes_second_colour", "clothes_stripes", "collar", "light", "light_warmth"),
)
"""Fields of an identity that change from picture to picture of a clip: they are no part of a face."""
TRAITS = tuple(
    name
    for name in Identity._fields
    if name not in SURROUNDINGS
    and name not in ("neck_width", "shoulder_width", "hair_parting", "glasses_roundness", "glasses_colour")
)
"""Fields of an identity that say whose face it is."""
PEOPLE_MEASURED = 4096
"""People behind the mean and deviation of each trait."""
RENDER_BATCH = 24
"""Pictures in one call of the renderer."""
CROP_SPREAD = (1.0, 1.0, 1.0, 0.5, 0.5, 5.0)
"""How far the crop's pose is off, in units of `FeaturesObjectiveConfig.crop`: most in its scale."""
LOOKED_AT = 32
"""Pictures in one call of the network when it is judged."""
OPEN = 0.3
"""Opening of the lids from which gaze counts in full."""


def make_people(data: PeopleWorld, chosen: list[int], size: int) -> Iterator[Record]:
    """Records of the feature network: `data.frames` pictures of each person, with the labels `LABELS` and `identity`.

    Args:
        data: what to make.
        chosen: seeds.
        size: side of the pictures in pixels.
    """
    people = max(1, RENDER_BATCH // data.frames)
    for first in range(0, len(chosen), people):
        group = chosen[first : first + people]
        frames, truth = photograph_people(group, data.frames, size)
        for i, seed in enumerate(group):
            yield write_clip(frames[i], None, {k: v[i] for k, v in truth.items()} | {"identity": np.int64(seed)})


def photograph_people(
    members: Sequence[int], count: int, size: int
) -> tuple[UInt8[np.ndarray, "p n h w 3"], dict[str, np.ndarray]]:
    """Pictures of people by seed, (p, count, size, size, 3), and their labels `LABELS`, (p, count, ...); every picture
    has another state and other `SURROUNDINGS`."""
    people, parts = max(1, RENDER_BATCH // count), []
    for first in range(0, len(members), people):
        index = np.minimum(np.arange(first, first + people), len(members) - 1)  # one shape, compiled once
        parts.append(jax.device_get(_people(np.asarray(members, np.uint32)[index], count, size)))
    return jax.tree.map(lambda *pieces: np.concatenate(pieces)[: len(members)], *parts)


@functools.partial(jax.jit, static_argnums=(1, 2))
def _people(members: Array, count: int, size: int) -> tuple[Array, dict[str, Array]]:
    """Pictures uint8 (p, count, size, size, 3) and labels (p, count, ...) of people by seed."""

    def draw(seed: Array) -> tuple[Identity, State]:
        person = sample_identity(jax.random.fold_in(jax.random.key(0), seed))
        around = jax.vmap(sample_identity)(jax.random.split(jax.random.fold_in(jax.random.key(2), seed), count))
        many = jax.tree.map(lambda x: jnp.broadcast_to(x, (count, *x.shape)), person)
        states = jax.vmap(random_state)(jax.random.split(jax.random.fold_in(jax.random.key(3), seed), count))
        return many._replace(**{name: getattr(around, name) for name in SURROUNDINGS}), states

    people, states = jax.vmap(draw)(members)
    frames = jnp.round(render(people, states, size) * 255.0).astype(jnp.uint8)
    truth = labels(people, states) | {"controls": jnp.stack([getattr(states, name) for name in CONTROLS], -1)}
    return frames, {name: truth[name] for name in LABELS}


def people_sample(record: StoredClip, frames: int, size: int, first: int, rng: np.random.Generator | None) -> Sample:
    """Some pictures of a record at random, or without a generator the first ones, and their labels.

    `person`, int32, is the record's number among the training clips, of which the first has the seed `first`.

    Raises:
        CorruptRecordError: for a record with fewer pictures, of another size, or without the labels.
    """
    missing = [name for name in (*LABELS, "identity") if name not in record.labels]
    if missing or record.count < frames:
        raise CorruptRecordError(
            f"a clip of {record.count} frames without {', '.join(missing) or 'enough of them'}; a sample needs "
            f"{frames}, made by the world for this network"
        )
    chosen = np.arange(frames) if rng is None else rng.choice(record.count, frames, replace=False)
    kept = {name: np.asarray(record.labels[name], np.float32)[chosen] for name in LABELS}
    person = np.int32(int(record.labels["identity"]) - first)
    return {"frames": record.frames(chosen.tolist(), size), "person": person} | kept


def people_spec(batch_size: int, frames: int, size: int) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes of a batch of what `people_sample` gives."""
    shape = (batch_size, frames)
    return {
        "frames": jax.ShapeDtypeStruct((*shape, size, size, 3), jnp.uint8),
        "person": jax.ShapeDtypeStruct((batch_size,), jnp.int32),
    } | {name: jax.ShapeDtypeStruct((*shape, *rest), jnp.float32) for name, rest in LABELS.items()}


def check(config: WorldFeaturesConfig) -> None:
    """Raise UserError for a network whose vectors are not as long as the rows of equation 1."""
    person = jax.eval_shape(sample_identity, jax.random.key(0))
    length = sum(math.prod(getattr(person, name).shape) for name in TRAITS)
    if config.embedding != length:
        raise UserError(f"model.embedding={config.embedding} must be {length}, one for each number of a face")


def traits(seeds: Int[np.ndarray, " p"]) -> Float[np.ndarray, "p k"]:
    """w_p of equation 1 of people by seed, of unit length: their `TRAITS`, each less its mean in the world and divided
    by its deviation there."""
    usual = _traits(np.arange(PEOPLE_MEASURED, dtype=np.uint32))
    rows = (_traits(np.asarray(seeds, np.uint32)) - usual.mean(0)) / usual.std(0)
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def _traits(seeds: np.ndarray) -> np.ndarray:
    people = jax.device_get(_sample_people(seeds))
    return np.concatenate([np.float64(getattr(people, name)).reshape(len(seeds), -1) for name in TRAITS], 1)


@jax.jit
def _sample_people(seeds: Array) -> Identity:
    return jax.vmap(lambda seed: sample_identity(jax.random.fold_in(jax.random.key(0), seed)))(seeds)


def expression(batch: dict[str, Any]) -> Float[Array, "*b 12"]:
    """The true numbers of `EXPRESSION`, from the labels of a batch or a sample."""
    gaze = gaze_in_head(jnp.asarray(batch["gaze"]), jnp.asarray(batch["pose"]))
    return jnp.concatenate([batch["mouth"], batch["lids"], gaze, batch["controls"]], -1)


def loss(
    config: WorldFeaturesConfig,
    objective: FeaturesObjectiveConfig,
    params: Any,
    rows: Float[Array, "p k"],
    batch: dict[str, Any],
    keys: Any,
    dtype: Any = None,
) -> tuple[Float[Array, ""], dict[str, Average]]:
    """The module's three terms.

    Args:
        config: sizes of the network.
        objective: weights.
        params: of the network.
        rows: `traits` of the training people.
        batch: as `people_spec` says.
        keys: (b,), one a sample.
        dtype: of computation.

    Returns:
        The mean over the samples, and the terms as `Average`s: `identity`, `identity/known` (share of crops whose own
        row is the nearest), `pose`, `expression`.
    """
    b, n = batch["frames"].shape[:2]
    see = functools.partial(world_features.look, config, params, dtype=dtype)
    whole, crops = (_of_samples(see(_merged(view)), b) for view in views(config, objective, batch, keys))
    told = expression(batch)
    angles, known = recognition(objective, crops.identity, rows, batch["person"])
    terms = {
        "identity": angles.mean(1),
        "pose": _pose_error(whole.pose, batch["pose"]).mean(1),
        "expression": sum(_expression_error(seen.expression, told).mean(1) for seen in (whole, crops)),
    }
    total = sum(getattr(objective, name) * value for name, value in terms.items())
    counted = {name: Average(value.sum(), jnp.float32(b)) for name, value in terms.items()}
    return jnp.mean(total), counted | {"identity/known": Average(known.sum(), jnp.float32(b * n))}


def recognition(
    objective: FeaturesObjectiveConfig,
    codes: Float[Array, "b n k"],
    rows: Float[Array, "p k"],
    person: Int[Array, " b"],
) -> tuple[Float[Array, "b n"], Float[Array, "b n"]]:
    """Equation 1, and whether the own row is the nearest (1 or 0).

    Args:
        objective: with margin m and sharpness s.
        codes: e, of unit length.
        rows: w, of unit length.
        person: number of the own row.
    """
    cosines = codes @ rows.T
    own = jax.nn.one_hot(person, len(rows), dtype=jnp.bool_)[:, None]
    cosine = (cosines * own).sum(-1)
    sine = jnp.sqrt(jax.nn.relu(1.0 - jnp.square(cosine)) + 1e-6)
    behind = cosine * jnp.cos(objective.margin) - sine * jnp.sin(objective.margin)
    logits = objective.sharpness * jnp.where(own, behind[..., None], cosines)
    known = cosine >= cosines.max(-1)
    return jax.nn.logsumexp(logits, -1) - objective.sharpness * behind, known.astype(jnp.float32)


def views(
    config: WorldFeaturesConfig, objective: FeaturesObjectiveConfig, batch: dict[str, Any], keys: Any
) -> tuple[Float[Array, "b n h w 3"], Float[Array, "b n h2 w2 3"]]:
    """What the network sees of a batch, augmented: whole pictures at half of their side, and face crops."""

    def of_sample(key: Any, frames: UInt8[Array, "n h w 3"], pose: Float[Array, "n 6"]) -> tuple[Array, Array]:
        changed, shifted = jax.random.split(key)
        pictures, halve = frames.astype(jnp.float32) / 255.0, functools.partial(average_pool, factors=(2, 2))
        change = jax.vmap(functools.partial(_change, objective))
        each = jax.random.split(changed, len(frames))
        large, small = change(each[:1], pictures[:1]), change(each[1:], halve(pictures[1:]))
        off = pose + objective.crop * jnp.asarray(CROP_SPREAD)[None] * jax.random.normal(shifted, pose.shape)
        cut = functools.partial(face_crop, size=config.crop, reach=config.reach)
        return jnp.concatenate([halve(large), small]), jnp.concatenate([cut(large, off[:1]), cut(small, off[1:])])

    return jax.vmap(of_sample)(keys, batch["frames"], batch["pose"])


def _change(objective: FeaturesObjectiveConfig, key: Any, picture: Float[Array, "h w 3"]) -> Float[Array, "h w 3"]:
    """A picture recoloured, blurred by up to four pixels, and with noise."""
    colour, soft, amount, grain = jax.random.split(key, 4)
    picture = jitter_colour(colour, picture, objective.colour)
    share = objective.blur
    level = jax.nn.relu(jax.random.uniform(soft, minval=1.0 - 1.0 / share, maxval=1.0)) if share else 0.0
    softer = softened(picture, 2)
    picture = picture + jax.lax.clamp(0.0, 2.0 * level, 1.0) * (softer - picture)
    picture = picture + jax.nn.relu(2.0 * level - 1.0) * (softened(picture, 4) - picture)
    noise = objective.noise * jax.random.uniform(amount) * jax.random.normal(grain, picture.shape)
    return jax.lax.clamp(0.0, picture + noise, 1.0)


def softened(picture: Float[Array, "h w 3"], factor: int) -> Float[Array, "h w 3"]:
    """A picture without what a grid of `factor` pixels cannot hold."""
    coarse = average_pool(picture[None], (factor, factor))
    while factor > 1:
        coarse, factor = enlarge(coarse, (2, 2)), factor // 2
    return coarse[0]


def _merged(x: Float[Array, "b n h w 3"]) -> Float[Array, "m h w 3"]:
    return x.reshape(-1, *x.shape[2:])


def _of_samples(seen: Seen, b: int) -> Seen:
    """What is told of pictures, by sample, without the maps."""
    split = lambda x: x.reshape(b, -1, x.shape[-1])  # noqa: E731
    return Seen((), split(seen.identity), split(seen.pose), split(seen.expression))


def _pose_error(seen: Float[Array, "b n 6"], true: Float[Array, "b n 6"]) -> Float[Array, "b n"]:
    return jnp.square((seen - true) / jnp.asarray(POSE_UNIT)[None, None]).mean(-1)


def _expression_error(seen: Float[Array, "b n e"], true: Float[Array, "b n e"]) -> Float[Array, "b n"]:
    unit = jnp.asarray([unit for _, unit in EXPRESSION.values()])
    square = jnp.square((seen - true) / unit[None, None])
    open_ = jax.lax.clamp(0.0, true[..., 1:3].mean(-1, keepdims=True) / OPEN, 1.0)
    looks = jnp.asarray([name.startswith("gaze") for name in EXPRESSION])
    return (square * jnp.where(looks[None, None], open_, 1.0)).mean(-1)


def scores(config: WorldFeaturesConfig, params: Any, batch: dict[str, Any]) -> dict[str, float]:
    """What the network reads of true pictures at half of their side and in full: for each side, equal error rate and
    rank 1 of `metrics.recognition`, mean absolute errors of the angles in degrees, and R^2 of each expression.

    Args:
        config: sizes of the network.
        params: of the network.
        batch: pictures of people, at least two of each; see `people_spec`.
    """
    frames, b = np.asarray(batch["frames"]), len(batch["frames"])
    pose = np.asarray(batch["pose"]).reshape(-1, 6)
    told = np.asarray(expression(batch)).reshape(len(pose), -1)
    side, found = frames.shape[2], {}
    for size in (side // 2, side):
        pictures = np.stack([reduce_picture(frame, size) for frame in frames.reshape(-1, side, side, 3)])
        codes, poses, expressions = look_at(config, params, pictures, pose)
        told_apart = verification(codes.reshape(b, -1, codes.shape[-1]))
        found[f"equal_error_rate/{size}"], found[f"rank_1/{size}"] = told_apart.equal_error_rate, told_apart.rank_1
        errors = np.degrees(np.abs(poses - pose).mean(0))
        found |= {f"{name}_deg/{size}": float(errors[i]) for i, name in enumerate(("pitch", "yaw", "roll"))}
        squares = explained(expressions, told)
        found |= {f"r2/{name}/{size}": float(squares[i]) for i, name in enumerate(EXPRESSION)}
    return found


def look_at(
    config: WorldFeaturesConfig, params: Any, pictures: UInt8[np.ndarray, "m h w 3"], pose: Float[np.ndarray, "m 6"]
) -> tuple[Float[np.ndarray, "m k"], Float[np.ndarray, "m 6"], Float[np.ndarray, "m e"]]:
    """What is read of any number of pictures, `LOOKED_AT` at a time: codes of the face crops at the true poses, poses
    of the whole pictures, halved until their side is at most the crops', and expressions of the crops."""
    parts = []
    for first in range(0, len(pictures), LOOKED_AT):
        index = np.minimum(np.arange(first, first + LOOKED_AT), len(pictures) - 1)
        part = jax.device_get(_look(config, params, pictures[index], pose[index]))
        parts.append([x[: len(pictures) - first] for x in part])
    codes, poses, expressions = (np.concatenate(part) for part in zip(*parts, strict=True))
    return codes, poses, expressions


@functools.partial(jax.jit, static_argnums=0)
def _look(config: WorldFeaturesConfig, params: Any, pictures: Array, pose: Array) -> tuple[Array, Array, Array]:
    pictures = pictures.astype(jnp.float32) / 255.0
    face = world_features.look(config, params, face_crop(pictures, pose, config.crop, config.reach))
    while pictures.shape[1] > config.crop and pictures.shape[1] % 2 == 0:
        pictures = average_pool(pictures, (2, 2))
    return face.identity, world_features.look(config, params, pictures).pose, face.expression


def shown(
    config: WorldFeaturesConfig, objective: FeaturesObjectiveConfig, batch: dict[str, Any]
) -> Float[Array, "h w 3"]:
    """What the network sees of a batch: a row for each sample, of its pictures at half of their side and of its
    crops."""
    batch = {name: jnp.asarray(value) for name, value in batch.items()}
    whole, crops = views(config, objective, batch, jax.random.split(jax.random.key(0), len(batch["frames"])))
    side = whole.shape[2]
    crops = jax.vmap(lambda x: jax.image.resize(x, (x.shape[0], side, side, 3), "linear"))(crops)
    rows = jnp.concatenate([whole, crops], 1)
    return jnp.moveaxis(rows, 1, 2).reshape(-1, rows.shape[1] * side, 3)


def count_macs(config: WorldFeaturesConfig, size: int) -> int:
    """Multiply-adds of one picture of a side."""
    params = jax.eval_shape(functools.partial(world_features.init, config), jax.random.key(0))
    picture = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    return cost.count_macs(functools.partial(world_features.look, config), params, picture)
