"""Checkpoints as they are shipped: whole, in shards, wrapped, from many devices."""

import argparse
import json
import pickle
import subprocess
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tests.convert.test_torch_file import Call, Storage, tensor, write_zip
from tests.parity import fixtures
from vasa_jax.checkpoint import flatten, unflatten
from vasa_jax.convert import convert, to_torch
from vasa_jax.convert.__main__ import main
from vasa_jax.convert.source import read_tensors

NAME = "liveportrait.retarget_lip"


def numbers(*shape):
    return np.random.default_rng(len(shape)).normal(size=shape).astype(np.float32)


def same(ours, wanted):
    assert set(ours) == set(wanted)
    for name, value in wanted.items():
        np.testing.assert_array_equal(ours[name], value)
        assert ours[name].dtype == value.dtype


TENSORS = {"a.weight": numbers(3, 4), "b.bias": numbers(5), "c": numbers(2, 2).astype(ml_dtypes.bfloat16)}


def shards(folder, places):
    """Two files and an index that says where things lie."""
    for shard in sorted(set(places.values())):
        save_file({name: TENSORS[name] for name, file in places.items() if file == shard}, folder / shard)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return index


PLACES = {"a.weight": "model-1.safetensors", "b.bias": "model-2.safetensors", "c": "model-1.safetensors"}


def test_safetensors_whole_and_in_shards(tmp_path):
    save_file(TENSORS, tmp_path / "whole.safetensors")
    same(read_tensors(tmp_path / "whole.safetensors"), TENSORS)
    same(read_tensors(tmp_path), TENSORS)  # the only one in its folder
    (tmp_path / "whole.safetensors").unlink()
    index = shards(tmp_path, PLACES)
    same(read_tensors(index), TENSORS)
    same(read_tensors(tmp_path), TENSORS)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda places: places.update(d="model-2.safetensors"), "lack 1 tensors: d"),
        (lambda places: places.update(c="model-2.safetensors"), "holds 'c', which .* does not expect"),
        (lambda places: places.update(c="../other.safetensors"), "must lie beside it"),
        (lambda places: places.update(d="model-3.safetensors"), "is no file"),
    ],
)
def test_shards_that_do_not_fit_their_index_are_refused(tmp_path, change, message):
    index = shards(tmp_path, PLACES)
    places = dict(PLACES)
    change(places)
    index.write_text(json.dumps({"weight_map": places}))
    with pytest.raises((ValueError, OSError), match=message):
        read_tensors(index)


@pytest.mark.parametrize("text", ["[]", "{", '{"weight_map": [1]}', "{}"])
def test_an_index_that_is_none_is_refused(tmp_path, text):
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(text)
    with pytest.raises(ValueError, match="no index of shards"):
        read_tensors(index)


def test_broken_and_missing_files_are_refused(tmp_path):
    save_file(TENSORS, tmp_path / "cut.safetensors")
    whole = (tmp_path / "cut.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[:-3])
    with pytest.raises(ValueError, match="no whole .safetensors file"):
        read_tensors(tmp_path / "cut.safetensors")
    with pytest.raises(ValueError, match="is no file"):
        read_tensors(tmp_path / "missing.safetensors")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no .safetensors file"):
        read_tensors(tmp_path / "empty")


def stored(value):
    """The value as torch pickles it."""
    return tensor(Storage(value, "FloatStorage"), value.shape, tuple(s // 4 for s in value.strides))


def test_a_file_of_three_networks_trained_on_many_devices(tmp_path):
    """As the stitching file: three dicts, `module.` before every name."""
    lips = fixtures.state_dict(NAME, 1)
    eyes = fixtures.state_dict("liveportrait.retarget_eye", 1)
    content = {
        "retarget_mouth": {f"module.{name}": stored(value) for name, value in lips.items()},
        "retarget_eye": {f"module.{name}": stored(value) for name, value in eyes.items()},
    }
    write_zip(tmp_path / "three.pth", content)
    same(read_tensors(tmp_path / "three.pth", "retarget_mouth"), lips)
    same(read_tensors(tmp_path / "three.pth", "retarget_eye"), eyes)
    with pytest.raises(ValueError, match="holds more than tensors"):
        read_tensors(tmp_path / "three.pth")


def test_a_file_with_its_arguments_and_a_path(tmp_path):
    """As JoyVASA's: a namespace that holds a path, beside the state dict."""
    arguments = Call("argparse", "Namespace", state={"exp": Call("pathlib", "PosixPath", "data", "x"), "n_layers": 6})
    write_zip(tmp_path / "joy.pt", {"args": arguments, "iter": 7, "model": {"a": stored(TENSORS["a.weight"])}})
    same(read_tensors(tmp_path / "joy.pt", "model"), {"a": TENSORS["a.weight"]})


def test_the_command_goes_there_and_back(tmp_path, capsys):
    tensors = fixtures.state_dict(NAME, 3)
    write_zip(tmp_path / "in.pth", {name: stored(value) for name, value in tensors.items()})
    assert main([NAME, str(tmp_path / "in.pth"), str(tmp_path / "flax.safetensors")]) == 0
    leaves = load_file(tmp_path / "flax.safetensors")
    same(leaves, flatten(convert(NAME, tensors)))
    assert main([NAME, str(tmp_path / "flax.safetensors"), str(tmp_path / "back.safetensors"), "--to-torch"]) == 0
    same(load_file(tmp_path / "back.safetensors"), tensors)
    assert "8 leaves" in capsys.readouterr().out


def test_the_command_converts_a_release_and_back(tmp_path):
    demo = Path("vasa_jax/models/demo")
    torch, again = tmp_path / "torch.safetensors", tmp_path / "again.safetensors"
    assert main(["vasa.motion", str(demo / "motion.safetensors"), str(torch), "--to-torch"]) == 0
    assert main(["vasa.motion", str(torch), str(again), "--config", str(demo / "config.json")]) == 0
    released = load_file(demo / "motion.safetensors")
    same(load_file(again), {f"params/{name.removeprefix('params/')}": leaf for name, leaf in released.items()})


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["nothing", "in.pth", "out.safetensors"], "there is no network 'nothing'"),
        ([NAME, "in.pth", "out.npz"], "must end in .safetensors"),
        ([NAME, "in.pth", "missing/out.safetensors"], "is no folder"),
        ([NAME, "in.pth", "out.safetensors"], "in.pth"),
        ([NAME, "in.pth", "out.safetensors", "--config", "c.json"], "has one size"),
        (["vasa.motion", "in.pth", "out.safetensors", "--config", "c.json"], "no config.json of a release"),
        ([NAME, "evil.pkl", "out.safetensors"], "builtins.eval"),
        ([NAME], "required"),
    ],
)
def test_bad_input_is_one_line_and_no_file(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)

    class Evil:
        def __reduce__(self):
            return eval, ("1 + 1",)

    Path("evil.pkl").write_bytes(pickle.dumps({"a": Evil(), "b": argparse.Namespace()}))
    before = sorted(tmp_path.rglob("*"))
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_the_module_runs_as_a_command(tmp_path):
    command = [sys.executable, "-m", "vasa_jax.convert", NAME, "in.pth", "out.safetensors"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path.cwd())
    assert done.returncode == 2 and done.stderr.startswith("convert: error:")


def test_public_functions_round_trip():
    tensors = fixtures.state_dict(NAME, 4)
    variables = convert(NAME, tensors)
    same(to_torch(NAME, variables), tensors)
    assert flatten(unflatten(flatten(variables))).keys() == flatten(variables).keys()
