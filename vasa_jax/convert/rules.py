"""One table of rules between a torch state dict and Flax variables, read in both directions.

A rule pairs two names with the same placeholders and says how the array changes:

    Rule("blocks.{i}.conv.weight", "params/block_{i}/conv/kernel", CONVOLUTION_2D)                               (1)

A placeholder matches one part of a name (no dot, no slash). One that the Flax name lacks counts the layers of a scanned
stack: `Rule("layers.{i}.weight", "params/layers/kernel", LINEAR)` stacks them on a leading axis, in order, from the
layer that torch calls `first`; those before have rules of their own. Nothing is lost: every tensor must be used once or
listed in `ignored` with a reason, every leaf filled once, every shape right; otherwise one error counts all offenders
and names a few of each kind. Names match whole, so a rule cannot catch a key by accident.
"""

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from vasa_jax.checkpoint import flatten, unflatten
from vasa_jax.errors import UserError

Tensors = dict[str, np.ndarray]

NAMED = 3
"""How many offenders of a kind a message names."""
NAMED_CHARACTERS = 160
"""How much it says of each."""


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
    first: int = 0  # the number that torch gives the first layer of a stack

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

    def match(self, key: str) -> dict[str, str] | None:
        """What the placeholders stand for in a torch name; None for a name of another rule."""
        found = _pattern(self.torch).fullmatch(key)
        if found is None:
            return None
        parts, counted = found.groupdict(), self.stacked
        before = counted and parts[counted].isdigit() and int(parts[counted]) < self.first
        return None if before else parts


@dataclasses.dataclass(frozen=True)
class Ignored:
    """Tensors that a network does not need, and why."""

    torch: str
    reason: str


class Offenders:
    """What does not fit, by kind."""

    def __init__(self):
        self._kinds: dict[str, list[str]] = {}

    def add(self, name: str, kind: str, detail: str = "") -> None:
        """Note an offender: its kind, with a place for what differs from one to the next."""
        text = f"{name}: {kind.format(detail)}"
        cut = text if len(text) <= NAMED_CHARACTERS else f"{text[: NAMED_CHARACTERS - 4]} ..."
        self._kinds.setdefault(kind, []).append(cut)

    def complain(self) -> None:
        """Raise UserError where there is any."""
        count = sum(map(len, self._kinds.values()))
        if not count:
            return
        parts = []
        for texts in self._kinds.values():
            more = f" and {len(texts) - NAMED} more like it" if len(texts) > NAMED else ""
            parts.append("; ".join(sorted(texts)[:NAMED]) + more)
        raise UserError(f"the tables do not fit, {count} places: {'; '.join(parts)}")


def known(tensors: Mapping[str, np.ndarray], rules: list[Rule], shapes: Any) -> int:
    """How many tensors a rule leads to a leaf of the network."""
    wanted = flatten(shapes).keys()
    found = 0
    for key in tensors:
        matches = [rule.flax.format(**parts) for rule in rules if (parts := rule.match(key)) is not None]
        found += len(matches) == 1 and matches[0] in wanted
    return found


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
        UserError: one message of bounded length about tensors that no rule or several rules match, leaves that are
            missing, filled twice or unknown, and wrong shapes: how many there are, and a few of each kind.
    """
    wanted = {name: tuple(leaf.shape) for name, leaf in flatten(shapes).items()}
    wrong = Offenders()
    found: dict[str, list[tuple[int, str, Rule]]] = {}
    for key in tensors:
        matches = [(rule, parts) for rule in rules if (parts := rule.match(key)) is not None]
        skipped = [entry for entry in ignored if _pattern(entry.torch).fullmatch(key)]
        if len(matches) + len(skipped) != 1:
            wrong.add(key, f"{len(matches) + len(skipped)} rules" if matches or skipped else "no rule")
        for rule, parts in matches[:1]:
            counted = rule.stacked
            layer = parts[counted] if counted else str(rule.first)
            if not layer.isdigit():
                wrong.add(key, "{} does not count a layer", repr(layer))
                continue
            found.setdefault(rule.flax.format(**parts), []).append((int(layer) - rule.first, key, rule))
    result: Tensors = {}
    for path, parts in found.items():
        parts.sort(key=lambda part: part[0])
        keys = [key for _, key, _ in parts]
        counted = parts[0][2].stacked
        if path not in wanted:
            wrong.add(path, "no such leaf (from {})", ", ".join(keys))
            continue
        if [layer for layer, _, _ in parts] != list(range(len(parts))) or (not counted and len(parts) > 1):
            wrong.add(path, "filled by {}", ", ".join(keys))
            continue
        try:
            arrays = [rule.transform.to_flax(np.asarray(tensors[key])) for _, key, rule in parts]
            result[path] = np.ascontiguousarray(np.stack(arrays) if counted else arrays[0])
        except ValueError as error:
            wrong.add(path, "{}", f"{', '.join(keys)}: {error}")
            continue
        if result[path].shape != wanted[path]:
            wrong.add(path, "shape {}", f"{result[path].shape} from {', '.join(keys)}, not {wanted[path]}")
    for path in wanted.keys() - found.keys():
        wrong.add(path, "no tensor fills it")
    wrong.complain()
    return unflatten(result)


def to_torch(variables: Any, rules: list[Rule], shapes: Any = None) -> Tensors:
    """A state dict from Flax variables; what `to_flax` ignored is not in it.

    Args:
        variables: the tree of arrays.
        rules: the network's table.
        shapes: the tree that the variables must match; None takes them as they are.

    Raises:
        UserError: one message of bounded length about leaves that no rule or several rules match, or that are missing
            or of the wrong shape where `shapes` says what they must be.
    """
    wrong = Offenders()
    result: Tensors = {}
    leaves = flatten(variables)
    wanted = {} if shapes is None else {path: tuple(leaf.shape) for path, leaf in flatten(shapes).items()}
    for path, shape in wanted.items():
        if path not in leaves:
            wrong.add(path, "is missing")
        elif (there := tuple(np.shape(leaves[path]))) != shape:
            wrong.add(path, "shape {}", f"{there}, not {shape}")
    for path, leaf in leaves.items():
        matches = [(rule, match) for rule in rules if (match := _pattern(rule.flax).fullmatch(path))]
        if len(matches) != 1:
            wrong.add(path, f"{len(matches)} rules" if matches else "no rule")
            continue
        rule, match = matches[0]
        leaf, counted = np.asarray(leaf), rule.stacked
        for layer, part in enumerate(leaf if counted else [leaf], rule.first):
            names = match.groupdict() | ({counted: str(layer)} if counted else {})
            key = rule.torch.format(**names)
            if key in result:
                wrong.add(key, "written twice")
            result[key] = np.ascontiguousarray(rule.transform.to_torch(part))
    wrong.complain()
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
