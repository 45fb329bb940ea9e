"""Where a layer's kernel comes from when training splits it over devices.

Models know no mesh. A layer passes the kernel that it multiplies with through `gather`: standardised already, in the
compute dtype, inside the scan of a stack. Nothing happens to it there, unless the program is traced under
`gathered_by`, with a function that brings the parts of a kernel together for this one use
(`training.parallel`; Rajbhandari et al. 2020, ZeRO stage 3).
"""

import contextlib
import contextvars
from collections.abc import Callable, Iterator
from typing import Any

import flax.linen as nn
from flax.linen.dtypes import promote_dtype
from jaxtyping import Array, Float

Hook = Callable[[Array], Array]
_HOOK: contextvars.ContextVar[Hook] = contextvars.ContextVar("gather", default=lambda kernel: kernel)


def gather(kernel: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """The whole of a kernel, where a layer multiplies with it."""
    return _HOOK.get()(kernel)


@contextlib.contextmanager
def gathered_by(hook: Hook) -> Iterator[None]:
    """Let `gather` be `hook` in what is traced meanwhile; as a decorator, in what a function traces."""
    token = _HOOK.set(hook)
    try:
        yield
    finally:
        _HOOK.reset(token)


def promote(*arrays: Any, dtype: Any = None) -> list[Any]:
    """(inputs, kernel, bias) of a linear layer in one dtype, the kernel gathered."""
    inputs, kernel, bias = promote_dtype(*arrays, dtype=dtype)
    return [inputs, gather(kernel), bias]


class Dense(nn.Dense):
    """Linen's linear layer with its kernel gathered."""

    promote_dtype: Any = promote
