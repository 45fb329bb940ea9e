"""The probe: a small network that reads mouth, lids, gaze and head pose off a frame of the synthetic world.

Trained on true frames only, of people (the "probe" split) that no other network meets; never a loss. It judges what
VASA-1 section 4 judges with estimators trained by others: what the mouth does, whether the eyes look where they should,
how the head is turned.

Two trunks of four strided convolutions: one reads the pose from the whole picture, the other everything
else from the upright face crop at that pose (`geometry.picture.face_crop`), so that reading a mouth does not depend on
where the head is. Training pictures are mirrored, recoloured and blurred at random, because generated frames are softer
than true ones; the crop is jittered by as much as the pose trunk errs. Everything is drawn from fixed keys: the same
machine makes the same probe.
"""

import dataclasses
import functools
import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import Array, Float, UInt8

from vasa_jax.autoencoder.losses import halve
from vasa_jax.errors import UserError
from vasa_jax.files import whole_file
from vasa_jax.geometry.picture import face_crop
from vasa_jax.geometry.rotation import gaze_in_head
from vasa_jax.metrics.correlation import pearson
from vasa_jax.metrics.transfer import people_of, photograph, random_states
from vasa_jax.synthetic.render import labels
from vasa_jax.synthetic.splits import seeds

POSE_UNIT = (0.3, 0.3, 0.3, 0.1, 0.1, 0.15)
FACE_UNIT = (0.3, 0.3, 0.3, 0.3, 0.3)
"""Scales that the network's outputs are multiplied by: pose vector; mouth, two lids, gaze in the head (two angles)."""
_MIRROR_POSE = (1.0, -1.0, -1.0, -1.0, 1.0, 1.0)
_CHUNK = 64
POSE_SIZE = 64
"""The pose trunk sees pictures that are halved until their side is at most this."""
DRAW = 4
"""Which of a person's random states the probe sees; `metrics.transfer` uses those before."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProbeConfig:
    """Sizes and training of the probe."""

    size: int = 128  # side of the frames in pixels
    crop: int = 96  # side of the face crop in pixels
    reach: float = 0.6  # half the side of the crop in canonical head units
    widths: tuple[int, ...] = (16, 32, 64, 96)  # channels of the strided convolutions of each trunk
    hidden: int = 128  # width of the layer before the outputs
    people: int = 6144  # training frames, each of another person
    steps: int = 2000  # steps of training
    batch: int = 64  # frames a step
    learning_rate: float = 2e-3  # peak of the cosine schedule

    def __post_init__(self):
        if min(self.size, self.crop, self.people, self.steps, self.batch, self.hidden, *self.widths) < 1:
            raise UserError(f"{self}: every size and count must be 1 or more")


class Reading(NamedTuple):
    """What the probe reads, or what is true.

    pose: (..., 6) as everywhere. mouth: (...,) inner-lip opening 0..1. lids: (..., 2) viewer's left and right eye,
    0..1. gaze: (..., 2) theta, phi in the head, radians.
    """

    pose: Any
    mouth: Any
    lids: Any
    gaze: Any


class Trunk(nn.Module):
    """Strided 3x3 convolutions with GroupNorm and GELU, then two dense layers."""

    widths: tuple[int, ...]
    hidden: int
    outputs: int

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b k"]:
        """Pictures 0..1 to `outputs` numbers of order 1."""
        x = x - 0.5
        for i, width in enumerate(self.widths):
            x = nn.Conv(width, (3, 3), strides=2, name=f"conv_{i}")(x)
            x = nn.gelu(nn.GroupNorm(num_groups=None, group_size=min(8, width), name=f"norm_{i}")(x))
        x = nn.gelu(nn.Dense(self.hidden, name="hidden")(x.reshape(x.shape[0], -1)))
        return nn.Dense(self.outputs, name="out")(x)


class Probe(nn.Module):
    """Frames to readings."""

    config: ProbeConfig

    def setup(self):
        """The two trunks."""
        config = self.config
        self.pose_trunk = Trunk(config.widths, config.hidden, len(POSE_UNIT))
        self.face_trunk = Trunk(config.widths, config.hidden, len(FACE_UNIT))

    def __call__(
        self, frames: Float[Array, "b h w 3"], crop_pose: Float[Array, "b 6"] | None = None
    ) -> tuple[Float[Array, "b 6"], Float[Array, "b 5"]]:
        """Pose, and (mouth, lids, gaze in the head), in their own units.

        Args:
            frames: (b, size, size, 3), 0..1.
            crop_pose: where to crop the face; None uses the pose just read.
        """
        whole = frames
        while whole.shape[1] > POSE_SIZE and whole.shape[1] % 2 == 0:
            whole = halve(whole)
        pose = self.pose_trunk(whole) * jnp.asarray(POSE_UNIT)[None]
        crop = face_crop(frames, pose if crop_pose is None else crop_pose, self.config.crop, self.config.reach)
        return pose, self.face_trunk(crop) * jnp.asarray(FACE_UNIT)[None]


def read(config: ProbeConfig, params: dict[str, Any], frames: Float[np.ndarray, "t h w 3"]) -> Reading:
    """What the probe sees in any number of frames (0..1, side `config.size`); numpy arrays with a leading t."""
    count = len(frames)
    padded = np.concatenate([frames, np.zeros((-count % _CHUNK, *frames.shape[1:]), frames.dtype)])
    parts = [
        jax.device_get(_apply(config, params, jnp.asarray(padded[first : first + _CHUNK], jnp.float32)))
        for first in range(0, len(padded), _CHUNK)
    ]
    pose, face = (np.concatenate(part)[:count] for part in zip(*parts, strict=True))
    return Reading(pose, face[:, 0], face[:, 1:3], face[:, 3:5])


def load_or_train(folder: str | Path, config: ProbeConfig = ProbeConfig()) -> dict[str, Any]:
    """The probe's parameters, from `folder` if a probe of the same world is kept there, else trained and kept.

    The file's name carries a digest of the config and of a few training frames, so that a change of the world is
    noticed.
    """
    frames, truth = world_frames(seeds("probe")[:_CHUNK], config.size)
    identity = hashlib.sha256(repr(config).encode() + (frames // 8).tobytes() + np.round(truth, 3).tobytes())
    path = Path(folder) / f"probe-{identity.hexdigest()[:16]}.npz"
    if path.is_file():
        with np.load(path) as stored:
            return unflatten_dict({tuple(name.split("/")): jnp.asarray(stored[name]) for name in stored.files})
    params = train(config)
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays: Any = {"/".join(name): np.asarray(value) for name, value in flatten_dict(params).items()}
    with whole_file(path) as hidden:
        np.savez(hidden, **arrays)
    return params


def train(config: ProbeConfig) -> dict[str, Any]:
    """Render `config.people` true frames and fit the probe to their labels; deterministic on one machine."""
    batches = [
        world_frames(seeds("probe")[first : first + _CHUNK], config.size) for first in range(0, config.people, _CHUNK)
    ]
    frames, truth = (np.concatenate(part) for part in zip(*batches, strict=True))
    params = Probe(config).init(jax.random.key(1), jnp.zeros((1, config.size, config.size, 3)))["params"]
    optimiser = _optimiser(config)
    state = (params, optimiser.init(params))
    for step, rows in enumerate(_shuffled(len(frames), config.batch, config.steps)):
        state = _train_step(config, state, jnp.asarray(frames[rows]), jnp.asarray(truth[rows]), jnp.asarray(step))
    fitted: Any = state[0]
    return fitted


def world_frames(people: Sequence[int], size: int) -> tuple[UInt8[np.ndarray, "b h w 3"], Float[np.ndarray, "b 11"]]:
    """One random true frame of each person with its labels: pose (6), mouth (1), lids (2), gaze in the head (2)."""
    identity, states = people_of(people), random_states(people, DRAW)
    true = {name: np.asarray(value) for name, value in labels(identity, states).items()}
    gaze = np.asarray(gaze_in_head(jnp.asarray(true["gaze"]), jnp.asarray(true["pose"])))
    pictures = np.round(photograph(identity, states, size) * 255).astype(np.uint8)
    return pictures, np.concatenate([true["pose"], true["mouth"].reshape(-1, 1), true["lids"], gaze], -1)


def as_reading(truth: Float[np.ndarray, "b 11"]) -> Reading:
    """Label rows of `world_frames` as a `Reading`."""
    return Reading(truth[:, :6], truth[:, 6], truth[:, 7:9], truth[:, 9:11])


def error(reading: Reading, truth: Reading) -> dict[str, float]:
    """How well readings follow the truth over frames: correlations, and mean absolute errors (angles in degrees)."""
    columns = {
        "mouth": (reading.mouth, truth.mouth, 1.0),
        "lids": (reading.lids.mean(-1), truth.lids.mean(-1), 1.0),
        "gaze_x_deg": (reading.gaze[..., 0], truth.gaze[..., 0], 180 / np.pi),
        "gaze_y_deg": (reading.gaze[..., 1], truth.gaze[..., 1], 180 / np.pi),
        "pitch_deg": (reading.pose[..., 0], truth.pose[..., 0], 180 / np.pi),
        "yaw_deg": (reading.pose[..., 1], truth.pose[..., 1], 180 / np.pi),
        "roll_deg": (reading.pose[..., 2], truth.pose[..., 2], 180 / np.pi),
    }
    rows = {}
    for name, (seen, true, unit) in columns.items():
        rows[f"{name}/error"] = float(np.abs(seen - true).mean() * unit)
        rows[f"{name}/correlation"] = pearson(seen, true)
    return rows


def _optimiser(config: ProbeConfig) -> optax.GradientTransformation:
    rate = optax.warmup_cosine_decay_schedule(
        0.0, config.learning_rate, max(1, config.steps // 20), config.steps, 0.01 * config.learning_rate
    )
    return optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(rate, weight_decay=1e-3))


def _shuffled(count: int, batch: int, steps: int) -> Iterator[np.ndarray]:
    """Rows of `steps` batches: epochs of the whole set, each in another fixed order."""
    random = np.random.default_rng(5)
    order = np.empty(0, np.int64)
    for _ in range(steps):
        while len(order) < batch:
            order = np.concatenate([order, random.permutation(count)])
        yield order[:batch]
        order = order[batch:]


@functools.partial(jax.jit, static_argnums=0, donate_argnums=1)
def _train_step(
    config: ProbeConfig,
    state: tuple[Any, Any],
    frames: UInt8[Array, "b h w 3"],
    truth: Float[Array, "b 11"],
    step: Array,
) -> tuple[Any, Any]:
    params, moments = state
    augment_key, jitter_key = jax.random.split(jax.random.fold_in(jax.random.key(2), step))
    keys = jax.random.split(augment_key, len(frames))
    pictures, truth = jax.vmap(_augment)(keys, frames.astype(jnp.float32) / 255.0, truth)
    jitter = jnp.asarray([0.03, 0.03, 0.03, 0.015, 0.015, 0.03])[None] * jax.random.normal(jitter_key, (len(frames), 6))

    def loss(params: Any) -> Array:
        told: Any = Probe(config).apply({"params": params}, pictures, truth[:, :6] + jitter)
        pose, face = told
        pose_error = (pose - truth[:, :6]) / jnp.asarray(POSE_UNIT)[None]
        face_error = (face - truth[:, 6:]) / jnp.asarray(FACE_UNIT)[None]
        return jnp.square(pose_error).mean() + jnp.square(face_error).mean()

    updates, moments = _optimiser(config).update(jax.grad(loss)(params), moments, params)
    return optax.apply_updates(params, updates), moments


def _augment(key: Array, frame: Float[Array, "h w 3"], truth: Float[Array, " 11"]) -> tuple[Array, Array]:
    """A frame mirrored (with its labels), recoloured and blurred at random."""
    flip, colour, soft = jax.random.split(key, 3)
    pose, mouth, lids, gaze = truth[:6], truth[6:7], truth[8:6:-1], truth[9:11]
    mirrored = jnp.concatenate([pose * jnp.asarray(_MIRROR_POSE), mouth, lids, gaze * jnp.asarray([-1.0, 1.0])])
    flipped = jax.random.bernoulli(flip)
    frame, truth = jnp.where(flipped, frame[:, ::-1], frame), jnp.where(flipped, mirrored, truth)
    gain, shift = jax.random.normal(colour, (2, 3))
    frame = frame * (1.0 + 0.06 * gain)[None, None] + 0.03 * shift[None, None]
    blurred = frame
    for _ in range(3):
        blurred = 0.5 * blurred + 0.25 * (jnp.roll(blurred, 1, 0) + jnp.roll(blurred, -1, 0))
        blurred = 0.5 * blurred + 0.25 * (jnp.roll(blurred, 1, 1) + jnp.roll(blurred, -1, 1))
    share = jnp.maximum(jax.random.uniform(soft, minval=-1.0), 0.0)  # half of the frames stay sharp
    return jnp.clip(frame + share * (blurred - frame), 0.0, 1.0), truth


@functools.partial(jax.jit, static_argnums=0)
def _apply(config: ProbeConfig, params: dict[str, Any], frames: Array) -> tuple[Array, Array]:
    told: Any = Probe(config).apply({"params": params}, frames)
    return told
