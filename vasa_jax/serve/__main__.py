"""`python -m vasa_jax.serve` leads to `vasa_jax.doors.serve`."""

import sys

from vasa_jax.doors.serve import main

if __name__ == "__main__":
    sys.exit(main())
