"""What a function of arrays costs, counted on its traced program: nothing is computed or allocated.

A MAC is one multiplication and addition inside a convolution or a matrix product; everything else (norms, activations,
resizing, sampling) is left out, as in papers' tables. A convolution counts

    MAC = output elements x kernel positions x input channels / groups                                           (1)

with every position of the kernel, also those that fall on padding. Of a `cond` or a platform-dependent choice the
dearest branch counts; a scan counts its body times its length; the body of a `while` loop, whose length is unknown,
counts once.
"""

import math
from collections.abc import Callable
from typing import Any

import jax


def count_macs(function: Callable, *arguments: Any) -> int:
    """Multiply-adds of one call; arguments may be arrays or `jax.ShapeDtypeStruct`s."""
    return count_jaxpr(jax.make_jaxpr(function)(*arguments).jaxpr)


def count_parameters(tree: Any) -> int:
    """Number of scalars in a pytree of arrays or shapes."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


def count_jaxpr(jaxpr: Any) -> int:
    """Multiply-adds of a traced program."""
    return sum(_count_equation(equation) for equation in jaxpr.eqns)


def _count_equation(equation: Any) -> int:
    name, parameters = equation.primitive.name, equation.params
    if name == "conv_general_dilated":
        kernel = equation.invars[1].aval.shape
        layout = parameters["dimension_numbers"].rhs_spec  # (output, input, *space); input is already per group
        return math.prod(equation.outvars[0].aval.shape) * math.prod(kernel[axis] for axis in layout[1:])
    if name == "dot_general":
        (contracted, _), _ = parameters["dimension_numbers"]
        left = equation.invars[0].aval.shape
        return math.prod(equation.outvars[0].aval.shape) * math.prod(left[axis] for axis in contracted)
    inner = [count_jaxpr(jaxpr) for value in parameters.values() for jaxpr in _inner(value)]
    if name == "cond":
        return max(inner, default=0)
    return sum(inner) * (parameters["length"] if name == "scan" else 1)


def _inner(value: Any) -> list[Any]:
    """Programs inside a primitive's parameter: jaxprs, open or closed, alone or in a tuple."""
    if isinstance(value, tuple | list):
        return [jaxpr for part in value for jaxpr in _inner(part)]
    value = getattr(value, "jaxpr", value)
    return [value] if hasattr(value, "eqns") else []
