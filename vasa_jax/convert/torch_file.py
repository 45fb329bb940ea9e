"""Reads checkpoints of torch and pickles of NumPy arrays, without torch and without running code from the file.

A pickle is a program: it names functions and calls them. Here every name is looked up in one table (`torch_names`),
whose entries only build arrays and plain containers; a file that names anything else is refused before anything runs.
Three containers are read:

* the zip format (`torch.save` since 1.6): `data.pkl` beside one file a storage;
* the legacy format: a row of pickles, then the storages, each after its length;
* a plain pickle of containers and NumPy arrays.
"""

import functools
import io
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from vasa_jax.convert.torch_names import STORAGES, Budget, Marker, Refused, allowed, look_up, plain, rebuilders
from vasa_jax.errors import UserError, reason, refusals
from vasa_jax.files import disguise

_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
_ZIP = b"PK\x03\x04"
_FREE = 256 << 20
"""Bytes that any file may become."""
_TIMES = 8
"""How many times the numbers of a larger one may be wanted; torch's share them."""
_PACKED = 100
"""How many times its size a larger one may become by unpacking; torch packs nothing."""


def read_torch_file(path: str | Path) -> Any:
    """Whatever the file holds: containers of NumPy arrays (bfloat16 and float8 as `ml_dtypes` has them), numbers and
    strings.

    `argparse.Namespace` becomes a dict, a `pathlib` path a `PurePosixPath`.

    Raises:
        UserError: a file that cannot be read or is broken, or one whose pickle names anything but arrays and plain
            containers; the message names it.
    """
    path = Path(path)
    with refusals("read", path):
        try:
            return plain(_read(path))
        except Refused as error:
            raise UserError(f"{path} is refused: {str(error)[:300]}") from None
        except OSError:
            raise
        except Exception as error:  # noqa: BLE001  (a broken pickle may fail in any way)
            kind = "" if isinstance(error, UserError | MemoryError) else f"{type(error).__name__}: "
            why = disguise(path) or f"{kind}{reason(error)[:200]}"
            raise UserError(f"{path} cannot be read as a torch file: {why}") from error


def _read(path: Path) -> Any:
    if zipfile.is_zipfile(path):
        return _read_zip(path)
    data = path.read_bytes()
    if data.startswith(_ZIP):
        raise UserError("a zip file that is cut short; fetch it again")
    return _read_legacy(data) if _is_legacy(data) else _reader(data, _no_storage).load()


Load = Callable[[str, str, int], np.ndarray]
"""The kind of a storage, its key and its count of numbers to the storage as a flat array."""


class _Reader(pickle.Unpickler):
    """An unpickler that knows the names in `allowed()` and no other."""

    def __init__(self, file: Any, load: Load, size: int):
        """`size`: bytes of the numbers in the file."""
        super().__init__(file, encoding="latin1")
        self.budget = Budget(_FREE + _TIMES * size)
        self._names = allowed(self.budget)
        self._storage = load

    def find_class(self, module: str, name: str) -> Any:
        """The table's entry; raises Refused for a name that is not in it."""
        return look_up(self._names, module, name)

    def persistent_load(self, pid: Any) -> Any:
        """A storage."""
        match pid:
            case ("storage", Marker(name=kind), key, _, count) | ("storage", Marker(name=kind), key, _, count, None):
                return self._storage(kind, str(key), int(count))
        raise Refused(f"its pickle refers to {pid!r}, which is no storage of its own")


def _reader(data: bytes, load: Load) -> _Reader:
    return _Reader(io.BytesIO(data), load, len(data))


def _no_storage(kind: str, key: str, count: int) -> np.ndarray:
    raise Refused("a plain pickle refers to a torch storage")


def _read_zip(path: Path) -> Any:
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        roots = [name[: -len("data.pkl")] for name in names if name.endswith("/data.pkl")]
        if len(roots) != 1:
            raise UserError("a zip file with no data.pkl, or several")
        root = roots[0]
        size = sum(entry.file_size for entry in archive.infolist())
        packed = sum(entry.compress_size for entry in archive.infolist())
        if size > _FREE + _PACKED * packed:
            raise Refused(f"its {packed} bytes unpack to {size}; torch packs nothing, so it is no checkpoint")
        order = archive.read(root + "byteorder").decode() if root + "byteorder" in names else "little"

        @functools.cache
        def storage(kind: str, key: str, count: int) -> np.ndarray:
            return _flat(archive.read(f"{root}data/{key}"), kind, count, order)

        with archive.open(root + "data.pkl") as file:
            return _Reader(file, storage, size).load()


def _is_legacy(data: bytes) -> bool:
    head = io.BytesIO(data)
    try:
        return _Reader(head, _no_storage, 0).load() == _MAGIC
    except Exception:  # noqa: BLE001  (any other file)
        return False


def _read_legacy(data: bytes) -> Any:
    file = io.BytesIO(data)
    plain = [_Reader(file, _no_storage, 0).load() for _ in range(3)]
    if plain[1] != _PROTOCOL or not isinstance(plain[2], dict):
        raise UserError(f"the legacy format of version {plain[1]!r}")
    begin = file.tell()
    found: dict[str, tuple[str, int]] = {}

    def note(kind: str, key: str, count: int) -> np.ndarray:
        found[key] = kind, count
        return np.zeros(0)

    # Storages lie behind the pickle that needs them: find them first, then read it again.
    first = _Reader(file, note, len(data))
    first._names = first._names | dict.fromkeys(rebuilders(first.budget), lambda *_: None)
    first.load()
    keys = _Reader(file, _no_storage, 0).load()
    order = "little" if plain[2].get("little_endian", True) else "big"
    storages = {}
    for key in keys:
        kind, count = found[str(key)]
        (stored,) = np.frombuffer(file.read(8), "<i8" if order == "little" else ">i8")
        if stored != count:
            raise UserError(f"the storage {key} holds {stored} numbers, not {count}")
        storages[str(key)] = _flat(file.read(count * np.dtype(STORAGES[kind]).itemsize), kind, count, order)
    file.seek(begin)
    return _Reader(file, lambda kind, key, count: storages[key], len(data)).load()


def _flat(data: bytes, kind: str, count: int, order: str) -> np.ndarray:
    dtype = np.dtype(STORAGES[kind])
    if len(data) < count * dtype.itemsize:
        raise UserError(f"a storage of {count} {kind} numbers holds only {len(data)} bytes")
    flat = np.frombuffer(data, dtype, count)
    return flat.byteswap() if order == "big" else flat
