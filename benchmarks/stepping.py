"""A training step on random numbers, for benchmarks that time it."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from vasa_jax.training.config import Experiment
from vasa_jax.training.parallel import make_strategy
from vasa_jax.training.program import make_program
from vasa_jax.training.tasks import make_task


def random_step(experiment: Experiment, helpers: Any = None) -> tuple[float, Callable[[], Any]]:
    """The step of an experiment under `jit`, from fresh parameters, on one random batch.

    Args:
        experiment: the config.
        helpers: parameters of its frozen networks; None takes the task's own.

    Returns:
        TFLOP of a step, and a function that does the next one and returns its metrics.
    """
    task, size = make_task(experiment), experiment.batch_size
    strategy = make_strategy("jit", size)
    program = make_program(experiment, task, strategy)
    random = np.random.default_rng(0)
    rows = {
        name: random.integers(0, 256, leaf.shape, np.uint8)
        if leaf.dtype == np.uint8
        else (0.1 * random.normal(size=leaf.shape)).astype(leaf.dtype)
        for name, leaf in task.batch_spec(size).items()
    }
    batch = strategy.place_batch(rows | {"index": np.arange(size, dtype=np.uint32)})
    key = strategy.place(jax.device_get(jax.random.key_data(jax.random.key(0))))
    placed = strategy.place(task.helpers() if helpers is None else helpers)
    states = [strategy.create(program.fresh, {}, task.init(jax.random.key(0))[1])]

    def step() -> Any:
        states[0], metrics = program.step(states[0], batch, key, placed)
        return metrics

    return program.flops() / 1e12, step
