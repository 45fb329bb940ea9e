"""The Python door: any name of a model becomes a model that runs."""

import os
import sys

from vasa_jax.convert.hub import find_release
from vasa_jax.inference.load import load as load_folder
from vasa_jax.inference.offline import Model


def load(model: str | os.PathLike = "demo", dtype: str | None = None) -> Model:
    """Loads a model.

    Args:
        model: a bundled name ("demo"), a release folder, "joyvasa" (the public weights of LivePortrait and JoyVASA,
            fetched and converted once), or NAME/REPO of a release on the Hub.
        dtype: of the features while computing; None is bfloat16 on an accelerator and float32 on a CPU.

    Raises:
        UserError: no such model, or one whose files cannot be fetched or do not fit together.
    """
    return load_folder(find_release(model, _say), dtype)


def _say(line: str) -> None:
    """Tells whoever waits for a download what is fetched, and whose it is."""
    sys.stderr.write(f"{line}\n")
