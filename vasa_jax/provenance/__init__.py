"""What generated files say about themselves: signed credentials, and the detector that anyone may ask.

`credentials` seals files, `keys` has what signs, `detector` reads files; `python -m vasa_jax.provenance FILE`.
"""

from vasa_jax.provenance.credentials import Provenance, seal

__all__ = ["Provenance", "seal"]
