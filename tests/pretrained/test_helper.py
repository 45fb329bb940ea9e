"""Helpers come as releases; what is no helper, or another one, is told in one line."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vasa_jax.checkpoint import save_release
from vasa_jax.errors import UserError
from vasa_jax.pretrained.helper import build_helper, load_helper, save_helper
from vasa_jax.pretrained.vgg import VGGConfig

SMALL = VGGConfig(blocks=(1, 2), widths=(4, 6), layers=("relu1_1", "relu2_1"))


@pytest.fixture(scope="module")
def params():
    return build_helper("vgg19", SMALL).init(jax.random.key(0))


@pytest.fixture
def folder(tmp_path, params):
    save_helper(tmp_path / "helper", build_helper("vgg19", SMALL), params, "# A card", licence="none")
    return tmp_path / "helper"


def test_a_helper_comes_back_as_it_was_saved(folder, params):
    helper, loaded, sha256 = load_helper(folder)
    jax.tree.map(np.testing.assert_array_equal, loaded, params)
    assert helper == build_helper("vgg19", SMALL) and hash(helper) == hash(build_helper("vgg19", SMALL))
    assert helper.embed is None and helper.crop == 0
    assert load_helper(folder, sha256)[2] == sha256
    shapes = [x.shape for x in jax.jit(helper.features)(loaded, jnp.zeros((2, 8, 8, 3)))]
    assert shapes == [(2, 8, 8, 4), (2, 4, 4, 6)]
    assert json.loads((folder / "config.json").read_text())["licence"] == "none"


def test_the_sha256_is_that_of_what_is_loaded(tmp_path, params):
    helper = build_helper("vgg19", SMALL)
    sha256 = save_helper(tmp_path / "half", helper, params, "", dtype="bfloat16")
    assert load_helper(tmp_path / "half")[2] == sha256
    assert sha256 != save_helper(tmp_path / "whole", helper, params, "")


def test_another_hash_is_refused(folder):
    with pytest.raises(UserError, match=r"sha256 is 00ff, the weights in .*helper are [0-9a-f]{64}; name"):
        load_helper(folder, "00ff")


def test_what_is_no_helper_is_refused(tmp_path):
    with pytest.raises(UserError, match="demo is a model of kind 'vasa' and no helper; name a folder of kind"):
        load_helper("demo")
    with pytest.raises(UserError, match="not a release"):
        load_helper(tmp_path)
    with pytest.raises(UserError, match="no kind of helper 'oracle'; choose one of"):
        build_helper("oracle", SMALL)


def test_weights_of_another_network_are_refused_by_name(tmp_path, params):
    wide = dataclasses.replace(SMALL, widths=(4, 8))
    said = r"4 tensors are not those of this vgg19, first params/conv2_1/bias: \(6,\), the network has \(8,\)"
    with pytest.raises(UserError, match=said):
        save_helper(tmp_path / "helper", build_helper("vgg19", wide), params, "")
    assert not (tmp_path / "helper").exists()


def test_a_release_without_its_tensors_or_sizes_is_refused(tmp_path, folder, params):
    network = json.loads((folder / "config.json").read_text())["network"]
    save_release(tmp_path / "empty", "vgg19", {"network": network}, {}, "float32", "")
    with pytest.raises(UserError, match="first params/conv1_1/bias: missing"):
        load_helper(tmp_path / "empty")
    save_release(tmp_path / "odd", "vgg19", {"network": {"depth": 3}}, {"model": params}, "float32", "")
    with pytest.raises(UserError, match="has no sizes of a vgg19 .* no field 'depth'"):
        load_helper(tmp_path / "odd")


def test_truncated_weights_are_refused(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(UserError, match="model.safetensors holds no weights"):
        load_helper(folder)


def test_weights_that_are_not_finite_are_refused(tmp_path, params):
    params = jax.tree.map(np.array, params)
    params["params"]["conv1_1"]["kernel"][0, 0, 0, 0] = np.nan
    with pytest.raises(UserError, match="params/conv1_1/kernel is not finite"):
        save_helper(tmp_path / "helper", build_helper("vgg19", SMALL), params, "")
