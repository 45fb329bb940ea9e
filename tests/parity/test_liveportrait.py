"""LivePortrait against the answers of the original networks."""

import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.parity import fixtures
from tests.parity.agreement import agree
from vasa_jax.checkpoint import flatten
from vasa_jax.convert import build, convert, networks, to_torch
from vasa_jax.convert.folds import fold
from vasa_jax.convert.registry import find

GOLDEN = Path(__file__).with_name("golden_liveportrait_seed1.npz")
NAMES = [name for name in networks() if name.startswith("liveportrait.")]


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN) as answers:
        return dict(answers)


@functools.cache
def state_dict(name):
    """The fixtures' weights of seed 1."""
    return fixtures.state_dict(name, 1)


def answer(name, *inputs):
    """What our network gives for them."""
    variables = convert(name, state_dict(name))
    with jax.default_matmul_precision("highest"):
        return jax.tree.map(np.asarray, jax.jit(build(name).apply)(variables, *(jnp.asarray(x) for x in inputs)))


def test_appearance_volume(golden, record_property):
    image = fixtures.image(1).transpose(0, 2, 3, 1)
    volume = answer("liveportrait.appearance_feature_extractor", image).transpose(0, 4, 1, 2, 3)
    assert volume.shape == (1, 32, 16, 64, 64)
    agree(record_property, "liveportrait appearance volume", volume[:, ::4, ::4, ::4, ::4], golden["volume"])
    agree(record_property, "liveportrait appearance corner", volume[:, :4, :4, :8, :8], golden["volume_corner"])


def test_motion_heads(golden, record_property):
    heads = answer("liveportrait.motion_extractor", fixtures.image(1).transpose(0, 2, 3, 1))
    wanted = {name.removeprefix("motion_"): x for name, x in golden.items() if name.startswith("motion_")}
    assert set(heads) == set(wanted)
    for name, x in wanted.items():
        agree(record_property, f"liveportrait motion {name}", heads[name], x)


def test_warping(golden, record_property):
    source, driving = fixtures.keypoints(1)
    volume = fixtures.volume(1).transpose(0, 2, 3, 4, 1)
    found = answer("liveportrait.warping_module", volume, driving, source)
    features = found["features"].transpose(0, 3, 1, 2)[:, ::8, ::2, ::2]
    agree(record_property, "liveportrait deformation", found["deformation"][:, ::2, ::4, ::4], golden["deformation"])
    agree(record_property, "liveportrait occlusion", found["occlusion"].transpose(0, 3, 1, 2), golden["occlusion"])
    agree(record_property, "liveportrait warped features", features, golden["warped"])


def test_generated_frame(golden, record_property):
    features = fixtures.gaussian(1, "features", (1, 256, 64, 64)).transpose(0, 2, 3, 1)
    frame = answer("liveportrait.spade_generator", features).transpose(0, 3, 1, 2)
    assert frame.shape == (1, 3, 512, 512)
    agree(record_property, "liveportrait frame", frame[:, :, ::4, ::4], golden["frame"])
    agree(record_property, "liveportrait frame crop", frame[:, :, 224:288, 224:288], golden["frame_crop"])


@pytest.mark.parametrize(
    "name, ratios", [("stitching", None), ("retarget_lip", (0.21, 0.05)), ("retarget_eye", (0.31, 0.29, 0.12))]
)
def test_correctors(golden, record_property, name, ratios):
    source, driving = (x.reshape(1, -1) for x in fixtures.keypoints(1))
    second = driving if ratios is None else np.asarray([ratios], np.float32)
    agree(
        record_property,
        f"liveportrait {name}",
        answer(f"liveportrait.{name}", np.concatenate([source, second], 1)),
        golden[name],
    )


@pytest.mark.parametrize("name", NAMES)
def test_there_and_back(name):
    tensors = state_dict(name)
    variables = convert(name, tensors)
    back = to_torch(name, variables)
    kept = {key for key in tensors if not key.endswith("num_batches_tracked")}
    assert set(back) == kept
    folded = {key for key in kept if key.endswith(("weight_orig", "weight_u", "weight_v"))}
    for key in kept - folded:
        np.testing.assert_array_equal(back[key], tensors[key])
    for path, leaf in flatten(convert(name, back)).items():
        np.testing.assert_array_equal(leaf, flatten(variables)[path])
    weights = fold(tensors, find(name).folds)
    for key, weight in fold(back, find(name).folds).items():
        np.testing.assert_allclose(weight, weights[key], atol=1e-6 * np.abs(weight).max())
