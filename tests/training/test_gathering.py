"""`sharded` brings kernels together where they are used: in the loop of a stack, in the compute dtype."""

import re
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vasa_jax.nn.gathering import Dense
from vasa_jax.nn.residual import ResidualBlock
from vasa_jax.nn.stack import run_stack
from vasa_jax.training import sharding
from vasa_jax.training.parallel import make_strategy
from vasa_jax.training.step import recomputed, regathered

BLOCKS, WIDTH = 6, 16


class Network(nn.Module):
    """A stack of residual blocks and a linear layer."""

    dtype: Any

    @nn.compact
    def __call__(self, x):
        x = run_stack(ResidualBlock(WIDTH, 2, self.dtype, name="blocks"), x, BLOCKS)
        return Dense(8, dtype=self.dtype, name="head")(x)


def compiled(name, dtype, saving, precise=False):
    """A step of plain gradient descent, its shapes, and its first state and batch."""
    network, strategy = Network(dtype), make_strategy(name, 8)
    x = np.random.default_rng(0).standard_normal((8, 4, 4, WIDTH)).astype(np.float64 if precise else np.float32)

    @saving
    def loss(params, x):
        return jnp.square(network.apply({"params": params}, x)).mean()

    def step(state, batch, key, helpers):
        value, slope = jax.value_and_grad(loss)(state["params"], batch["x"])
        return {"params": jax.tree.map(lambda p, g: p - 0.1 * g, state["params"], slope)}, {"loss": value}

    def make():
        params = network.init(jax.random.key(0), jnp.asarray(x))["params"]
        return {"params": jax.tree.map(lambda leaf: leaf.astype(x.dtype), params)}

    state = strategy.create(make)
    run = strategy.compile(step, jax.eval_shape(make))
    return run, state, (strategy.place_batch({"x": x}), strategy.place(np.zeros(2, np.uint32)), {}), strategy


@pytest.mark.parametrize("saving", [recomputed, regathered])
def test_every_gather_is_of_one_block_in_the_compute_dtype(saving, monkeypatch):
    monkeypatch.setattr(sharding, "SMALL", 1)
    run, state, arguments, _ = compiled("sharded", jnp.bfloat16, saving)
    lowered = run.lower(state, *arguments)
    text = lowered.compile().as_text()
    gathers = re.findall(r"= (\w+)\[([\d,]*)\]\S* all-gather\(", text)
    assert gathers
    kernels = [tuple(map(int, shape.split(","))) for _, shape in gathers]
    largest = max(int(np.prod(shape)) for shape in kernels)
    assert largest <= 9 * WIDTH * WIDTH  # never the stack
    loops = re.findall(r"body=%?([\w.\-]+)", text)
    inside = [name for name in loops if " all-gather(" in text.split(f"{name} (")[1].split("\n}")[0]]
    assert len(inside) >= 2  # forward and backward


def test_no_device_ever_holds_the_kernels_of_a_whole_stack(monkeypatch):
    """Kept for the way back as they were gathered, they would be; their gradients would be, summed up at the end."""
    monkeypatch.setattr(sharding, "SMALL", 1)
    whole = f"[{BLOCKS},3,3,{WIDTH},{WIDTH}]"
    found = {}
    for saving in (recomputed, regathered, lambda function: function):
        run, state, arguments, _ = compiled("sharded", None, saving)
        found[saving] = whole in run.lower(state, *arguments).compile().as_text()
    assert list(found.values()) == [False, False, True]


@pytest.mark.parametrize("saving", [recomputed, regathered])
def test_gathered_and_whole_parameters_learn_the_same(saving, monkeypatch):
    monkeypatch.setattr(sharding, "SMALL", 1)
    found = []
    with jax.enable_x64(True):
        for name, way in (("jit", lambda function: function), ("sharded", saving)):
            run, state, arguments, strategy = compiled(name, None, way, precise=True)
            for _ in range(3):
                state, metrics = run(state, *arguments)
            found.append(strategy.collect((state, metrics)))
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(found))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-12), *found)


def test_who_does_not_want_a_state_gets_none():
    strategy = make_strategy("sharded", 8)
    state = strategy.create(lambda: {"kernel": jnp.ones((64, 64))})
    assert strategy.collect(state, False) is None
