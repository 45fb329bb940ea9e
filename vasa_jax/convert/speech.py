"""Authors' checkpoints of wav2vec 2.0 and HuBERT to the release that `audio.weights` reads."""

from pathlib import Path

from vasa_jax.audio.speech import SpeechConfig
from vasa_jax.audio.weights import save_speech
from vasa_jax.checkpoint import check_release_target
from vasa_jax.convert.registry import convert, find
from vasa_jax.convert.source import read_tensors
from vasa_jax.errors import UserError


def convert_speech(network: str, source: Path, out: str | Path) -> str:
    """Convert a checkpoint of a base network and return the SHA-256 of its parameters.

    Args:
        network: "wav2vec2" or "hubert".
        source: as `convert.source` reads it.
        out: the release folder to write.

    Raises:
        UserError: a source that is no such checkpoint, or a target that may not be replaced; then nothing is written.
    """
    check_release_target(out)
    try:
        params = convert(network, read_tensors(source, find(network).inside))["params"]
    except UserError as error:
        raise UserError(f"{source} is no checkpoint of {network}: {error}") from error
    return save_speech(out, network, SpeechConfig(), params)
