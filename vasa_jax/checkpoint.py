"""A release: a model on disk that anyone loads.

It is a folder that needs no Orbax: `config.json`, one `NAME.safetensors` per named tree of tensors (keys of the tree
joined by "/"), and `model_card.md`. `config.json` says the `kind` of model, the `format`, and name and shape of every
tensor, so that loading traces no network. `manifest.json` has the SHA-256 of all these files, which loading compares,
and of each tensor, which tells what changed. Nothing in it is executed. It is the format of the weights that come with
the package. What a run resumes from is another format, see `vasa_jax.training.bundles`.
"""

import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from vasa_jax.errors import UserError, reason, refusals
from vasa_jax.files import (
    check_folder,
    check_local,
    disguise,
    file_digest,
    read_json,
    whole_file,
    whole_folder,
    write_text,
)
from vasa_jax.renames import renewed

DTYPES = {"bfloat16": jnp.bfloat16, "float32": jnp.float32}
"""What floating-point tensors of a release may be stored as."""
BUNDLED = Path(__file__).parent / "models"
"""Where the releases that come with the package are."""
FORMAT = 4
"""Of the releases that this version writes."""
READ = (2, 3, FORMAT)
"""Those that it reads; parameters of format 2 are renamed by `renames`, a manifest is expected from format 4 on."""
MANIFEST = "manifest.json"
"""The file of a release that has the SHA-256 of all others."""
CARD = "model_card.md"


class Release(NamedTuple):
    """What a release folder holds.

    config: the content of `config.json`.
    tensors: name of the file (without suffix) to a nested dictionary of arrays by their present names (`renames`);
        floating-point ones are float32, whatever was stored.
    card: the text of `model_card.md`.
    sha256: of `manifest.json`, and so of the whole release; of what the manifest would be where there is none.
    """

    config: dict[str, Any]
    tensors: dict[str, Any]
    card: str
    sha256: str


def flatten(tree: Any) -> dict[str, Any]:
    """The leaves of a tree of dictionaries, lists and NamedTuples, by their keys joined by "/", in the order of JAX.

    Raises UserError for a dictionary key that itself contains "/", since it could not be undone.
    """
    leaves = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        parts = [jax.tree_util.keystr((part,), simple=True) for part in path]
        if any("/" in part for part in parts):
            raise UserError(
                f"a tree with the key {parts!r} cannot be flattened: keys are joined by '/'; rename the module"
            )
        leaves["/".join(parts)] = leaf
    return leaves


def unflatten(leaves: Mapping[str, Any]) -> dict[str, Any]:
    """Nested dictionaries from keys joined by "/"; the inverse of `flatten` for trees of dictionaries.

    Raises UserError for a key that goes on where another ends.
    """
    tree: dict[str, Any] = {}
    for path, leaf in leaves.items():
        *parents, last = path.split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
            if not isinstance(node, dict):
                break
        if not isinstance(node, dict) or last in node:
            raise UserError(f"the tensor {path!r} lies inside of another; rename it")
        node[last] = leaf
    return tree


def digest(tree: Any) -> str:
    """SHA-256 over the names, types, shapes and bytes of all leaves, in hexadecimal: equal exactly if the trees are."""
    total = hashlib.sha256()
    for name, leaf in sorted(flatten(jax.device_get(tree)).items()):
        leaf = np.asarray(leaf)
        total.update(f"{name} {leaf.dtype.name} {leaf.shape}\n".encode())
        total.update(np.ascontiguousarray(leaf).tobytes())
    return total.hexdigest()


def write_tensors(path: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Write a .safetensors file, whole or not at all. Raises UserError where the system refuses."""
    with whole_file(path, SafetensorError) as hidden:
        save_file({name: np.asarray(tensor, order="C") for name, tensor in tensors.items()}, hidden)


def read_tensor_file(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a .safetensors file by name; raises UserError for a file that is none, or not whole."""
    if not path.is_file():
        raise UserError(f"{str(path.parent)!r} has no {path.name}; fetch the release again")
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        advice = disguise(path) or f"it is damaged or not whole ({reason(error)}): fetch it again"
        raise UserError(f"{path} holds no weights; {advice}") from error


def is_release(folder: str | Path) -> bool:
    """Whether a folder is a release, and nothing else is in it: only then may another release replace it."""
    folder = Path(folder)
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        names = {path.name for path in folder.iterdir() if path.suffix != ".safetensors"}
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(config, dict) and "format" in config and names <= {"config.json", CARD, MANIFEST}


def is_run(folder: str | Path) -> bool:
    """Whether a folder is the workdir of a run."""
    return (Path(folder) / "checkpoints").is_dir()


def check_release_target(folder: str | Path) -> None:
    """Refuse a target that is there and may not be replaced, before any work.

    Raises:
        UserError: where the folder exists, holds something, and is no release; where it lies in a training run; or
            where it could not be made.
    """
    folder = check_local("the release", folder)
    check_folder(folder.absolute().parent)
    for above in folder.resolve().parents:
        if is_run(above):
            raise UserError(f"{folder} lies in the training run {above}; choose another folder")
    with refusals("read", folder):
        if folder.is_dir() and (is_release(folder) or not any(folder.iterdir())):
            return
        if folder.exists() or folder.is_symlink():
            raise UserError(f"{folder} exists and is not a release; choose another folder or remove it")


def save_release(
    folder: str | Path,
    kind: str,
    config: Mapping[str, Any],
    tensors: Mapping[str, Any],
    dtype: str,
    card: str,
    exact: tuple[str, ...] = ("statistics",),
) -> None:
    """Write a release folder; an existing release there is replaced as a whole, or not at all.

    Args:
        folder: where; its parents are made.
        kind: of model, which says how to run it ("vasa").
        config: JSON-compatible values, without "kind", "format" and "tensors".
        tensors: name to tree of arrays; one safetensors file each.
        dtype: "bfloat16" or "float32": what floating-point tensors are stored as.
        card: Markdown text of the model card.
        exact: names whose tensors stay float32 whatever `dtype` says (statistics of the motion codes need the digits).

    Raises:
        UserError: for an unknown dtype, where the folder exists and is no release, or where the system refuses.
    """
    if dtype not in DTYPES:
        raise UserError(f"release dtype {dtype!r} is unknown; choose one of {', '.join(DTYPES)}")
    check_release_target(folder)
    leaves = {
        name: {
            key: _storable(leaf, DTYPES["float32" if name in exact else dtype]) for key, leaf in flatten(tree).items()
        }
        for name, tree in tensors.items()
    }
    shapes = {name: {key: list(leaf.shape) for key, leaf in stored.items()} for name, stored in leaves.items()}
    content = {"kind": kind, "format": FORMAT, **config, "tensors": shapes}
    with whole_folder(folder) as fresh:
        for name, stored in leaves.items():
            write_tensors(fresh / f"{name}.safetensors", stored)
        write_text(fresh / "config.json", json.dumps(content, indent=2) + "\n")
        write_text(fresh / CARD, card)
        write_manifest(fresh)


def write_manifest(folder: Path) -> None:
    """Write `manifest.json` of the release in a folder, for what its files hold now. Raises UserError."""
    write_text(folder / MANIFEST, _manifest(folder))


def bundled_releases(kind: str = "") -> dict[str, Path]:
    """The releases that come with the package, of a kind or of all: their names and folders."""
    folders = [path.parent for path in sorted(BUNDLED.glob("*/config.json"))]
    return {folder.name: folder for folder in folders if not kind or read_config(folder)["kind"] == kind}


def read_config(folder: Path) -> dict[str, Any]:
    """The content of a release's `config.json`, with "kind", "format" and "tensors".

    Raises:
        UserError: where the folder is no release, or one of another format.
    """
    written = folder / "config.json"
    if not written.is_file():
        raise UserError(
            f"{str(folder)!r} is not a release folder: it has no config.json; write one with vasa_jax.training.export, "
            f"or name a bundled one: {', '.join(bundled_releases())}"
        )
    try:
        with refusals("read", written):
            config = json.loads(written.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{written} is no JSON ({reason(error)}); fetch the release again") from error
    there = config.get("format") if isinstance(config, dict) else None
    if there not in READ or not isinstance(config.get("tensors"), dict):
        known = " or ".join(map(str, READ))
        raise UserError(
            f"{written} is not of a release of format {known} ({there!r}); export the run again with this version"
        )
    if not isinstance(config.get("kind"), str):
        raise UserError(f"{written} says no kind of model; fetch the release again")
    for name, shapes in config["tensors"].items():
        if not re.fullmatch(r"\w[\w-]*", name) or not isinstance(shapes, dict):
            raise UserError(f"{written} lists no tensors of a file that could be called {name!r}; fetch it again")
    return config


def load_release(folder: str | os.PathLike) -> Release:
    """Read a release folder, or one that comes with the package, by its name ("demo").

    Raises:
        UserError: where it is none, of another format, damaged, where its files hold other tensors than its config.json
            lists, or where a file is not the one of which its manifest.json has the SHA-256.
    """
    folder = bundled_releases().get(str(folder), check_local("the release", folder))
    config = read_config(folder)
    sha256 = _check_manifest(folder, config)
    tensors = {}
    for name, shapes in config["tensors"].items():
        path = folder / f"{name}.safetensors"
        leaves = read_tensor_file(path)
        there = {key: list(leaf.shape) for key, leaf in leaves.items()}
        if there != shapes:
            odd = next(key for key in [*shapes, *there] if shapes.get(key) != there.get(key))
            raise UserError(
                f"{path} has {odd} {there.get(odd, 'missing')}, its config.json {shapes.get(odd, 'none')}; fetch the "
                "release again"
            )
        tensors[name] = unflatten(renewed({key: _loaded(leaf) for key, leaf in leaves.items()}))
    card = folder / CARD
    text = card.read_text(encoding="utf-8", errors="replace") if card.is_file() else ""
    return Release(config, tensors, text, sha256)


def _files(folder: Path, config: Mapping[str, Any]) -> list[str]:
    """The names of a release's files, but for its manifest."""
    names = ["config.json", *(f"{name}.safetensors" for name in config["tensors"])]
    return [*names, *(CARD for _ in range((folder / CARD).is_file()))]


def _manifest(folder: Path) -> str:
    config = read_config(folder)
    files = {name: file_digest(folder / name) for name in _files(folder, config)}
    tensors = {name: _digests(folder / f"{name}.safetensors") for name in config["tensors"]}
    return json.dumps({"sha256": files, "tensors": tensors}, indent=1) + "\n"


def _digests(path: Path) -> dict[str, str]:
    """What tells the tensors of a file apart from others of their names: 16 digits, as the file's own digest guards."""
    return {key: digest({"": leaf})[:16] for key, leaf in read_tensor_file(path).items()}


def _check_manifest(folder: Path, config: Mapping[str, Any]) -> str:
    """Compare a release with its manifest and give its SHA-256. Raises UserError naming what changed."""
    path = folder / MANIFEST
    if not path.is_file():
        if config["format"] >= 4:
            raise UserError(f"{str(folder)!r} has no {MANIFEST}, which its format demands; fetch the release again")
        return hashlib.sha256(
            json.dumps([file_digest(folder / name) for name in _files(folder, config)]).encode()
        ).hexdigest()
    manifest = read_json(path)
    listed, tensors = manifest.get("sha256"), manifest.get("tensors")
    if not isinstance(listed, dict) or not isinstance(tensors, dict):
        raise UserError(f"{path} is no manifest of a release; fetch the release again")
    for name in dict.fromkeys([*_files(folder, config), *listed]):
        file = folder / name
        if os.path.basename(name) != name or not file.is_file():
            raise UserError(f"{str(folder)!r} has no {name}, which its {MANIFEST} lists; fetch the release again")
        if file_digest(file) == listed.get(name):
            continue
        changed = file.name
        if file.suffix == ".safetensors":
            there, noted = _digests(file), tensors.get(file.stem)
            then = noted if isinstance(noted, dict) else {}
            if odd := [key for key in [*then, *there] if there.get(key) != then.get(key)]:
                changed = f"tensor {odd[0]} of {file.name}"
        raise UserError(
            f"{changed} in {str(folder)!r} is not what its {MANIFEST} says: it was changed or damaged; "
            "fetch the release again"
        )
    return file_digest(path)


def _storable(leaf: Any, dtype: Any) -> np.ndarray:
    leaf = np.asarray(leaf)
    return leaf.astype(dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf


def _loaded(leaf: np.ndarray) -> np.ndarray:
    return leaf.astype(np.float32) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf
