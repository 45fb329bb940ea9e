"""Two formats on disk: the bundle a run resumes from, and the release that anyone loads.

* A **bundle** is one Orbax step folder with two items, the train state and the config as JSON; the number of its step
  is also the position in the data. It is written asynchronously to a temporary folder and renamed when complete, so a
  half-written bundle is never seen; the last `keep` stay.
* A **release** is a folder that needs no Orbax: `config.json`, one `NAME.safetensors` per named tree of tensors (keys
  of the tree joined by "/"), and `model_card.md`. Nothing in it is executed. It is the format of the weights that
  come with the package.
"""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from safetensors.numpy import load_file, save_file

DTYPES = {"bfloat16": jnp.bfloat16, "float32": jnp.float32}
"""What floating-point tensors of a release may be stored as."""


class Release(NamedTuple):
    """What a release folder holds.

    config: the content of `config.json`.
    tensors: name of the file (without suffix) to a nested dictionary of arrays; floating-point ones are float32,
        whatever was stored.
    card: the text of `model_card.md`.
    """

    config: dict[str, Any]
    tensors: dict[str, Any]
    card: str


def flatten(tree: Any) -> dict[str, Any]:
    """The leaves of a tree of dictionaries, lists and NamedTuples, by their keys joined by "/", in the order of JAX.

    Raises ValueError for a dictionary key that itself contains "/", since it could not be undone.
    """
    leaves = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        parts = [jax.tree_util.keystr((part,), simple=True) for part in path]
        if any("/" in part for part in parts):
            raise ValueError(
                f"a tree with the key {parts!r} cannot be flattened: keys are joined by '/'; rename the module"
            )
        leaves["/".join(parts)] = leaf
    return leaves


def unflatten(leaves: Mapping[str, Any]) -> dict[str, Any]:
    """Nested dictionaries from keys joined by "/"; the inverse of `flatten` for trees of dictionaries."""
    tree: dict[str, Any] = {}
    for path, leaf in leaves.items():
        *parents, last = path.split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = leaf
    return tree


def write_tensors(path: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Write a .safetensors file, readable by everyone; it appears under its name when it is whole, or not at all."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        save_file({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}, fresh)
        fresh.chmod(0o644)  # the library writes for the owner alone
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file, which appears under its name when it is whole, or not at all."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.write_text(text)
    fresh.replace(path)


def save_release(
    folder: str | Path,
    config: Mapping[str, Any],
    tensors: Mapping[str, Any],
    dtype: str,
    card: str,
    exact: tuple[str, ...] = ("statistics",),
) -> None:
    """Write a release folder; an existing release there is replaced as a whole, or not at all.

    Args:
        folder: where; its parents are made.
        config: JSON-compatible values.
        tensors: name to tree of arrays; one safetensors file each.
        dtype: "bfloat16" or "float32": what floating-point tensors are stored as.
        card: Markdown text of the model card.
        exact: names whose tensors stay float32 whatever `dtype` says (statistics of the motion codes need the digits).

    Raises:
        ValueError: for an unknown dtype, or where the folder exists and is no release.
    """
    if dtype not in DTYPES:
        raise ValueError(f"release dtype {dtype!r} is unknown; choose one of {', '.join(DTYPES)}")
    folder = Path(folder)
    if folder.exists() and not (folder / "config.json").is_file() and any(folder.iterdir()):
        raise ValueError(f"{folder} exists and is not a release; choose another folder or remove it")
    fresh = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    for name, tree in tensors.items():
        stored = DTYPES["float32" if name in exact else dtype]
        leaves = {key: _storable(leaf, stored) for key, leaf in flatten(tree).items()}
        write_tensors(fresh / f"{name}.safetensors", leaves)
    (fresh / "config.json").write_text(json.dumps(dict(config), indent=2) + "\n")
    (fresh / "model_card.md").write_text(card)
    shutil.rmtree(folder, ignore_errors=True)
    fresh.rename(folder)


def load_release(folder: str | Path) -> Release:
    """Read a release folder; raises ValueError where it is none."""
    folder = Path(folder)
    if not (folder / "config.json").is_file():
        raise ValueError(
            f"{str(folder)!r} is not a release folder: it has no config.json; write one with vasa_jax.training.export"
        )
    tensors = {}
    for path in sorted(folder.glob("*.safetensors")):
        tensors[path.stem] = unflatten({key: _loaded(leaf) for key, leaf in load_file(path).items()})
    card = folder / "model_card.md"
    text = card.read_text() if card.is_file() else ""
    return Release(json.loads((folder / "config.json").read_text()), tensors, text)


def _storable(leaf: Any, dtype: Any) -> np.ndarray:
    leaf = np.asarray(leaf)
    return leaf.astype(dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf


def _loaded(leaf: np.ndarray) -> np.ndarray:
    return leaf.astype(np.float32) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf


class Bundles:
    """The bundles of one run, under `WORKDIR/checkpoints`; a context manager that waits for writes on leaving."""

    def __init__(self, workdir: str | Path, keep: int = 2, read_only: bool = False):
        """Open (and make) the folder; `keep` bundles stay. Left-overs of an interrupted write are removed, unless the
        folder is only read."""
        options = ocp.CheckpointManagerOptions(
            max_to_keep=None if read_only else keep,
            cleanup_tmp_directories=not read_only,
            create=not read_only,
            read_only=read_only,
        )
        handlers = {"state": ocp.StandardCheckpointHandler(), "config": ocp.JsonCheckpointHandler()}
        folder = Path(workdir).absolute() / "checkpoints"
        self._manager = ocp.CheckpointManager(folder, item_handlers=handlers, options=options)

    def __enter__(self) -> "Bundles":
        return self

    def __exit__(self, *exception: object) -> None:
        self._manager.close()

    def latest(self) -> int | None:
        """The step of the newest complete bundle, or None."""
        return self._manager.latest_step()

    def has(self, step: int) -> bool:
        """Whether there is a complete bundle of this step."""
        return step in self._manager.all_steps()

    def save(self, step: int, state: Any, config: Mapping[str, Any]) -> None:
        """Start writing a bundle; the arrays are copied before this returns, so that the next step may reuse them. All
        processes call this together."""
        items = ocp.args.Composite(state=ocp.args.StandardSave(state), config=ocp.args.JsonSave(dict(config)))
        self._manager.save(step, args=items, force=True)

    def config(self, step: int) -> dict[str, Any]:
        """The config saved with the bundle of `step`."""
        return self._manager.restore(step, args=ocp.args.Composite(config=ocp.args.JsonRestore()))["config"]

    def restore(self, step: int, state: Any = None) -> Any:
        """The state of the bundle of `step`.

        Args:
            step: of a bundle that is there.
            state: gives structure, shapes and shardings; None restores nested dictionaries by field name.

        Raises:
            ValueError: where the bundle holds arrays of other names or shapes, naming one.
        """
        if state is None:
            return self._manager.restore(step, args=ocp.args.Composite(state=ocp.args.StandardRestore()))["state"]
        there = flatten(self._manager.item_metadata(step)["state"])
        saved = {name: tuple(leaf.shape) for name, leaf in there.items()}
        wanted = {name: tuple(leaf.shape) for name, leaf in flatten(state).items()}
        for name in sorted(saved.keys() | wanted.keys()):
            if saved.get(name) != wanted.get(name):
                raise ValueError(
                    f"the checkpoint of step {step} has {name} {saved.get(name, 'missing')}, this run "
                    f"{wanted.get(name, 'missing')}; choose another --workdir"
                )
        return self._manager.restore(step, args=ocp.args.Composite(state=ocp.args.StandardRestore(state)))["state"]


def read_bundle(workdir: str | Path) -> tuple[int, dict[str, Any], dict[str, Any]]:
    """Read a run's newest bundle as NumPy arrays, whatever wrote it.

    Returns:
        (step, config, state), the state as nested dictionaries by field name (`params`, `ema`, `constants`, ...).

    Raises:
        ValueError: where the folder holds no complete bundle.
    """
    folder = Path(workdir).absolute() / "checkpoints"
    if not folder.is_dir():
        raise ValueError(
            f"{str(workdir)!r} holds no run: it has no checkpoints; train it first with train.py --workdir"
        )
    with Bundles(workdir, read_only=True) as bundles:
        step = bundles.latest()
        if step is None:
            raise ValueError(f"{str(workdir)!r} holds no complete checkpoint yet; wait for the first or train longer")
        return step, bundles.config(step), jax.tree.map(np.asarray, bundles.restore(step))
