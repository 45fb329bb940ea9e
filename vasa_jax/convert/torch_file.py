"""Reads checkpoints of torch and pickles of NumPy arrays, without torch and without running code from the file.

A pickle is a program: it names functions and calls them. Here every name is looked up in one table (`_allowed`) whose
entries only build arrays and plain containers; a file that names anything else is refused before anything runs. Three
containers are read:

* the zip format (`torch.save` since 1.6): `data.pkl` beside one file a storage;
* the legacy format: a row of pickles, then the storages, each after its length;
* a plain pickle of containers and NumPy arrays.

A tensor is a view of a storage: offset, shape and strides in elements. Views are checked against the storage's size, so
no file can show memory that is not its own.
"""

import functools
import io
import math
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import ml_dtypes
import numpy as np

from vasa_jax.errors import UserError

_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
_STORAGES: dict[str, Any] = {
    "DoubleStorage": np.float64,
    "FloatStorage": np.float32,
    "HalfStorage": np.float16,
    "BFloat16Storage": ml_dtypes.bfloat16,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "ShortStorage": np.int16,
    "CharStorage": np.int8,
    "ByteStorage": np.uint8,
    "BoolStorage": np.bool_,
}
_DTYPES = ("float64", "float32", "float16", "int64", "int32", "int16", "int8", "uint8", "bool", "bfloat16")


def read_torch_file(path: str | Path) -> Any:
    """Whatever the file holds: containers of NumPy arrays (bfloat16 as `ml_dtypes.bfloat16`), numbers and strings.

    `argparse.Namespace` becomes a dict, a `pathlib` path a `PurePosixPath`.

    Raises:
        UserError: a broken file, or one whose pickle names anything but arrays and plain containers; the message
            names it.
        OSError: a file that cannot be read.
    """
    path = Path(path)
    try:
        if zipfile.is_zipfile(path):
            content = _read_zip(path)
        else:
            data = path.read_bytes()
            content = _read_legacy(data) if _is_legacy(data) else _Reader(io.BytesIO(data), _no_storage).load()
    except _Refused as error:
        raise UserError(f"{path} is refused: {error}") from None
    except OSError:
        raise
    except Exception as error:  # noqa: BLE001  (a broken pickle may fail in any way)
        raise UserError(f"{path} cannot be read as a torch file: {type(error).__name__}: {error}") from error
    return _plain(content)


class _Refused(Exception):
    """The file asks for something that is not on the list."""


class _Marker:
    """A name without behaviour: what the pickle calls `torch.FloatStorage` or `torch.float32`."""

    __slots__ = ("name",)

    def __init__(self, name: str):
        self.name = name


class _Record:
    """An instance of a plain class, as the dictionary of its attributes."""

    def __init__(self, *_: Any, **attributes: Any):
        self.__dict__.update(attributes)


Load = Callable[[str, str, int], np.ndarray]
"""The kind of a storage, its key and its count of numbers to the storage as a flat array."""


class _Reader(pickle.Unpickler):
    """An unpickler that knows the names in `_allowed` and no other."""

    def __init__(self, file: Any, load: Load):
        super().__init__(file, encoding="latin1")
        self._names = _allowed()
        self._storage = load

    def find_class(self, module: str, name: str) -> Any:
        """The table's entry; raises `_Refused` for a name that is not in it."""
        try:
            return self._names[module, name]
        except KeyError:
            raise _Refused(f"its pickle asks for {module}.{name}, which no weights need") from None

    def persistent_load(self, pid: Any) -> Any:
        """A storage."""
        match pid:
            case ("storage", _Marker(name=kind), key, _, count) | ("storage", _Marker(name=kind), key, _, count, None):
                return self._storage(kind, str(key), int(count))
        raise _Refused(f"its pickle refers to {pid!r}, which is no storage of its own")


def _allowed() -> dict[tuple[str, str], Any]:
    """Every name a file may use. Fresh objects for each file, so that nothing a pickle does to them lasts."""

    class Record(_Record):
        """A class of this file's own."""

    names: dict[tuple[str, str], Any] = {
        ("collections", "OrderedDict"): OrderedDict,
        ("torch._utils", "_rebuild_tensor_v2"): lambda *a: _view(*a[:4]),
        ("torch._utils", "_rebuild_tensor"): lambda *a: _view(*a[:4]),
        ("torch._utils", "_rebuild_parameter"): lambda data, *_: data,
        ("torch", "Size"): lambda sizes=(): tuple(sizes),
        ("torch", "device"): lambda *parts: ":".join(map(str, parts)),
        ("argparse", "Namespace"): Record,
        ("numpy", "ndarray"): _Marker("ndarray"),
        ("numpy", "dtype"): lambda *a: _dtype(*a),
        ("_codecs", "encode"): lambda *a: _encode(*a),
    }
    for name in _STORAGES:
        names["torch", name] = names["torch.storage", name] = _Marker(name)
    names |= {("torch", name): _Marker(name) for name in _DTYPES}
    paths = ("PosixPath", "PurePosixPath", "WindowsPath", "PureWindowsPath", "Path")
    names |= {(m, p): lambda *parts: PurePosixPath(*parts) for m in ("pathlib", "pathlib._local") for p in paths}
    for core in ("numpy.core.numeric", "numpy._core.numeric"):
        names[core, "_frombuffer"] = lambda *a: _array(*a)
    for core in ("numpy.core.multiarray", "numpy._core.multiarray"):
        names[core, "_reconstruct"] = lambda *_: _Array()
        names[core, "scalar"] = lambda dtype, data: np.frombuffer(_bytes(data), dtype.value, 1)[0]
    return names


class _Dtype:
    """`numpy.dtype` while it is read: the byte order arrives by `__setstate__`."""

    def __init__(self, value: np.dtype):
        self.value = value

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) < 2 or state[1] not in ("<", ">", "|", "="):
            raise _Refused(f"a dtype with the state {state!r}")
        self.value = self.value.newbyteorder(state[1])


def _dtype(code: Any, *_: Any) -> _Dtype:
    value = np.dtype(str(code)) if isinstance(code, str) else None
    if value is None or value.kind not in "biufc":
        raise _Refused(f"an array of dtype {code!r}, which may hold objects")
    return _Dtype(value)


class _Array:
    """`numpy.ndarray` while it is read."""

    value: np.ndarray | None = None

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, data = state
        self.value = _array(data, dtype, shape, "F" if fortran else "C")


def _array(data: Any, dtype: _Dtype, shape: tuple, order: str) -> np.ndarray:
    flat = np.frombuffer(_bytes(data), dtype.value)
    return flat.reshape(tuple(shape), order="F" if order == "F" else "C").astype(dtype.value.newbyteorder("="))


def _encode(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise _Refused(f"text encoded as {encoding!r}")
    return text.encode("latin1")


def _bytes(data: Any) -> bytes:
    return data.encode("latin1") if isinstance(data, str) else bytes(data)


def _view(storage: np.ndarray, offset: int, shape: tuple, strides: tuple) -> np.ndarray:
    """A tensor's own copy of its part of a storage; raises `_Refused` for a view that leaves it."""
    shape, strides = tuple(shape), tuple(strides)
    numbers = (offset, *shape, *strides)
    if len(shape) != len(strides) or not all(isinstance(n, int) and n >= 0 for n in numbers):
        raise _Refused(f"a tensor of shape {shape} and strides {strides}")
    last = offset + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
    if 0 not in shape and last >= storage.size:
        raise _Refused(f"a tensor of shape {shape} that reaches beyond its storage of {storage.size} numbers")
    if 0 in shape:
        return np.zeros(shape, storage.dtype)
    if math.prod(shape) > max(storage.size, 1) * 64:
        raise _Refused(f"a tensor of shape {shape} out of a storage of {storage.size} numbers")
    steps = tuple(s * storage.itemsize for s in strides)
    return np.lib.stride_tricks.as_strided(storage[offset:], shape, steps, writeable=False).copy()


def _no_storage(kind: str, key: str, count: int) -> np.ndarray:
    raise _Refused("a plain pickle refers to a torch storage")


def _read_zip(path: Path) -> Any:
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        roots = [name[: -len("data.pkl")] for name in names if name.endswith("/data.pkl")]
        if len(roots) != 1:
            raise UserError("a zip file with no data.pkl, or several")
        root = roots[0]
        order = archive.read(root + "byteorder").decode() if root + "byteorder" in names else "little"

        @functools.cache
        def storage(kind: str, key: str, count: int) -> np.ndarray:
            return _flat(archive.read(f"{root}data/{key}"), kind, count, order)

        with archive.open(root + "data.pkl") as file:
            return _Reader(file, storage).load()


def _is_legacy(data: bytes) -> bool:
    head = io.BytesIO(data)
    try:
        return _Reader(head, _no_storage).load() == _MAGIC
    except Exception:  # noqa: BLE001  (any other file)
        return False


def _read_legacy(data: bytes) -> Any:
    file = io.BytesIO(data)
    plain = [_Reader(file, _no_storage).load() for _ in range(3)]
    if plain[1] != _PROTOCOL or not isinstance(plain[2], dict):
        raise UserError(f"the legacy format of version {plain[1]!r}")
    begin = file.tell()
    found: dict[str, tuple[str, int]] = {}

    def note(kind: str, key: str, count: int) -> np.ndarray:
        found[key] = kind, count
        return np.zeros(0)

    # Storages lie behind the pickle that needs them: find them first, then read it again.
    first = _Reader(file, note)
    first._names = first._names | {("torch._utils", name): lambda *_: None for name in _REBUILD}
    first.load()
    keys = _Reader(file, _no_storage).load()
    order = "little" if plain[2].get("little_endian", True) else "big"
    storages = {}
    for key in keys:
        kind, count = found[str(key)]
        (stored,) = np.frombuffer(file.read(8), "<i8" if order == "little" else ">i8")
        if stored != count:
            raise UserError(f"the storage {key} holds {stored} numbers, not {count}")
        storages[str(key)] = _flat(file.read(count * np.dtype(_STORAGES[kind]).itemsize), kind, count, order)
    file.seek(begin)
    return _Reader(file, lambda kind, key, count: storages[key]).load()


_REBUILD = ("_rebuild_tensor_v2", "_rebuild_tensor", "_rebuild_parameter")


def _flat(data: bytes, kind: str, count: int, order: str) -> np.ndarray:
    dtype = np.dtype(_STORAGES[kind])
    if len(data) < count * dtype.itemsize:
        raise UserError(f"a storage of {count} {kind} numbers holds only {len(data)} bytes")
    flat = np.frombuffer(data, dtype, count)
    return flat.byteswap() if order == "big" else flat


def _plain(value: Any) -> Any:
    """Without the reader's own helpers."""
    if isinstance(value, _Array):
        return value.value
    if isinstance(value, _Record):
        return {name: _plain(part) for name, part in vars(value).items()}
    if isinstance(value, Mapping):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_plain(part) for part in value)
    return value.name if isinstance(value, _Marker) else value
