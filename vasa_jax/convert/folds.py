"""What torch stores oddly, folded into plain tensors before the rules, and unfolded behind them.

* Spectral norm (Miyato et al. 2018, as torch's hook stores it): the weight is orig / sigma with
  sigma = u . (orig as a matrix) v and the *stored* u and v.
* Weight norm (Salimans and Kingma 2016): the weight is g v / |v|, in the old spelling (`weight_g`, `weight_v`) or the
  new one (`parametrizations.weight.original0`, `original1`).
* Packed attention: `in_proj_weight` and `in_proj_bias` hold queries, keys and values one after the other.
* Joined layers: two layers with the same input become one with both outputs.

Unfolding gives a checkpoint that the original loads strictly: other numbers where a fold lost some, the same effective
weights within rounding.
"""

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np

from vasa_jax.convert.rules import Tensors
from vasa_jax.errors import UserError

WEIGHT_NORM_SPELLINGS = {
    "old": ("weight_g", "weight_v"),
    "new": ("parametrizations.weight.original0", "parametrizations.weight.original1"),
}


@dataclasses.dataclass(frozen=True)
class Fold:
    """A fold of the modules whose torch names it lists; both functions change tensors in place, names by prefix."""

    modules: tuple[str, ...]
    do: Callable[[Tensors, str], None]
    undo: Callable[[Tensors, str], None]


def fold(tensors: Mapping[str, np.ndarray], folds: list[Fold]) -> Tensors:
    """A copy with every fold done; raises UserError where the shapes of what is folded do not fit together."""
    return _run(tensors, folds, lambda entry: entry.do)


def unfold(tensors: Mapping[str, np.ndarray], folds: list[Fold]) -> Tensors:
    """A copy with every fold undone, the last first."""
    return _run(tensors, folds[::-1], lambda entry: entry.undo)


def _take(tensors: Tensors, names: list[str]) -> list[np.ndarray] | None:
    """The named tensors, removed; None, and nothing removed, where one is missing: the accounting of rules names it."""
    if not all(name in tensors for name in names):
        return None
    return [tensors.pop(name) for name in names]


def _run(tensors: Mapping[str, np.ndarray], folds: list[Fold], which: Callable[[Fold], Callable]) -> Tensors:
    result = dict(tensors)
    for entry in folds:
        for module in entry.modules:
            try:
                which(entry)(result, f"{module}." if module else "")
            except (ValueError, TypeError) as error:
                if isinstance(error, UserError):
                    raise
                raise UserError(
                    f"what is stored of {module or 'the network'} does not fit together: {error}"
                ) from error
    return result


def spectral_norm(*modules: str) -> Fold:
    """`weight_orig`, `weight_u`, `weight_v` to `weight`."""
    stored = ("weight_orig", "weight_u", "weight_v")

    def do(tensors: Tensors, at: str) -> None:
        if found := _take(tensors, [at + name for name in stored]):
            original, u, v = found
            sigma = u.astype(np.float64) @ original.reshape(len(u), -1).astype(np.float64) @ v.astype(np.float64)
            exact = np.promote_types(original.dtype, np.float32)
            tensors[f"{at}weight"] = (original / sigma.astype(exact)).astype(original.dtype)

    def undo(tensors: Tensors, at: str) -> None:
        if found := _take(tensors, [f"{at}weight"]):
            (weight,) = found
            matrix = weight.reshape(len(weight), -1).astype(np.float64)
            if not matrix.any():
                raise UserError(f"{at}weight is zero, which has no spectral norm: the original cannot hold it")
            u = matrix.sum(1) if matrix.sum(1).any() else np.arange(1.0, len(matrix) + 1)
            for _ in range(20):  # towards the leading singular vectors, where training would go on from
                v = matrix.T @ u
                v = v / np.linalg.norm(v)
                u = matrix @ v
                u = u / (u @ u)  # u . W v = 1: the stored weight divided by its sigma is the weight itself
            tensors[f"{at}weight_orig"] = weight
            tensors[f"{at}weight_u"], tensors[f"{at}weight_v"] = u.astype(weight.dtype), v.astype(weight.dtype)

    return Fold(modules, do, undo)


def weight_norm(*modules: str, axis: int = 0, spelling: str = "old") -> Fold:
    """Length and direction to `weight`; `axis` is the one whose slices have a length each (torch's `dim`)."""
    written = WEIGHT_NORM_SPELLINGS[spelling]

    def norm(weight: np.ndarray) -> np.ndarray:
        """Rounded as it is stored, so that a direction divided by its own stored length is 1 exactly."""
        axes = tuple(i for i in range(weight.ndim) if i != axis)
        return np.sqrt(np.square(weight.astype(np.float64)).sum(axes, keepdims=True)).astype(weight.dtype)

    def do(tensors: Tensors, at: str) -> None:
        for names in WEIGHT_NORM_SPELLINGS.values():  # a checkpoint may be in either spelling
            if found := _take(tensors, [at + name for name in names]):
                length, direction = found
                scale = length.astype(np.float64) / norm(direction).astype(np.float64)
                tensors[f"{at}weight"] = (scale * direction).astype(direction.dtype)

    def undo(tensors: Tensors, at: str) -> None:
        if found := _take(tensors, [f"{at}weight"]):
            for name, value in zip(written, (norm(found[0]), found[0]), strict=True):
                tensors[at + name] = value

    return Fold(modules, do, undo)


def joined(parts: tuple[str, ...], whole: str, *modules: str) -> Fold:
    """Sibling layers of the same input, `parts`, to one layer `whole` with their outputs one after the other."""
    return _concatenated({f"{whole}.{kind}": [f"{part}.{kind}" for part in parts] for kind in _KINDS}, modules)


def packed_attention(*modules: str) -> Fold:
    """`in_proj_weight` and `in_proj_bias` to `query`, `key`, `value`, each with `weight` and `bias`."""
    parts = ("query", "key", "value")
    entry = _concatenated({f"in_proj_{kind}": [f"{part}.{kind}" for part in parts] for kind in _KINDS}, modules)
    return Fold(modules, entry.undo, entry.do)


_KINDS = ("weight", "bias")


def _concatenated(wholes: Mapping[str, list[str]], modules: tuple[str, ...]) -> Fold:
    """Several tensors to one, one after the other along the first axis, and back in equal parts."""

    def do(tensors: Tensors, at: str) -> None:
        for whole, parts in wholes.items():
            if found := _take(tensors, [at + part for part in parts]):
                tensors[at + whole] = np.concatenate(found)

    def undo(tensors: Tensors, at: str) -> None:
        for whole, parts in wholes.items():
            if found := _take(tensors, [at + whole]):
                pieces = np.split(found[0], len(parts))
                tensors |= {at + part: np.ascontiguousarray(x) for part, x in zip(parts, pieces, strict=True)}

    return Fold(modules, do, undo)
