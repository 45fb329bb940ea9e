"""Old names of parameters become present ones, numbers and order kept."""

import re
from collections.abc import Mapping

import jax
import numpy as np
import pytest

from tests.tiny import AUTOENCODER
from vasa_jax.autoencoder.config import paper_model
from vasa_jax.autoencoder.cost import abstract_parameters
from vasa_jax.checkpoint import flatten, load_release, save_release, unflatten
from vasa_jax.renames import is_old, renewed

OLD = (
    ("decoder/blocks/", "decoder/block_{}/", 0),
    ("appearance/volume_blocks/", "appearance/volume_block_{}/", 0),
    (r"resnet/stage_(\d+)_first/", r"resnet/stage_\1_block_0/", None),
    (r"resnet/stage_(\d+)_rest/", r"resnet/stage_\1_block_{}/", 1),
)
"""The table backwards, written by hand: present names, those of format 2, and the first block of a stack."""


def aged(leaves: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Arrays by the names of format 2."""
    result = {}
    for name, leaf in leaves.items():
        entry = next(((old, first) for new, old, first in OLD if re.search(new, name)), None)
        if entry is None:
            result[name] = leaf
            continue
        new = next(new for new, _, _ in OLD if re.search(new, name))
        old, first = entry
        parts = [leaf] if first is None else leaf
        for place, part in enumerate(parts, first or 0):
            result[re.sub(new, old.format(place), name)] = part
    return result


@pytest.mark.parametrize("config", [AUTOENCODER, paper_model()], ids=["tiny", "paper"])
@pytest.mark.parametrize("prefix", ["", "ema/autoencoder/"])
def test_there_and_back(config, prefix):
    shapes = flatten(abstract_parameters(config)["params"])
    present = {prefix + name: np.zeros(leaf.shape, np.int8) for name, leaf in shapes.items()}
    for number, leaf in enumerate(present.values()):
        leaf.reshape(len(leaf), -1)[:, 0] = (number + np.arange(len(leaf))) % 127
    old = aged(present)
    assert is_old(old) and not is_old(present)
    for leaves in (old, dict(reversed(old.items())), present):
        again = renewed(leaves)
        assert again.keys() == present.keys()
        jax.tree.map(np.testing.assert_array_equal, again, present)


def test_twelve_blocks_are_stacked_by_number_and_others_keep_their_names():
    old = {f"decoder/block_{place}/bias": np.array([place]) for place in range(12)}
    kept = {"appearance/block_0/bias": np.zeros(1), "canonical_warp/block_1/bias": np.ones(1)}
    again = renewed(old | kept)
    np.testing.assert_array_equal(again.pop("decoder/blocks/bias")[:, 0], np.arange(12))
    assert again == kept and not is_old(kept)


def test_a_release_of_old_names_fills_the_present_network(tmp_path):
    shapes = flatten(abstract_parameters(AUTOENCODER)["params"])
    present = {name: np.full(leaf.shape, number, np.float32) for number, (name, leaf) in enumerate(shapes.items())}
    old = aged(present)
    assert is_old(old)
    save_release(tmp_path / "r", "vasa", {}, {"autoencoder": unflatten(old)}, "float32", "# A card")
    loaded = flatten(load_release(tmp_path / "r").tensors["autoencoder"])
    assert loaded.keys() == present.keys()
    jax.tree.map(np.testing.assert_array_equal, loaded, present)
