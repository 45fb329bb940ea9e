"""Checkpoints are read without torch, and nothing that a file asks for is run."""

import argparse
import io
import os
import pathlib
import pickle
import struct
import zipfile
from collections import OrderedDict

import ml_dtypes
import numpy as np
import pytest

from vasa_jax.convert import torch_names
from vasa_jax.convert.torch_file import read_torch_file
from vasa_jax.errors import UserError


class Name:
    """A global of the given module, as a pickle names it."""

    def __init__(self, module, name):
        self.module, self.name = module, name


class Call:
    """What a pickle calls: a global, its arguments, and a state for the result."""

    def __init__(self, module, name, *arguments, state=None):
        self.callable, self.arguments, self.state = Name(module, name), arguments, state


class Storage:
    """A storage that the pickle refers to."""

    def __init__(self, array, kind):
        self.array, self.kind = array, kind


class Writer(pickle._Pickler):
    """Pickles the classes above as torch pickles its own."""

    def __init__(self, file):
        super().__init__(file, protocol=2)
        self.storages = []

    def persistent_id(self, obj):
        if isinstance(obj, Storage):
            if obj not in self.storages:
                self.storages.append(obj)
            return ("storage", Name("torch", obj.kind), str(self.storages.index(obj)), "cpu", obj.array.size)
        return None

    def save(self, obj, save_persistent_id=True):
        if isinstance(obj, Name):
            self.write(pickle.GLOBAL + f"{obj.module}\n{obj.name}\n".encode())
        elif isinstance(obj, Call):
            self.save(obj.callable)
            self.save(obj.arguments)
            self.write(pickle.REDUCE)
            if obj.state is not None:
                self.save(obj.state)
                self.write(pickle.BUILD)
        else:
            super().save(obj, save_persistent_id)


def tensor(storage, shape, strides, offset=0):
    return Call("torch._utils", "_rebuild_tensor_v2", storage, offset, shape, strides, False, OrderedDict())


def write_zip(path, content, order="little"):
    data = io.BytesIO()
    writer = Writer(data)
    writer.dump(content)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/data.pkl", data.getvalue())
        archive.writestr("model/byteorder", order)
        for index, storage in enumerate(writer.storages):
            archive.writestr(f"model/data/{index}", storage.array.tobytes())


def write_legacy(path, content):
    data = io.BytesIO()
    writer = Writer(data)
    writer.dump(content)
    with open(path, "wb") as file:
        for part in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True, "protocol_version": 1001}):
            pickle.dump(part, file, protocol=2)
        pid_five = data.getvalue()
        file.write(pid_five)
        pickle.dump([str(i) for i in range(len(writer.storages))], file, protocol=2)
        for storage in writer.storages:
            file.write(struct.pack("<q", storage.array.size) + storage.array.tobytes())


@pytest.mark.parametrize("write", [write_zip, write_legacy])
def test_tensors_are_views_of_shared_storages(tmp_path, write):
    numbers = np.arange(24, dtype=np.float32)
    half = np.arange(4).astype(ml_dtypes.bfloat16)
    shared = Storage(numbers, "FloatStorage")
    write(
        tmp_path / "m.pth",
        OrderedDict(
            whole=tensor(shared, (2, 3, 4), (12, 4, 1)),
            turned=tensor(shared, (4, 3), (1, 4), 12),
            number=tensor(Storage(np.asarray([7], np.int64), "LongStorage"), (), ()),
            half=Call(
                "torch._utils", "_rebuild_parameter", tensor(Storage(half, "BFloat16Storage"), (4,), (1,)), True, {}
            ),
            empty=tensor(shared, (0, 5), (5, 1)),
        ),
    )
    got = read_torch_file(tmp_path / "m.pth")
    np.testing.assert_array_equal(got["whole"], numbers.reshape(2, 3, 4))
    np.testing.assert_array_equal(got["turned"], numbers[12:].reshape(3, 4).T)
    assert got["number"] == 7 and got["number"].dtype == np.int64 and got["empty"].shape == (0, 5)
    np.testing.assert_array_equal(got["half"], half)
    assert list(got) == ["whole", "turned", "number", "half", "empty"]


def wide(array, dtype, shape, strides, offset=0):
    """A tensor of a number type without a storage of its own, as torch saves float8."""
    storage = Storage(array.view(np.uint8), "UntypedStorage")
    arguments = (storage, offset, shape, strides, False, OrderedDict(), Name("torch", dtype))
    return Call("torch._utils", "_rebuild_tensor_v3", *arguments)


@pytest.mark.parametrize("write", [write_zip, write_legacy])
@pytest.mark.parametrize(
    "kind", ["float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu", "uint16"]
)
def test_numbers_that_numpy_has_no_name_for(tmp_path, write, kind):
    numbers = np.asarray([1, 2, 4, 8, 0.5, 16], np.float32).astype(np.dtype(getattr(ml_dtypes, kind, kind)))
    write(tmp_path / "m.pth", {"a": wide(numbers, kind, (2, 2), (1, 2), 1)})
    got = read_torch_file(tmp_path / "m.pth")["a"]
    assert got.dtype == numbers.dtype
    np.testing.assert_array_equal(got.astype(np.float32), numbers[1:5].reshape(2, 2).T.astype(np.float32))
    plain = {"b": numbers}
    (tmp_path / "m.pkl").write_bytes(pickle.dumps(plain, protocol=2))
    assert read_torch_file(tmp_path / "m.pkl")["b"].tobytes() == numbers.tobytes()


def test_parameters_attributes_and_other_devices_are_the_tensor_alone(tmp_path):
    numbers = np.arange(4, dtype=np.float32)
    plain = tensor(Storage(numbers, "FloatStorage"), (4,), (1,))
    array, half = numbers.astype(np.float64), Name("torch", "float16")
    content = {
        "parameter": Call("torch._utils", "_rebuild_parameter_with_state", plain, True, {}, {"tag": "x"}),
        "device": Call("torch._utils", "_rebuild_device_tensor_from_numpy", array, half, "xla:0", False),
        "copied": Call("torch._utils", "_rebuild_device_tensor_from_cpu_tensor", plain, half, "xla:0", False),
        "tagged": Call(
            "torch._tensor",
            "_rebuild_from_type_v2",
            Name("torch._utils", "_rebuild_tensor_v2"),
            Name("torch.nn.parameter", "Parameter"),
            (Storage(numbers, "FloatStorage"), 0, (4,), (1,), False, OrderedDict()),
            {"tag": "x"},
        ),
    }
    write_zip(tmp_path / "m.pth", content)
    got = read_torch_file(tmp_path / "m.pth")
    assert {name: value.dtype.name for name, value in got.items()} == {
        "parameter": "float32",
        "device": "float16",
        "copied": "float16",
        "tagged": "float32",
    }
    for value in got.values():
        np.testing.assert_array_equal(value, numbers)


@pytest.mark.parametrize(
    "content, message",
    [
        (Call("torch._utils", "_rebuild_qtensor", 1), "a quantised tensor; dequantise it"),
        (Call("torch._utils", "_rebuild_sparse_tensor", 1), "a sparse tensor; make it dense"),
        (Call("torch._utils", "_rebuild_meta_tensor_no_storage", 1), "on the meta device"),
        (wide(np.zeros(4, np.uint8), "float4_e2m1fn_x2", (4,), (1,)), "float4_e2m1fn_x2; save it as float32"),
        (wide(np.zeros(4, np.uint8), "uint16", (3,), (1,)), "reaches beyond its storage of 2 numbers"),
        (
            Call("torch._tensor", "_rebuild_from_type_v2", Name("_codecs", "encode"), Name("torch", "Tensor"), ("x",)),
            "not made by one of torch's own",
        ),
    ],
)
def test_tensors_without_plain_numbers_are_refused_by_what_they_are(tmp_path, content, message):
    write_zip(tmp_path / "m.pth", {"a": content})
    with pytest.raises(UserError, match=f"is refused: .*{message}"):
        read_torch_file(tmp_path / "m.pth")


def test_big_endian_files(tmp_path):
    numbers = np.arange(3, dtype=">f4")
    write_zip(tmp_path / "m.pth", [tensor(Storage(numbers, "FloatStorage"), (3,), (1,))], "big")
    np.testing.assert_array_equal(read_torch_file(tmp_path / "m.pth")[0], [0, 1, 2])


def test_arguments_and_paths_become_plain(tmp_path):
    arguments = argparse.Namespace(width=4, folder=pathlib.PurePosixPath("a/b"), inner={"rate": 0.5})
    (tmp_path / "a.pt").write_bytes(pickle.dumps({"args": arguments, "epoch": 3}, protocol=2))
    expected = {"args": {"width": 4, "folder": pathlib.PurePosixPath("a/b"), "inner": {"rate": 0.5}}, "epoch": 3}
    assert read_torch_file(tmp_path / "a.pt") == expected


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_pickled_arrays(tmp_path, protocol):
    content = {
        "c": np.arange(6, dtype=np.float32).reshape(2, 3),
        "f": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "big": np.arange(3, dtype=">i4"),
        "scalar": np.float32(1.5),
        "flag": np.asarray([True, False]),
    }
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(content, protocol=protocol))
    got = read_torch_file(tmp_path / "a.pkl")
    for name, value in content.items():
        np.testing.assert_array_equal(got[name], value)
    assert got["c"].dtype == np.float32 and got["flag"].dtype == np.bool_


def harm(path):
    """A call that would leave a file behind."""
    return f"touch {path}"


TRICKS = {
    "os.system": lambda p: Call("os", "system", harm(p)),
    "posix.system": lambda p: Call("posix", "system", harm(p)),
    "builtins.eval": lambda p: Call("builtins", "eval", f"open({str(p)!r}, 'w')"),
    "builtins.getattr": lambda p: Call("builtins", "getattr", Name("os", "system"), "x"),
    "subprocess.Popen": lambda p: Call("subprocess", "Popen", ["touch", str(p)]),
    "torch.load": lambda p: Call("torch", "load", str(p)),
    "torch.hub.load": lambda p: Call("torch.hub", "load", str(p)),
    "numpy.load": lambda p: Call("numpy", "load", str(p)),
    "numpy.f2py.compile": lambda p: Call("numpy.f2py", "compile", "x"),
    "collections.OrderedDict.fromkeys": lambda p: Call("collections", "OrderedDict.fromkeys", "x"),
    "argparse.open": lambda p: Call("argparse", "_os.system", harm(p)),
    "pathlib.os": lambda p: Call("pathlib", "os.system", harm(p)),
    "pathlib.Path.touch": lambda p: Call("pathlib", "Path.touch", str(p)),
    "torch._tensor._rebuild_from_type_v2": lambda p: Call(
        "torch._tensor", "_rebuild_from_type_v2", Name("os", "system"), Name("torch", "Tensor"), (harm(p),), None
    ),
    "torch.storage._load_from_bytes": lambda p: Call("torch.storage", "_load_from_bytes", b"x"),
    "copyreg._reconstructor": lambda p: Call("copyreg", "_reconstructor", Name("argparse", "Namespace"), 1, 2),
}


@pytest.mark.parametrize("trick", TRICKS)
@pytest.mark.parametrize("wrap", ["zip", "legacy", "plain", "nested"])
def test_a_file_that_asks_for_code_is_refused_and_nothing_runs(tmp_path, trick, wrap):
    mark, path = tmp_path / "ran", tmp_path / "m.pth"
    content = {"weights": [TRICKS[trick](mark)]}
    if wrap == "zip":
        write_zip(path, content)
    elif wrap == "legacy":
        write_legacy(path, content)
    else:
        data = io.BytesIO()
        Writer(data).dump(content if wrap == "plain" else Call("argparse", "Namespace", state={"x": content}))
        path.write_bytes(data.getvalue())
    with pytest.raises(ValueError, match="is refused: its pickle asks for"):
        read_torch_file(path)
    assert os.listdir(tmp_path) == ["m.pth"]


def test_names_hidden_in_protocol_4_are_refused(tmp_path):
    class Trick:
        def __reduce__(self):
            return os.system, (harm(tmp_path / "ran"),)

    (tmp_path / "m.pth").write_bytes(pickle.dumps(Trick(), protocol=4))
    with pytest.raises(ValueError, match=r"asks for (posix|nt)\.system"):
        read_torch_file(tmp_path / "m.pth")
    assert os.listdir(tmp_path) == ["m.pth"]


def test_what_a_file_does_to_a_name_does_not_last(tmp_path):
    (tmp_path / "m.pkl").write_bytes(b"\x80\x02cargparse\nNamespace\n}X\x01\x00\x00\x00aK\x01sb.")
    for _ in range(2):
        try:
            read_torch_file(tmp_path / "m.pkl")
        except ValueError:
            pass
    (tmp_path / "n.pkl").write_bytes(pickle.dumps(argparse.Namespace(b=2), protocol=2))
    assert read_torch_file(tmp_path / "n.pkl") == {"b": 2}


@pytest.mark.parametrize("name", ["_codecs\nencode", "numpy\ndtype", "numpy.core.numeric\n_frombuffer"])
def test_functions_of_the_reader_are_out_of_reach(tmp_path, name):
    state = b"(N}X\x0c\x00\x00\x00__defaults__(K\x01K\x02tst"  # what BUILD sets on the function that it gets
    (tmp_path / "m.pkl").write_bytes(b"\x80\x02c" + name.encode() + b"\n" + state + b"b.")
    read_torch_file(tmp_path / "m.pkl")
    for function in (torch_names._encode, torch_names._dtype, torch_names._array):
        assert function.__defaults__ is None


@pytest.mark.parametrize(
    ("shape", "strides", "offset"),
    [((5,), (1,), 0), ((2, 2), (3, 1), 0), ((2,), (1,), 3), ((2,), (-1,), 1), ((2,), (1, 1), 0), ((10**12,), (0,), 0)],
)
def test_a_tensor_beyond_its_storage_is_refused(tmp_path, shape, strides, offset):
    storage = Storage(np.zeros(4, np.float32), "FloatStorage")
    write_zip(tmp_path / "m.pth", [tensor(storage, shape, strides, offset)])
    with pytest.raises(ValueError, match="is refused: a tensor of shape"):
        read_torch_file(tmp_path / "m.pth")


def test_a_list_of_lists_that_are_one_list_is_read_at_once(tmp_path):
    lists = [np.float32(1)]
    for _ in range(40):
        lists = [lists] * 10
    (tmp_path / "m.pkl").write_bytes(pickle.dumps(lists, protocol=2))
    assert len(read_torch_file(tmp_path / "m.pkl")) == 10


def test_what_wants_far_more_memory_than_it_holds_is_refused(tmp_path):
    storage = Storage(np.zeros(1_000_000, np.float32), "FloatStorage")
    write_zip(tmp_path / "m.pth", [tensor(storage, (1_000_000,), (1,)) for _ in range(80)])
    with pytest.raises(ValueError, match="is refused: its tensors need far more memory"):
        read_torch_file(tmp_path / "m.pth")
    array = np.zeros(1_000_000, np.float32)
    (tmp_path / "m.pkl").write_bytes(pickle.dumps([array] * 100, protocol=2))
    assert len(read_torch_file(tmp_path / "m.pkl")) == 100


def test_a_zip_that_unpacks_to_far_more_than_it_is_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "m.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("m/data.pkl", pickle.dumps({}, protocol=2))
        archive.writestr("m/data/0", bytes(300_000_000))
    with pytest.raises(ValueError, match="unpack to 300000.*no checkpoint"):
        read_torch_file(tmp_path / "m.pth")


def test_arrays_of_objects_and_broken_files_are_refused(tmp_path):
    (tmp_path / "m.pkl").write_bytes(pickle.dumps(np.asarray([{}, []], object), protocol=2))
    with pytest.raises(ValueError, match="may hold objects"):
        read_torch_file(tmp_path / "m.pkl")
    write_zip(tmp_path / "z.pth", [tensor(Storage(np.zeros(4, np.float32), "FloatStorage"), (4,), (1,))])
    for data, why in (
        ((tmp_path / "z.pth").read_bytes()[:-40], "a zip file that is cut short"),
        (b"hello", "it is a text .'hello'."),
        (b"", "it is empty"),
        (b"\x80\x02}q\x00X", "UnpicklingError: pickle data was truncated"),
        (b" <!DOCTYPE html><title>Sign in</title>", "it is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 4\n", "it is a pointer of Git LFS"),
    ):
        (tmp_path / "odd.pth").write_bytes(data)
        with pytest.raises(UserError, match=f"odd.pth cannot be read as a torch file: {why}"):
            read_torch_file(tmp_path / "odd.pth")
    with pytest.raises(UserError, match="cannot read .*missing.pth: No such file"):
        read_torch_file(tmp_path / "missing.pth")


def test_real_motion_files(assets):
    files = sorted((assets / "motion").glob("*.pkl"))
    assert len(files) == 12
    for file in files:
        motion = read_torch_file(file)
        assert isinstance(motion, dict) and motion["n_frames"] == len(motion["motion"])
        assert all(np.isfinite(np.asarray(frame["exp"])).all() for frame in motion["motion"])
