"""Which files a checkpoint is made of: the layouts in which hubs and libraries ship them.

A source is a file, an index that maps every tensor to a shard beside it, or a folder with one checkpoint. In a folder
the usual names come first (`USUAL`), safetensors before torch's format; what a trainer leaves beside the weights
(`optimizer.bin`, `training_args.bin`) is passed over for them. Otherwise a folder must hold one index, one file, or one
whole set of numbered shards (`NAME-00001-of-00002.bin`).
"""

import dataclasses
import json
import re
from collections.abc import Iterable
from pathlib import Path

from vasa_jax.convert.safetensors_file import unique
from vasa_jax.errors import UserError, reason, refusals
from vasa_jax.files import disguise

TORCH = (".bin", ".pt", ".pth", ".ckpt", ".model", ".tar", ".pkl")
"""How files in torch's format end."""
USUAL = (
    "model.safetensors.index.json",
    "diffusion_pytorch_model.safetensors.index.json",
    "model.safetensors",
    "diffusion_pytorch_model.safetensors",
    "pytorch_model.bin.index.json",
    "diffusion_pytorch_model.bin.index.json",
    "pytorch_model.bin",
    "diffusion_pytorch_model.bin",
)
"""What a folder is searched for first, in order."""
_INDEX = re.compile(r".+\.(safetensors|bin)\.index(\.\w+)?\.json")
_NUMBERED = re.compile(r"(.+)-(\d{1,6})-of-(\d{1,6})(\.\w+)")
_SHOWN = 5


@dataclasses.dataclass(frozen=True)
class Layout:
    """The files of a checkpoint.

    named: the file that stands for all, as messages name it.
    files: those with tensors, in order.
    places: name of a tensor to name of the file that must hold it; None where no index says.
    """

    named: Path
    files: tuple[Path, ...]
    places: dict[str, str] | None = None

    def paths(self) -> list[Path]:
        """Every file that is read."""
        return sorted({self.named, *self.files})


def find(path: str | Path) -> Layout:
    """The files of the checkpoint that a path names.

    Raises:
        UserError: where there is none, or more than one; an index that is none, or names files that are missing or lie
            elsewhere; numbered shards of which some are missing.
    """
    path = Path(path)
    with refusals("read", path):
        if path.is_dir():
            return _in_folder(path)
        if not path.exists():
            raise UserError(f"cannot read {path}: there is no such file; name a checkpoint or its folder")
        if not path.is_file():
            raise UserError(f"cannot read {path}: it is no file; name a checkpoint or its folder")
        return _indexed(path) if path.suffix == ".json" else Layout(path, (path,))


def _in_folder(folder: Path) -> Layout:
    names = sorted(entry.name for entry in folder.iterdir() if entry.is_file() and not entry.name.startswith("."))
    for name in USUAL:
        if name in names:
            return find(folder / name)
    indices = [name for name in names if _INDEX.fullmatch(name)]
    safe = [name for name in names if name.endswith(".safetensors")]
    torch = [name for name in names if name.endswith(TORCH)]
    for found in (indices, safe, torch):
        if len(found) == 1 and not _NUMBERED.fullmatch(found[0]):
            return find(folder / found[0])
        if found and found is not indices and (shards := _numbered(folder, found)):
            return shards
        if found:
            raise UserError(f"the folder {folder} holds {len(found)} checkpoints ({_some(found)}); name one")
    raise UserError(
        f"the folder {folder} holds no checkpoint (*.safetensors, *{', *'.join(TORCH)}, or an index of shards), but "
        f"{_some(names) or 'no file'}; name the checkpoint itself"
    )


def _numbered(folder: Path, names: list[str]) -> Layout | None:
    """The one set of numbered shards among the names, where all of them belong to it."""
    matches = [match for name in names if (match := _NUMBERED.fullmatch(name))]
    if len(matches) != len(names) or len({(m[1], m[3], m[4]) for m in matches}) != 1:
        return None
    stem, count, ending = matches[0][1], matches[0][3], matches[0][4]
    missing = sorted(set(range(1, int(count) + 1)) - {int(match[2]) for match in matches})
    if missing or len(names) != int(count):
        lacking = _some(f"{stem}-{i:0{len(count)}}-of-{count}{ending}" for i in missing)
        raise UserError(f"the folder {folder} holds {len(names)} of {int(count)} shards; fetch {lacking}")
    files = tuple(folder / name for name in names)
    return Layout(folder, files)


def _indexed(index: Path) -> Layout:
    try:
        text = index.read_text(encoding="utf-8")
        places = json.loads(text, object_pairs_hook=unique)["weight_map"]
    except (ValueError, RecursionError) as error:
        why = disguise(index)
        why = reason(error)[:200] if "JSON" in why else why or "it is no text"
        raise UserError(f"{index} is no index of shards: {why}") from None
    except (KeyError, TypeError):
        places = None
    if not isinstance(places, dict) or not places or not all(isinstance(shard, str) for shard in places.values()):
        raise UserError(f"{index} is no index of shards: it must map 'weight_map' to files")
    shards = sorted(set(places.values()))
    for shard in shards:
        if shard in ("", ".", "..") or Path(shard).name != shard or "\\" in shard or not shard.isprintable():
            raise UserError(f"{index} names the shard {shard[:100]!r}, which must be a file beside it")
    missing = [shard for shard in shards if not (index.parent / shard).is_file()]
    if missing:
        raise UserError(f"{index} names {len(missing)} shards that are not beside it; fetch {_some(missing)}")
    return Layout(index, tuple(index.parent / shard for shard in shards), places)


def _some(names: Iterable[str]) -> str:
    """The first few names, shortened, and how many more there are."""
    names = list(names)
    shown = ", ".join(name[:80] for name in names[:_SHOWN])
    return shown + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
