"""Sound files that cases start from, made by one process before all others: models, runs and sealed films."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import soundfile
from PIL import Image
from safetensors.numpy import save_file

from tests.inference.tiny import write_release
from tests.training.tiny import STAGE_1
from vasa_jax.autoencoder.model import Autoencoder
from vasa_jax.convert.registry import find, to_torch
from vasa_jax.media.video import VideoWriter
from vasa_jax.provenance.credentials import declare, sealer
from vasa_jax.provenance.keys import own_signing
from vasa_jax.training.bundles import Bundles
from vasa_jax.training.config import to_saved


def make(folder: Path) -> None:
    """Write all seeds."""
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (64, 64, 3)).astype(np.uint8)
    Image.fromarray(picture).save(folder / "photo.png")
    soundfile.write(folder / "sound.wav", rng.uniform(-0.1, 0.1, 3200), 16000)
    name = "liveportrait.stitching"
    leaves = jax.tree.map(lambda x: rng.standard_normal(x.shape).astype(np.float32), find(name).shapes())
    save_file(to_torch(name, leaves), folder / "stitching.safetensors")
    write_release(folder / "release")
    _run(folder / "run")
    _sealed(folder, picture)


def _run(folder: Path) -> None:
    config = STAGE_1.model
    side = jnp.zeros((1, config.image_size, config.image_size, 3))
    shapes = jax.eval_shape(Autoencoder(config).init, jax.random.key(0), side, side)["params"]
    params: Any = {"autoencoder": jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, np.float32), shapes)}
    state = {"step": jnp.int32(1), "params": params, "ema": params, "constants": {}}
    with Bundles(folder) as bundles:
        bundles.save(1, state, to_saved(STAGE_1))


def _sealed(folder: Path, picture: np.ndarray) -> None:
    signing, provenance = own_signing(), declare("demo", "ab" * 32, picture, "created", (np.zeros(2000), 16000))
    for name, side in (("a.png", 32), ("a.mp4", 32), ("a.mov", 32), ("a.webm", 32), ("c.mkv", 32), ("b.mp4", 64)):
        frames = rng_frames(side)
        seal = sealer(dataclasses.replace(provenance), signing)
        if name.endswith(".png"):
            hidden = folder / ".unfinished-1.png"
            Image.fromarray(frames[0]).save(hidden)
            seal(hidden, folder / name)
            hidden.rename(folder / name)
            continue
        with VideoWriter(folder / name, 25, side, (np.zeros(2000, np.float32), 16000), seal=seal) as writer:
            for frame in frames:
                writer.write(frame)


def rng_frames(side: int) -> np.ndarray:
    """Three frames of noise."""
    return np.random.default_rng(2).integers(0, 256, (3, side, side, 3)).astype(np.uint8)
