"""Tasks that train in milliseconds: a line with noise from the samples' own keys, alone or against a critic."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from vasa_jax.data.pipeline import make_dataset
from vasa_jax.training.config import Experiment, OptimiserConfig
from vasa_jax.training.logs import Video
from vasa_jax.training.players import Frozen, Player
from vasa_jax.training.step import still
from vasa_jax.training.task import Task

EXPERIMENT = Experiment(
    optimiser=OptimiserConfig(learning_rate=1e-2, warmup=2),
    steps=4,
    batch_size=8,
    log_every=2,
    eval_every=4,
    judge_every=4,
    pictures_every=4,
    save_every=2,
)
ROWS = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ToyExperiment(Experiment):
    model: int = 4


def init(key):
    kernel = jax.random.normal(key, (3, 2))
    return {"dense": {"kernel": kernel, "bias": jnp.zeros(2)}}, {"shift": jnp.zeros(2)}, {}


def forward(params, frozen, batch, keys):
    """The outputs, what they should be, and the noise."""
    noise = jax.vmap(lambda key: jax.random.normal(key, (2,), batch["x"].dtype))(keys)
    shift = frozen.constants["shift"]
    out = jnp.tanh(batch["x"] @ params["dense"]["kernel"] + params["dense"]["bias"][None] + shift[None])
    return out, batch["y"], noise


def loss(params, frozen, views):
    out, target, noise = views
    return jnp.square(out - target + 0.1 * noise).mean(), {"noise": jnp.square(noise).mean()}


ALONE = (Player("toy", loss, EXPERIMENT.optimiser),)


def init_both(key):
    """With a critic, whose scale follows its kernel."""
    params, constants, _ = init(key)
    return params | {"critic": {"kernel": jnp.array([[1.0], [2.0]])}}, constants, {"scale": jnp.ones(())}


def advance(params, mutable):
    return {"scale": 0.5 * (mutable["scale"] + jnp.abs(params["critic"]["kernel"]).max())}


def judge(params, frozen, x):
    return jnp.tanh(x @ params["critic"]["kernel"] / frozen.mutable["scale"])


def fooling_loss(params, frozen, views):
    value, metrics = loss(params, frozen, views)
    return value - 0.3 * judge(params, frozen, views[0]).mean(), metrics


def critic_loss(params, frozen, views):
    out, target, _ = views
    value = judge(params, frozen, out).mean() - judge(params, frozen, target).mean()
    return value, {"apart": jnp.abs(value)}


def both(every=1, start=0):
    """A generator, and a critic with optimiser, clip and turns of its own."""
    critic = OptimiserConfig(learning_rate=3e-2, warmup=1, b1=0.5, clip=0.1)
    return (
        Player("toy", fooling_loss, EXPERIMENT.optimiser, ("dense",)),
        Player("critic", critic_loss, critic, ("critic",), every, start, averaged=False),
    )


def sample(row, rng):
    return {"x": row, "y": np.float32(row[:2] * 0.5 + 0.01 * rng.normal(size=2))}


def make_toy(bad_at: int | None = None, players=ALONE) -> Task:
    """The task; with `bad_at`, the loss of the step that makes it that many steps is NaN."""

    def broken(params, frozen: Frozen, views):
        value, metrics = players[0].loss(params, frozen, views)
        return jnp.where(frozen.step + 1 == (bad_at or -1), jnp.nan, 1.0) * value, metrics

    rows = [ROWS[i] for i in range(len(ROWS))]
    pair = len(players) > 1
    return Task(
        init=init_both if pair else init,
        forward=forward,
        players=(dataclasses.replace(players[0], loss=broken), *players[1:]),
        advance=advance if pair else still,
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
        judge=lambda params, constants, workdir: {"kernel": float(jnp.square(params["dense"]["kernel"]).mean())},
        pictures=lambda params, constants, batch: {"grey": np.full((4, 4, 3), 0.5, np.float32)},
        videos=lambda params, constants, workdir: {"grey": Video(np.full((3, 8, 8, 3), 128, np.uint8), None)},
        blocks=lambda params: {"dense": params["dense"]},
        macs=lambda: {"frame": 6},
    )
