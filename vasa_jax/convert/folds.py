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
    """A copy with every fold done."""
    return _run(tensors, folds, lambda entry: entry.do)


def unfold(tensors: Mapping[str, np.ndarray], folds: list[Fold]) -> Tensors:
    """A copy with every fold undone, the last first."""
    return _run(tensors, folds[::-1], lambda entry: entry.undo)


def _run(tensors: Mapping[str, np.ndarray], folds: list[Fold], which: Callable[[Fold], Callable]) -> Tensors:
    result = dict(tensors)
    for entry in folds:
        for module in entry.modules:
            which(entry)(result, f"{module}." if module else "")
    return result


def spectral_norm(*modules: str) -> Fold:
    """`weight_orig`, `weight_u`, `weight_v` to `weight`."""

    def do(tensors: Tensors, at: str) -> None:
        original, u, v = (tensors.pop(f"{at}weight_{part}") for part in ("orig", "u", "v"))
        sigma = u.astype(np.float64) @ original.reshape(len(u), -1).astype(np.float64) @ v.astype(np.float64)
        tensors[f"{at}weight"] = (original / sigma).astype(original.dtype)

    def undo(tensors: Tensors, at: str) -> None:
        weight = tensors.pop(f"{at}weight")
        matrix = weight.reshape(len(weight), -1).astype(np.float64)
        u = np.ones(len(weight))
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
    length_name, direction_name = WEIGHT_NORM_SPELLINGS[spelling]

    def norm(weight: np.ndarray) -> np.ndarray:
        axes = tuple(i for i in range(weight.ndim) if i != axis)
        return np.sqrt(np.square(weight.astype(np.float64)).sum(axes, keepdims=True))

    def do(tensors: Tensors, at: str) -> None:
        for names in WEIGHT_NORM_SPELLINGS.values():  # a checkpoint may be in either spelling
            if at + names[0] in tensors:
                length, direction = (tensors.pop(at + name) for name in names)
                tensors[f"{at}weight"] = (length * (direction / norm(direction))).astype(direction.dtype)

    def undo(tensors: Tensors, at: str) -> None:
        weight = tensors.pop(f"{at}weight")
        tensors[at + length_name], tensors[at + direction_name] = norm(weight).astype(weight.dtype), weight

    return Fold(modules, do, undo)


def joined(parts: tuple[str, ...], whole: str, *modules: str) -> Fold:
    """Sibling layers of the same input, `parts`, to one layer `whole` with their outputs one after the other."""

    def do(tensors: Tensors, at: str) -> None:
        for kind in ("weight", "bias"):
            tensors[f"{at}{whole}.{kind}"] = np.concatenate([tensors.pop(f"{at}{part}.{kind}") for part in parts])

    def undo(tensors: Tensors, at: str) -> None:
        for kind in ("weight", "bias"):
            split = np.split(tensors.pop(f"{at}{whole}.{kind}"), len(parts))
            tensors |= {f"{at}{part}.{kind}": np.ascontiguousarray(x) for part, x in zip(parts, split, strict=True)}

    return Fold(modules, do, undo)


def packed_attention(*modules: str) -> Fold:
    """`in_proj_weight` and `in_proj_bias` to `query`, `key`, `value`, each with `weight` and `bias`."""
    parts = ("query", "key", "value")

    def do(tensors: Tensors, at: str) -> None:
        for kind in ("weight", "bias"):
            for part, array in zip(parts, np.split(tensors.pop(f"{at}in_proj_{kind}"), 3), strict=True):
                tensors[f"{at}{part}.{kind}"] = array

    def undo(tensors: Tensors, at: str) -> None:
        for kind in ("weight", "bias"):
            tensors[f"{at}in_proj_{kind}"] = np.concatenate([tensors.pop(f"{at}{part}.{kind}") for part in parts])

    return Fold(modules, do, undo)
