"""`python train.py CONFIG --workdir DIR`: the door to training from a checkout.

An installed package brings the same command as `vasa-train`; see `vasa_jax.doors.train`.
"""

import sys

from vasa_jax.doors.train import main

if __name__ == "__main__":
    sys.exit(main())
