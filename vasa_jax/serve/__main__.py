"""`python -m vasa_jax.serve` leads to `vasa_jax.doors.serve`."""

import os
import sys

from vasa_jax.doors.serve import main

if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # Python would abort where XLA is compiling in another thread, which cannot be stopped
