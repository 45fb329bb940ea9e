"""A release folder with random weights, small enough for tests: 32x32 pictures, windows of 8 frames, context of 4."""

import dataclasses
import functools
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tests.joyvasa.tiny import TINY
from tests.parity.fixtures import state_dict
from tests.tiny import AUTOENCODER
from vasa_jax import config as configs
from vasa_jax.audio.front_end import AudioEncoderConfig
from vasa_jax.autoencoder.config import AutoencoderConfig
from vasa_jax.autoencoder.model import Autoencoder
from vasa_jax.checkpoint import save_release
from vasa_jax.convert import convert
from vasa_jax.convert.pair import NETWORKS
from vasa_jax.inference.liveportrait_vasa import HeadMotionModel
from vasa_jax.joyvasa.motion_generator import MotionGenerator
from vasa_jax.joyvasa.template import SIZES
from vasa_jax.liveportrait.motion_code import DYNAMICS_DIM
from vasa_jax.motion.config import MotionConfig
from vasa_jax.motion.denoiser import initialise
from vasa_jax.motion.statistics import Statistics

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
    anchor=True,
    head_cutoff=4.0,
)


JOYVASA = dataclasses.replace(TINY, motion=73)
ENDS = {
    "exp": {"mean": 0.0, "std": 0.01},
    "scale": {"min": 1.0, "max": 1.2},
    **dict.fromkeys(("t",), {"min": -0.05, "max": 0.05}),
    **dict.fromkeys(("pitch", "yaw", "roll"), {"min": -5.0, "max": 5.0}),
}
"""What normalised motion of the small generator is scaled to."""


def write_release(folder: Path, face: AutoencoderConfig = FACE, motion: MotionConfig = MOTION) -> Path:
    """Random weights of both stages as a release; everything moves, nothing looks like a face."""
    side = jnp.zeros((1, face.image_size, face.image_size, 3))
    face_params = _random(1, jax.eval_shape(Autoencoder(face).init, jax.random.key(0), side, side)["params"])
    motion_params = _random(2, jax.eval_shape(lambda key: initialise(motion, key), jax.random.key(0)))
    statistics = _statistics(motion.dynamics_dim)
    sizes = {"autoencoder": face, "motion": motion}
    config = {name: json.loads(configs.to_json(value)) for name, value in sizes.items()}
    tensors = {"autoencoder": face_params, "motion": motion_params, "statistics": statistics}
    save_release(folder, "vasa", config, tensors, "bfloat16", "# Random weights")
    return folder


def head_motion_model() -> HeadMotionModel:
    """A small motion transformer with random weights, whose motion is LivePortrait's (`liveportrait.motion_code`)."""
    config = dataclasses.replace(MOTION, dynamics_dim=DYNAMICS_DIM)
    params = _random(2, jax.eval_shape(lambda key: initialise(config, key), jax.random.key(0)))
    statistics = {name: value / 100 if "dynamics" in name else value for name, value in _statistics(64).items()}
    return HeadMotionModel(config, params, Statistics(**statistics | {"pose_scale": jnp.full((6,), 0.05)}))


def _statistics(z: int) -> dict[str, Any]:
    return {
        "pose_mean": jnp.zeros(6),
        "pose_scale": jnp.full((6,), 0.8),
        "dynamics_mean": jnp.arange(z) / 10,
        "rotation": jnp.eye(z),
        "dynamics_scale": jnp.linspace(9.0, 5.0, z),
    }


def _random(seed: int, shapes: Any) -> Any:
    """Parameters from shapes alone (compiling `init` would take most of a test's time): kernels keep the variance."""
    generator = np.random.default_rng(seed)

    def draw(leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        fan_in = int(np.prod(leaf.shape[:-1])) if len(leaf.shape) > 1 else 16
        return (generator.normal(size=leaf.shape) / np.sqrt(fan_in)).astype(np.float32)

    return jax.tree.map(draw, shapes)


@functools.cache
def public_tensors() -> dict[str, Any]:
    """Random weights of the public pair: LivePortrait's networks in their own size, and a small motion generator."""
    real = {name: network for name, (network, _) in NETWORKS.items() if network.startswith("liveportrait.")}
    tensors: dict[str, Any] = {name: convert(network, state_dict(network, 1)) for name, network in real.items()}
    sound, motion = jnp.zeros((1, 640 * JOYVASA.window)), jnp.zeros((1, JOYVASA.window, JOYVASA.motion))
    shapes = jax.eval_shape(MotionGenerator(JOYVASA).init, jax.random.key(0), sound, motion)
    template = {
        f"{end}_{name}": np.full(SIZES[name], value) for name, ends in ENDS.items() for end, value in ends.items()
    }
    return tensors | {"motion_generator": _random(3, shapes), "template": template}
