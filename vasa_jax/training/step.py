"""The train step: one pure function of (state, batch, key, helpers), the same under `jit` and under `pmap`.

All randomness is per sample: the key of a sample is fold_in(fold_in(run key, step), position in the stream), so
neither the batch's split over devices nor a restart changes it. With an axis name, gradients and metrics are averaged
over it; every device has as many samples, so that is the mean over the global batch. The total and the count of a mean
over some of the samples are averaged each, until it is read.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, UInt32

from vasa_jax.training.optimiser import by_name
from vasa_jax.training.state import TrainState

Batch = dict[str, Any]
Metrics = dict[str, Any]
TrainStep = Callable[..., tuple[TrainState, Metrics]]
"""(state, batch, key, helpers) to (new state, metrics); helpers are frozen parameters, {} where there are none."""
View = Callable[[Any, Batch, Any], Batch]
"""(helpers, batch, keys (b,)) to the batch as a loss takes it."""


Loss = Callable[[Any, Any, Batch, Any, Any], tuple[Any, Metrics]]
"""(params, constants, batch, keys (b,), step ()) to (mean over the samples, metrics: means too, or `Average`s over the
samples that have what is measured)."""


def untouched(helpers: Any, batch: Batch, keys: Any) -> Batch:
    """The batch as it is."""
    del helpers, keys
    return batch


def sample_keys(key: UInt32[Array, " 2"], step: Int[Array, ""], index: UInt32[Array, " b"]) -> Any:
    """Typed random keys (b,), one a sample; `key` is the data of the run's key (`jax.random.key_data`)."""
    root = jax.random.fold_in(jax.random.wrap_key_data(key), step)
    return jax.vmap(lambda i: jax.random.fold_in(root, i))(index)


def make_train_step(
    loss: Loss,
    optimiser: optax.GradientTransformation,
    ema: float,
    axis_name: str | None = None,
    accumulate: int = 1,
    remat: bool = False,
    frozen: Callable[[str], bool] = lambda name: False,
    blocks: Callable[[Any], dict[str, Any]] = lambda params: {},
    gather: Callable[[Any], Any] = lambda params: params,
    view: View = untouched,
) -> TrainStep:
    """The step of a task.

    Args:
        loss: of the task; its batch carries `index` uint32 (b,).
        optimiser: as from `make_optimiser`.
        ema: decay d of the averaged parameters; in the first steps min(d, (1 + step) / (10 + step)), so that the
            start is forgotten.
        axis_name: the mapped axis to average over; None where the batch is global.
        accumulate: micro-batches, computed one after the other; sample i belongs to number i mod accumulate, so that
            each is spread over all devices as the batch is.
        remat: save memory by `recomputed`.
        frozen: says of a parameter's name whether it has no gradient; its backward pass is not computed.
        blocks: parameters to parts of them by name, see `Task.blocks`.
        gather: parameters to those that the loss computes with; equal, but perhaps placed elsewhere.
        view: see `Task.view`.

    Returns:
        A pure function to (new state, metrics): those of the loss, `loss`, and `gradient_norm` before clipping, of all
        and of each block.
    """

    loss = recomputed(loss) if remat else loss

    def train_step(state: TrainState, batch: Batch, key: Any, helpers: Any = None) -> tuple[TrainState, Metrics]:
        keys = sample_keys(key, state.step, batch["index"])

        def objective(params: Any, samples: Batch, keys: Any) -> tuple[Float[Array, ""], Metrics]:
            params = by_name(lambda name, x: jax.lax.stop_gradient(x) if frozen(name) else x, params)
            value, metrics = loss(params, state.constants, samples, keys, state.step)
            return value, metrics | {"loss": value}

        gradient, whole = jax.grad(objective, has_aux=True), gather(state.params)
        if accumulate == 1:
            gradients, metrics = gradient(whole, view(helpers, batch, keys), keys)
        else:

            def of_part(part: Any) -> Any:
                return gradient(whole, view(helpers, *part), part[1])

            gradients, metrics = _mean_over_parts(of_part, (batch, keys), accumulate)
        if axis_name is not None:
            gradients, metrics = jax.lax.pmean((gradients, metrics), axis_name)
        metrics["gradient_norm"] = optax.tree.norm(gradients)
        metrics |= {f"gradient_norm/{name}": optax.tree.norm(block) for name, block in blocks(gradients).items()}
        updates, opt = optimiser.update(gradients, state.opt, state.params)
        params = optax.apply_updates(state.params, updates)
        decay = jnp.minimum(ema, (1.0 + state.step) / (10.0 + state.step))
        average = jax.tree.map(
            lambda old, new: (old + (1.0 - decay) * (new - old)).astype(old.dtype), state.ema, params
        )
        return TrainState(state.step + 1, params, average, opt, state.constants), metrics

    return train_step


def recomputed(loss: Loss) -> Loss:
    """The same loss with less memory: convolutions and matrix products keep their outputs for the backward pass, the
    cheap rest (norms, activations, resizing, sampling) is computed again (Chen et al. 2016, arXiv 1604.06174).
    """

    def is_dear(primitive: Any, *_: Any, **__: Any) -> bool:
        return primitive.name in ("conv_general_dilated", "dot_general")

    return jax.checkpoint(loss, policy=is_dear)  # pyright: ignore[reportPrivateImportUsage]


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
