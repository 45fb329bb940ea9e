"""One table of rules between a torch state dict and Flax variables, read in both directions.

A rule pairs two names with the same placeholders and says how the array changes:

    Rule("blocks.{i}.conv.weight", "params/block_{i}/conv/kernel", CONVOLUTION_2D)                               (1)

A placeholder matches one part of a name (no dot, no slash). One that the Flax name lacks counts the layers of a scanned
stack: `Rule("layers.{i}.weight", "params/layers/kernel", LINEAR)` stacks them on a leading axis, in order. Nothing is
lost: every tensor must be used once or listed in `ignored` with a reason, every leaf filled once, every shape right;
otherwise one error lists all offenders. Names match whole, so a rule cannot catch a key by accident.
"""

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from vasa_jax.checkpoint import flatten, unflatten
from vasa_jax.errors import UserError

Tensors = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Transform:
    """How an array changes from torch to Flax, and back."""

    name: str
    to_flax: Callable[[np.ndarray], np.ndarray]
    to_torch: Callable[[np.ndarray], np.ndarray]


def _axes(name: str, *order: int) -> Transform:
    back = tuple(np.argsort(order))
    return Transform(name, lambda x: x.transpose(order), lambda x: x.transpose(back))


SAME = Transform("same", lambda x: x, lambda x: x)
LINEAR = _axes("linear", 1, 0)
"""(out, in) to (in, out)."""
CONVOLUTION_1D = _axes("convolution 1-D", 2, 1, 0)
"""(out, in, taps) to (taps, in, out)."""
CONVOLUTION_2D = _axes("convolution 2-D", 2, 3, 1, 0)
CONVOLUTION_3D = _axes("convolution 3-D", 2, 3, 4, 1, 0)


@dataclasses.dataclass(frozen=True)
class Rule:
    """Equation 1: a torch name, a Flax path (collection first, parts joined by slashes), a transform."""

    torch: str
    flax: str
    transform: Transform = SAME

    def __post_init__(self):
        missing = set(_placeholders(self.flax)) - set(_placeholders(self.torch))
        lost = set(_placeholders(self.torch)) - set(_placeholders(self.flax))
        if missing or len(lost) > 1:
            raise UserError(
                f"the rule {self.torch!r} -> {self.flax!r} must name the same placeholders on both sides, but for one "
                "that counts stacked layers"
            )

    @property
    def stacked(self) -> str | None:
        """The placeholder that counts stacked layers, if there is one."""
        lost = set(_placeholders(self.torch)) - set(_placeholders(self.flax))
        return lost.pop() if lost else None


@dataclasses.dataclass(frozen=True)
class Ignored:
    """Tensors that a network does not need, and why."""

    torch: str
    reason: str


def to_flax(tensors: Mapping[str, np.ndarray], rules: list[Rule], ignored: list[Ignored], shapes: Any) -> Any:
    """Flax variables from a state dict.

    Args:
        tensors: torch's names to arrays.
        rules: the network's table.
        ignored: what it leaves out.
        shapes: the tree of the network's variables (arrays or `jax.ShapeDtypeStruct`s), which the result must match.

    Returns:
        A nested dict of NumPy arrays with the dtypes of the tensors.

    Raises:
        UserError: one message with every tensor that no rule or several rules match, every leaf that is missing,
            filled twice or unknown, and every wrong shape.
    """
    wanted = {name: tuple(leaf.shape) for name, leaf in flatten(shapes).items()}
    wrong: list[str] = []
    found: dict[str, list[tuple[int, str, Rule]]] = {}
    for key in tensors:
        matches = [(rule, match) for rule in rules if (match := _pattern(rule.torch).fullmatch(key))]
        skipped = [entry for entry in ignored if _pattern(entry.torch).fullmatch(key)]
        if len(matches) + len(skipped) != 1:
            wrong.append(f"{key}: " + (f"{len(matches) + len(skipped)} rules" if matches or skipped else "no rule"))
        for rule, match in matches[:1]:
            counted = rule.stacked
            layer = match.group(counted) if counted else "0"
            if not layer.isdigit():
                wrong.append(f"{key}: {layer!r} does not count a layer")
                continue
            found.setdefault(rule.flax.format(**match.groupdict()), []).append((int(layer), key, rule))
    result: Tensors = {}
    for path, parts in found.items():
        parts.sort(key=lambda part: part[0])
        keys = [key for _, key, _ in parts]
        counted = parts[0][2].stacked
        if path not in wanted:
            wrong.append(f"{path}: no such leaf (from {', '.join(keys)})")
            continue
        if [layer for layer, _, _ in parts] != list(range(len(parts))) or (not counted and len(parts) > 1):
            wrong.append(f"{path}: filled by {', '.join(keys)}")
            continue
        try:
            arrays = [rule.transform.to_flax(np.asarray(tensors[key])) for _, key, rule in parts]
            result[path] = np.ascontiguousarray(np.stack(arrays) if counted else arrays[0])
        except ValueError as error:
            wrong.append(f"{path}: {', '.join(keys)}: {error}")
            continue
        if result[path].shape != wanted[path]:
            wrong.append(f"{path}: shape {result[path].shape} from {', '.join(keys)}, not {wanted[path]}")
    wrong += [f"{path}: no tensor fills it" for path in wanted if path not in found]
    _complain(wrong)
    return unflatten(result)


def to_torch(variables: Any, rules: list[Rule]) -> Tensors:
    """A state dict from Flax variables; what `to_flax` ignored is not in it.

    Raises:
        UserError: one message with every leaf that no rule or several rules match.
    """
    wrong: list[str] = []
    result: Tensors = {}
    for path, leaf in flatten(variables).items():
        matches = [(rule, match) for rule in rules if (match := _pattern(rule.flax).fullmatch(path))]
        if len(matches) != 1:
            wrong.append(f"{path}: " + (f"{len(matches)} rules" if matches else "no rule"))
            continue
        rule, match = matches[0]
        leaf, counted = np.asarray(leaf), rule.stacked
        for layer, part in enumerate(leaf if counted else [leaf]):
            names = match.groupdict() | ({counted: str(layer)} if counted else {})
            key = rule.torch.format(**names)
            if key in result:
                wrong.append(f"{key}: written twice")
            result[key] = np.ascontiguousarray(rule.transform.to_torch(part))
    _complain(wrong)
    return result


def _placeholders(name: str) -> list[str]:
    return re.findall(r"{(\w+)}", name)


def _pattern(name: str) -> re.Pattern:
    """The whole-name pattern of a template; a placeholder that comes twice must match the same part."""
    parts, seen = [], set()
    for literal, placeholder in re.findall(r"([^{}]+)|{(\w+)}", name):
        if literal:
            parts.append(re.escape(literal))
        elif placeholder in seen:
            parts.append(f"(?P={placeholder})")
        else:
            seen.add(placeholder)
            parts.append(rf"(?P<{placeholder}>[^./]+)")
    return re.compile("".join(parts))


def _complain(wrong: list[str]) -> None:
    if wrong:
        raise UserError(f"the tables do not fit, {len(wrong)} places: " + "; ".join(sorted(wrong)))
