"""Stage 1 as a task: the face latent space (VASA-1 section 3.1) on frames of one person, and of another beside."""

import dataclasses
import functools
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vasa_jax.autoencoder import cost as autoencoder_cost
from vasa_jax.autoencoder import objective as autoencoder_objective
from vasa_jax.autoencoder.discriminator import advance, discriminate
from vasa_jax.autoencoder.objective import ObjectiveConfig, terms
from vasa_jax.autoencoder.views import Views, look
from vasa_jax.data.order import Partners
from vasa_jax.data.pipeline import Others, Sample, readable
from vasa_jax.data.records import CorruptRecordError, StoredClip
from vasa_jax.data.shards import SPLITS, Shards
from vasa_jax.errors import UserError
from vasa_jax.metrics import transfer
from vasa_jax.training import samples, world_data
from vasa_jax.training.clips import check_first, compute_dtype, held_out_batch, on_device, shown, training_batches
from vasa_jax.training.config import AutoencoderExperiment, Records, World
from vasa_jax.training.helper_networks import load_helpers
from vasa_jax.training.players import Frozen, Metrics, Player
from vasa_jax.training.step import still
from vasa_jax.training.task import Task

PORTRAIT_LABELS = {
    "pose": (6,),
    "gaze": (2,),
    "mouth": (1,),
    "lids": (2,),
    "expression": (2,),
    "regions": (3, 4),
}
"""Labels a picture of a stage 1 sample; NaN where a record has none."""
APART = 0.995
"""Accuracy of a discriminator, over a log line, from which the game counts as over."""
LOOKED_AT = 16
"""Clips of each folder that are searched for labels."""


def face_task(experiment: AutoencoderExperiment) -> Task:
    """The task of a stage 1 experiment: the autoencoder, and a discriminator where terms of the game have a weight."""
    data, frames, others = experiment.data, experiment.frames_per_sample, experiment.other_frames_per_sample
    model = dataclasses.replace(experiment.model, dtype=compute_dtype(experiment))
    size = model.image_size

    def sample(record: StoredClip, rng: np.random.Generator | None) -> Sample:
        return portrait_sample(record, frames, size, rng)

    def other_sample(record: StoredClip, rng: np.random.Generator | None) -> Sample:
        sample = portrait_sample(record, others, size, rng, "other_frames_per_sample")
        return {f"other_{name}": value for name, value in sample.items()}

    def pairing(source: Shards, read: Callable[..., Sample] = other_sample) -> Others | None:
        return Others(Partners(source, world_data.weights(data)).draw, read) if others else None

    def prepare(workdir: Path) -> None:
        make = functools.partial(world_data.make_portraits, size=size)
        world_data.prepare(data, workdir, size, make)
        check_first(data, workdir, sample)
        check_labels(data, workdir, experiment.objective)
        if others:
            check_first(data, workdir, other_sample)
            for split in SPLITS:
                pairing(world_data.open_split(data, workdir, split))

    def batch_spec(batch_size: int) -> dict[str, jax.ShapeDtypeStruct]:
        spec = {"index": jax.ShapeDtypeStruct((batch_size,), jnp.uint32)} | portrait_spec(batch_size, frames, size)
        other = portrait_spec(batch_size, others, size) if others else {}
        return spec | {f"other_{name}": shape for name, shape in other.items()}

    def held_out(workdir: Path) -> dict[str, Any]:
        def pair(source: Shards) -> Others | None:
            return pairing(source, lambda record, rng: other_sample(record, None))

        return held_out_batch(data, workdir, sample, pair)

    objective, game = experiment.objective, experiment.objective.plays
    judge = dataclasses.replace(experiment.discriminator, dtype=model.dtype) if game else None
    read_helpers = functools.cache(lambda: load_helpers(experiment.helpers))
    needed = autoencoder_objective.needed(objective, crossed=others > 0)

    def init(key: Any) -> tuple[Any, Any, Any]:
        params, vectors = autoencoder_objective.init(model, key, judge)
        return params, {}, vectors

    def forward(params: Any, frozen: Frozen, batch: dict[str, Any], keys: Any) -> Views:
        every = objective.consistency_every
        return look(model, objective.augmentation, needed, params, batch, keys, frozen.step, every)

    def face_loss(params: Any, frozen: Frozen, views: Views) -> tuple[Any, Metrics]:
        scores = None
        if judge is not None:
            scores = functools.partial(discriminate, judge, params["discriminator"], frozen.mutable)
        helpers = read_helpers().bound(frozen.helpers)
        return autoencoder_objective.loss(objective, views, helpers, frozen.step, scores)

    def discriminator_loss(params: Any, frozen: Frozen, views: Views) -> tuple[Any, Metrics]:
        assert judge is not None
        return autoencoder_objective.discriminator_loss(judge, params["discriminator"], frozen.mutable, views)

    face_player = Player("face", face_loss, experiment.optimiser, ("autoencoder",) if game else ())
    discriminator_player = Player(
        "discriminator",
        discriminator_loss,
        experiment.discriminator_optimiser,
        ("discriminator",),
        experiment.discriminator_every,
        objective.adversarial_start,
        averaged=False,
    )
    pictures = jax.jit(functools.partial(autoencoder_objective.pictures, model))

    def evaluate(params: Any, constants: Any, batch: dict[str, Any]) -> dict[str, float]:
        face = transfer.network_face(model, params["autoencoder"])
        return {"held_out/psnr": transfer.clip_psnr(face, batch["frames"])}

    return Task(
        init=init,
        forward=forward,
        players=(face_player, discriminator_player) if game else (face_player,),
        batch_spec=batch_spec,
        prepare=prepare,
        measure=lambda workdir, kept: ({}, {}),
        dataset=functools.partial(training_batches, data, sample, pair=pairing),
        held_out=held_out,
        evaluate=evaluate,
        judge=lambda params, constants, workdir: transfer.evaluate(model, params),
        pictures=lambda params, constants, batch: pictures(params, on_device(shown(batch))),
        videos=lambda params, constants, workdir: samples.reconstructions(
            data, workdir, size, transfer.network_face(model, params["autoencoder"])
        ),
        blocks=lambda params: dict(params["autoencoder"]),
        macs=lambda: autoencoder_cost.count_macs(model),
        helpers=lambda: read_helpers().params,
        helper_shapes=lambda: read_helpers().shapes,
        advance=still if judge is None else lambda params, vectors: advance(judge, params["discriminator"], vectors),
        warn=_is_apart,
    )


def _is_apart(means: dict[str, float]) -> str:
    """What a game that has ended looks like."""
    accuracy = means.get("discriminator/accuracy", 0.0)
    if accuracy < APART:
        return ""
    return (
        f"the discriminator tells {accuracy:.1%} of all patches apart, so that the autoencoder learns nothing from it: "
        "lower discriminator_optimiser.learning_rate, or raise discriminator_every"
    )


def portrait_spec(batch_size: int, frames: int, size: int) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes of a batch of what `portrait_sample` gives."""
    shape = (batch_size, frames)
    return {"frames": jax.ShapeDtypeStruct((*shape, size, size, 3), jnp.uint8)} | {
        name: jax.ShapeDtypeStruct((*shape, *rest), jnp.float32) for name, rest in PORTRAIT_LABELS.items()
    }


def portrait_sample(
    record: StoredClip, frames: int, size: int, rng: np.random.Generator | None, asked: str = "frames_per_sample"
) -> Sample:
    """Frames of a stage 1 record and their labels: some at random, or, without a generator, spread over the clip.

    Raises CorruptRecordError for a record with fewer frames, or of a size that is no multiple of `size`.
    """
    count = record.count
    if count < frames:
        raise CorruptRecordError(f"a clip of {count} frames; a sample needs {asked}={frames}")
    spread = np.linspace(0, count - 1, frames).astype(int)
    chosen = spread if rng is None else rng.choice(count, frames, replace=False)
    labels = {
        name: np.asarray(record.labels[name], np.float32)[chosen]
        if name in record.labels
        else np.full((len(chosen), *rest), np.nan, np.float32)
        for name, rest in PORTRAIT_LABELS.items()
    }
    return {"frames": record.frames(chosen.tolist(), size)} | labels


def check_labels(data: World | Records, workdir: Path, objective: ObjectiveConfig) -> None:
    """Look for the labels that terms of the objective need, in the first `LOOKED_AT` clips of each folder to train on.

    Raises:
        UserError: naming the terms that would ask in vain, and the flags that leave them out.
    """
    source = world_data.open_split(data, workdir, "train")
    known: set[str] = set()
    for chosen in source.ranges():
        clips = readable(source, lambda record: record.labels, data.max_corrupt, chosen)
        for _, labels in itertools.islice(clips, LOOKED_AT):
            known |= {name for name, value in labels.items() if np.isfinite(np.asarray(value, np.float64)).any()}
    idle = [term for term in terms(objective) if term.labels and not known & set(term.labels)]
    if idle:
        named = "; ".join(f"objective.{term.name} needs label {' or '.join(term.labels)}" for term in idle)
        flags = " ".join(f"--objective.{term.name.replace('_', '-')} 0" for term in idle)
        raise UserError(f"{named}, and the first clips have none: label them, or leave the terms out with {flags}")
