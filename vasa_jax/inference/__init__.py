"""From a portrait and a sound to frames: the Python door (`load`, `Model.animate`) and what it is made of.

`controls` says what a user may ask for, `session` is the one jitted step that every driver calls, `model` holds the two
networks, and `offline` turns whole sounds into frames.
"""

from vasa_jax.inference.offline import Model, load

__all__ = ["Model", "load"]
