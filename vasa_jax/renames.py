"""What parameters were once called: one table, by which old releases and runs are read.

Releases of format 2, and runs of that time, hold every block of a network by itself (`decoder/block_3/conv_0/kernel`);
now equal blocks in a row are a stack (`decoder/blocks/conv_0/kernel`, whose leading axis counts the blocks). The
numbers are the same, so an old release computes what it did.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

TABLE: tuple[tuple[str, str], ...] = (
    (r"decoder/block_(?P<place>\d+)", r"decoder/blocks"),
    (r"appearance/volume_block_(?P<place>\d+)", r"appearance/volume_blocks"),
    (r"(?P<stage>resnet/stage_\d+)_block_0", r"\g<stage>_first"),
    (r"(?P<stage>resnet/stage_\d+)_block_(?P<place>\d+)", r"\g<stage>_rest"),
)
"""Part of an old name, and of the new one; the first that matches decides. Where the old one has a `place`, arrays are
stacked by it on a new leading axis."""


def is_old(names: Iterable[str]) -> bool:
    """Whether any of these names, keys joined by "/", is one of the table's old ones."""
    return any(_entry(name) is not None for name in names)


def renewed(leaves: Mapping[str, Any]) -> dict[str, Any]:
    """Arrays by their present names, from arrays by names of any time, keys joined by "/"."""
    result: dict[str, Any] = {}
    stacks: dict[str, list[tuple[int, Any]]] = {}
    for name, leaf in leaves.items():
        entry = _entry(name)
        if entry is None:
            result[name] = leaf
            continue
        found, new = entry
        place = found.groupdict().get("place")
        new = f"{name[: found.start()]}{found.expand(new)}{name[found.end() :]}"
        if place is None:
            result[new] = leaf
        else:
            stacks.setdefault(new, []).append((int(place), leaf))
    for name, parts in stacks.items():
        result[name] = np.stack([leaf for _, leaf in sorted(parts, key=lambda part: part[0])])
    return result


def _entry(name: str) -> tuple[re.Match, str] | None:
    """Where the table finds an old name, and the new part."""
    for old, new in TABLE:
        found = re.search(rf"(?<![^/]){old}(?=/)", name)
        if found:
            return found, new
    return None
