"""The stage-1 objective: a source and some drivers of one clip in, one number out (VASA-1 section 3.1).

For frames 0 (source) and k = 1..n-1 (drivers) of a clip:

1. every frame's pose and dynamics are encoded from its augmented picture;
2. the source becomes a portrait: D's input volume V and identity code;
3. reconstruction: D(V_0, id_0, pose_k, dyn_k) against frame k, multi-scale L1, gradients and squares, weighted at
   eyes and mouth; and the change from one driver to the next against the true change, in which whatever is wrong with
   the person cancels;
4. where a record has them, the pose and the face-tracker labels (mouth and lid opening, gaze in the head) are
   regressed; the labels are the
   first numbers of the dynamics code, in units of LABEL_UNIT around LABEL_MEAN;
5. the rendered picture is encoded again (by encoders held fixed): its labels are the driver's, as MegaPortraits' gaze
   term asks, and its code
   is nearer to the driver's than to those of other frames of the record (contrastive cosine);
6. l_consist: with i = 0 and j = n-1, D(V_i, id_i, pose_i, dyn_j) and D(V_j, id_j, pose_i, dyn_j) are the
   same picture, and (EMOPortraits) both frames have the same canonical volume.

Warps use the labelled pose where there is one (VASA-1 takes it from a pretrained network) and the encoder's own
otherwise; and likewise the labelled numbers of the dynamics code. So the way from code to picture is trained from the
first step, before the encoder sees anything.
"""

import dataclasses
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vasa_jax.arrays import Average, Motion
from vasa_jax.autoencoder import augmentation, losses
from vasa_jax.autoencoder.augmentation import AugmentationConfig
from vasa_jax.autoencoder.config import LABEL_MEAN, LABEL_UNIT, AutoencoderConfig
from vasa_jax.autoencoder.model import FACE_REACH, Autoencoder
from vasa_jax.errors import UserError
from vasa_jax.geometry.picture import face_crop_grid, sample_2d
from vasa_jax.geometry.rotation import gaze_in_head

POSE_UNIT = (0.1, 0.1, 0.1, 0.05, 0.05, 0.05)
"""What one unit of pose error is: radians, crop units, log distance."""


TERMS = (
    "l1",
    "gradient",
    "square",
    "change",
    "pose",
    "labels",
    "rendered_labels",
    "contrastive",
    "consistency",
    "canonical",
)
"""The terms of the objective, each with a weight of its name."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ObjectiveConfig:
    """Weights of the terms of the stage-1 objective; one of weight 0 is neither computed nor logged."""

    l1: float = 1.0  # multi-scale L1
    gradient: float = 1.0  # multi-scale L1 of finite differences
    scales: int = 4  # octaves of both
    square: float = 1.0  # squared error
    change: float = 1.0  # squared error of the change between drivers; needs two or more of them
    region_weight: float = 4.0  # extra weight of eyes and mouth in all four
    pose: float = 0.05  # squared pose error, units of POSE_UNIT
    labels: float = 0.05  # squared label error, units of LABEL_UNIT
    rendered_labels: float = 0.02  # the same, of the rendered picture
    contrastive: float = 0.01  # cosine on motion codes
    consistency: float = 0.5  # l_consist, L1 of two pictures
    canonical: float = 0.05  # canonical volumes of two frames, L1
    augmentation: AugmentationConfig = AugmentationConfig()

    def __post_init__(self):
        for name in (field.name for field in dataclasses.fields(self) if field.type is float):
            if not 0.0 <= getattr(self, name) < float("inf"):
                raise UserError(f"objective.{name}={getattr(self, name)} must be a finite number, 0 or more")
        if not any(getattr(self, name) for name in TERMS):
            raise UserError(f"objective: the weights of all terms are 0; raise one of {', '.join(TERMS)}")
        if self.scales < 1:
            raise UserError(f"objective: {self.scales=} must be 1 or more")


def init(model_config: AutoencoderConfig, key: Array) -> dict[str, Any]:
    """Fresh parameters: `autoencoder`, what a release holds; networks that only train (a discriminator) will stand
    beside it.

    Raises UserError for a dynamics code too short to hold the labels.
    """
    if model_config.dynamics_dim < len(LABEL_UNIT):
        raise UserError(f"{model_config.dynamics_dim=} must be {len(LABEL_UNIT)} or more: its first numbers are labels")
    size = model_config.image_size
    picture = jnp.zeros((1, size, size, 3))
    return {"autoencoder": Autoencoder(model_config).init(key, picture, picture)["params"]}


def loss(
    model_config: AutoencoderConfig,
    config: ObjectiveConfig,
    params: dict[str, Any],
    batch: dict[str, Array],
    keys: Array,
) -> tuple[Float[Array, ""], dict[str, Average]]:
    """The objective of a batch of clips, and its parts.

    Args:
        model_config: sizes of the network.
        config: weights of the terms.
        params: as from `init`.
        batch: `frames` uint8 (b, n, h, w, 3), n at least 2; `pose` (b, n, 6), `gaze` (b, n, 2) in the camera frame,
            `mouth` (b, n, 1),
            `lids` (b, n, 2), `regions` (b, n, 3, 4); NaN where a record has no label.
        keys: one random key per sample, (b,) or (b, 2).

    Returns:
        The mean over samples, to which one without a label adds 0; and metrics: every term that has a weight,
        unweighted, over the samples that have its label, and `psnr` in dB.
    """
    apply: Any = partial(Autoencoder(model_config).apply, {"params": params["autoencoder"]})
    frames = _real(batch["frames"]) / 255.0
    b, n, size = frames.shape[:3]
    motion = _encode_motion(apply, model_config, config, frames, batch["pose"], keys)
    known = jnp.isfinite(batch["pose"])
    warp_pose = jnp.where(known, jnp.nan_to_num(batch["pose"]), motion.pose)
    labels = _labels(batch)
    count = labels.shape[-1]
    known = jnp.isfinite(labels)
    told = jnp.where(known, jnp.nan_to_num(labels), motion.dynamics[..., :count])
    warp_dynamics = jnp.concatenate([told, motion.dynamics[..., count:]], -1)

    # One call encodes all portraits and one renders all pictures: those of l_consist ride along.
    drivers = n - 1
    sources, owners, poses, codes = [0], [0] * drivers, [*range(1, n)], [*range(1, n)]
    if config.consistency or config.canonical:
        sources = [0, n - 1]
    if config.consistency:
        owners, poses, codes = [*owners, 0, 1], [*poses, 0, 0], [*codes, n - 1, n - 1]
    shown = Motion(_pick(warp_pose, sources), _pick(warp_dynamics, sources))
    portraits = apply(_pick(frames, sources), shown, method="encode")
    driving = Motion(_pick(warp_pose, poses), _pick(warp_dynamics, codes))
    rendered = apply(portraits, driving, owners, method="render")
    rendered = _real(rendered).reshape(b, len(owners), size, size, 3)

    terms = _picture_terms(config, rendered[:, :drivers], frames[:, 1:], batch["regions"][:, 1:])
    has = {}
    if config.pose:
        label = _merge(batch["pose"])
        terms["pose"] = losses.labelled_square_error(_merge(motion.pose), label, _real(POSE_UNIT))
        has["pose"] = losses.has_label(label)
    if config.labels:
        label, unit = _merge(labels), jnp.ones(count)
        terms["labels"] = losses.labelled_square_error(_merge(motion.dynamics[..., :count]), label, unit)
        has["labels"] = losses.has_label(label)
    if config.rendered_labels or config.contrastive:
        fixed: Any = partial(Autoencoder(model_config).apply, {"params": jax.lax.stop_gradient(params["autoencoder"])})
        code = _dynamics(fixed, model_config, rendered[:, 0], warp_pose[:, 1])
    if config.rendered_labels:
        terms["rendered_labels"] = losses.labelled_square_error(code[:, :count], labels[:, 1], jnp.ones(count))
        has["rendered_labels"] = losses.has_label(labels[:, 1])
    if config.contrastive:
        others = jnp.concatenate([motion.dynamics[:, :1], motion.dynamics[:, 2:]], 1)
        terms["contrastive"] = losses.contrastive(motion.dynamics[:, 1], code, others)
    if config.consistency:
        terms["consistency"] = jnp.abs(rendered[:, -2] - rendered[:, -1]).mean((1, 2, 3))
    if config.canonical:
        volumes = portraits.volume.reshape(b, len(sources), *portraits.volume.shape[1:])
        terms["canonical"] = jnp.abs(_real(volumes[:, 0] - volumes[:, 1])).mean((1, 2, 3, 4))
    total = jnp.stack([getattr(config, name) * term.mean() for name, term in terms.items()]).sum()
    metrics = {name: losses.average(term, has.get(name)) for name, term in terms.items()}
    squared = jnp.square(rendered[:, :drivers] - frames[:, 1:]).mean((2, 3, 4))
    return total, metrics | {"psnr": losses.average(-10.0 * jnp.log10(_merge(squared) + 1e-10))}


def _picture_terms(
    config: ObjectiveConfig,
    rendered: Float[Array, "b n h w 3"],
    frames: Float[Array, "b n h w 3"],
    regions: Float[Array, "b n r 4"],
) -> dict[str, Float[Array, " bn"]]:
    """The terms of reconstruction that have a weight, of n drivers a clip."""
    b, drivers, size = rendered.shape[:3]
    picture, target = _merge(rendered), _merge(frames)
    weight = losses.region_weight(_merge(regions), size, config.region_weight)
    error = picture - target
    terms = {}
    if config.l1 or config.gradient:
        l1, gradient = losses.multi_scale_l1(picture, target, weight, config.scales)
        terms = {name: term for name, term in (("l1", l1), ("gradient", gradient)) if getattr(config, name)}
    if config.square:
        terms["square"] = losses.weighted_square(error, weight)
    if config.change:
        following = lambda x: _merge(jnp.roll(x.reshape(b, drivers, *x.shape[1:]), -1, 1))  # noqa: E731
        terms["change"] = losses.weighted_square(error - following(error), jnp.maximum(weight, following(weight)))
    return terms


def pictures(
    model_config: AutoencoderConfig, params: dict[str, Any], batch: dict[str, Array]
) -> dict[str, Float[Array, "h w 3"]]:
    """A sheet for the log, 0..1: one row a clip (8 at most): source, then (driver, render) for every driver; poses
    are the network's own."""
    apply: Any = partial(Autoencoder(model_config).apply, {"params": params["autoencoder"]})
    frames = batch["frames"][:8].astype(jnp.float32) / 255.0
    motion = apply(_merge(frames), method="motion")
    b, n = frames.shape[:2]
    motion = Motion(*(part.reshape(b, n, -1) for part in motion))
    portrait = apply(frames[:, 0], Motion(*(part[:, 0] for part in motion)), method="encode")
    cells = [frames[:, 0]]
    for k in range(1, n):
        cells += [
            frames[:, k],
            apply(portrait, Motion(*(part[:, k] for part in motion)), method="render").astype(jnp.float32),
        ]
    sheet = jnp.concatenate([jnp.concatenate(list(row), 0) for row in cells], 1)
    return {"source_driver_render": jnp.clip(sheet, 0.0, 1.0)}


def _labels(batch: dict[str, Array]) -> Float[Array, "b n 5"]:
    """Mouth, lids and gaze in the head, in units of LABEL_UNIT around LABEL_MEAN; NaN where unlabelled."""
    head_gaze = gaze_in_head(batch["gaze"], batch["pose"])
    raw = jnp.concatenate([batch["mouth"], batch["lids"], head_gaze], -1)
    mean, unit = (_real(x)[None, None] for x in (LABEL_MEAN, LABEL_UNIT))
    return (raw - mean) / unit


def _real(x: Any) -> Array:
    """As floating-point numbers: float32, or float64 in a session of doubles."""
    return jnp.asarray(x, jnp.result_type(float))


def _pick(x: Array, frames: Sequence[int]) -> Array:
    """Some of the n frames of (b, n, ...), k of them, as (b k, ...); one may be there twice."""
    return _merge(jnp.stack([x[:, frame] for frame in frames], 1))


def _merge(x: Array) -> Array:
    """(b, n, ...) to (b n, ...)."""
    return x.reshape(-1, *x.shape[2:])


def _encode_motion(
    apply: Any,
    model_config: AutoencoderConfig,
    config: ObjectiveConfig,
    frames: Float[Array, "b n h w 3"],
    label: Float[Array, "b n 6"],
    keys: Array,
) -> Motion:
    """Pose and dynamics (b, n, ...) of augmented frames; the crop of the dynamics encoder follows the label where
    there is one."""
    b, n, size = frames.shape[:3]
    augment = config.augmentation
    colour_keys, warp_keys = jnp.moveaxis(jax.vmap(lambda key: jax.random.split(key, (2, n)))(keys), 1, 0)
    seen = jax.vmap(jax.vmap(partial(augmentation.jitter_colour, strength=augment.colour)))(colour_keys, frames)
    seen = _merge(seen)
    pose = apply(seen, method="pose")
    guide = jnp.where(jnp.isfinite(_merge(label)), jnp.nan_to_num(_merge(label)), jax.lax.stop_gradient(pose))
    moved = partial(augmentation.random_displacement, size=model_config.dynamics_size, config=augment)
    displacement = _merge(jax.vmap(jax.vmap(moved))(warp_keys))
    dynamics = _dynamics(apply, model_config, seen, guide, displacement)
    return Motion(pose.reshape(b, n, -1), dynamics.reshape(b, n, -1))


def _dynamics(
    apply: Any, model_config: AutoencoderConfig, picture: Array, pose: Array, displacement: Array | float = 0.0
) -> Float[Array, "b z"]:
    """Dynamics code of pictures through the face crop at `pose`, looked at with a displacement (crop units) on top."""
    place = face_crop_grid(jax.lax.stop_gradient(pose), model_config.dynamics_size, FACE_REACH) + displacement
    return _real(apply(sample_2d(picture, place), method="dynamics"))
