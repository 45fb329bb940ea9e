"""The tables of the speech encoders and of JoyVASA: every leaf, both spellings, names of larger models."""

import jax
import numpy as np
import pytest

from vasa_jax.convert import rules, to_torch
from vasa_jax.convert.folds import fold, unfold
from vasa_jax.convert.registry import find
from vasa_jax.convert.tables.speech import encoder_fold

NAMES = ("hubert", "joyvasa.motion_generator", "wav2vec2")


def folded(name, tensors):
    network = find(name)
    return rules.to_flax(fold(tensors, network.folds), network.rules, network.ignored, network.shapes())


@pytest.fixture(scope="module")
def bare():
    """A state dict of `HubertModel` with ones for numbers."""
    variables = jax.tree.map(lambda leaf: np.ones(leaf.shape, np.float32), find("hubert").shapes())
    return to_torch("hubert", variables)


@pytest.mark.parametrize("name", NAMES)
def test_every_leaf_comes_back_bit_for_bit(name):
    """In few bytes, weight norm left aside: the next test has it in float32."""
    random = np.random.default_rng(0)
    network = find(name)
    packed = network.folds[:-1] if name in ("hubert", "wav2vec2") else network.folds[1:]
    shapes = network.shapes()
    variables = jax.tree.map(lambda leaf: random.integers(-128, 128, leaf.shape, np.int8), shapes)
    tensors = unfold(rules.to_torch(variables, network.rules), packed)
    again = rules.to_flax(fold(tensors, packed), network.rules, network.ignored, shapes)
    jax.tree.map(np.testing.assert_array_equal, again, variables)


def test_weight_norm_comes_back_bit_for_bit_in_both_spellings():
    at = "encoder.pos_conv_embed.conv"
    weight = np.random.default_rng(0).normal(size=(768, 48, 128)).astype(np.float32)
    stored = unfold({f"{at}.weight": weight}, [encoder_fold()])
    length, direction = (stored[f"{at}.parametrizations.weight.original{i}"] for i in (0, 1))
    assert length.shape == (1, 1, 128)
    old = {f"{at}.weight_g": length, f"{at}.weight_v": direction}
    for spelling in (stored, old):
        np.testing.assert_array_equal(fold(spelling, [encoder_fold()])[f"{at}.weight"], weight)


def test_larger_models_are_read_without_their_head(bare):
    larger = {f"hubert.{name}": value for name, value in bare.items()}
    larger |= {"lm_head.weight": np.zeros((32, 768)), "lm_head.bias": np.zeros(32)}
    jax.tree.map(np.testing.assert_array_equal, folded("hubert", larger), folded("hubert", bare))


def test_what_does_not_fit_is_named(bare):
    wrong = bare | {"encoder.layers.12.layer_norm.weight": np.zeros(768, np.float32), "adapter.weight": np.zeros(1)}
    del wrong["encoder.layer_norm.bias"]
    with pytest.raises(ValueError) as error:
        folded("hubert", wrong)
    for place in ("adapter.weight: no rule", "params/layers/attention_norm/scale", "params/norm/bias: no tensor"):
        assert place in str(error.value)
