"""The program of a run: its first state and its compiled step, from an experiment, a task and a strategy.

Whoever runs it and whoever only plans it (`plan`) make the same program here.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from vasa_jax.nn.cost import count_jaxpr, count_macs
from vasa_jax.training.config import Experiment
from vasa_jax.training.optimiser import check_patterns, make_optimiser
from vasa_jax.training.parallel import Strategy
from vasa_jax.training.start import overlay
from vasa_jax.training.state import TrainState, create
from vasa_jax.training.step import make_train_step
from vasa_jax.training.task import Task


class TrainProgram(NamedTuple):
    """What a run computes.

    fresh: makes the state before the first step, from parameters by name that replace fresh ones, and the task's
        constants.
    shapes: the shapes of that state.
    step: (state, batch, key data, helpers) to (state, metrics), placed by the strategy and compiled for the arrays it
        gets.
    flops: floating-point operations of one step over all devices, forward and backward, in products and convolutions
        alone and without recomputation; costs a trace of the step.
    """

    fresh: Callable[[Mapping[str, Any], Any], TrainState]
    shapes: TrainState
    step: Any
    flops: Callable[[], float]


def make_program(experiment: Experiment, task: Task, strategy: Strategy) -> TrainProgram:
    """The program of an experiment; nothing is computed or allocated.

    Args:
        experiment: the config.
        task: what is trained, as from `tasks.make_task`.
        strategy: as from `parallel.make_strategy`.

    Raises:
        ValueError: for a pattern of the optimiser that matches no parameter.
    """
    params, constants, mutable = jax.eval_shape(task.init, jax.random.key(experiment.seed))
    optimisers = {
        player.name: make_optimiser(player.optimiser, player.turns(experiment.steps)) for player in task.players
    }
    for player in task.players:
        check_patterns(player.optimiser, player.part(params))

    def fresh(taken: Mapping[str, Any], constants: Any) -> TrainState:
        params, _, mutable = task.init(jax.random.key(experiment.seed))
        return begin(overlay(params, taken), constants, mutable)

    def begin(params: Any, constants: Any, mutable: Any) -> TrainState:
        return create(params, jax.tree.map(jnp.asarray, constants), mutable, task.players, optimisers)

    make_step = functools.partial(
        make_train_step,
        task.forward,
        task.players,
        optimisers,
        experiment.ema,
        blocks=task.blocks,
        view=task.view,
        advance=task.advance,
    )
    shapes = jax.eval_shape(begin, params, constants, mutable)
    step = make_step(strategy.axis_name, experiment.accumulate, experiment.remat, strategy.regather)
    compiled = strategy.compile(step, shapes)

    def flops() -> float:
        key = jax.ShapeDtypeStruct((2,), jnp.uint32)
        arguments = shapes, task.batch_spec(experiment.batch_size), key, task.helper_shapes()
        if experiment.remat or strategy.axis_name is not None:
            return 2.0 * count_macs(make_step(), *arguments)
        return 2.0 * count_jaxpr(compiled.trace(*arguments).jaxpr.jaxpr)  # the trace that the first step uses too

    return TrainProgram(fresh, shapes, compiled, flops)
