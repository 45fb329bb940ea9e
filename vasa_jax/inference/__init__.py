"""From a portrait and a sound to frames: the Python door (`load`, `Model.animate`) and what it is made of.

`pair` is what drivers may know of models, `vasa` and `public` are the two pairs behind it, `controls` says what a user
may ask for, `session` is the one jitted step of the VASA pair, and `offline` turns whole sounds into frames.
"""

from vasa_jax.inference.load import load
from vasa_jax.inference.offline import Model

__all__ = ["Model", "load"]
