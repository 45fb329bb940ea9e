"""The paper-size network has the published sizes and costs, checked abstractly, and the demo is the same network."""

import dataclasses
import re

import jax
import pytest

from vasa_jax.autoencoder.config import AutoencoderConfig, demo_model, paper_model
from vasa_jax.autoencoder.cost import abstract_parameters, count_macs, count_parameters

ROWS = {
    "appearance": 8.49e6,
    "identity": 24.56e6,
    "motion": 22.42e6,
    "warps": 28.63e6,
    "canonical": 72.84e6,
    "decoder": 42.44e6,
}


@pytest.mark.parametrize("block", ROWS)
def test_paper_size_blocks_have_their_rows_parameters(block):
    assert count_parameters(paper_model())[block] == pytest.approx(ROWS[block], rel=0.001)


def test_paper_size_network_has_199_38_million_parameters():
    assert round(count_parameters(paper_model())["total"] / 1e6, 2) == 199.38


def test_paper_size_costs_in_gmac():
    """G3D is 940 by this count (every tap of every output, resizes free); the row that says 981 is 4 % above it."""
    macs = {block: round(count / 1e9, 1) for block, count in count_macs(paper_model()).items()}
    assert macs["driven_warp"] == macs["canonical_warp"] == 6.4
    assert macs["decoder"] == 303.2
    assert macs["frame"] == pytest.approx(303.2 + 6.4, abs=0.2)
    assert macs["appearance"] == pytest.approx(335, abs=1)
    assert macs["canonical"] == pytest.approx(940.4, abs=0.1)


def test_demo_size_is_small_enough():
    assert count_parameters(demo_model())["total"] <= 8e6
    assert count_macs(demo_model())["frame"] <= 1.2e9


def paths(config: AutoencoderConfig) -> set[str]:
    """Module and parameter paths, numbers of repeated blocks and the widening skips inside them left out.

    A residual block has a skip convolution exactly where the width changes, which differs with the widths.
    """
    leaves = jax.tree_util.tree_flatten_with_path(abstract_parameters(config))[0]
    names = {"/".join(entry.key for entry in path) for path, _ in leaves}
    names = {re.sub(r"(block)_\d+", r"\1", name) for name in names if "/skip/" not in name and "_skip/" not in name}
    return {re.sub(r"(stage_\d)_(first|rest)/.*", r"\1", name) for name in names}  # a bottleneck has a layer more


def test_demo_and_paper_are_the_same_modules():
    assert paths(demo_model()) == paths(paper_model())


def test_weights_trained_at_256_load_at_512():
    small = dataclasses.replace(paper_model(), image_size=256)
    shapes = [jax.tree.map(lambda leaf: leaf.shape, abstract_parameters(config)) for config in (small, paper_model())]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize(
    "change, word",
    [
        ({"volume_stride": 3}, "volume_stride"),
        ({"image_size": 500}, "image_size"),
        ({"identity_image_size": 96}, "identity_image_size"),
        ({"warp_upsampling": ((2, 2, 2), (2, 2, 2), (1, 2, 2), (1, 3, 2))}, "warp_upsampling"),
        ({"warp_widths": (8, 4)}, "warp_upsampling"),
        ({"pose_size": 64, "motion_stages": (1,) * 6}, "pose_size=64 must be a multiple of 128"),
        ({"groups": 0}, "groups"),
        ({"canonical_depth_factor": 3}, "canonical_depth_factor"),
        ({"volume_depth": 15, "canonical_depth_factor": 1}, "volume_depth"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(change, word):
    with pytest.raises(ValueError, match=word):
        dataclasses.replace(paper_model(), **change)
