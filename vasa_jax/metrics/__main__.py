"""`python -m vasa_jax.metrics evaluate RUN|RELEASE`; see `vasa_jax.doors.evaluate`."""

import sys

from vasa_jax.doors.evaluate import main

if __name__ == "__main__":
    sys.exit(main())
