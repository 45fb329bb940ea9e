"""The Python door: any name of a model becomes a model that runs."""

import os
import sys

from vasa_jax.checkpoint import read_config
from vasa_jax.convert.hub import find_release, find_speech
from vasa_jax.inference.load import load as load_folder
from vasa_jax.inference.offline import Model


def load(model: str | os.PathLike = "demo", dtype: str | None = None, speech: str | os.PathLike | None = None) -> Model:
    """Loads a model.

    Args:
        model: a bundled name ("demo"), a release folder, "joyvasa" (the public weights of LivePortrait and JoyVASA,
            fetched and converted once), or NAME/REPO of a release on the Hub.
        dtype: of the features while computing; None is bfloat16 on an accelerator and float32 on a CPU.
        speech: the frozen speech network that the model hears through, where it has one: a folder that
            `vasa-convert speech` wrote, or NAME/REPO on the Hub; None is the one that the model names.

    Raises:
        UserError: no such model, or one whose files cannot be fetched or do not fit together.
    """
    folder = find_release(model, _say)
    motion = read_config(folder).get("motion")
    audio = motion.get("audio") if isinstance(motion, dict) else None
    audio = audio if isinstance(audio, dict) else {}  # what is no config is refused where it is read
    named = audio.get("weights") if speech is None else speech
    if isinstance(audio.get("kind"), str) and audio["kind"] != "mel" and named:
        speech = find_speech(named, audio["kind"], _say)
    loaded = load_folder(folder, dtype, speech)
    if not os.path.isdir(model):  # a folder is called as it is; what was fetched, as its repository
        loaded.name = os.fspath(model)
    return loaded


def _say(line: str) -> None:
    """Tells whoever waits for a download what is fetched, and whose it is."""
    sys.stderr.write(f"{line}\n")
