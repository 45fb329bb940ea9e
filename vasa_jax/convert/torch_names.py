"""The names that a checkpoint may use, and what each becomes: the whole vocabulary of `torch_file`.

Every entry builds arrays or plain containers, and none runs what the file brings. A tensor is a view of a storage:
offset, shape and strides in elements. Views are checked against the storage's size, so no file can show memory that is
not its own. What torch rebuilds beside them (parameters, attributes of tensors, tensors of other devices) becomes the
tensor alone.
"""

import math
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from pathlib import PurePosixPath
from typing import Any

import ml_dtypes
import numpy as np

STORAGES: dict[str, Any] = {
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
    "ComplexFloatStorage": np.complex64,
    "ComplexDoubleStorage": np.complex128,
    "UntypedStorage": np.uint8,
}
"""Kinds of storages to the numbers in them; an untyped one counts bytes."""
_ML_DTYPES = ("bfloat16", "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu")
_INTEGERS = tuple(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))
_DTYPES: dict[str, Any] = {
    **{name: np.dtype(name) for name in ("float64", "float32", "float16", "bool", "complex64", "complex128")},
    **{name: np.dtype(name) for name in _INTEGERS},
    **{name: np.dtype(getattr(ml_dtypes, name)) for name in _ML_DTYPES},
}
_FOREIGN_DTYPES = ("complex32", "float4_e2m1fn_x2", "qint8", "qint32", "quint8", "quint4x2", "quint2x4")
_UNREADABLE = {
    "_rebuild_qtensor": "a quantised tensor; dequantise it before it is saved",
    "_rebuild_sparse_tensor": "a sparse tensor; make it dense before it is saved",
    "_rebuild_nested_tensor": "a nested tensor; save its parts",
    "_rebuild_meta_tensor_no_storage": "a tensor on the meta device, which has no numbers; load the weights first",
    "_rebuild_wrapper_subclass": "a tensor of a class that has no numbers of its own; save plain tensors",
}


class Refused(Exception):
    """The file asks for something that is not on the list."""


class Budget:
    """How many bytes of numbers may still be made for a file: a small one can ask for the same ones again and again."""

    def __init__(self, most: int):
        self._left = most

    def spend(self, count: int) -> None:
        """Take so many bytes from it. Raises Refused where it is exhausted."""
        self._left -= count
        if self._left < 0:
            raise Refused("its tensors need far more memory than the numbers in it")


class Marker:
    """A name without behaviour: what the pickle calls `torch.FloatStorage` or `torch.float32`."""

    __slots__ = ("name",)

    def __init__(self, name: str):
        self.name = name


class _Record:
    """An instance of a plain class, as the dictionary of its attributes."""

    def __init__(self, *_: Any, **attributes: Any):
        self.__dict__.update(attributes)


def allowed(budget: Budget) -> dict[tuple[str, str], Any]:
    """Every name a file may use. Fresh objects for each file, so that nothing a pickle does to them lasts."""

    class Record(_Record):
        """A class of this file's own."""

    names: dict[tuple[str, str], Any] = {
        ("collections", "OrderedDict"): OrderedDict,
        ("collections", "Counter"): lambda *a: Counter(*a),
        ("torch", "Size"): lambda sizes=(): tuple(sizes),
        ("torch", "device"): lambda *parts: ":".join(map(str, parts)),
        ("argparse", "Namespace"): Record,
        ("numpy", "ndarray"): Marker("ndarray"),
        ("numpy", "dtype"): lambda *a: _dtype(*a),
        ("_codecs", "encode"): lambda *a: _encode(*a),
        **rebuilders(budget),
    }
    for module in ("builtins", "__builtin__"):  # as protocols 3 and 2 call it
        names |= {(module, "set"): lambda *a: set(*a), (module, "frozenset"): lambda *a: frozenset(*a)}
    for name in STORAGES:
        names |= {(module, name): Marker(name) for module in ("torch", "torch.storage", "torch.cuda")}
    names |= {("torch", name): Marker(name) for name in (*_DTYPES, *_FOREIGN_DTYPES, "Tensor")}
    names |= {("torch.nn.parameter", name): Marker(name) for name in ("Parameter", "Buffer")}
    names |= {("ml_dtypes", name): Marker(name) for name in _ML_DTYPES}
    paths = ("PosixPath", "PurePosixPath", "WindowsPath", "PureWindowsPath", "Path")
    names |= {(m, p): lambda *parts: PurePosixPath(*parts) for m in ("pathlib", "pathlib._local") for p in paths}
    for core in ("numpy.core", "numpy._core"):
        names[f"{core}.numeric", "_frombuffer"] = lambda *a: _array(budget, *a)
        names[f"{core}.multiarray", "_reconstruct"] = lambda *_: _Array(budget)
        names[f"{core}.multiarray", "scalar"] = lambda dtype, data: np.frombuffer(_bytes(data), dtype.value, 1)[0]
    return names


def rebuilders(budget: Budget) -> dict[tuple[str, str], Callable[..., np.ndarray]]:
    """The names among them that make a tensor: the rest of their arguments (gradients, hooks, devices, attributes) is
    dropped."""
    table: dict[tuple[str, str], Callable[..., np.ndarray]] = {
        ("torch._utils", "_rebuild_tensor"): lambda *a: _view(budget, *a[:4]),
        ("torch._utils", "_rebuild_tensor_v2"): lambda *a: _view(budget, *a[:4]),
        ("torch._utils", "_rebuild_tensor_v3"): lambda *a: _view(budget, _as_numbers(a[0], a[6]), *a[1:4]),
        ("torch._utils", "_rebuild_parameter"): lambda data, *_: data,
        ("torch._utils", "_rebuild_parameter_with_state"): lambda data, *_: data,
        ("torch._utils", "_rebuild_device_tensor_from_numpy"): lambda data, dtype, *_: _cast(budget, data, dtype),
        ("torch._utils", "_rebuild_device_tensor_from_cpu_tensor"): lambda data, dtype, *_: _cast(budget, data, dtype),
        ("torch._utils", "_rebuild_xla_tensor"): lambda data, dtype, *_: _cast(budget, data, dtype),
    }
    plain = tuple(table.values())

    def from_type(function: Any, kind: Any, arguments: Any, *_: Any) -> np.ndarray:
        if not any(function is entry for entry in plain) or not isinstance(kind, Marker):
            raise Refused("a tensor with attributes that is not made by one of torch's own functions")
        return function(*arguments)

    names = ("_rebuild_from_type", "_rebuild_from_type_v2")
    return table | {("torch._tensor", name): from_type for name in names}


def look_up(names: Mapping[tuple[str, str], Any], module: str, name: str) -> Any:
    """An entry of `allowed()`; raises `Refused` for a name that is not in it."""
    try:
        return names[module, name]
    except KeyError:
        if module == "torch._utils" and name in _UNREADABLE:
            raise Refused(f"it holds {_UNREADABLE[name]}") from None
        raise Refused(f"its pickle asks for {f'{module}.{name}'[:120]}, which no weights need") from None


def plain(value: Any) -> Any:
    """A value without the objects that stand for names and for what was being read."""
    return _plain(value, {})


def _plain(value: Any, known: dict[int, Any]) -> Any:
    """`known`: what was made of containers by their identity, since a list of one list ten times is small."""
    if isinstance(value, _Array):
        return value.value
    if isinstance(value, Marker):
        return value.name
    if not isinstance(value, _Record | Mapping | list | tuple | set | frozenset):
        return value
    if id(value) not in known:
        content = vars(value) if isinstance(value, _Record) else value
        if isinstance(content, Mapping):
            made: Any = {name: _plain(part, known) for name, part in content.items()}
        else:
            made = type(content)(_plain(part, known) for part in content)
        known[id(value)] = made
    return known[id(value)]


class _Dtype:
    """`numpy.dtype` while it is read: the byte order arrives by `__setstate__`."""

    def __init__(self, value: np.dtype):
        self.value = value

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) < 2 or state[1] not in ("<", ">", "|", "="):
            raise Refused(f"a dtype with the state {state!r}")
        self.value = self.value.newbyteorder(state[1])


def _dtype(code: Any, *_: Any) -> _Dtype:
    if isinstance(code, Marker) and code.name in _ML_DTYPES:
        return _Dtype(_DTYPES[code.name])
    value = np.dtype(str(code)) if isinstance(code, str) else None
    if value is None or value.kind not in "biufc":
        raise Refused(f"an array of dtype {code!r}, which may hold objects")
    return _Dtype(value)


class _Array:
    """`numpy.ndarray` while it is read."""

    value: np.ndarray | None = None

    def __init__(self, budget: Budget):
        self._budget = budget

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, data = state
        self.value = _array(self._budget, data, dtype, shape, "F" if fortran else "C")


def _array(budget: Budget, data: Any, dtype: _Dtype, shape: tuple, order: str) -> np.ndarray:
    budget.spend(len(data))
    flat = np.frombuffer(_bytes(data), dtype.value)
    return flat.reshape(tuple(shape), order="F" if order == "F" else "C").astype(dtype.value.newbyteorder("="))


def _encode(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise Refused(f"text encoded as {encoding!r}")
    return text.encode("latin1")


def _bytes(data: Any) -> bytes:
    return data.encode("latin1") if isinstance(data, str) else bytes(data)


def _number_type(dtype: Any) -> np.dtype:
    if not isinstance(dtype, Marker) or dtype.name not in _DTYPES:
        named = dtype.name if isinstance(dtype, Marker) else dtype
        raise Refused(f"a tensor of numbers of type {str(named)[:40]}; save it as float32")
    return _DTYPES[dtype.name]


def _as_numbers(storage: np.ndarray, dtype: Any) -> np.ndarray:
    """A storage of bytes as one of numbers."""
    kind, data = _number_type(dtype), storage.view(np.uint8)
    return data[: data.size // kind.itemsize * kind.itemsize].view(kind)


def _cast(budget: Budget, data: Any, dtype: Any) -> np.ndarray:
    array, kind = np.asarray(data.value if isinstance(data, _Array) else data), _number_type(dtype)
    budget.spend(array.size * kind.itemsize)
    return array.astype(kind)


def _view(budget: Budget, storage: np.ndarray, offset: int, shape: tuple, strides: tuple) -> np.ndarray:
    """A tensor's own copy of its part of a storage; raises `Refused` for a view that leaves it."""
    shape, strides = tuple(shape), tuple(strides)
    numbers = (offset, *shape, *strides)
    if len(shape) != len(strides) or not all(isinstance(n, int) and n >= 0 for n in numbers):
        raise Refused(f"a tensor of shape {shape} and strides {strides}")
    last = offset + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
    if 0 not in shape and last >= storage.size:
        raise Refused(f"a tensor of shape {shape} that reaches beyond its storage of {storage.size} numbers")
    if 0 in shape:
        return np.zeros(shape, storage.dtype)
    if math.prod(shape) > max(storage.size, 1) * 64:
        raise Refused(f"a tensor of shape {shape} out of a storage of {storage.size} numbers")
    budget.spend(math.prod(shape) * storage.itemsize)
    steps = tuple(s * storage.itemsize for s in strides)
    return np.ndarray(shape, storage.dtype, storage.view(np.uint8), offset * storage.itemsize, steps).copy()
