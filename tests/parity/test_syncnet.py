"""SyncNet against the answers of the original network."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.parity import fixtures
from tests.parity.agreement import agree
from vasa_jax.convert import build, convert, to_torch
from vasa_jax.pretrained.syncnet import find_offset

GOLDEN = Path(__file__).with_name("golden_syncnet_seed1.npz")


@pytest.fixture(scope="module")
def answers():
    """Features of six windows, ours and the original's."""
    tensors = fixtures.state_dict("syncnet", 1)
    variables = convert("syncnet", tensors)
    pictures = [255 * fixtures.image(1 + 10 * i, 224)[0].transpose(1, 2, 0) for i in range(10)]
    coefficients = 8 * fixtures.gaussian(1, "mfcc", (1, 1, 13, 40))[0, 0]
    lips = np.stack([pictures[i : i + 5] for i in range(6)])
    sound = np.stack([coefficients[:, 4 * i : 4 * i + 20] for i in range(6)])[..., None]
    network = build("syncnet")
    with jax.default_matmul_precision("highest"):
        ours = {
            "lip": jax.jit(lambda v, x: network.apply(v, x, method="lips"))(variables, jnp.asarray(lips)),
            "audio": jax.jit(lambda v, x: network.apply(v, x, method="audio"))(variables, jnp.asarray(sound)),
        }
    return tensors, variables, {name: np.asarray(x) for name, x in ours.items()}, np.load(GOLDEN)


@pytest.mark.parametrize("tower", ["lip", "audio"])
def test_both_towers_give_the_original_features(answers, tower, record_property):
    _, _, ours, golden = answers
    agree(record_property, f"syncnet {tower}", ours[tower], golden[tower])


def test_the_search_gives_the_original_scores(answers):
    _, _, _, golden = answers
    found = find_offset(golden["lip"], golden["audio"], reach=2)
    np.testing.assert_allclose(found.distances, golden["mean_distance"], rtol=1e-5)
    assert found.offset == golden["offset"]
    np.testing.assert_allclose(found.confidence, golden["confidence"], rtol=1e-4)
    np.testing.assert_allclose(found.distance, golden["min_distance"], rtol=1e-5)


def test_there_and_back_is_bit_exact(answers):
    tensors, variables, _, _ = answers
    back = to_torch("syncnet", variables)
    assert set(back) == {name for name in tensors if not name.endswith("num_batches_tracked")}
    for name, value in back.items():
        np.testing.assert_array_equal(value, tensors[name])
    again = convert("syncnet", back)
    jax.tree.map(np.testing.assert_array_equal, again, variables)
