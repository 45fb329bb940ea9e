"""The train step: one pure function of (state, batch, key, helpers), the same under `jit` and under `pmap`.

All randomness is per sample: the key of a sample is fold_in(fold_in(run key, step), position in the stream), so
neither the batch's split over devices nor a restart changes it. With an axis name, gradients and metrics are averaged
over it; every device has as many samples, so that is the mean over the global batch. The total and the count of a
metric are averaged each, until it is read.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int, UInt32

from vasa_jax.nn.stack import recomputing
from vasa_jax.training.optimiser import by_name, is_frozen
from vasa_jax.training.players import Frozen, Metrics, Player, all_losses, averaged
from vasa_jax.training.state import TrainState

Batch = dict[str, Any]
TrainStep = Callable[..., tuple[TrainState, Metrics]]
"""(state, batch, key, helpers) to (new state, metrics); helpers are frozen parameters, {} where there are none."""
View = Callable[[Any, Batch, Any], Batch]
"""(helpers, batch, keys (b,)) to the batch as the forward pass takes it."""
Forward = Callable[[Any, Frozen, Batch, Any], Any]
"""(parameters, frozen, batch, keys (b,)) to the views that the losses look at."""


def untouched(helpers: Any, batch: Batch, keys: Any) -> Batch:
    """The batch as it is."""
    del helpers, keys
    return batch


def still(params: Any, mutable: Any) -> Any:
    """The mutable numbers as they are."""
    del params
    return mutable


def sample_keys(key: UInt32[Array, " 2"], step: Int[Array, ""], index: UInt32[Array, " b"]) -> Any:
    """Typed random keys (b,), one a sample; `key` is the data of the run's key (`jax.random.key_data`)."""
    root = jax.random.fold_in(jax.random.wrap_key_data(key), step)
    return jax.vmap(lambda i: jax.random.fold_in(root, i))(index)


def make_train_step(
    forward: Forward,
    players: Sequence[Player],
    optimisers: Mapping[str, optax.GradientTransformation],
    ema: float,
    axis_name: str | None = None,
    accumulate: int = 1,
    remat: bool = False,
    regather: bool = False,
    blocks: Callable[[Any], dict[str, Any]] = lambda params: {},
    view: View = untouched,
    advance: Callable[[Any, Any], Any] = still,
) -> TrainStep:
    """The step of a task.

    Args:
        forward: of the task; its batch carries `index` uint32 (b,).
        players: who learns, the owner of the forward pass first.
        optimisers: of each player by name, as from `make_optimiser`.
        ema: decay d of the averaged parameters; in the first steps min(d, (1 + step) / (10 + step)), so that the
            start is forgotten.
        axis_name: the mapped axis to average over; None where the batch is global.
        accumulate: micro-batches, computed one after the other; sample i belongs to number i mod accumulate, so that
            each is spread over all devices as the batch is.
        remat: save memory by `recomputed`.
        regather: of the strategy; kernels that were gathered (`nn.gathering`) are not kept for the backward pass.
        blocks: parameters to parts of them by name, see `Task.blocks`.
        view: see `Task.view`.
        advance: see `Task.advance`.

    Returns:
        A pure function to (new state, metrics): those of the losses, `loss` among them, and `gradient_norm` before
        clipping, of the first player's part and of each block; of each further player NAME the same as `NAME/...`.
    """

    def stopped(name: str, x: Any) -> Any:
        return jax.lax.stop_gradient(x) if any(is_frozen(player.optimiser, name) for player in players) else x

    def objective(params: Any, samples: Batch, keys: Any, frozen: Frozen) -> tuple[Any, Metrics]:
        params = by_name(stopped, params)
        views = look(params, frozen, samples, keys)
        return judge(params, frozen, views)

    def losses(params: Any, frozen: Frozen, views: Any) -> tuple[Any, Metrics]:
        return all_losses(players, params, frozen, views)

    saving = recomputed if remat else regathered if regather else lambda function: function
    look, judge = saving(forward), saving(losses)

    def train_step(state: TrainState, batch: Batch, key: Any, helpers: Any = None) -> tuple[TrainState, Metrics]:
        keys = sample_keys(key, state.step, batch["index"])
        frozen = Frozen(state.constants, advance(state.params, state.mutable), helpers, state.step)
        gradient = jax.grad(objective, has_aux=True)
        if accumulate == 1:
            gradients, metrics = gradient(state.params, view(helpers, batch, keys), keys, frozen)
        else:

            def of_part(part: Any) -> Any:
                return gradient(state.params, view(helpers, *part), part[1], frozen)

            gradients, metrics = _mean_over_parts(of_part, (batch, keys), accumulate)
        if axis_name is not None:
            gradients, metrics = jax.lax.pmean((gradients, metrics), axis_name)
        params, opt = state.params, {}
        for number, player in enumerate(players):
            prefix = f"{player.name}/" if number else ""
            metrics[f"{prefix}gradient_norm"] = optax.tree.norm(player.part(gradients))
            changed, opt[player.name] = _turn(player, optimisers[player.name], state, gradients)
            params = params | changed if player.owns else changed
        metrics |= {f"gradient_norm/{name}": optax.tree.norm(block) for name, block in blocks(gradients).items()}
        decay = jnp.minimum(ema, (1.0 + state.step) / (10.0 + state.step))
        average = jax.tree.map(
            lambda old, new: (old + (1.0 - decay) * (new - old)).astype(old.dtype),
            state.ema,
            averaged(players, params),
        )
        return TrainState(state.step + 1, params, average, opt, state.constants, frozen.mutable), metrics

    return train_step


def _turn(
    player: Player, optimiser: optax.GradientTransformation, state: TrainState, gradients: Any
) -> tuple[Any, Any]:
    """A player's part of the parameters and its optimiser's state after a step; unchanged where it has no turn."""
    part, before, due = player.part(state.params), state.opt[player.name], player.is_due(state.step)
    updates, after = optimiser.update(player.part(gradients), before, part)
    moved = optax.apply_updates(part, updates)
    if due is True:
        return moved, after
    return jax.tree.map(lambda new, old: jnp.where(due, new, old), (moved, after), (part, before))


def recomputed(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function with less memory: convolutions and matrix products keep their outputs for the backward pass,
    the cheap rest (norms, activations, resizing, sampling) is computed again (Chen et al. 2016, arXiv 1604.06174).
    """

    def is_dear(primitive: Any, *_: Any, **__: Any) -> bool:
        return primitive.name in ("conv_general_dilated", "dot_general")

    return _checkpoint(function, is_dear)


def regathered(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, which keeps all for the backward pass but kernels brought together from other devices."""

    def stays(primitive: Any, *_: Any, **__: Any) -> bool:
        return primitive.name != "sharding_constraint"

    return _checkpoint(function, stays)


def _checkpoint(function: Callable[..., Any], policy: Callable[..., bool]) -> Callable[..., Any]:
    """A function of its own for each caller: JAX keeps traces by function, and callers trace under other hooks."""

    def traced(*arguments: Any) -> Any:
        with recomputing(policy):
            return function(*arguments)

    return jax.checkpoint(traced, policy=policy)  # pyright: ignore[reportPrivateImportUsage]


def _mean_over_parts(function: Callable[[Any], Any], samples: Any, parts: int) -> Any:
    """The mean of a function's results over `parts` interleaved parts of the samples, one after the other."""

    def split(x: Array) -> Array:
        return jnp.moveaxis(x.reshape(x.shape[0] // parts, parts, *x.shape[1:]), 1, 0)

    def body(total: Any, part: Any) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, total, function(part)), None

    rows = jax.tree.map(split, samples)
    shapes = jax.eval_shape(function, jax.tree.map(lambda x: x[0], rows))
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    total, _ = jax.lax.scan(body, zeros, rows)
    return jax.tree.map(lambda x: x / parts, total)
