"""Names as the network has them, where a checkpoint puts something before all of them.

`torch.compile`, wrappers for many devices and trainers keep a network as a part of something: of a module `_orig_mod`,
`module`, `model`, ... Such a beginning is taken off where all names share it and more of the network's tensors are
found without it. What is not known by name is not guessed at: `hint` says it, for the complaint.
"""

import os
from collections.abc import Callable, Iterable, Mapping

import numpy as np

from vasa_jax.convert.rules import Tensors

WRAPPERS = (
    "_orig_mod",
    "module",
    "_forward_module",
    "_fsdp_wrapped_module",
    "_fpw_module",
    "_checkpoint_wrapped_module",
    "_dp_module",
)
"""Parts of a name that compilers and wrappers of modules put in, at the front or further inside."""
OWNERS = (
    "model",
    "net",
    "network",
    "generator",
    "netG",
    "G",
    "g_ema",
    "ema",
    "ema_model",
    "model_ema",
    "backbone",
    "student",
    "teacher",
    "state_dict",
)
"""What trainers and models around a network call it: first parts of names."""

Fit = Callable[[Mapping[str, np.ndarray]], int]
"""How many of a network's tensors a checkpoint has."""


def without_prefix(tensors: Mapping[str, np.ndarray], fit: Fit, owners: Iterable[str] = ()) -> Tensors:
    """The tensors under the names that fit best.

    Args:
        tensors: names to arrays.
        fit: counts the tensors that the network knows.
        owners: further first parts that may be taken off, beside `OWNERS`.

    Returns:
        The tensors; under their own names where no other names fit better.
    """
    known = {*WRAPPERS, *OWNERS, *owners}
    best = current = dict(tensors)
    candidates = [_unwrapped(current)]
    while (first := shared(current).partition(".")[0]) in known and first:
        current = {name.partition(".")[2]: tensor for name, tensor in current.items()}
        candidates += [current, _unwrapped(current)]
    most = None
    for candidate in candidates:
        if candidate.keys() != best.keys() and len(candidate) == len(tensors):
            most = fit(best) if most is None else most
            if (found := fit(candidate)) > most:
                best, most = candidate, found
    return best


def hint(tensors: Mapping[str, np.ndarray], fit: Fit) -> str:
    """What to say of a beginning that all names share and that is not known: "" where none would help."""
    before = shared(tensors)
    parts = before.split(".")[:-1]
    have = fit(tensors) if parts else 0
    for count in range(1, len(parts) + 1):
        prefix = "".join(f"{part}." for part in parts[:count])
        if fit({name.removeprefix(prefix): tensor for name, tensor in tensors.items()}) > have:
            return f"all names begin with {prefix[:80]!r}, without which they would fit better: take it off; "
    return ""


def shared(tensors: Mapping[str, np.ndarray]) -> str:
    """The whole parts of names, dots included, that all begin with; none of them becomes empty without it."""
    common = os.path.commonprefix(list(tensors))
    return common[: common.rfind(".") + 1] if tensors else ""


def _unwrapped(tensors: Tensors) -> Tensors:
    """Without the parts of `WRAPPERS`, wherever they are; as it was where two names would become one."""
    bare = {".".join(p for p in name.split(".") if p not in WRAPPERS): tensor for name, tensor in tensors.items()}
    return bare if len(bare) == len(tensors) and "" not in bare else tensors
