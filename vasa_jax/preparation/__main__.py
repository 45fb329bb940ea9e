"""`python -m vasa_jax.preparation VIDEOS RECORDS`, the same as `vasa-prepare`; see `vasa_jax.doors.prepare`."""

import sys

from vasa_jax.doors.prepare import main

if __name__ == "__main__":
    sys.exit(main())
