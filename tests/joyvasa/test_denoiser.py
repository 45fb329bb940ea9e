"""The denoiser's exact saving and its two kinds of positions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from tests.joyvasa.tiny import SAMPLES, TINY, method, normal, variables
from vasa_jax.joyvasa import MotionGenerator, MotionGeneratorConfig
from vasa_jax.joyvasa.denoiser import sinusoids

TOKENS = TINY.previous + TINY.window


def masked_attention(parts, layer, h, memory):
    """A whole attention of torch's kind in float64, token i allowed to see element i alone; one sample."""

    def linear(name, x):
        kernel, bias = (np.asarray(parts[name][leaf][layer], np.float64) for leaf in ("kernel", "bias"))
        return x @ kernel + bias

    def heads(x):
        return x.reshape(TOKENS, TINY.heads, -1).transpose(1, 0, 2)

    query, key, value = heads(linear("query", h)), heads(linear("key", memory)), heads(linear("value", memory))
    logits = query @ key.transpose(0, 2, 1) / np.sqrt(query.shape[-1])
    logits = np.where(np.eye(TOKENS, dtype=bool), logits, -np.inf)
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    mixed = weights / weights.sum(-1, keepdims=True) @ value
    return linear("out", mixed.transpose(1, 0, 2).reshape(TOKENS, -1))


def test_linear_cross_attention_is_the_masked_one_whatever_the_queries():
    tree = variables()
    audio, before = normal(0, 1, TINY.window, TINY.width), normal(1, 1, TINY.previous, TINY.width)
    crossed = method("cross_attention")(tree, audio, before)
    memory = np.concatenate([before[0], audio[0]]).astype(np.float64)
    parts = tree["params"]["denoiser"]["cross"]
    assert crossed.shape == (TINY.layers, 1, TOKENS, TINY.width)
    for layer in range(TINY.layers):
        for seed in (2, 3):
            h = 3.0 * np.asarray(normal(seed, TOKENS, TINY.width), np.float64)
            assert_allclose(crossed[layer, 0], masked_attention(parts, layer, h, memory), rtol=1e-4, atol=1e-5)


def denoise(mode, x, audio):
    motion, before = normal(4, 1, TINY.previous, TINY.motion), normal(5, 1, TINY.previous, TINY.width)
    inputs = x, audio, motion, before, jnp.array([3])
    return np.asarray(method("denoise", position_mode=mode)(variables(), *inputs))


def test_only_a_row_a_token_tells_their_order():
    x, audio = normal(6, 1, TINY.window, TINY.motion), normal(7, 1, TINY.window, TINY.width)
    order = np.array([3, 1, 5, 0, 2, 4])
    moved = np.concatenate([np.arange(TINY.previous), TINY.previous + order])
    for mode, blind in (("constant", True), ("per_position", False)):
        straight, shuffled = denoise(mode, x, audio), denoise(mode, x[:, order], audio[:, order])
        assert np.allclose(straight[:, moved], shuffled, atol=1e-5) == blind


def test_the_constant_row_is_that_of_the_number_of_tokens():
    """Moving the row into the bias of the first layer and looking up row 0 (sines 0, cosines 1) changes nothing."""
    tree = variables()
    x, audio = normal(6, 1, 1, TINY.motion), normal(7, 1, 1, TINY.width)
    nothing = jnp.zeros((1, 0, TINY.motion)), jnp.zeros((1, 0, TINY.width))
    inputs = x, audio, *nothing, jnp.array([2])
    rows = sinusoids(2, TINY.width)
    one = method("denoise", position_mode="constant")(tree, *inputs)
    first = tree["params"]["denoiser"]["motion_in"]
    first["bias"] = first["bias"] + rows[1] - rows[0]
    other = method("denoise", position_mode="per_position")(tree, *inputs)
    assert_allclose(one, other, atol=1e-5)


def test_sinusoids():
    rows = sinusoids(111, 256)
    np.testing.assert_array_equal(rows[0], np.tile([0.0, 1.0], 128))
    rate = 10_000.0 ** (-2 * 40 / 256)
    assert_allclose(rows[110, 80:82], [np.sin(110 * rate), np.cos(110 * rate)], atol=2e-5)


def test_audio_features_are_one_a_frame_and_need_a_whole_window():
    features, tree = method("audio_features"), variables()
    assert features(tree, normal(0, 2, SAMPLES)).shape == (2, TINY.window, TINY.width)
    with pytest.raises(ValueError, match="are not a window of 3840"):
        features(tree, normal(0, 1, SAMPLES + 1))
    with pytest.raises(ValueError, match="choose one of constant"):
        denoise("none", normal(6, 1, TINY.window, TINY.motion), normal(7, 1, TINY.window, TINY.width))


def test_init_reaches_every_parameter_and_sizes_are_checked():
    shapes = jax.eval_shape(MotionGenerator().init, jax.random.key(0), jnp.zeros((1, 64_000)), jnp.zeros((1, 100, 73)))
    count = sum(leaf.size for leaf in jax.tree.leaves(shapes))
    assert count == 103_192_483 - 128  # the released file's, less the lengths of the weight norm
    with pytest.raises(ValueError, match="multiple of"):
        MotionGeneratorConfig(width=250)
    with pytest.raises(ValueError, match="between 1 and"):
        MotionGeneratorConfig(previous=101)
