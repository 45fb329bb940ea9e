"""LivePortrait against plain torch, for seeds that have no golden answers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from tests.parity import fixtures
from tests.parity.against_torch import liveportrait as oracle
from tests.parity.agreement import BAR, agree
from vasa_jax.convert import build, convert, to_torch


def inputs(network, seed):
    """Inputs in torch's layout."""
    source, driving = fixtures.keypoints(seed)
    return {
        "appearance_feature_extractor": [fixtures.image(seed)],
        "motion_extractor": [fixtures.image(seed)],
        "warping_module": [fixtures.volume(seed), driving, source],
        "spade_generator": [fixtures.gaussian(seed, "features", (1, 256, 64, 64))],
    }[network]


def channels_last(x):
    return np.moveaxis(x, 1, -1) if x.ndim > 3 else x


ORACLES = {
    "appearance_feature_extractor": oracle.appearance,
    "motion_extractor": oracle.motion,
    "warping_module": oracle.warping,
    "spade_generator": oracle.generator,
}


@pytest.mark.parametrize("network", ORACLES)
@pytest.mark.parametrize("seed", [2])
def test_seeds_without_golden_answers(network, seed, record_property):
    name = f"liveportrait.{network}"
    state = fixtures.state_dict(name, seed)
    variables, given = convert(name, state), inputs(network, seed)
    with torch.no_grad():
        wanted, again = (
            ORACLES[network](oracle.tensors(tensors), *map(torch.from_numpy, given))
            for tensors in (state, to_torch(name, variables))
        )
    with jax.default_matmul_precision("highest"):
        ours = jax.jit(build(name).apply)(variables, *(jnp.asarray(channels_last(x)) for x in given))
    if not isinstance(wanted, dict):
        wanted, again, ours = {"": wanted}, {"": again}, {"": ours}
    for part, x in wanted.items():
        x, returned = x.numpy(), again[part].numpy()
        label = f"liveportrait {network} {part} seed {seed}".replace("  ", " ")
        # The deformation comes with its points last.
        agree(record_property, label, ours[part], x if part == "deformation" else channels_last(x))
        scale = np.ptp(x) if x.size > 1 else np.abs(x).max()
        assert np.abs(returned - x).max() <= BAR * scale
