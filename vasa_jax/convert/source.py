"""Opens whatever a checkpoint is shipped as, and gives its tensors by name.

* `.safetensors`, whole;
* `.safetensors` in shards, by their `*.safetensors.index.json`, or by the folder that holds one of either;
* torch's `.pth`, `.pt`, `.bin`, `.model`, ..., without torch (`torch_file`).

A file may wrap the tensors (`{"model": ...}`, `{"state_dict": ...}`), and training on many devices leaves `module.`
before every name.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from vasa_jax.convert.rules import Tensors
from vasa_jax.convert.torch_file import read_torch_file
from vasa_jax.errors import UserError

INDEX = "*.safetensors.index.json"
_WRAPPERS = ("state_dict", "model")
_PARALLEL = "module."


def read_tensors(path: str | Path, inside: str | None = None) -> Tensors:
    """The tensors of a checkpoint, by the names in it.

    Args:
        path: a file, or a folder with one `.safetensors` file or one index of shards.
        inside: where the tensors lie in a file that holds more than them; a file of the tensors alone is taken too.

    Raises:
        UserError: a broken file, shards that do not fit their index, or a file that holds no tensors where they
            should be; the message says which.
        OSError: a file that cannot be read.
    """
    path = _file(Path(path))
    if path.name.endswith(".index.json"):
        content: Any = _read_shards(path)
    elif path.suffix == ".safetensors":
        content = _read_safetensors(path)
    else:
        content = read_torch_file(path)
    tensors = _unwrapped(content, path, inside)
    if all(name.startswith(_PARALLEL) for name in tensors):
        tensors = {name.removeprefix(_PARALLEL): tensor for name, tensor in tensors.items()}
    return tensors


def _file(path: Path) -> Path:
    if not path.is_dir():
        return path
    for pattern in (INDEX, "*.safetensors"):
        found = sorted(path.glob(pattern))
        if len(found) == 1:
            return found[0]
        if found:
            raise UserError(f"the folder {str(path)!r} holds {len(found)} files {pattern}; name one")
    raise UserError(f"the folder {str(path)!r} holds no .safetensors file; name the checkpoint itself")


def _read_safetensors(path: Path) -> Tensors:
    if not path.is_file():
        raise UserError(f"{str(path)!r} is no file")
    try:
        return load_file(path)
    except SafetensorError as error:
        raise UserError(f"{str(path)!r} is no whole .safetensors file: {error}") from None


def _read_shards(index: Path) -> Tensors:
    try:
        places = json.loads(index.read_text())["weight_map"]
        shards = sorted(set(places.values()))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{str(index)!r} is no index of shards: it must map 'weight_map' to files") from None
    tensors: Tensors = {}
    for shard in shards:
        if Path(shard).name != shard:
            raise UserError(f"{str(index)!r} names the shard {shard!r}, which must lie beside it")
        for name, tensor in _read_safetensors(index.parent / shard).items():
            if places.get(name) != shard:
                raise UserError(f"{shard!r} holds {name!r}, which {str(index)!r} does not expect there")
            tensors[name] = tensor
    missing = sorted(set(places) - set(tensors))
    if missing:
        raise UserError(f"the shards of {str(index)!r} lack {len(missing)} tensors: {', '.join(missing[:5])}")
    return tensors


def _unwrapped(content: Any, path: Path, inside: str | None) -> Tensors:
    for wrapper in (inside, *_WRAPPERS):
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
            break
    if not isinstance(content, Mapping) or not content:
        raise UserError(f"{str(path)!r} holds no tensors by name")
    other = [name for name, value in content.items() if not isinstance(value, np.ndarray)]
    if other:
        where = f"; the network's lie in {inside!r}" if inside else ""
        raise UserError(f"{str(path)!r} holds more than tensors ({', '.join(map(str, other[:5]))}){where}")
    return dict(content)
