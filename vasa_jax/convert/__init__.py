"""Torch checkpoints to Flax variables and back, without torch and without running what a file asks for.

variables = vasa_jax.convert.convert("syncnet", tensors)
tensors = vasa_jax.convert.to_torch("syncnet", variables)
"""

from vasa_jax.convert.registry import add, build, convert, networks, to_torch

__all__ = ["add", "build", "convert", "networks", "to_torch"]
