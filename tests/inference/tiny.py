"""A release folder with random weights, small enough for tests: 32x32 pictures, windows of 8 frames, context of 4."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tests.tiny import AUTOENCODER
from vasa_jax import config as configs
from vasa_jax.autoencoder.config import AutoencoderConfig
from vasa_jax.autoencoder.model import Autoencoder
from vasa_jax.checkpoint import save_release
from vasa_jax.motion.config import AudioEncoderConfig, MotionConfig
from vasa_jax.motion.denoiser import initialise

FACE = dataclasses.replace(AUTOENCODER, dynamics_dim=5)  # a pose has 6 numbers: never the same
MOTION = MotionConfig(
    width=16,
    num_layers=1,
    num_heads=2,
    ffn=32,
    window=8,
    context=4,
    dynamics_dim=5,
    audio=AudioEncoderConfig(kind="mel", feature_dim=8),
)


def write_release(folder: Path, face: AutoencoderConfig = FACE, motion: MotionConfig = MOTION) -> Path:
    """Random weights of both stages as a release; everything moves, nothing looks like a face."""
    side = jnp.zeros((1, face.image_size, face.image_size, 3))
    face_params = _random(1, jax.eval_shape(Autoencoder(face).init, jax.random.key(0), side, side)["params"])
    motion_params = _random(2, jax.eval_shape(lambda key: initialise(motion, key), jax.random.key(0)))
    z = motion.dynamics_dim
    statistics = {
        "pose_mean": jnp.zeros(6),
        "pose_scale": jnp.full((6,), 0.8),
        "dynamics_mean": jnp.arange(z) / 10,
        "rotation": jnp.eye(z),
        "dynamics_scale": jnp.linspace(9.0, 5.0, z),
    }
    sizes = {"autoencoder": face, "motion": motion}
    config = {name: json.loads(configs.to_json(value)) for name, value in sizes.items()}
    tensors = {"autoencoder": face_params, "motion": motion_params, "statistics": statistics}
    save_release(folder, "vasa", config, tensors, "bfloat16", "# Random weights")
    return folder


def _random(seed: int, shapes: Any) -> Any:
    """Parameters from shapes alone (compiling `init` would take most of a test's time): kernels keep the variance."""
    generator = np.random.default_rng(seed)

    def draw(leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        fan_in = int(np.prod(leaf.shape[:-1])) if len(leaf.shape) > 1 else 16
        return (generator.normal(size=leaf.shape) / np.sqrt(fan_in)).astype(np.float32)

    return jax.tree.map(draw, shapes)
