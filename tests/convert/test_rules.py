"""The table of rules: whole names, both directions, full accounting."""

import numpy as np
import pytest

from vasa_jax.checkpoint import flatten, unflatten
from vasa_jax.convert.rules import (
    CONVOLUTION_1D,
    CONVOLUTION_2D,
    CONVOLUTION_3D,
    LINEAR,
    SAME,
    Ignored,
    Rule,
    to_flax,
    to_torch,
)

RULES = [
    Rule("stem.weight", "params/stem/kernel", CONVOLUTION_2D),
    Rule("blocks.{i}.{part}.weight", "params/block_{i}/{part}/kernel", CONVOLUTION_3D),
    Rule("layers.{i}.fc.weight", "params/layers/fc/kernel", LINEAR),
    Rule("norm.running_mean", "batch_stats/norm/mean"),
]
IGNORED = [Ignored("norm.num_batches_tracked", "counts training steps")]


def numbers(*shape):
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)


def tensors():
    return {
        "stem.weight": numbers(4, 3, 5, 7),
        "blocks.0.a.weight": numbers(2, 4, 3, 3, 3),
        "blocks.10.b.weight": numbers(3, 4, 1, 3, 3),
        **{f"layers.{i}.fc.weight": numbers(6, 5) + i for i in range(11)},
        "norm.running_mean": numbers(4),
        "norm.num_batches_tracked": np.asarray(3),
    }


def shapes():
    tree = {
        "params/stem/kernel": numbers(5, 7, 3, 4),
        "params/block_0/a/kernel": numbers(3, 3, 3, 4, 2),
        "params/block_10/b/kernel": numbers(1, 3, 3, 4, 3),
        "params/layers/fc/kernel": numbers(11, 5, 6),
        "batch_stats/norm/mean": numbers(4),
    }
    return unflatten(tree)


def test_names_and_axes_change_and_change_back_bit_for_bit():
    source = tensors()
    variables = to_flax(source, RULES, IGNORED, shapes())
    leaves = flatten(variables)
    assert set(leaves) == set(flatten(shapes()))
    assert leaves["params/stem/kernel"][4, 6, 2, 3] == source["stem.weight"][3, 2, 4, 6]
    np.testing.assert_array_equal(leaves["params/layers/fc/kernel"][10], source["layers.10.fc.weight"].T)
    back = to_torch(variables, RULES)
    assert set(back) == set(source) - {"norm.num_batches_tracked"}
    for name, value in back.items():
        np.testing.assert_array_equal(value, source[name])
    again = to_flax(back, RULES, IGNORED, shapes())
    for path, leaf in flatten(again).items():
        np.testing.assert_array_equal(leaf, leaves[path])


@pytest.mark.parametrize("transform", [SAME, LINEAR, CONVOLUTION_1D, CONVOLUTION_2D, CONVOLUTION_3D])
def test_transforms_invert(transform):
    x = numbers(
        *{"linear": (2, 3), "convolution 1-D": (2, 3, 4), "convolution 2-D": (2, 3, 4, 5)}.get(
            transform.name, (2, 3, 4, 5, 6)
        )
    )
    np.testing.assert_array_equal(transform.to_torch(transform.to_flax(x)), x)


def test_one_error_names_offenders_of_every_kind():
    source = tensors()
    source["stem.weight.extra"] = numbers(1)  # names match whole
    source["layers.3.fc.weight"] = numbers(7, 5)  # does not stack with the others
    del source["norm.running_mean"]
    source["blocks.1.a.weight"] = numbers(2, 4, 3, 3, 3)  # no such leaf
    source["stem.weight"] = numbers(4, 3, 7, 5)
    with pytest.raises(ValueError) as caught:
        to_flax(source, RULES, IGNORED, shapes())
    message = str(caught.value)
    for part in (
        "5 places",
        "stem.weight.extra: no rule",
        "params/layers/fc/kernel",
        "batch_stats/norm/mean: no tensor fills it",
        "params/block_1/a/kernel: no such leaf",
        "params/stem/kernel: shape (7, 5, 3, 4)",
    ):
        assert part in message, message


def test_an_error_is_short_however_much_is_wrong():
    source = {f"a.{i}.{'x' * 1000}": numbers(1) for i in range(1000)}
    with pytest.raises(ValueError, match=r"1005 places: a.0.xxx.* and 997 more like it; .* and 2 more") as caught:
        to_flax(source, RULES, IGNORED, shapes())
    assert len(str(caught.value)) < 1000
    with pytest.raises(ValueError, match="1000 places") as caught:
        to_torch({"params": source}, RULES)
    assert len(str(caught.value)) < 1000


def test_a_missing_layer_and_two_rules_are_offenders():
    source = tensors()
    del source["layers.4.fc.weight"]
    with pytest.raises(ValueError, match="params/layers/fc/kernel: filled by"):
        to_flax(source, RULES, IGNORED, shapes())
    with pytest.raises(ValueError, match=r"stem\.weight: 2 rules"):
        to_flax(tensors(), [*RULES, Rule("{a}.weight", "params/{a}/w")], IGNORED, shapes())
    with pytest.raises(ValueError, match="params/odd: no rule"):
        to_torch({"params": {"odd": numbers(2)}}, RULES)


def test_rules_must_read_in_both_directions():
    with pytest.raises(ValueError, match="same placeholders"):
        Rule("a.weight", "params/{i}/a")
    with pytest.raises(ValueError, match="same placeholders"):
        Rule("a.{i}.{j}.weight", "params/a")
