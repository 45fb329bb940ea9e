"""Reads .safetensors files with every type of number that `ml_dtypes` brings to NumPy.

The format: a length n of 8 bytes, n bytes of JSON that map each name to type, shape and place, then the numbers, one
tensor after the other without gaps. All of it is checked against the size of the file before a number is read.
"""

import json
import math
from pathlib import Path
from typing import Any, BinaryIO

import ml_dtypes
import numpy as np

from vasa_jax.convert.rules import Tensors
from vasa_jax.errors import UserError, refusals
from vasa_jax.files import disguise

LENGTH_BYTES = 8
HEADER_BYTES = 100_000_000
"""The longest header that the format allows."""
AXES = 32
"""The most that a tensor has."""
_TYPES: dict[str, Any] = {
    "BOOL": np.bool_,
    "U8": np.uint8,
    "I8": np.int8,
    "U16": np.uint16,
    "I16": np.int16,
    "U32": np.uint32,
    "I32": np.int32,
    "U64": np.uint64,
    "I64": np.int64,
    "F8_E4M3": ml_dtypes.float8_e4m3fn,
    "F8_E5M2": ml_dtypes.float8_e5m2,
    "F8_E4M3FNUZ": ml_dtypes.float8_e4m3fnuz,
    "F8_E5M2FNUZ": ml_dtypes.float8_e5m2fnuz,
    "F8_E8M0": ml_dtypes.float8_e8m0fnu,
    "F16": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "F32": np.float32,
    "F64": np.float64,
    "C64": np.complex64,
}


def is_safetensors(path: Path) -> bool:
    """Whether a file begins as this format does, whatever its name. Raises UserError where it cannot be read."""
    with refusals("read", path), path.open("rb") as file:
        head = file.read(LENGTH_BYTES + 1)
    return head[LENGTH_BYTES:] == b"{" and int.from_bytes(head[:LENGTH_BYTES], "little") <= HEADER_BYTES


def read_safetensors(path: Path) -> Tensors:
    """The tensors of a file by name.

    Raises:
        UserError: a file that cannot be read, is cut short or none of this format, or holds numbers of a type that
            NumPy has no name for; the message says which.
    """
    with refusals("read", path), path.open("rb") as file:
        size = path.stat().st_size
        begin, entries = _header(path, file, size)
        tensors: Tensors = {}
        end = 0
        for name, entry in sorted(entries.items(), key=lambda item: _place(path, *item)):
            first, last = _place(path, name, entry)
            dtype, shape = _dtype(path, name, entry), _shape(path, name, entry)
            if first != end or last - first != math.prod(shape) * dtype.itemsize:
                raise _broken(path, f"{name!r} of {dtype} {shape} lies at bytes {first} to {last}, after {end}")
            if begin + last > size:
                raise _broken(path, f"it holds {size} bytes, and {name!r} ends at {begin + last}: it is cut short")
            file.seek(begin + first)
            tensors[name] = np.fromfile(file, np.uint8, last - first).view(dtype).reshape(shape)
            end = last
        if begin + end != size:
            raise _broken(path, f"{size - begin - end} bytes follow its tensors")
    return tensors


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object for `json.loads(..., object_pairs_hook=unique)`; raises ValueError for a name that comes twice."""
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r} comes twice")
    return found


def _header(path: Path, file: BinaryIO, size: int) -> tuple[int, dict[str, Any]]:
    """Where the numbers begin, and what the header says of each tensor."""
    length = int.from_bytes(file.read(LENGTH_BYTES), "little")
    if not is_safetensors(path) and (found := disguise(path)):
        raise UserError(f"{path} holds no tensors: {found}")
    if length > min(size - LENGTH_BYTES, HEADER_BYTES):
        raise _broken(path, f"it holds {size} bytes, and its first eight ask for a header of {length}")
    try:
        entries = json.loads(file.read(length), object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise _broken(path, f"its header is no JSON: {str(error)[:120]}") from None
    if not isinstance(entries, dict):
        raise _broken(path, "its header is no table of tensors")
    entries.pop("__metadata__", None)
    return LENGTH_BYTES + length, entries


def _place(path: Path, name: str, entry: Any) -> tuple[int, int]:
    match entry:
        case {"data_offsets": [int(first), int(last)]} if 0 <= first <= last:
            return first, last
    raise _broken(path, f"its header gives {name!r} no place")


def _shape(path: Path, name: str, entry: Any) -> tuple[int, ...]:
    match entry:
        case {"shape": list(shape)} if len(shape) <= AXES and all(type(n) is int and 0 <= n < 2**40 for n in shape):
            return tuple(shape)
    raise _broken(path, f"its header gives {name!r} no shape")


def _dtype(path: Path, name: str, entry: Any) -> np.dtype:
    kind = entry.get("dtype")
    if not isinstance(kind, str) or kind not in _TYPES:
        raise UserError(
            f"{path} holds {name[:80]!r} in numbers of type {str(kind)[:20]!r}; save it as one of {', '.join(_TYPES)}"
        )
    return np.dtype(_TYPES[kind])


def _broken(path: Path, why: str) -> UserError:
    return UserError(f"{path} is no whole .safetensors file: {why[:300]}; fetch it again")
