"""A stack against its blocks one after the other."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from vasa_jax.nn.residual import ResidualBlock
from vasa_jax.nn.stack import run_stack

KEY = jax.random.key(0)


class Three(nn.Module):
    """Three residual blocks."""

    dtype: Any

    @nn.compact
    def __call__(self, x):
        return run_stack(ResidualBlock(8, 2, self.dtype, name="blocks"), x, 3)


@pytest.mark.parametrize("dtype", [None, jnp.bfloat16])
def test_a_stack_is_its_blocks_in_order(dtype):
    x = jax.random.normal(KEY, (2, 4, 4, 8), dtype or jnp.float32)
    params = jax.jit(Three(dtype).init)(KEY, x)["params"]["blocks"]
    stacked = Three(dtype).apply({"params": {"blocks": params}}, x)
    y = x
    for place in range(3):
        y = ResidualBlock(8, 2, dtype).apply({"params": jax.tree.map(lambda leaf, place=place: leaf[place], params)}, y)
    assert stacked.dtype == y.dtype == x.dtype
    assert_allclose(np.float32(stacked), np.float32(y), atol=1e-6 if dtype is None else 0.05)
    kernels = params["conv_0"]["kernel"]
    assert kernels.shape == (3, 3, 3, 8, 8) and kernels.dtype == jnp.float32
    assert_allclose(kernels.std((1, 2, 3, 4)), np.sqrt(2 / 72), rtol=0.1)  # He's scale, of a block alone
    assert abs(np.corrcoef(kernels.reshape(3, -1))[0, 1]) < 0.2
