"""Releases of helpers from checkpoints, by the command; what is no such checkpoint is told in one line."""

import json

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

from vasa_jax.convert import registry, to_torch
from vasa_jax.convert.__main__ import main
from vasa_jax.convert.helper import HELPERS
from vasa_jax.convert.tables import vgg as tables
from vasa_jax.pretrained import vgg
from vasa_jax.pretrained.helper import load_helper
from vasa_jax.pretrained.vgg import VGGConfig

SMALL = VGGConfig(blocks=(1, 2), widths=(4, 6), layers=("relu1_1", "relu2_1"))


@pytest.fixture
def checkpoint(tmp_path, monkeypatch):
    """A file with a small network in torchvision's names and a classifier; the command expects that size."""
    network = tables._network(SMALL, tables._numbered(SMALL), "classifier.{i}")
    monkeypatch.setattr(registry, "_NETWORKS", {**registry._NETWORKS, "vgg19": network})
    monkeypatch.setitem(HELPERS, "vgg19", HELPERS["vgg19"]._replace(config=SMALL))
    params = jax.tree.map(np.asarray, vgg.init(SMALL, jax.random.key(0)))
    tensors = to_torch("vgg19", params)
    assert "features.5.weight" in tensors  # behind the maximum, the second convolution of the second block
    path = tmp_path / "vgg19.safetensors"
    save_file({f"module.{name}": x for name, x in tensors.items()} | {"module.classifier.0.bias": np.ones(3)}, path)
    return path, params


def test_the_command_writes_a_release(checkpoint, tmp_path, capsys):
    path, params = checkpoint
    out = tmp_path / "vgg"
    assert main(["helper", "vgg19", str(path), "--out", str(out)]) == 0
    helper, loaded, sha256 = load_helper(out)
    said = capsys.readouterr().out
    assert sha256 in said and "BSD-3-Clause" in said
    assert (helper.kind, helper.config) == ("vgg19", SMALL)
    jax.tree.map(np.testing.assert_array_equal, loaded, params)
    written = json.loads((out / "config.json").read_text())
    assert written["source"] == "torchvision's vgg19" and "ImageNet" in written["licence"]
    assert "Licence of the weights" in (out / "model_card.md").read_text()


def test_every_helper_says_whose_it_is():
    assert set(HELPERS) <= set(registry.networks())
    for public in HELPERS.values():
        assert public.source and public.licence
    assert "non-commercial" in HELPERS["arcface.iresnet100"].licence


@pytest.mark.parametrize(
    "arguments, told",
    [
        (["vgg16", "FILE"], "is no checkpoint of vgg16: the tables do not fit"),
        (["arcface.iresnet50", "FILE"], "is no checkpoint of arcface.iresnet50: the tables do not fit"),
        (["vgg19", "CUT"], "is no checkpoint of vgg19: "),
        (["vgg19", "missing.pth"], "missing.pth"),
        (["vgg11", "FILE"], "invalid choice: 'vgg11'"),
    ],
)
def test_another_checkpoint_is_refused_in_one_line(checkpoint, tmp_path, capsys, arguments, told):
    path, _ = checkpoint
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(path.read_bytes()[:-9])
    name, source = arguments
    source = {"FILE": str(path), "CUT": str(cut)}.get(source, source)
    assert main(["helper", name, source, "--out", str(tmp_path / "out")]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert told in line and not (tmp_path / "out").exists()
