"""Terms of the stage-1 objective as plain functions of pictures and codes.

VASA-1 section 3.1 trains the face latent space with the loss set of MegaPortraits (section 3.3 there) and two terms
of its own. Here live the terms that need no second network: multi-scale L1 and picture gradients, the contrastive
cosine on motion codes, and the weights that draw attention to eyes and mouth (EMOPortraits section 3.2). Every
function returns one number per sample, so that no sample sees another and the mean may be taken over any sharding of
the batch. Those of frozen networks are in `perceptual`, those of the discriminator in `adversarial`.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from vasa_jax.arrays import Average
from vasa_jax.geometry.grid import identity_axis


def halve(picture: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c"]:
    """Average 2x2 cells: (b, h, w, c) to (b, h/2, w/2, c); h and w must be even."""
    b, h, w, c = picture.shape
    return picture.reshape(b, h // 2, 2, w // 2, 2, c).mean((2, 4))


def multi_scale_l1(
    picture: Float[Array, "b h w c"],
    target: Float[Array, "b h w c"],
    weight: Float[Array, "b h w one"],
    scales: int,
) -> tuple[Float[Array, " b"], Float[Array, " b"]]:
    """Weighted L1 of pictures and of their finite differences, averaged over `scales` octaves.

    Args:
        picture: the network's picture, 0..1.
        target: the true picture, 0..1.
        weight: per-pixel weight; its mean divides the sum, so its scale does not matter.
        scales: number of resolutions; each further one halves both sides, which must stay even.

    Returns:
        (L1, gradient L1), one number per sample each, in units of intensity.
    """
    l1 = gradient = jnp.zeros(picture.shape[0], picture.dtype)
    for scale in range(scales):
        error = picture - target
        total = weight.sum((1, 2, 3)) * error.shape[-1]
        l1 += (weight * jnp.abs(error)).sum((1, 2, 3)) / total
        across = weight[:, :, 1:] * jnp.abs(error[:, :, 1:] - error[:, :, :-1])
        down = weight[:, 1:] * jnp.abs(error[:, 1:] - error[:, :-1])
        gradient += (across.sum((1, 2, 3)) + down.sum((1, 2, 3))) / total
        if scale + 1 < scales:
            picture, target, weight = halve(picture), halve(target), halve(weight)
    return l1 / scales, gradient / scales


def weighted_square(error: Float[Array, "b h w c"], weight: Float[Array, "b h w one"]) -> Float[Array, " b"]:
    """Weighted mean square of an error (of pictures, or of changes between pictures), one number per sample.

    Beside L1 for a reason: the slope of |e + d| in d is the sign of e as long as e, the blur of an untrained network,
    is the larger, so a small change d of lips or lids tells nothing; that of (e + d)^2 always does.
    """
    return (weight * jnp.square(error)).sum((1, 2, 3)) / (weight.sum((1, 2, 3)) * error.shape[-1])


def region_weight(
    regions: Float[Array, "b r 4"], size: int, extra: float, reach: float = 1.0
) -> Float[Array, "b h w 1"]:
    """One plus `extra` inside soft ellipses (eyes, mouth).

    Args:
        regions: (cx, cy, rx, ry) per region in crop units [-1, 1]; NaN where unlabelled, which adds nothing.
        size: side of the picture in pixels.
        extra: weight added at the centre of a region; it falls to half at the ellipse.
        reach: radii of the ellipses that count, in those that are given.

    Returns:
        Per-pixel weights (b, size, size, 1), 1..1 + extra.
    """
    side = identity_axis(size)
    labelled = jnp.isfinite(regions).all(-1)[:, :, None, None]
    centre_x, centre_y, radius_x, radius_y = (
        part[:, :, None, None] for part in jnp.moveaxis(jnp.nan_to_num(regions), -1, 0)
    )
    x = (side[None, None, None, :] - centre_x) / jnp.maximum(reach * radius_x, 1e-3)
    y = (side[None, None, :, None] - centre_y) / jnp.maximum(reach * radius_y, 1e-3)
    inside = jax.nn.sigmoid(6.0 * (1.0 - jnp.sqrt(x * x + y * y + 1e-6)))
    return 1.0 + extra * jnp.where(labelled, inside, 0.0).max(1)[..., None]


def cosine(a: Float[Array, "*b z"], b: Float[Array, "*b z"]) -> Float[Array, "*b"]:
    """Cosine of the angle between codes along the last axis, -1..1 (0 for a zero code)."""
    norm = jnp.sqrt((a * a).sum(-1) + 1e-8) * jnp.sqrt((b * b).sum(-1) + 1e-8)
    return (a * b).sum(-1) / norm


def contrastive(
    anchor: Float[Array, "b z"],
    positive: Float[Array, "b z"],
    negatives: Float[Array, "b n z"],
    *,
    scale: float = 5.0,
    margin: float = 0.2,
) -> Float[Array, " b"]:
    """Large-margin cosine loss on motion codes (MegaPortraits section 3.3, with its s = 5 and m = 0.2).

    `anchor` and `positive` show the same motion; `negatives` are codes of other frames of the sample's own record,
    never of other samples. Returns -log(exp(s (cos+ - m)) / (exp(s (cos+ - m)) + sum exp(s cos-))), one number per
    sample.
    """
    pull = scale * (cosine(anchor, positive) - margin)
    push = scale * cosine(jnp.broadcast_to(anchor[:, None], negatives.shape), negatives)
    return jax.nn.logsumexp(jnp.concatenate([pull[:, None], push], 1), axis=1) - pull


def average(term: Float[Array, " b"], has: Bool[Array, " b"] | None = None) -> Average:
    """The mean of a term over the samples that have what it measures; None is all."""
    has = jnp.ones(term.shape, bool) if has is None else has
    return Average(jnp.where(has, term, 0.0).sum(), has.sum(dtype=term.dtype))


def has_label(label: Float[Array, "b k"]) -> Bool[Array, " b"]:
    """Which samples have at least one number of a label."""
    return jnp.isfinite(label).any(-1)


def labelled_square_error(
    prediction: Float[Array, "b k"], label: Float[Array, "b k"], scale: Float[Array, " k"]
) -> Float[Array, " b"]:
    """Mean square of (prediction - label) / scale over the labelled (non-NaN) entries of each sample; 0 where there
    are none."""
    known = jnp.isfinite(label)
    error = jnp.where(known, (prediction - jnp.nan_to_num(label)) / scale[None], 0.0)
    return (error * error).sum(-1) / jnp.maximum(known.sum(-1), 1)
