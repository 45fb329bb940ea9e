"""The program of a run: its first state and its compiled step, from an experiment, a task and a strategy.

Whoever runs it and whoever only plans it (`plan`) make the same program here.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from vasa_jax.training.config import Experiment
from vasa_jax.training.optimiser import make_optimiser
from vasa_jax.training.parallel import Strategy
from vasa_jax.training.state import TrainState, create
from vasa_jax.training.step import make_train_step
from vasa_jax.training.task import Task


class TrainProgram(NamedTuple):
    """What a run computes.

    fresh: makes the state before the first step.
    shapes: the shapes of that state.
    step: (state, batch, key data) to (state, metrics), placed by the strategy and compiled for the arrays it gets.
    """

    fresh: Callable[[], TrainState]
    shapes: TrainState
    step: Any


def make_program(experiment: Experiment, task: Task, strategy: Strategy, constants: Any = None) -> TrainProgram:
    """The program of an experiment; nothing is computed or allocated.

    Args:
        experiment: the config.
        task: what is trained, as from `tasks.make_task`.
        strategy: as from `parallel.make_strategy`.
        constants: as `task.prepare` measures them; None takes the task's placeholders, which have the same shapes.
    """
    optimiser = make_optimiser(experiment.optimiser, experiment.steps)

    def fresh() -> TrainState:
        params, placeholders = jax.jit(task.init)(jax.random.key(experiment.seed))
        measured = placeholders if constants is None else constants
        return create(params, jax.tree.map(jnp.asarray, measured), optimiser)

    step = make_train_step(
        task.loss, optimiser, experiment.ema, strategy.axis_name, experiment.accumulate, experiment.remat
    )
    shapes = jax.eval_shape(fresh)
    return TrainProgram(fresh, shapes, strategy.compile(step, shapes))
