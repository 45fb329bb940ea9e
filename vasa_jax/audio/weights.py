"""Weights of the frozen speech networks: a release folder of kind "speech", named by the hash of its tensors.

`vasa-convert speech` writes it: `config.json` with the network's name and sizes and the SHA-256, and
`speech.safetensors`, float32. A model that hears through the network carries its name, its hash and its sizes, never
its weights.
"""

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from vasa_jax import config as configs
from vasa_jax.audio.front_end import AudioEncoderConfig
from vasa_jax.audio.speech import FIELD, SpeechConfig, SpeechEncoder
from vasa_jax.checkpoint import digest, flatten, load_release, save_release
from vasa_jax.errors import UserError

KIND = "speech"
"""Of these releases."""


def save_speech(folder: str | Path, network: str, config: SpeechConfig, params: Any, card: str = "") -> str:
    """Write a release of a speech network and return the SHA-256 of its parameters.

    Args:
        folder: where; a release there is replaced.
        network: "wav2vec2" or "hubert".
        config: its sizes.
        params: of `SpeechEncoder`, float32.
        card: text of the model card; "" writes a plain one.

    Raises:
        UserError: as `save_release`.
    """
    total = digest(params)
    content = {"network": network, "speech": json.loads(configs.to_json(config)), "sha256": total}
    card = card or f"# {network}\n\nA frozen speech network, sha256 {total}. Its licence is that of its source.\n"
    save_release(folder, KIND, content, {"speech": params}, "float32", card)
    return total


def copy_speech(source: str | Path, folder: str | Path) -> None:
    """Write a release of a speech network again, elsewhere; raises UserError where the source is none."""
    release = load_release(source)
    if release.config["kind"] != KIND or not {"network", "speech", "sha256"} <= release.config.keys():
        raise UserError(f"{source} is no release of a speech network")
    content = {name: release.config[name] for name in ("network", "speech", "sha256")}
    save_release(folder, KIND, content, release.tensors, "float32", release.card)


def read_speech(folder: str | Path, config: AudioEncoderConfig) -> dict[str, Any]:
    """The parameters that a front end needs.

    Args:
        folder: a release of kind "speech".
        config: of the front end; where it has a hash, the parameters must have it.

    Raises:
        UserError: no such release, or one of another network, of other sizes or of another hash.
    """
    release = load_release(folder)
    kind, network = release.config["kind"], release.config.get("network")
    if kind != KIND or "speech" not in release.tensors:
        raise UserError(
            f"{folder} is a model of kind {kind!r}; name a speech network, as vasa-convert speech writes it"
        )
    if network != config.kind:
        raise UserError(f"{folder} holds {network}; this model hears through {config.kind}: name a folder with that")
    sizes = configs.from_json(json.dumps(release.config.get("speech", {})), SpeechConfig)
    if sizes != config.speech:
        name, (there, here) = next(iter(configs.difference(sizes, config.speech).items()))
        raise UserError(
            f"{folder} holds a {network} with {name}={there}; audio.speech.{name} is {here}: make them equal"
        )
    params = release.tensors["speech"]
    found, wanted = (
        {name: tuple(leaf.shape) for name, leaf in flatten(tree).items()} for tree in (params, speech_shapes(sizes))
    )
    if found != wanted:
        name = sorted(name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name))[0]
        raise UserError(
            f"{folder} has {name} {found.get(name, 'missing')}, its sizes ask for {wanted.get(name, 'none')}"
        )
    total = digest(params)
    if config.sha256 and total != config.sha256:
        raise UserError(
            f"{folder} holds the {network} with SHA-256 {total[:16]}; this model was trained on that with "
            f"{config.sha256[:16]}: name a folder with that one"
        )
    return params


def check_speech(config: AudioEncoderConfig, speech: Any) -> None:
    """Refuse a front end without the parameters that it needs, or with some that it does not.

    Raises:
        UserError: naming the network.
    """
    if config.frozen and not speech:
        raise UserError(f"this model hears through {config.kind}, whose weights it does not carry; name their folder")
    if speech and not config.frozen:
        raise UserError("this model hears log-mel and takes no speech network; leave it out")


def speech_shapes(config: SpeechConfig) -> Any:
    """What the parameters of a network look like; nothing is computed."""
    sound = jax.ShapeDtypeStruct((1, FIELD), jnp.float32)
    return jax.eval_shape(SpeechEncoder(config).init, jax.random.key(0), sound)["params"]
