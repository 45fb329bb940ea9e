"""How tests compile: in a hurry, but for the few programs that compute for longer than that saves."""

import jax

# JAX 0.12 has no old emitters any more, and refuses to be told to use them.
OLD_EMITTERS = " --xla_cpu_use_fusion_emitters=false" if jax.__version_info__ < (0, 11) else ""
HURRIED = "--xla_backend_optimization_level=0" + OLD_EMITTERS
"""XLA_FLAGS of the session and of the commands that it starts."""

OPTIMISED = {"xla_backend_optimization_level": 3}
"""Compiler options, for `jax.jit`, of networks in their real size that run for many steps."""
