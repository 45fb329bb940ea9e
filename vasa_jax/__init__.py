"""vasa-jax: a portrait and a voice become a talking face (VASA-1, arXiv:2404.10667) in pure functions of JAX.

Importing this package is cheap: it imports neither JAX nor any room. `vasa_jax.load` is looked up in
`vasa_jax.doors.load` on first use::

    model = vasa_jax.load("demo")
    for frame in model.animate(image, audio):
        ...
"""

import sys
from typing import TYPE_CHECKING

if not (3, 11) <= sys.version_info[:2] <= (3, 14):
    raise RuntimeError(
        f"vasa-jax runs on Python 3.11 to 3.14, not {sys.version.split()[0]}; make .venv with one of them"
    )

if TYPE_CHECKING:
    from vasa_jax.doors.load import load

__version__ = "0.1.0"
__all__ = ["__version__", "load"]


def __getattr__(name: str) -> object:
    """Resolve `load` on first use (PEP 562), so that `import vasa_jax` alone starts no accelerator."""
    if name == "load":
        from vasa_jax.doors.load import load as found

        globals()["load"] = found
        return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
