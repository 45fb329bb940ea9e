"""The two models behind one interface (design: `FaceModel` and `MotionModel`), as thin objects over compiled functions.

`FaceModel` is stage 1: `encode` a picture once, read a `motion` off pictures, `render` motions. `MotionModel` is stage
2: `start` a session, then `step` it window by window. A pair lives in a release folder: `config.json` with the configs
of both, `autoencoder.safetensors`, `motion.safetensors`, `statistics.safetensors` and `model_card.md`; nothing in it is
executed.
"""

import dataclasses
import functools
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, UInt8

from vasa_jax import config as configs
from vasa_jax.arrays import Motion, Portrait
from vasa_jax.autoencoder.config import AutoencoderConfig
from vasa_jax.autoencoder.model import Autoencoder
from vasa_jax.checkpoint import flatten, load_release
from vasa_jax.errors import UserError
from vasa_jax.inference.controls import Controls
from vasa_jax.inference.session import Carry, Guidance, session_start, session_step
from vasa_jax.motion.config import MotionConfig
from vasa_jax.motion.denoiser import initialise
from vasa_jax.motion.sampling import GUIDANCE
from vasa_jax.motion.statistics import Statistics

Dtype = Literal["float32", "bfloat16"]
PAPER_GUIDANCE: Guidance = tuple(GUIDANCE.items())


class Program:
    """A pure function, compiled on the first call with each set of shapes; remembers how long compiling took.

    Attributes:
        seconds: spent on tracing and compiling so far.
    """

    def __init__(self, function: Callable, static: tuple[str, ...] = ()):
        """Wraps `function`; the keyword arguments named in `static` are values that decide the program, and hash."""
        self._jitted = jax.jit(function, static_argnames=static)
        self._compiled: dict[Any, Callable] = {}
        self.seconds = 0.0

    def __call__(self, *arrays: Any, **static: Any) -> Any:
        """Runs the function; `arrays` are pytrees of arrays."""
        leaves, structure = jax.tree.flatten(arrays)
        key = (structure, tuple((leaf.shape, leaf.dtype) for leaf in leaves), tuple(sorted(static.items())))
        if key not in self._compiled:
            start = time.perf_counter()
            self._compiled[key] = self._jitted.lower(*arrays, **static).compile()
            self.seconds += time.perf_counter() - start
        return self._compiled[key](*arrays)


class FaceModel:
    """Stage 1 with its parameters: pictures to portraits and motions, and back.

    Attributes:
        config: its sizes; `config.image_size` is the side of every picture.
        params: its parameters, float32.
    """

    def __init__(self, config: AutoencoderConfig, params: dict[str, Any]):
        """Raises UserError where the parameters are not those of a network of this config."""
        _check_parameters("autoencoder", params, _face_shapes(dataclasses.replace(config, dtype="float32")))
        self.config = config
        self.params = jax.device_put(params)
        network = Autoencoder(config)

        def picture(params: dict[str, Any], portrait: Portrait, motion: Motion) -> UInt8[Array, "n h w 3"]:
            levels = jnp.asarray(network.apply({"params": params}, portrait, motion, method="render"), jnp.float32)
            return jnp.round(jnp.clip(levels, 0, 1) * 255).astype(jnp.uint8)

        self.programs = {
            "encode": Program(lambda params, image: network.apply({"params": params}, image, method="encode")),
            "motion": Program(lambda params, image: network.apply({"params": params}, image, method="motion")),
            "render": Program(picture),
        }

    def encode(self, image: Float[Array, "b h w 3"]) -> Portrait:
        """Portraits of pictures in [0, 1]; their own pose is taken out by the network."""
        return self.programs["encode"](self.params, image)

    def motion(self, frames: Float[Array, "b h w 3"]) -> Motion:
        """Raw motion, (b, 6) and (b, z), of pictures in [0, 1]."""
        return self.programs["motion"](self.params, frames)

    def render(self, portrait: Portrait, motion: Motion) -> UInt8[Array, "n h w 3"]:
        """Pictures, 0 to 255, of one portrait in n raw motions, (n, 6) and (n, z); the pose is absolute."""
        return self.programs["render"](self.params, portrait, motion)


class MotionModel:
    """Stage 2 with its parameters and statistics: sound to motion, a window at a time.

    Attributes:
        config: its sizes; a step makes `config.window` frames.
        params: its parameters, float32.
        statistics: constants of the normalisation.
    """

    def __init__(self, config: MotionConfig, params: dict[str, Any], statistics: Statistics):
        """Raises UserError where the parameters or statistics are not those of a network of this config."""
        z = config.dynamics_dim
        shapes = zip(Statistics._fields, ((6,), (6,), (z,), (z, z), (z,)), strict=True)
        wanted = {name: jax.ShapeDtypeStruct(shape, "float32") for name, shape in shapes}
        _check_parameters("statistics", statistics._asdict(), wanted)
        _check_parameters("motion", params, _motion_shapes(dataclasses.replace(config, dtype="float32")))
        self.config = config
        self.params = jax.device_put(params)
        self.statistics = jax.device_put(statistics)
        self.programs = {
            "step": Program(
                lambda params, statistics, carry, samples, controls, steps, guidance: session_step(
                    config, params, statistics, carry, samples, controls, steps, guidance
                ),
                static=("steps", "guidance"),
            )
        }

    def start(self, key: Key[Array, ""], portrait: Portrait, controls: Controls) -> Carry:
        """A new session. This model reads neither: its motion fits every portrait, and controls come with each step."""
        del portrait, controls
        return session_start(self.config, key)

    def step(
        self,
        carry: Carry,
        audio: Float[Array, " n"],
        controls: Controls,
        *,
        steps: int = 50,
        guidance: Guidance = PAPER_GUIDANCE,
    ) -> tuple[Carry, Motion]:
        """The next window: (640 W + 352,) samples to raw motion (W, 6) and (W, z); see `session.session_step`."""
        return self.programs["step"](
            self.params, self.statistics, carry, audio, controls, steps=steps, guidance=guidance
        )


def load_pair(folder: str | Path, dtype: Dtype = "float32") -> tuple[FaceModel, MotionModel]:
    """Reads a release folder.

    Args:
        folder: as `vasa_jax.training.export` writes it.
        dtype: of the features while computing; parameters, poses and the sampler's state stay float32.

    Raises:
        UserError: not a release, or one whose tensors do not fit its config.
    """
    release = load_release(folder)
    if missing := [name for name in ("autoencoder", "motion") if name not in release.config]:
        raise UserError(f"{folder} is not a complete model: its config.json has no {missing[0]!r}")
    if missing := [name for name in ("autoencoder", "motion", "statistics") if name not in release.tensors]:
        raise UserError(f"{folder} is not a complete model: it has no {missing[0]}.safetensors")
    face = configs.from_json(json.dumps(release.config["autoencoder"]), AutoencoderConfig)
    motion = configs.from_json(json.dumps(release.config["motion"]), MotionConfig)
    _check_pair(face, motion)
    parts = release.tensors["statistics"]
    if set(parts) != set(Statistics._fields):
        raise UserError(f"{folder}: statistics.safetensors must hold {', '.join(Statistics._fields)}")
    return (
        FaceModel(dataclasses.replace(face, dtype=dtype), release.tensors["autoencoder"]),
        MotionModel(dataclasses.replace(motion, dtype=dtype), release.tensors["motion"], Statistics(**parts)),
    )


def _check_pair(face: AutoencoderConfig, motion: MotionConfig) -> None:
    if face.dynamics_dim != motion.dynamics_dim:
        raise UserError(
            f"the two stages do not fit: autoencoder.{face.dynamics_dim=} but motion.{motion.dynamics_dim=}; "
            "train stage 2 on this stage 1"
        )


@functools.cache
def _face_shapes(config: AutoencoderConfig) -> dict[str, Any]:
    """What the network's parameters look like; nothing is computed."""
    side = jnp.zeros((1, config.image_size, config.image_size, 3))
    return jax.eval_shape(Autoencoder(config).init, jax.random.key(0), side, side)["params"]


@functools.cache
def _motion_shapes(config: MotionConfig) -> dict[str, Any]:
    """What the network's parameters look like; nothing is computed."""
    return jax.eval_shape(lambda key: initialise(config, key), jax.random.key(0))


def _check_parameters(name: str, params: dict[str, Any], expected: dict[str, Any]) -> None:
    """Accounts for every tensor: the names and shapes must be exactly those that the config asks for."""
    found, wanted = ({path: tuple(leaf.shape) for path, leaf in flatten(tree).items()} for tree in (params, expected))
    wrong = sorted(path for path in found.keys() | wanted.keys() if found.get(path) != wanted.get(path))
    if wrong:
        path = wrong[0]
        raise UserError(
            f"{name}: {len(wrong)} tensors do not fit its config, first {path}: {found.get(path, 'absent')} "
            f"in the file, {wanted.get(path, 'absent')} in the network"
        )
