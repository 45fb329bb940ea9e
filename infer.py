"""`python infer.py --image portrait.png --audio speech.wav --out talk.mp4`: the door to inference from a checkout.

An installed package brings the same command as `vasa-infer`; see `vasa_jax.doors.infer`.
"""

import sys

from vasa_jax.doors.infer import main

if __name__ == "__main__":
    sys.exit(main())
