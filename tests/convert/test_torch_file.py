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

from vasa_jax.convert import torch_file
from vasa_jax.convert.torch_file import read_torch_file


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
    for function in (torch_file._encode, torch_file._dtype, torch_file._array):
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


def test_arrays_of_objects_and_broken_files_are_refused(tmp_path):
    (tmp_path / "m.pkl").write_bytes(pickle.dumps(np.asarray([{}, []], object), protocol=2))
    with pytest.raises(ValueError, match="may hold objects"):
        read_torch_file(tmp_path / "m.pkl")
    write_zip(tmp_path / "z.pth", [tensor(Storage(np.zeros(4, np.float32), "FloatStorage"), (4,), (1,))])
    for name, data in (("cut.pth", (tmp_path / "z.pth").read_bytes()[:-40]), ("text.pth", b"hello"), ("none.pth", b"")):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ValueError, match="cannot be read as a torch file"):
            read_torch_file(tmp_path / name)
    with pytest.raises(OSError):
        read_torch_file(tmp_path / "missing.pth")


def test_real_motion_files(assets):
    files = sorted((assets / "motion").glob("*.pkl"))
    assert len(files) == 12
    for file in files:
        motion = read_torch_file(file)
        assert isinstance(motion, dict) and motion["n_frames"] == len(motion["motion"])
        assert all(np.isfinite(np.asarray(frame["exp"])).all() for frame in motion["motion"])
