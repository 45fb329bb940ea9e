"""The tables of our own networks account for every leaf at every size, and lose nothing."""

from pathlib import Path

import jax
import numpy as np
import pytest

from tests.motion.tiny import ANCHORED
from tests.motion.tiny import TINY as TINY_MOTION
from tests.tiny import AUTOENCODER
from vasa_jax.autoencoder.config import paper_model
from vasa_jax.checkpoint import flatten
from vasa_jax.config import load
from vasa_jax.convert import build, convert, to_torch
from vasa_jax.convert.registry import find
from vasa_jax.convert.rules import to_flax
from vasa_jax.motion.config import MotionConfig

CONFIGS = Path(__file__).parents[2] / "configs"
SIZES = {
    "tiny": {"vasa.autoencoder": AUTOENCODER, "vasa.motion": ANCHORED},
    "demo": {f"vasa.{name}": load(CONFIGS / f"demo_{name}.py").model for name in ("autoencoder", "motion")},
    "paper": {
        "vasa.autoencoder": load(CONFIGS / "autoencoder_512.py").model,
        "vasa.motion": load(CONFIGS / "motion_base.py").model,
    },
}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", ["vasa.autoencoder", "vasa.motion"])
def test_every_leaf_has_a_tensor_and_comes_back_bit_for_bit(name, size):
    """In bytes, so that even the paper's size takes little memory."""
    random = np.random.default_rng(0)
    network = find(name, SIZES[size][name])
    shapes = network.shapes()
    variables = jax.tree.map(lambda leaf: random.integers(-128, 128, leaf.shape, np.int8), shapes)
    tensors = to_torch(name, variables)
    again = to_flax(tensors, network.rules, network.ignored, shapes)
    jax.tree.map(np.testing.assert_array_equal, again, variables)
    assert sum(x.size for x in tensors.values()) == sum(x.size for x in flatten(variables).values())


def test_a_network_without_a_size_of_its_own_is_that_of_the_paper():
    assert build("vasa.autoencoder").config == paper_model()
    assert build("vasa.motion").config == MotionConfig()
    assert build("vasa.motion", TINY_MOTION).config == TINY_MOTION


def test_configs_that_do_not_belong_are_refused():
    with pytest.raises(ValueError, match="'syncnet' has one size"):
        build("syncnet", TINY_MOTION)
    with pytest.raises(ValueError, match="takes a AutoencoderConfig, no MotionConfig"):
        build("vasa.autoencoder", TINY_MOTION)


def test_another_size_is_an_error_that_lists_its_tensors():
    shapes = find("vasa.motion", TINY_MOTION).shapes()
    tensors = to_torch("vasa.motion", jax.tree.map(lambda leaf: np.zeros(leaf.shape), shapes))
    with pytest.raises(ValueError, match=r"\d+ places: params/.*: shape \(.*more like it"):
        convert("vasa.motion", tensors)
