"""A task that trains in milliseconds: a line with noise from the samples' own keys."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from vasa_jax.data.pipeline import make_dataset
from vasa_jax.training.config import Experiment, OptimiserConfig
from vasa_jax.training.logs import Video
from vasa_jax.training.task import Task

EXPERIMENT = Experiment(
    optimiser=OptimiserConfig(learning_rate=1e-2, warmup=2),
    steps=4,
    batch_size=8,
    log_every=2,
    eval_every=4,
    pictures_every=4,
    save_every=2,
)
ROWS = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ToyExperiment(Experiment):
    model: int = 4


def init(key):
    kernel = jax.random.normal(key, (3, 2))
    return {"dense": {"kernel": kernel, "bias": jnp.zeros(2)}}, {"shift": jnp.zeros(2)}


def loss(params, constants, batch, keys, step):
    noise = jax.vmap(lambda key: jax.random.normal(key, (2,), batch["x"].dtype))(keys)
    out = jnp.tanh(batch["x"] @ params["dense"]["kernel"] + params["dense"]["bias"][None] + constants["shift"][None])
    value = jnp.square(out - batch["y"] + 0.1 * noise).mean()
    return value, {"noise": jnp.square(noise).mean()}


def sample(row, rng):
    return {"x": row, "y": np.float32(row[:2] * 0.5 + 0.01 * rng.normal(size=2))}


def make_toy(bad_at: int | None = None) -> Task:
    """The task; with `bad_at`, the loss of the step that makes it that many steps is NaN."""

    def broken(params, constants, batch, keys, step):
        value, metrics = loss(params, constants, batch, keys, step)
        return jnp.where(step + 1 == (bad_at or -1), jnp.nan, 1.0) * value, metrics

    rows = [ROWS[i] for i in range(len(ROWS))]
    return Task(
        init=init,
        loss=broken,
        batch_spec=lambda size: {
            "x": jax.ShapeDtypeStruct((size, 3), jnp.float32),
            "y": jax.ShapeDtypeStruct((size, 2), jnp.float32),
            "index": jax.ShapeDtypeStruct((size,), jnp.uint32),
        },
        prepare=lambda workdir: None,
        measure=lambda workdir, kept: ({"shift": np.full(2, 0.1, np.float32)} if kept is None else kept, {}),
        dataset=lambda workdir, *order: make_dataset(rows, sample, *order),
        held_out=lambda workdir: {"x": ROWS[:2]},
        evaluate=lambda params, constants, batch: {"kernel": float(jnp.abs(params["dense"]["kernel"]).mean())},
        pictures=lambda params, constants, batch: {"grey": np.full((4, 4, 3), 0.5, np.float32)},
        videos=lambda params, constants, workdir: {"grey": Video(np.full((3, 8, 8, 3), 128, np.uint8), None)},
        blocks=lambda params: params,
        macs=lambda: {"frame": 6},
    )
