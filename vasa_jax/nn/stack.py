"""Equal blocks in a row as one `nn.scan`: a program holds one of them, and so does what a compiler sees.

The parameters of a stack (and the statistics of its batch norms) carry a leading axis of blocks; each block starts from
random numbers of its own, on the scale of a block that stands alone.

Whoever saves memory by `jax.checkpoint` around a network says so by `recomputing` too: what is computed again is then
computed block by block on the way back, and not for the whole stack before it.
"""

import contextlib
import contextvars
from collections.abc import Callable, Iterator
from typing import Any

import flax.linen as nn
from jaxtyping import Array, Float

Policy = Callable[..., bool]
_POLICY: contextvars.ContextVar[Policy | None] = contextvars.ContextVar("policy", default=None)


@contextlib.contextmanager
def recomputing(policy: Policy) -> Iterator[None]:
    """Let stacks that are traced meanwhile keep of each block what `policy` says, as `jax.checkpoint` takes it."""
    token = _POLICY.set(policy)
    try:
        yield
    finally:
        _POLICY.reset(token)


def run_stack(block: nn.Module, x: Float[Array, "*shape"], length: int) -> Float[Array, "*shape"]:
    """x through `length` (1 or more) blocks like the given one, which must keep shape and dtype.

    The block's name is that of the stack; its parameters are (length, ...).
    """
    policy = _POLICY.get()
    run: Any = lambda block, carry: block(carry)  # noqa: E731
    if policy is not None:
        run = nn.remat(run, policy=policy, prevent_cse=False)  # the loop keeps the two computations apart
    scan = nn.scan(
        lambda block, carry, _: (run(block, carry), None),
        variable_axes={"params": 0, "batch_stats": 0},
        split_rngs={"params": True},
        length=length,
        check_constancy_invariants=False,  # nothing is broadcast; saves a trace
    )
    y, _ = scan(block, x, None)
    return y
