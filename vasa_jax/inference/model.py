"""The two models behind one interface (design: `FaceModel` and `MotionModel`), as thin objects over compiled functions.

`FaceModel` is stage 1: `encode` a picture once, read a `motion` off pictures, `render` motions. `MotionModel` is stage
2: `start` a session, then `step` it window by window. A pair lives in a release folder: `config.json` with the configs
of both, `autoencoder.safetensors`, `motion.safetensors`, `statistics.safetensors` and `model_card.md`; nothing in it is
executed.
"""

import dataclasses
import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Key, UInt8

from vasa_jax import config as configs
from vasa_jax.arrays import POSE_DIM, Motion, Portrait
from vasa_jax.autoencoder.config import CODE_CELLS, AutoencoderConfig
from vasa_jax.autoencoder.model import Autoencoder
from vasa_jax.checkpoint import flatten, load_release
from vasa_jax.diffusion.guidance import active
from vasa_jax.errors import UserError
from vasa_jax.inference.controls import Controls, make_controls
from vasa_jax.inference.program import Program
from vasa_jax.inference.session import Carry, session_start, session_step
from vasa_jax.motion.audio_features import slice_samples
from vasa_jax.motion.config import MotionConfig
from vasa_jax.motion.denoiser import initialise
from vasa_jax.motion.sampling import GUIDANCE
from vasa_jax.motion.statistics import Statistics

Dtype = Literal["float32", "bfloat16"]
Rendered = tuple[UInt8[Array, "n h w 3"], Bool[Array, " n"]]


class FaceModel:
    """Stage 1 with its parameters: pictures to portraits and motions, and back.

    Attributes:
        config: its sizes; `config.image_size` is the side of every picture.
        params: its parameters, float32.
    """

    def __init__(self, config: AutoencoderConfig, params: dict[str, Any]):
        """Joins sizes and parameters; that they fit shows when a program is compiled, which raises UserError if not."""
        self.config = config
        self.params = jax.device_put(params)
        network = Autoencoder(config)

        def picture(params: dict[str, Any], portrait: Portrait, motion: Motion) -> Rendered:
            levels = jnp.asarray(network.apply({"params": params}, portrait, motion, method="render"), jnp.float32)
            return jnp.round(jnp.clip(levels, 0, 1) * 255).astype(jnp.uint8), jnp.isfinite(levels).all((1, 2, 3))

        def encode(params: dict[str, Any], image: Float[Array, "b h w 3"]) -> Portrait:
            return Portrait(*network.apply({"params": params}, image, method="encode"))

        def motion(params: dict[str, Any], image: Float[Array, "b h w 3"]) -> Motion:
            return Motion(*network.apply({"params": params}, image, method="motion"))

        def explain() -> None:
            _check_parameters("autoencoder", params, _face_shapes(dataclasses.replace(config, dtype="float32")))

        self.programs = {
            "encode": Program(encode, rare=True, explain=explain),
            "motion": Program(motion, explain=explain),
            "render": Program(picture, explain=explain),
        }

    def prepare(self, frames: int) -> None:
        """Starts compiling what encodes one picture and what renders so many frames of it, in the background."""
        config = self.config
        floats = config.compute_dtype or jnp.dtype("float32")
        volume = jax.ShapeDtypeStruct((1, *config.volume_shape), floats)
        identity = jax.ShapeDtypeStruct((1, CODE_CELLS, CODE_CELLS, config.identity_channels), floats)
        pose, dynamics = (jax.ShapeDtypeStruct((frames, n), "float32") for n in (POSE_DIM, config.dynamics_dim))
        picture = jax.ShapeDtypeStruct((1, config.image_size, config.image_size, 3), "float32")
        self.programs["encode"].prepare(self.params, picture)
        self.programs["render"].prepare(self.params, Portrait(volume, identity), Motion(pose, dynamics))

    def encode(self, image: Float[Array, "b h w 3"]) -> Portrait:
        """Portraits of pictures in [0, 1]; their own pose is taken out by the network."""
        return self.programs["encode"](self.params, image)

    def motion(self, frames: Float[Array, "b h w 3"]) -> Motion:
        """Raw motion, (b, 6) and (b, z), of pictures in [0, 1]."""
        return self.programs["motion"](self.params, frames)

    def render(self, portrait: Portrait, motion: Motion) -> Rendered:
        """Pictures, 0 to 255, of one portrait in n raw motions, (n, 6) and (n, z); the pose is absolute.

        Beside them which of them are finite: NaN is black as a picture.
        """
        return self.programs["render"](self.params, portrait, motion)


class MotionModel:
    """Stage 2 with its parameters and statistics: sound to motion, a window at a time.

    Attributes:
        config: its sizes; a step makes `config.window` frames.
        params: its parameters, float32.
        statistics: constants of the normalisation.
    """

    def __init__(self, config: MotionConfig, params: dict[str, Any], statistics: Statistics):
        """Joins sizes, parameters and constants.

        That the parameters fit shows when the step is compiled, which raises UserError if not.

        Raises:
            UserError: statistics of other sizes.
        """
        z = config.dynamics_dim
        shapes = zip(Statistics._fields, ((6,), (6,), (z,), (z, z), (z,)), strict=True)
        wanted = {name: jax.ShapeDtypeStruct(shape, "float32") for name, shape in shapes}
        _check_parameters("statistics", statistics._asdict(), wanted)
        self.config = config
        self.params = jax.device_put(params)
        self.statistics = jax.device_put(statistics)

        def explain() -> None:
            _check_parameters("motion", params, _motion_shapes(dataclasses.replace(config, dtype="float32")))

        step = Program(functools.partial(session_step, config), static=("steps",), explain=explain)
        self.programs = {"step": step}

    def prepare(self, steps: int = 50, guidance: Mapping[str, float] = GUIDANCE) -> None:
        """Starts compiling the step of such a session, in the background."""
        carry = session_start(self.config, jax.random.key(0))
        sound = jax.ShapeDtypeStruct((slice_samples(self.config.window),), "float32")
        self.programs["step"].prepare(
            self.params, self.statistics, carry, sound, make_controls(), _branches(guidance), steps=steps
        )

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
        guidance: Mapping[str, float] = GUIDANCE,
    ) -> tuple[Carry, Motion]:
        """The next window: (640 W + 352,) samples to raw motion (W, 6) and (W, z); see `session.session_step`.

        Another number of steps compiles another program, as does a scale of guidance that becomes 0 or ceases to be.

        Raises:
            ValueError: a scale that is not finite.
        """
        return self.programs["step"](
            self.params, self.statistics, carry, audio, controls, _branches(guidance), steps=steps
        )


def _branches(guidance: Mapping[str, float]) -> dict[str, np.ndarray]:
    return {name: np.asarray(scale, np.float32) for name, scale in active(guidance).items()}


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


def _face_shapes(config: AutoencoderConfig) -> dict[str, Any]:
    """What the network's parameters look like; nothing is computed."""
    side = jnp.zeros((1, config.image_size, config.image_size, 3))
    return jax.eval_shape(Autoencoder(config).init, jax.random.key(0), side, side)["params"]


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
