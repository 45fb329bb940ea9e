"""Attention against the definition, and sinusoids."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vasa_jax.nn.attention import Encoder, SelfAttention, queries_are_keys
from vasa_jax.nn.embedding import sinusoids


def test_attention_is_a_softmax_average_of_values():
    x = jax.random.normal(jax.random.key(0), (2, 5, 8))
    module = SelfAttention(num_heads=2)
    variables = module.init(jax.random.key(1), x)
    tree = jax.tree.map(np.asarray, variables["params"])
    query, key, value = np.split(np.asarray(x) @ tree["qkv"]["kernel"] + tree["qkv"]["bias"], 3, axis=-1)
    heads = []
    for head in (slice(0, 4), slice(4, 8)):
        weight = np.exp(query[..., head] @ key[..., head].swapaxes(1, 2) / 2)
        heads.append(weight / weight.sum(-1, keepdims=True) @ value[..., head])
    expected = np.concatenate(heads, -1) @ tree["out"]["kernel"] + tree["out"]["bias"]
    np.testing.assert_allclose(module.apply(variables, x), expected, atol=1e-5)


def test_the_stack_keeps_one_leading_axis_of_layers_and_tokens_are_a_set():
    x = jax.random.normal(jax.random.key(0), (2, 5, 8))
    module = Encoder(num_layers=3, num_heads=2, ffn=12)
    variables = jax.jit(module.init)(jax.random.key(1), x)
    blocks = variables["params"]["blocks"]
    assert all(leaf.shape[0] == 3 for leaf in jax.tree.leaves(blocks))
    assert (blocks["ffn_in"]["kernel"][0] != blocks["ffn_in"]["kernel"][1]).all()
    run = jax.jit(module.apply)
    order = jnp.array([3, 0, 4, 1, 2])
    np.testing.assert_allclose(run(variables, x[:, order]), run(variables, x)[:, order], atol=1e-5)


def test_a_fresh_layer_has_equal_queries_and_keys_and_other_values():
    query, key, value = np.split(np.asarray(queries_are_keys(jax.random.key(0), (64, 192))), 3, axis=1)
    np.testing.assert_array_equal(query, key)
    assert abs(np.corrcoef(query.ravel(), value.ravel())[0, 1]) < 0.1
    np.testing.assert_allclose([part.var() * 64 for part in (query, value)], 1.0, rtol=0.1)


def test_heads_must_divide_the_width():
    with pytest.raises(ValueError, match="num_heads=3"):
        SelfAttention(num_heads=3).init(jax.random.key(0), jnp.zeros((1, 2, 8)))


def test_sinusoids_have_constant_length_and_tell_neighbours_apart():
    value = jnp.array([0.0, 1.0, 999.0, 1000.0])
    table = sinusoids(value, 64)
    np.testing.assert_allclose(jnp.square(table).sum(-1), 32, rtol=1e-5)
    distance = jnp.linalg.norm(table[:, None] - table[None], axis=-1)
    assert float(distance[2, 3]) == pytest.approx(float(distance[0, 1]), rel=1e-3)
    assert distance[0, 3] > distance[0, 1] > 0.5
    with pytest.raises(ValueError, match="width=3"):
        sinusoids(value, 3)
