"""Checkpoints as they are shipped: whole, in shards, wrapped, from many devices."""

import argparse
import json
import os
import pickle
import struct
import subprocess
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tests.convert.test_torch_file import Call, Storage, tensor, write_zip
from tests.parity import fixtures
from vasa_jax.checkpoint import flatten, unflatten, write_tensors
from vasa_jax.convert import convert, to_torch
from vasa_jax.convert.__main__ import main
from vasa_jax.convert.source import read_tensors
from vasa_jax.errors import UserError

NAME = "liveportrait.retarget_lip"
ROOT = Path(__file__).parents[2]


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
        (lambda places: places.update(c="../other.safetensors"), "must be a file beside it"),
        (lambda places: places.update(c=".."), "must be a file beside it"),
        (lambda places: places.update(c="/etc/passwd"), "must be a file beside it"),
        (lambda places: places.update(d="model-3.safetensors"), "1 shards that are not beside it; fetch model-3"),
    ],
)
def test_shards_that_do_not_fit_their_index_are_refused(tmp_path, change, message):
    index = shards(tmp_path, PLACES)
    places = dict(PLACES)
    change(places)
    index.write_text(json.dumps({"weight_map": places}))
    with pytest.raises((ValueError, OSError), match=message):
        read_tensors(index)


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "{",
        '{"weight_map": [1]}',
        "{}",
        '{"weight_map": {"a": ["b"]}}',
        '{"weight_map": {"a": "x", "a": "y"}}',
        "",
    ],
)
def test_an_index_that_is_none_is_refused(tmp_path, text):
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(text)
    with pytest.raises(ValueError, match="no index of shards"):
        read_tensors(index)


BROKEN = {
    "cut": (lambda whole: whole[:-3], "is no whole .safetensors file: .* is cut short; fetch it again"),
    "longer": (lambda whole: whole + b"x", "is no whole .safetensors file: 1 bytes follow its tensors"),
    "stump": (lambda whole: whole[:5], "is no whole .safetensors file: it holds 5 bytes"),
    "endless": (lambda whole: b"\xff" * 7 + b"\x7f" + whole[8:], "ask for a header of 9223372036854775807"),
    "garbled": (lambda whole: whole[:8] + b"{{" + whole[10:], "its header is no JSON"),
    "pointer": (
        lambda _: b"version https://git-lfs.github.com/spec/v1\n",
        "holds no tensors: it is a pointer of Git LFS",
    ),
    "page": (lambda _: b"\n<html><body>Forbidden</body></html>", "holds no tensors: it is a web page"),
    "answer": (lambda _: b"Entry not found", "holds no tensors: it is a text .'Entry not found'."),
    "nothing": (lambda _: b"", "holds no tensors: it is empty"),
    "zeros": (lambda whole: bytes(len(whole)), "holds no tensors: it begins with zeros alone"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_files_are_refused_by_what_they_are(tmp_path, name):
    change, message = BROKEN[name]
    save_file(TENSORS, tmp_path / "m.safetensors")
    (tmp_path / "m.safetensors").write_bytes(change((tmp_path / "m.safetensors").read_bytes()))
    with pytest.raises(UserError, match=f"m.safetensors {message}" if message.startswith(("is", "holds")) else message):
        read_tensors(tmp_path)


@pytest.mark.parametrize(
    "entry, message",
    [
        ({"dtype": "F32", "shape": [4], "data_offsets": [0, 12]}, "lies at bytes 0 to 12"),
        ({"dtype": "F32", "shape": [2], "data_offsets": [8, 16]}, "lies at bytes 8 to 16, after 0"),
        ({"dtype": "F32", "shape": [-2, -2], "data_offsets": [0, 16]}, "'a' no shape"),
        ({"dtype": "F32", "shape": [4], "data_offsets": [16, 0]}, "'a' no place"),
        ({"dtype": "F32", "shape": [1] * 40 + [4], "data_offsets": [0, 16]}, "'a' no shape"),
        ({"dtype": "F32", "shape": [0, 2**70], "data_offsets": [0, 0]}, "'a' no shape"),
        ({"dtype": "F4", "shape": [32], "data_offsets": [0, 16]}, "'a' in numbers of type 'F4'"),
        ({"dtype": ["F32"], "shape": [4], "data_offsets": [0, 16]}, "in numbers of type"),
        ({"dtype": "C64", "shape": [2], "data_offsets": [0, 16]}, "complex numbers .'a': complex64."),
        (7, "'a' no place"),
    ],
)
def test_a_header_that_does_not_fit_is_refused(tmp_path, entry, message):
    header = json.dumps({"a": entry}).encode()
    (tmp_path / "m.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(16))
    with pytest.raises(UserError, match=message):
        read_tensors(tmp_path / "m.safetensors")


@pytest.mark.parametrize(
    "kind", ["float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "bfloat16", "bool", "uint16"]
)
def test_every_number_type_comes_and_goes(tmp_path, kind):
    values = np.asarray([[0, 1, 2], [4, 0.5, 8]]).astype(np.dtype(getattr(ml_dtypes, kind, kind)))
    write_tensors(tmp_path / "m.safetensors", {"a": values})
    got = read_tensors(tmp_path / "m.safetensors")["a"]
    assert got.dtype == values.dtype and got.tobytes() == values.tobytes()


def test_missing_files_are_refused(tmp_path):
    for name in ("missing.safetensors", "missing.pth", "missing"):
        with pytest.raises(UserError, match=f"cannot read .*{name}: there is no such file"):
            read_tensors(tmp_path / name)
    with pytest.raises(UserError, match="is no file"):
        read_tensors("/dev/null")


def test_a_file_is_read_by_what_it_is(tmp_path):
    save_file(TENSORS, tmp_path / "m.pth")
    same(read_tensors(tmp_path / "m.pth"), TENSORS)


HALVES = ({"a.weight": TENSORS["a.weight"]}, {"b.bias": TENSORS["b.bias"], "c": TENSORS["c"]})


def torch_shards(folder, stem="pytorch_model"):
    """Both halves in torch's format, and their index's content."""
    places = {}
    for i, half in enumerate(HALVES):
        name = f"{stem}-{i + 1:05d}-of-00002.bin"
        (folder / name).write_bytes(pickle.dumps(half, protocol=2))
        places |= dict.fromkeys(half, name)
    return {"metadata": {"total_size": 1}, "weight_map": places}


@pytest.mark.parametrize("index", ["pytorch_model.bin.index.json", "diffusion_pytorch_model.bin.index.fp16.json", None])
def test_shards_in_the_format_of_torch(tmp_path, index):
    content = torch_shards(tmp_path)
    if index:
        (tmp_path / index).write_text(json.dumps(content))
        same(read_tensors(tmp_path / index), TENSORS)
    (tmp_path / "config.json").write_text("{}")
    same(read_tensors(tmp_path), TENSORS)


def test_shards_that_are_missing_or_say_the_same_are_refused(tmp_path):
    torch_shards(tmp_path)
    second = tmp_path / "pytorch_model-00002-of-00002.bin"
    second.write_bytes(pickle.dumps(TENSORS, protocol=2))
    with pytest.raises(UserError, match="both hold 'a.weight'"):
        read_tensors(tmp_path)
    second.unlink()
    with pytest.raises(UserError, match="holds 1 of 2 shards; fetch pytorch_model-00002-of-00002.bin"):
        read_tensors(tmp_path)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "diffusion_pytorch_model.bin", "lone.pth", "lone.ckpt"])
def test_a_folder_with_one_file_of_torch(tmp_path, name):
    (tmp_path / name).write_bytes(pickle.dumps(dict(TENSORS), protocol=2))
    (tmp_path / "README.md").write_text("weights")
    same(read_tensors(tmp_path), TENSORS)


def test_usual_names_and_safetensors_come_first(tmp_path):
    for name in ("training_args.bin", "optimizer.bin", "pytorch_model.bin"):
        (tmp_path / name).write_bytes(pickle.dumps({name: TENSORS["b.bias"]}, protocol=2))
    same(read_tensors(tmp_path), {"pytorch_model.bin": TENSORS["b.bias"]})
    for name in ("model.fp16.safetensors", "model.safetensors"):
        save_file({name: TENSORS["c"]}, tmp_path / name)
    same(read_tensors(tmp_path), {"model.safetensors": TENSORS["c"]})


def test_a_folder_with_no_checkpoint_or_several_is_refused_with_their_names(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(UserError, match=r"holds no checkpoint .* but notes.txt; name the checkpoint itself"):
        read_tensors(tmp_path)
    for i in range(30):
        save_file(TENSORS, tmp_path / f"m{i:02d}.safetensors")
    with pytest.raises(UserError, match=r"holds 30 checkpoints \(m00.safetensors, .*m04.safetensors and 25 more\)"):
        read_tensors(tmp_path)


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
    for name, inside, wanted in (
        (NAME, "retarget_mouth", lips),
        ("liveportrait.retarget_eye", "retarget_eye", eyes),
    ):
        ours = convert(name, read_tensors(tmp_path / "three.pth", inside))
        same(flatten(ours), flatten(convert(name, wanted)))
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


@pytest.mark.parametrize("config", [True, False])
def test_variables_of_another_size_are_refused_on_the_way_back(tmp_path, capsys, config):
    demo = Path("vasa_jax/models/demo")
    leaves = load_file(demo / "motion.safetensors")
    name = next(name for name in leaves if name.endswith("readout/bias"))
    write_tensors(tmp_path / "odd.safetensors", leaves | {name: np.zeros(3, np.float32)})
    flags = ["--config", str(demo / "config.json")] if config else []
    out = tmp_path / "out.safetensors"
    code = main(["vasa.motion", str(tmp_path / "odd.safetensors"), str(out), "--to-torch", *flags])
    assert (code, out.exists()) == ((2, False) if config else (0, True))
    assert not config or "readout/bias: shape (3,), not" in capsys.readouterr().err


def test_the_way_back_of_a_network_of_one_size_wants_every_leaf(tmp_path):
    variables = convert(NAME, fixtures.state_dict(NAME, 4))
    del variables["params"]["layers_0"]["bias"]
    with pytest.raises(UserError, match="params/layers_0/bias: is missing"):
        to_torch(NAME, variables)


@pytest.fixture
def checkpoint(tmp_path, monkeypatch):
    """A folder with a checkpoint in two shards and their index, and links to them, as the current folder."""
    monkeypatch.chdir(tmp_path)
    Path("hub").mkdir()
    tensors = list(fixtures.state_dict(NAME, 3).items())
    places = {}
    for i, half in enumerate((tensors[:3], tensors[3:])):
        save_file(dict(half), f"hub/s{i}.safetensors")
        places |= {name: f"s{i}.safetensors" for name, _ in half}
    Path("hub/model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    Path("soft.safetensors").symlink_to("hub/s1.safetensors")
    os.link("hub/s0.safetensors", "hard.safetensors")
    Path("hub2").symlink_to("hub")


@pytest.mark.parametrize("source", ["hub", "hub2", "hub/model.safetensors.index.json", "hub2/../hub"])
@pytest.mark.parametrize("out", ["hub/s0.safetensors", "soft.safetensors", "hard.safetensors", "hub2/s1.safetensors"])
def test_an_output_that_is_read_is_refused(checkpoint, capsys, source, out):
    before = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    assert main([NAME, source, out]) == 2
    assert f"OUT {out} would overwrite SOURCE" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()} == before
    assert main([NAME, source, "new.safetensors"]) == 0


def test_a_full_disk_is_one_line_and_no_file(checkpoint):
    """A limit of the shell stands for it: what the system says of both comes the same way."""
    code = "import sys; from vasa_jax.convert.__main__ import main; sys.exit(main(sys.argv[1:]))"
    script = f'ulimit -f 8; exec {sys.executable} -c "{code}" {NAME} hub full.safetensors'
    before = sorted(Path().iterdir())
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, env=environment)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert done.stderr.startswith("convert: error: cannot write full.safetensors: ")
    assert sorted(Path().iterdir()) == before


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["nothing", "in.pth", "out.safetensors"], "there is no network 'nothing'"),
        ([NAME, "in.pth", "out.npz"], "must end in .safetensors"),
        ([NAME, "in.pth", "missing/out.safetensors"], "is no folder"),
        ([NAME, "in.pth", "folder.safetensors"], "it is a folder"),
        ([NAME, "in.pth", "out.safetensors", "--to-torch", "--config", "c.json"], "has one size: leave --config out"),
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
    Path("folder.safetensors").mkdir()
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
