"""What the losses of stage 1 look at: the views of one step (VASA-1 section 3.1, MegaPortraits section 3.3).

For frames 0 (source) and k = 1..n-1 (drivers) of a clip, and perhaps a frame of another person's clip:

1. every frame's pose and dynamics are encoded from its augmented picture;
2. the source becomes a portrait: D's input volume V and identity code;
3. rendered: D(V_0, id_0, pose_k, dyn_k), which should be frame k;
4. crossed: D(V_0, id_0, pose', dyn'), the source's person in the motion of the other one;
5. codes: the dynamics of a rendered and of the crossed picture, encoded again by encoders held fixed;
6. swapped, of VASA-1's l_consist: with i = 0 and j = n-1, D(V_i, id_i, pose_i, dyn_j) and D(V_j, id_j, pose_i, dyn_j);
   and (EMOPortraits) the canonical volumes of both frames.

4 to 6 are made where a term needs them. Warps use the labelled pose where there is one (VASA-1 takes it from a
pretrained network) and the encoder's own otherwise; and likewise the labelled numbers of the dynamics code, its first
ones, in units of LABEL_UNIT around LABEL_MEAN. So the way from code to picture is trained from the first step, before
the encoder sees anything.
"""

from collections.abc import Collection, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from vasa_jax.arrays import Motion
from vasa_jax.autoencoder import augmentation
from vasa_jax.autoencoder.augmentation import AugmentationConfig
from vasa_jax.autoencoder.config import LABEL_MEAN, LABEL_UNIT, AutoencoderConfig
from vasa_jax.autoencoder.model import FACE_REACH, Autoencoder
from vasa_jax.geometry.picture import face_crop_grid, sample_2d
from vasa_jax.geometry.rotation import gaze_in_head
from vasa_jax.nn.conditional import when

RENDERED, CODES, CROSSED, SWAPPED, VOLUMES = "rendered", "codes", "crossed", "swapped", "volumes"
"""Views that are made where they are needed."""
LABELS = ("pose", "gaze", "mouth", "lids", "expression")
"""Of a batch: those that warps and terms use."""


class Views(NamedTuple):
    """Pictures in 0..1 and what is known of them, of b samples; None where nobody needs it.

    frames: (b, n, h, w, 3), the source and its n - 1 drivers. regions: (b, n, r, 4), their eyes and mouth.
    rendered: (b, n - 1, h, w, 3).
    motion: (b, n, ...), as encoded; a further frame is the other person's.
    pose: (b, n, 6) and labels: (b, n, 7), as labelled, the latter in units of LABEL_UNIT; NaN where unlabelled.
    warp_pose: (b, n, 6), the pose that the warps used; a further frame is the other person's.
    crossed: (b, h, w, 3).
    code: (b, z), of the first rendered picture; crossed_code: (b, z).
    swapped: (b, 2, h, w, 3); volumes: (b, 2, d, h, w, c). Zeros in the steps that leave them out.
    """

    frames: Any
    regions: Any
    rendered: Any
    motion: Motion
    pose: Any
    labels: Any
    warp_pose: Any
    crossed: Any = None
    code: Any = None
    crossed_code: Any = None
    swapped: Any = None
    volumes: Any = None


def look(
    model: AutoencoderConfig,
    augment: AugmentationConfig,
    needed: Collection[str],
    params: dict[str, Any],
    batch: dict[str, Array],
    keys: Array,
    step: Int[Array, ""] | int = 0,
    every: int = 1,
) -> Views:
    """The views of a batch.

    Args:
        model: sizes of the network.
        augment: of the pictures that motion is encoded from.
        needed: which of `RENDERED`, `CODES`, `CROSSED`, `SWAPPED` and `VOLUMES` to make; the others need the first.
        params: of the task; the network's are under "autoencoder".
        batch: `frames` uint8 (b, n, h, w, 3), n at least 2; `pose` (b, n, 6), `gaze` (b, n, 2) in the camera frame,
            `mouth` (b, n, 1), `lids` (b, n, 2), `expression` (b, n, 2), `regions` (b, n, 3, 4); NaN where a record has
            no label. For crossed pictures also `other_frames`, `other_pose`, ..., of which the first frame is used.
        keys: one random key per sample, (b,) or (b, 2).
        step: number of the step.
        every: swapped pictures and volumes are made in each step that this divides.
    """
    apply: Any = partial(Autoencoder(model).apply, {"params": params["autoencoder"]})
    frames = real(batch["frames"]) / 255.0
    b, n, size = frames.shape[:3]
    cross = CROSSED in needed
    seen, told = frames, {name: batch[name] for name in LABELS}
    if cross:
        seen = jnp.concatenate([frames, real(batch["other_frames"][:, :1]) / 255.0], 1)
        told = {name: jnp.concatenate([told[name], batch[f"other_{name}"][:, :1]], 1) for name in LABELS}
    motion = _encode_motion(apply, model, augment, seen, told["pose"], keys)
    pose = _known_or(told["pose"], motion.pose)
    labels = _labels(told)
    if RENDERED not in needed:
        return Views(frames, batch["regions"], None, motion, told["pose"][:, :n], labels[:, :n], pose)
    count = labels.shape[-1]
    dynamics = jnp.concatenate([_known_or(labels, motion.dynamics[..., :count]), motion.dynamics[..., count:]], -1)

    # One call encodes all portraits and one renders all pictures: those of l_consist ride along if all samples have it.
    twice = SWAPPED in needed or VOLUMES in needed
    drivers, along = n - 1, twice and every == 1
    sources, owners, frame = [0], [0] * (drivers + cross), [*range(1, n + cross)]
    poses = codes = frame
    if along:
        sources = [0, n - 1]
        if SWAPPED in needed:
            owners, poses, codes = [*owners, 0, 1], [*poses, 0, 0], [*codes, n - 1, n - 1]
    portraits = apply(pick(frames, sources), Motion(pick(pose, sources), pick(dynamics, sources)), method="encode")
    rendered = apply(portraits, Motion(pick(pose, poses), pick(dynamics, codes)), owners, method="render")
    rendered = real(rendered).reshape(b, len(owners), size, size, 3)
    views = Views(
        frames,
        batch["regions"],
        rendered[:, :drivers],
        motion,
        told["pose"][:, :n],
        labels[:, :n],
        pose,
        crossed=rendered[:, drivers] if cross else None,
    )

    def second(portrait: Any) -> tuple[Any, Any]:
        """The swapped pictures and both volumes, where they do not ride along."""
        last = Motion(pose[:, n - 1], dynamics[:, n - 1])
        other = apply(frames[:, n - 1], last, method="encode")
        both = jax.tree.map(lambda x, y: merge(jnp.stack([x, y], 1)), portrait, other)
        driving = Motion(pick(pose, [0, 0]), pick(dynamics, [n - 1, n - 1]))
        pictures = apply(both, driving, (0, 1), method="render") if SWAPPED in needed else None
        return None if pictures is None else real(pictures).reshape(b, 2, size, size, 3), _two(both.volume, b)

    if along:
        views = views._replace(
            swapped=rendered[:, -2:] if SWAPPED in needed else None, volumes=_two(portraits.volume, b)
        )
    elif twice:
        swapped, volumes = when(step % every == 0, partial(second, portraits))
        views = views._replace(swapped=swapped, volumes=volumes)
    if CODES in needed:
        fixed: Any = partial(Autoencoder(model).apply, {"params": jax.lax.stop_gradient(params["autoencoder"])})
        again = [0, drivers] if cross else [0]
        code = _dynamics(fixed, model, pick(rendered, again), pick(pose[:, 1:], [0, n - 1] if cross else [0]))
        code = code.reshape(b, len(again), -1)
        views = views._replace(code=code[:, 0], crossed_code=code[:, 1] if cross else None)
    return views


def real(x: Any) -> Array:
    """As floating-point numbers: float32, or float64 in a session of doubles."""
    return jnp.asarray(x, jnp.result_type(float))


def pick(x: Array, frames: Sequence[int]) -> Array:
    """Some of the n frames of (b, n, ...), k of them, as (b k, ...); one may be there twice."""
    return merge(jnp.stack([x[:, frame] for frame in frames], 1))


def merge(x: Array) -> Array:
    """(b, n, ...) to (b n, ...)."""
    return x.reshape(-1, *x.shape[2:])


def _two(x: Array, b: int) -> Array:
    return x.reshape(b, 2, *x.shape[1:])


def _known_or(label: Array, encoded: Array) -> Array:
    return jnp.where(jnp.isfinite(label), jnp.nan_to_num(label), encoded)


def _labels(batch: dict[str, Array]) -> Float[Array, "b n 7"]:
    """Mouth, lids, gaze in the head, lip corners and brows, in units of LABEL_UNIT around LABEL_MEAN; NaN where
    unlabelled."""
    head_gaze = gaze_in_head(batch["gaze"], batch["pose"])
    raw = jnp.concatenate([batch["mouth"], batch["lids"], head_gaze, batch["expression"]], -1)
    mean, unit = (real(x)[None, None] for x in (LABEL_MEAN, LABEL_UNIT))
    return (raw - mean) / unit


def _encode_motion(
    apply: Any,
    model: AutoencoderConfig,
    augment: AugmentationConfig,
    frames: Float[Array, "b n h w 3"],
    label: Float[Array, "b n 6"],
    keys: Array,
) -> Motion:
    """Pose and dynamics (b, n, ...) of augmented frames; the crop of the dynamics encoder follows the label where
    there is one."""
    b, n = frames.shape[:2]
    colour_keys, warp_keys = jnp.moveaxis(jax.vmap(lambda key: jax.random.split(key, (2, n)))(keys), 1, 0)
    seen = jax.vmap(jax.vmap(partial(augmentation.jitter_colour, strength=augment.colour)))(colour_keys, frames)
    seen = merge(seen)
    pose = apply(seen, method="pose")
    guide = _known_or(merge(label), jax.lax.stop_gradient(pose))
    moved = partial(augmentation.random_displacement, size=model.dynamics_size, config=augment)
    displacement = merge(jax.vmap(jax.vmap(moved))(warp_keys))
    dynamics = _dynamics(apply, model, seen, guide, displacement)
    return Motion(pose.reshape(b, n, -1), dynamics.reshape(b, n, -1))


def _dynamics(
    apply: Any, model: AutoencoderConfig, picture: Array, pose: Array, displacement: Array | float = 0.0
) -> Float[Array, "b z"]:
    """Dynamics code of pictures through the face crop at `pose`, looked at with a displacement (crop units) on top."""
    place = face_crop_grid(jax.lax.stop_gradient(pose), model.dynamics_size, FACE_REACH) + displacement
    return real(apply(sample_2d(picture, place), method="dynamics"))
