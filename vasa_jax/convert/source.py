"""Opens whatever a checkpoint is shipped as, and gives its tensors by name.

`layout` finds the files: one, an index with its shards, or a folder with either. Each is read by what it is and not by
what it is called: `.safetensors` (`safetensors_file`), or torch's `.pth`, `.pt`, `.bin`, `.model`, ... without torch
(`torch_file`). A file may wrap the tensors (`{"model": ...}`, `{"state_dict": ...}`).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vasa_jax.convert import layout
from vasa_jax.convert.rules import Tensors
from vasa_jax.convert.safetensors_file import is_safetensors, read_safetensors
from vasa_jax.convert.torch_file import read_torch_file
from vasa_jax.errors import UserError

_WRAPPERS = ("state_dict", "model", "module", "net", "generator")


def source_files(path: str | Path) -> list[Path]:
    """Every file that `read_tensors` reads. Raises UserError as it does."""
    return layout.find(path).paths()


def read_tensors(path: str | Path, inside: str | None = None) -> Tensors:
    """The tensors of a checkpoint, by the names in it.

    Args:
        path: a file, an index of shards, or a folder with one checkpoint, as `layout` says.
        inside: where the tensors lie in a file that holds more than them; a file of the tensors alone is taken too.

    Raises:
        UserError: a file that cannot be read or is broken, shards that do not fit their index, a file that holds no
            tensors where they should be, or complex ones; the message says which.
    """
    found = layout.find(path)
    if len(found.files) == 1 and not found.places:
        return _read(found.named, inside)
    tensors: Tensors = {}
    holders: dict[str, Path] = {}
    for shard in found.files:
        for name, tensor in _read(shard, inside).items():
            if name in tensors:
                raise UserError(f"{holders[name]} and {shard.name} both hold {name[:80]!r}; fetch the checkpoint again")
            if found.places is not None and found.places.get(name) != shard.name:
                raise UserError(f"{shard} holds {name[:80]!r}, which {found.named} does not expect there")
            tensors[name], holders[name] = tensor, shard
    missing = sorted((found.places or {}).keys() - tensors.keys())
    if missing:
        names = ", ".join(name[:80] for name in missing[:5])
        raise UserError(f"the shards of {found.named} lack {len(missing)} tensors: {names}")
    return tensors


def _read(path: Path, inside: str | None) -> Tensors:
    if is_safetensors(path) or path.suffix == ".safetensors":
        content: Any = read_safetensors(path)
    else:
        content = read_torch_file(path)
    tensors = _unwrapped(content, path, inside)
    for name, tensor in tensors.items():
        if tensor.dtype.kind == "c":
            raise UserError(f"{path} holds complex numbers ({name[:80]!r}: {tensor.dtype}), which no network here has")
    return tensors


def _unwrapped(content: Any, path: Path, inside: str | None) -> Tensors:
    wrappers = _WRAPPERS if inside is None else (inside, *_WRAPPERS)
    while isinstance(content, Mapping):
        wrapper = next((name for name in wrappers if isinstance(content.get(name), Mapping)), None)
        if wrapper is None:
            break
        content = content[wrapper]
    if not isinstance(content, Mapping) or not content:
        raise UserError(f"{path} holds no tensors by name")
    other = [str(name) for name, value in content.items() if not isinstance(value, np.ndarray)]
    if other:
        where = f"; the network's lie in {inside!r}" if inside else ""
        raise UserError(f"{path} holds more than tensors ({', '.join(name[:80] for name in other[:5])}){where}")
    return {str(name): tensor for name, tensor in content.items()}
