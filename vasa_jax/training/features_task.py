"""The feature network of the world as a task: one that tells identity, pose and expression (`training.features`)."""

import functools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vasa_jax.data.pipeline import Sample
from vasa_jax.data.records import StoredClip
from vasa_jax.pretrained import world_features
from vasa_jax.synthetic.splits import seeds
from vasa_jax.training import features, world_data
from vasa_jax.training.clips import check_first, compute_dtype, held_out_batch, shown, training_batches
from vasa_jax.training.config import FeaturesExperiment, PeopleWorld
from vasa_jax.training.players import Player, as_computed
from vasa_jax.training.task import Task


def features_task(experiment: FeaturesExperiment) -> Task:
    """The task of an experiment of the feature network."""
    data, model, frames = experiment.data, experiment.model, experiment.frames_per_sample
    features.check(model)
    assert isinstance(data, PeopleWorld)
    narrow = jnp.dtype("bfloat16") if compute_dtype(experiment) == "bfloat16" else None  # None follows the parameters
    loss = functools.partial(features.loss, model, experiment.objective, dtype=narrow)

    def sample(record: StoredClip, rng: np.random.Generator | None) -> Sample:
        return features.people_sample(record, frames, data.size, data.first_seed, rng)

    def prepare(workdir: Path) -> None:
        world_data.prepare(data, workdir, data.size, functools.partial(features.make_people, size=data.size))
        check_first(data, workdir, sample)

    def measure(workdir: Path, kept: Any) -> tuple[Any, dict[str, Any]]:
        del workdir, kept
        members = seeds("train")[data.first_seed : data.first_seed + data.clips]
        return features.traits(np.asarray(members)), {}

    return Task(
        init=lambda key: (world_features.init(model, key), jnp.zeros((data.clips, model.embedding)), {}),
        forward=lambda params, frozen, batch, keys: loss(params, frozen.constants, batch, keys),
        players=(Player("features", as_computed, experiment.optimiser),),
        batch_spec=lambda size: (
            features.people_spec(size, frames, data.size) | {"index": jax.ShapeDtypeStruct((size,), jnp.uint32)}
        ),
        prepare=prepare,
        measure=measure,
        dataset=functools.partial(training_batches, data, sample),
        held_out=lambda workdir: held_out_batch(data, workdir, sample),
        evaluate=lambda params, constants, batch: features.scores(model, params, batch),
        judge=lambda params, constants, workdir: {},  # it generates nothing
        pictures=lambda params, constants, batch: {"seen": features.shown(model, experiment.objective, shown(batch))},
        videos=lambda params, constants, workdir: {},
        blocks=lambda params: dict(params),
        macs=lambda: {f"picture of {side}": features.count_macs(model, side) for side in (data.size // 2, data.size)},
    )
