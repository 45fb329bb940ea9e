"""Programs: pure functions that are compiled ahead of their first call, beside each other and beside other work.

XLA compiles without holding Python's lock, so several programs that are prepared at once keep several cores busy while
the pictures and sounds are opened that they will read.
"""

import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax

HASTE: dict[str, Any] = {"xla_backend_optimization_level": 0}
"""What XLA's CPU back end is told for a program that runs once: it compiles in half the time and runs about as fast."""
KEPT = 16
"""Compiled forms that a program keeps: enough for every set of guidance branches at one number of steps."""
_COMPILERS = ThreadPoolExecutor(3, "compile")


class Program:
    """A pure function, compiled once for each set of shapes and static options; the last `KEPT` forms stay.

    Attributes:
        waited: seconds that calls have waited for tracing and compiling.
    """

    def __init__(
        self,
        function: Callable,
        static: tuple[str, ...] = (),
        rare: bool = False,
        explain: Callable[[], None] = lambda: None,
    ):
        """Wraps a function; nothing is compiled yet.

        Args:
            function: of pytrees of arrays, and of the keyword arguments named in `static`.
            static: values that decide the program, and hash.
            rare: it runs seldom, so that on a CPU compiling quickly counts more than running fast.
            explain: called where the function cannot be compiled; raises a better error where it knows one.
        """
        self._jitted = jax.jit(function, static_argnames=static)
        self._rare, self._explain = rare, explain
        self._forms: OrderedDict[Any, Future] = OrderedDict()
        self.waited = 0.0

    def prepare(self, *arrays: Any, **static: Any) -> None:
        """Starts compiling for such arguments, in the background; shapes (`jax.ShapeDtypeStruct`) are enough."""
        self._form(arrays, static, _COMPILERS.submit)

    def __call__(self, *arrays: Any, **static: Any) -> Any:
        """Runs the function; `arrays` are pytrees of arrays."""
        start = time.perf_counter()
        compiled = self._form(arrays, static, _now).result()
        self.waited += time.perf_counter() - start
        return compiled(*arrays)

    def _form(self, arrays: Any, static: dict[str, Any], submit: Callable[..., Future]) -> Future:
        leaves, structure = jax.tree.flatten(arrays)
        key = (structure, tuple((leaf.shape, leaf.dtype) for leaf in leaves), tuple(sorted(static.items())))
        if key not in self._forms:
            shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), arrays)
            self._forms[key] = submit(self._compile, shapes, static)
        self._forms.move_to_end(key)
        if len(self._forms) > KEPT:
            self._forms.popitem(last=False)
        return self._forms[key]

    def _compile(self, shapes: Any, static: dict[str, Any]) -> Callable:
        try:
            lowered = self._jitted.lower(*shapes, **static)
            return lowered.compile(HASTE if self._rare and jax.default_backend() == "cpu" else None)
        except Exception:
            self._explain()
            raise


def _now(function: Callable, *arguments: Any) -> Future:
    """As `submit` of an executor, but in the caller's thread and under its settings; errors are raised at once."""
    done = Future()
    done.set_result(function(*arguments))
    return done
