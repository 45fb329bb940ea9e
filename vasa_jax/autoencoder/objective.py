"""The objective of stage 1 as a table: what is asked of the views, and how much it counts (VASA-1 section 3.1).

VASA-1 trains with the losses of MegaPortraits (section 3.3 there) and two of its own, l_consist and l_cross_id. Each
term is a row of TERMS: a pure function of `views.Views` that gives one number per sample, so that no sample sees
another and the mean may be taken over any sharding of the batch. A term of weight 0 is neither computed nor logged.

* reconstruction: multi-scale L1, its gradients and squares, weighted at eyes and mouth; and the change from one driver
  to the next against the true change, in which whatever is wrong with the person cancels; features of frozen networks
  (an image, a face and a gaze network);
* motion: where a record has them, pose and face-tracker labels (mouth and lid opening, gaze in the head, lip corners
  and brows) are regressed; a rendered picture, encoded again, has its driver's labels and a code nearer to the
  driver's than to those of other frames of the record, be the person in it the driver or somebody else (contrastive
  cosine);
* disentanglement: l_consist and canonical volumes of two frames; l_cross_id, the identity of a crossed picture;
* the game: the hinge loss against patch discriminators, and the match of their features.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from vasa_jax.arrays import Average, Motion
from vasa_jax.autoencoder import adversarial, losses, perceptual
from vasa_jax.autoencoder.augmentation import AugmentationConfig
from vasa_jax.autoencoder.config import LABEL_UNIT, AutoencoderConfig
from vasa_jax.autoencoder.discriminator import DiscriminatorConfig, discriminate
from vasa_jax.autoencoder.discriminator import init as init_discriminator
from vasa_jax.autoencoder.model import Autoencoder
from vasa_jax.autoencoder.views import CODES, CROSSED, RENDERED, SWAPPED, VOLUMES, Views, merge, real
from vasa_jax.errors import UserError
from vasa_jax.geometry.picture import face_crop
from vasa_jax.nn.conditional import when
from vasa_jax.pretrained.helper import Helper

POSE_UNIT = (0.1, 0.1, 0.1, 0.05, 0.05, 0.05)
"""What one unit of pose error is: radians, crop units, log distance."""
SCORES = "scores"
"""What the terms of the game need, and no view holds."""
KNOWN = ("mouth", "lids", "gaze", "expression")
"""Labels that the dynamics code begins with."""
HELPERS = ("perceptual", "face", "gaze", "identity")
"""Parts that frozen networks play."""

Helpers = Mapping[str, tuple[Helper, Any]]
"""Part to a helper and its parameters."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ObjectiveConfig:
    """Weights of the terms of the stage-1 objective; one of weight 0 is neither computed nor logged."""

    l1: float = 1.0  # multi-scale L1
    gradient: float = 1.0  # multi-scale L1 of finite differences
    scales: int = 4  # octaves of both
    square: float = 1.0  # squared error
    change: float = 1.0  # squared error of the change between drivers; needs two or more of them
    region_weight: float = 4.0  # extra weight of eyes and mouth in all four
    region_reach: float = 1.0  # radii in which it counts, in those of eyes and mouth; 1.6 takes in the brows
    perceptual: float = 0.0  # L1 of the features of helpers.perceptual
    face: float = 0.0  # the same of helpers.face
    gaze: float = 0.0  # the same of helpers.gaze
    pose: float = 0.05  # squared pose error, units of POSE_UNIT
    labels: float = 0.05  # squared label error, units of LABEL_UNIT
    rendered_labels: float = 0.02  # the same, of the rendered picture
    contrastive: float = 0.01  # cosine on motion codes; with other frames of another person's pictures too
    consistency: float = 0.5  # l_consist, L1 of two pictures
    canonical: float = 0.05  # canonical volumes of two frames, L1
    consistency_every: int = 1  # steps from one with both to the next, in which they count that much more
    cross_identity: float = 0.0  # l_cross_id, 1 - cosine of the codes of helpers.identity; needs other frames
    adversarial: float = 0.0  # hinge loss against the discriminator
    matching: float = 0.0  # L1 of the discriminator's features
    adversarial_start: int = 0  # steps before the discriminator plays
    augmentation: AugmentationConfig = AugmentationConfig()

    def __post_init__(self):
        for name in (field.name for field in dataclasses.fields(self) if field.type is float):
            if not 0.0 <= getattr(self, name) < float("inf"):
                raise UserError(f"objective.{name}={getattr(self, name)} must be a finite number, 0 or more")
        for name, least in (("scales", 1), ("consistency_every", 1), ("adversarial_start", 0)):
            if getattr(self, name) < least:
                raise UserError(f"objective.{name}={getattr(self, name)} must be {least} or more")
        if not terms(self):
            raise UserError(
                f"objective: the weights of all terms are 0; raise one of {', '.join(term.name for term in TERMS)}"
            )

    @property
    def plays(self) -> bool:
        """Whether there is a discriminator."""
        return any(SCORES in term.needs for term in terms(self))


@dataclasses.dataclass(frozen=True)
class Seen:
    """What a term is a function of.

    config: weights. views: of the step. helpers: frozen networks by part. scores: what the discriminator says of the
    true drivers and of the rendered ones, if it plays.
    """

    config: ObjectiveConfig
    views: Views
    helpers: Helpers
    scores: Any

    @functools.cached_property
    def drivers(self) -> tuple[Array, Array, Array]:
        """Rendered and true drivers of all samples, (b n, h, w, 3), and the weight of their pixels."""
        picture, target = merge(self.views.rendered), merge(self.views.frames[:, 1:])
        regions = merge(self.views.regions[:, 1:])
        return (
            picture,
            target,
            losses.region_weight(regions, picture.shape[1], self.config.region_weight, self.config.region_reach),
        )

    @functools.cached_property
    def octaves(self) -> tuple[Array, Array]:
        """L1 of the drivers, and of their gradients, over all scales."""
        return losses.multi_scale_l1(*self.drivers, self.config.scales)


class Term(NamedTuple):
    """A row of the table.

    name: of its weight in `ObjectiveConfig`, and of its metric.
    function: `Seen` to one number per sample (or per driver of a sample), 0 where it does not apply, and which of them
        it applies to, None for all.
    needs: views that are made for it, or SCORES.
    helper: the part of the frozen network that it asks, "" for none.
    labels: of a record, of which it needs one at least; () for none.
    """

    name: str
    function: Callable[[Seen], tuple[Float[Array, " m"], Bool[Array, " m"] | None]]
    needs: frozenset[str] = frozenset()
    helper: str = ""
    labels: tuple[str, ...] = ()


def terms(config: ObjectiveConfig) -> tuple[Term, ...]:
    """The terms that have a weight."""
    return tuple(term for term in TERMS if getattr(config, term.name))


def needed(config: ObjectiveConfig, crossed: bool) -> frozenset[str]:
    """The views that are made for the terms that have a weight; `crossed` says whether samples have other frames,
    whose pictures the contrastive term then takes too. Where motion alone is compared with labels, nothing is rendered.
    """
    names = frozenset[str]().union(*(term.needs for term in terms(config)))
    names = names | {CROSSED} if crossed and CODES in names else names
    return (names - {SCORES}) | {RENDERED} if names else names


def init(
    model: AutoencoderConfig, key: Array, discriminator: DiscriminatorConfig | None = None
) -> tuple[dict[str, Any], Any]:
    """Fresh parameters, `autoencoder`, what a release holds, and, with a config of it, `discriminator`; and the
    discriminator's vectors, {} without one.

    Raises UserError for a dynamics code too short to hold the labels, and for pictures that do not fit a discriminator.
    """
    if model.dynamics_dim < len(LABEL_UNIT):
        raise UserError(f"{model.dynamics_dim=} must be {len(LABEL_UNIT)} or more: its first numbers are labels")
    picture = jnp.zeros((1, model.image_size, model.image_size, 3))
    params = {"autoencoder": Autoencoder(model).init(key, picture, picture)["params"]}
    if discriminator is None:
        return params, {}
    params["discriminator"], vectors = init_discriminator(discriminator, jax.random.fold_in(key, 1), model.image_size)
    return params, vectors


def loss(
    config: ObjectiveConfig,
    views: Views,
    helpers: Helpers,
    step: Int[Array, ""] | int = 0,
    discriminator: Callable[[Array], Any] | None = None,
) -> tuple[Float[Array, ""], dict[str, Average]]:
    """The autoencoder's objective, and its parts.

    Args:
        config: weights of the terms.
        views: as from `views.look`.
        helpers: frozen networks by part.
        step: number of the step.
        discriminator: pictures (b, h, w, 3) to its scores, its parameters held fixed; where it plays.

    Returns:
        The mean over samples, to which one without a label adds 0; and metrics: every term that has a weight,
        unweighted, over the samples that have it, and, where pictures are rendered, `psnr` in dB.
    """
    rows, seen = terms(config), Seen(config, views, helpers, None)
    game = [term for term in rows if SCORES in term.needs]
    found = {term.name: term.function(seen) for term in rows if SCORES not in term.needs}
    due = True if config.consistency_every == 1 else step % config.consistency_every == 0
    often = {term.name: config.consistency_every for term in rows if term.needs & {SWAPPED, VOLUMES}}
    for name in often:
        found[name] = found[name][0], jnp.broadcast_to(jnp.asarray(due), found[name][0].shape)
    if game and discriminator is not None:
        started = True if not config.adversarial_start else step >= config.adversarial_start

        def play() -> dict[str, Array]:
            pictures = (merge(views.frames[:, 1:]), merge(views.rendered))
            scores = tuple(discriminator(picture) for picture in pictures)
            return {term.name: term.function(dataclasses.replace(seen, scores=scores))[0] for term in game}

        played = when(started, play)
        found |= {name: (value, jnp.broadcast_to(jnp.asarray(started), value.shape)) for name, value in played.items()}
    total = jnp.stack([getattr(config, name) * often.get(name, 1) * value.mean() for name, (value, _) in found.items()])
    metrics = {name: losses.average(*row) for name, row in found.items()}
    if views.rendered is None:
        return total.sum(), metrics
    squared = jnp.square(views.rendered - views.frames[:, 1:]).mean((2, 3, 4))
    return total.sum(), metrics | {"psnr": losses.average(-10.0 * jnp.log10(merge(squared) + 1e-10))}


def discriminator_loss(
    config: DiscriminatorConfig, params: Any, vectors: Any, views: Views
) -> tuple[Float[Array, ""], dict[str, Average]]:
    """The discriminator's objective on true and rendered drivers, and its `accuracy`: 1 where it tells all patches
    apart, 0.5 where it guesses.

    Args:
        config: sizes of the discriminator.
        params: its parameters.
        vectors: its singular vectors.
        views: as from `views.look`.
    """
    pair = (merge(views.frames[:, 1:]), merge(views.rendered))
    truth, fake = (discriminate(config, params, vectors, pictures) for pictures in pair)
    accuracy = losses.average(adversarial.accuracy(truth, fake))
    return adversarial.hinge_discriminator(truth, fake).mean(), {"accuracy": accuracy}


def pictures(
    model_config: AutoencoderConfig, params: dict[str, Any], batch: dict[str, Array]
) -> dict[str, Float[Array, "h w 3"]]:
    """A sheet for the log, 0..1: one row a clip (8 at most): source, then (driver, render) for every driver; poses
    are the network's own."""
    apply: Any = functools.partial(Autoencoder(model_config).apply, {"params": params["autoencoder"]})
    frames = batch["frames"][:8].astype(jnp.float32) / 255.0
    motion = apply(merge(frames), method="motion")
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


def _l1(seen: Seen) -> tuple[Array, None]:
    return seen.octaves[0], None


def _gradient(seen: Seen) -> tuple[Array, None]:
    return seen.octaves[1], None


def _square(seen: Seen) -> tuple[Array, None]:
    picture, target, weight = seen.drivers
    return losses.weighted_square(picture - target, weight), None


def _change(seen: Seen) -> tuple[Array, None]:
    picture, target, weight = seen.drivers
    shape = seen.views.rendered.shape[:2]
    following = lambda x: merge(jnp.roll(x.reshape(*shape, *x.shape[1:]), -1, 1))  # noqa: E731
    error = picture - target
    return losses.weighted_square(error - following(error), jnp.maximum(weight, following(weight))), None


def _features(part: str) -> Callable[[Seen], tuple[Array, None]]:
    """The perceptual term of a helper."""

    def term(seen: Seen) -> tuple[Array, None]:
        helper, params = seen.helpers[part]
        picture, target, _ = seen.drivers
        return perceptual.perceptual(helper.features(params, picture), helper.features(params, target)), None

    return term


def _pose(seen: Seen) -> tuple[Array, Array]:
    n = seen.views.pose.shape[1]
    label, pose = merge(seen.views.pose), merge(seen.views.motion.pose[:, :n])
    return losses.labelled_square_error(pose, label, real(POSE_UNIT)), losses.has_label(label)


def _labels(seen: Seen) -> tuple[Array, Array]:
    n, count = seen.views.labels.shape[1:]
    label, code = merge(seen.views.labels), merge(seen.views.motion.dynamics[:, :n, :count])
    return losses.labelled_square_error(code, label, jnp.ones(count)), losses.has_label(label)


def _rendered_labels(seen: Seen) -> tuple[Array, Array]:
    label = seen.views.labels[:, 1]
    count = label.shape[-1]
    return losses.labelled_square_error(seen.views.code[:, :count], label, jnp.ones(count)), losses.has_label(label)


def _contrastive(seen: Seen) -> tuple[Array, None]:
    codes, n = seen.views.motion.dynamics, seen.views.frames.shape[1]
    others = jnp.concatenate([codes[:, :1], codes[:, 2:n]], 1)
    own = losses.contrastive(codes[:, 1], seen.views.code, others)
    if seen.views.crossed_code is None:
        return own, None
    return 0.5 * (own + losses.contrastive(codes[:, n], seen.views.crossed_code, codes[:, :n])), None


def _consistency(seen: Seen) -> tuple[Array, None]:
    return jnp.abs(seen.views.swapped[:, 0] - seen.views.swapped[:, 1]).mean((1, 2, 3)), None


def _canonical(seen: Seen) -> tuple[Array, None]:
    return jnp.abs(real(seen.views.volumes[:, 0] - seen.views.volumes[:, 1])).mean((1, 2, 3, 4)), None


def _cross_identity(seen: Seen) -> tuple[Array, None]:
    helper, params = seen.helpers["identity"]
    assert helper.embed is not None  # the experiment has refused a helper without
    views = seen.views
    pairs = (views.crossed, views.warp_pose[:, -1]), (views.frames[:, 0], views.warp_pose[:, 0])
    crossed, source = (helper.embed(params, _face(helper, picture, pose)) for picture, pose in pairs)
    return perceptual.identity_distance(crossed, source), None


def _face(helper: Helper, picture: Float[Array, "b h w 3"], pose: Float[Array, "b 6"]) -> Float[Array, "b s s 3"]:
    """The crop that a helper embeds; pictures of which it would skip pixels are halved first."""
    while picture.shape[1] >= 4 * helper.crop:
        picture = losses.halve(picture)
    return face_crop(picture, pose, helper.crop, helper.reach)


def _adversarial(seen: Seen) -> tuple[Array, None]:
    return adversarial.hinge_generator(seen.scores[1]), None


def _matching(seen: Seen) -> tuple[Array, None]:
    return adversarial.feature_matching(*seen.scores), None


TERMS = (
    Term("l1", _l1, frozenset({RENDERED})),
    Term("gradient", _gradient, frozenset({RENDERED})),
    Term("square", _square, frozenset({RENDERED})),
    Term("change", _change, frozenset({RENDERED})),
    Term("perceptual", _features("perceptual"), frozenset({RENDERED}), helper="perceptual"),
    Term("face", _features("face"), frozenset({RENDERED}), helper="face"),
    Term("gaze", _features("gaze"), frozenset({RENDERED}), helper="gaze"),
    Term("pose", _pose, labels=("pose",)),
    Term("labels", _labels, labels=KNOWN),
    Term("rendered_labels", _rendered_labels, frozenset({CODES}), labels=KNOWN),
    Term("contrastive", _contrastive, frozenset({CODES})),
    Term("consistency", _consistency, frozenset({SWAPPED})),
    Term("canonical", _canonical, frozenset({VOLUMES})),
    Term("cross_identity", _cross_identity, frozenset({CROSSED}), helper="identity"),
    Term("adversarial", _adversarial, frozenset({SCORES})),
    Term("matching", _matching, frozenset({SCORES})),
)
