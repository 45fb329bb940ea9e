"""Folded tensors against their definitions, and back."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from vasa_jax.convert.folds import (
    WEIGHT_NORM_SPELLINGS,
    fold,
    joined,
    packed_attention,
    spectral_norm,
    unfold,
    weight_norm,
)


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def unit(n, seed):
    v = numbers(n, seed=seed)
    return v / np.linalg.norm(v)


def test_spectral_norm_divides_by_the_stored_vectors_and_comes_back_with_the_same_weight():
    source = {
        "a.weight_orig": numbers(4, 3, 2, 2),
        "a.weight_u": unit(4, 1),
        "a.weight_v": unit(12, 2),
        "a.bias": numbers(4),
    }
    folded = fold(source, [spectral_norm("a")])
    sigma = source["a.weight_u"] @ source["a.weight_orig"].reshape(4, 12) @ source["a.weight_v"]
    assert_allclose(folded["a.weight"], source["a.weight_orig"] / sigma, rtol=1e-5)
    assert set(folded) == {"a.weight", "a.bias"} and set(source) != set(folded)
    back = unfold(folded, [spectral_norm("a")])
    assert set(back) == set(source)
    assert_allclose(np.linalg.norm(back["a.weight_v"]), 1.0, atol=1e-6)
    for part in ("u", "v"):
        assert back[f"a.weight_{part}"].shape == source[f"a.weight_{part}"].shape
    again = fold(back, [spectral_norm("a")])
    assert np.abs(again["a.weight"] - folded["a.weight"]).max() < 1e-6 * np.abs(folded["a.weight"]).max()


@pytest.mark.parametrize("length", [0.01, 100.0])
def test_any_weight_can_be_given_back_as_spectral_norm(length):
    weight = length * numbers(6, 5)
    back = unfold({"a.weight": weight}, [spectral_norm("a")])
    leading = np.linalg.svd(weight)[2][0]
    assert abs(float(leading @ back["a.weight_v"])) > 0.99  # where training would go on from
    assert_allclose(fold(back, [spectral_norm("a")])["a.weight"], weight, rtol=1e-6)


def test_siblings_join_and_part_bit_for_bit():
    source = {
        f"n.{part}.{kind}": numbers(*shape, seed=i)
        for i, part in enumerate(("gamma", "beta"))
        for kind, shape in (("weight", (4, 3, 3, 3)), ("bias", (4,)))
    }
    entry = joined(("gamma", "beta"), "both", "n")
    whole = fold(source, [entry])
    assert {name: value.shape for name, value in whole.items()} == {"n.both.weight": (8, 3, 3, 3), "n.both.bias": (8,)}
    for name, value in unfold(whole, [entry]).items():
        np.testing.assert_array_equal(value, source[name])


@pytest.mark.parametrize("spelling", WEIGHT_NORM_SPELLINGS)
def test_weight_norm_in_both_spellings(spelling):
    names = WEIGHT_NORM_SPELLINGS[spelling]
    source = {f"c.{names[0]}": numbers(1, 1, 5, seed=3), f"c.{names[1]}": numbers(4, 3, 5)}
    entry = weight_norm("c", axis=2, spelling=spelling)
    weight = fold(source, [entry])["c.weight"]
    assert_allclose(np.linalg.norm(weight, axis=(0, 1)), np.abs(source[f"c.{names[0]}"][0, 0]), rtol=1e-5)
    back = unfold({"c.weight": weight}, [entry])
    assert {name: value.shape for name, value in back.items()} == {name: value.shape for name, value in source.items()}
    assert_allclose(fold(back, [entry])["c.weight"], weight, rtol=1e-6)


def test_packed_attention_splits_and_packs_bit_for_bit():
    source = {"m.in_proj_weight": numbers(12, 4), "m.in_proj_bias": numbers(12), "m.out_proj.weight": numbers(4, 4)}
    split = fold(source, [packed_attention("m")])
    np.testing.assert_array_equal(split["m.key.weight"], source["m.in_proj_weight"][4:8])
    back = unfold(split, [packed_attention("m")])
    assert set(back) == set(source)
    for name, value in back.items():
        np.testing.assert_array_equal(value, source[name])


def test_what_is_missing_is_left_to_the_accounting():
    tensors = {"a.weight_orig": numbers(4, 3), "a.weight_u": unit(4, 1), "m.in_proj_bias": numbers(6)}
    folded = fold(tensors, [spectral_norm("a"), packed_attention("m"), joined(("x", "y"), "z", "a"), weight_norm("w")])
    assert {"a.weight_orig", "a.weight_u", "m.query.bias"} <= set(folded)
    assert "a.weight" not in folded and "m.in_proj_bias" not in folded


def test_a_zero_weight_has_no_spectral_norm():
    with pytest.raises(ValueError, match="a.weight is zero"):
        unfold({"a.weight": np.zeros((3, 2), np.float32)}, [spectral_norm("a")])
