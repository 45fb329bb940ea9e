"""The VASA pair: stage 1 draws and stage 2 moves, as thin objects over compiled functions, behind `inference.pair`.

`FaceModel` is stage 1: `encode` a picture once, read a `motion` off pictures, `render` motions. `MotionModel` is stage
2: `start` a session, then `step` it window by window. The pair lives in a release folder: `config.json` with the
configs of both, `autoencoder.safetensors`, `motion.safetensors`, `statistics.safetensors` and `model_card.md`; nothing
in it is executed.
"""

import dataclasses
import functools
import json
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Key, UInt8

from vasa_jax import config as configs
from vasa_jax.arrays import FPS, POSE_DIM, Motion, Portrait
from vasa_jax.audio.front_end import AudioEncoderConfig, front_end, slice_samples
from vasa_jax.audio.weights import check_speech, read_speech
from vasa_jax.autoencoder.config import CODE_CELLS, LABEL_MEAN, LABEL_UNIT, AutoencoderConfig
from vasa_jax.autoencoder.gaze import gaze_of, look
from vasa_jax.autoencoder.model import Autoencoder
from vasa_jax.checkpoint import Release, flatten
from vasa_jax.diffusion.guidance import active
from vasa_jax.errors import UserError
from vasa_jax.faces.box import WORLD, Box, frame_face
from vasa_jax.faces.landmarks import Face
from vasa_jax.geometry.rotation import rotation_angles
from vasa_jax.inference.controls import Controls, make_controls
from vasa_jax.inference.pair import ADJUSTMENTS, Adjustments, Options, Sound, check_options, check_step
from vasa_jax.inference.program import Program
from vasa_jax.inference.session import Carry, session_start, session_step, sessions_step
from vasa_jax.liveportrait.animation import calmest
from vasa_jax.liveportrait.driving import DrivingMotion
from vasa_jax.motion.config import MotionConfig
from vasa_jax.motion.denoiser import initialise
from vasa_jax.motion.sampling import GUIDANCE, SAMPLERS
from vasa_jax.motion.statistics import Statistics

KIND = "vasa"
"""Of releases and motion files of this pair."""
STEPS = 50
"""Of the sampler."""
Dtype = Literal["float32", "bfloat16"]
Rendered = tuple[UInt8[Array, "n h w 3"], Bool[Array, " n"]]


class FittedPortrait(NamedTuple):
    """A portrait that `fit` pulled towards its photo. portrait: with the fitted volume. decoder: parameters of the
    network's decoder for this portrait alone, float32."""

    portrait: Portrait
    decoder: dict[str, Any]


class FaceModel:
    """Stage 1 with its parameters: pictures to portraits and motions, and back.

    Attributes:
        config: its sizes. params: its parameters, float32.
        size, sees: side of every picture. batch: frames that are rendered by one call.
    """

    batch = 8

    def __init__(self, config: AutoencoderConfig, params: dict[str, Any]):
        """Joins sizes and parameters; that they fit shows when a program is compiled, which raises UserError if not."""
        self.config = config
        self.size = self.sees = config.image_size
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
            "render_together": Program(jax.vmap(picture, (None, 0, 0)), explain=explain),
        }

    def prepare(self, batch: int | None = None) -> None:
        """Starts compiling what encodes one picture and what renders so many frames of it, in the background."""
        config = self.config
        floats = config.compute_dtype or jnp.dtype("float32")
        volume = jax.ShapeDtypeStruct((1, *config.volume_shape), floats)
        identity = jax.ShapeDtypeStruct((1, CODE_CELLS, CODE_CELLS, config.identity_channels), floats)
        pose, dynamics = (
            jax.ShapeDtypeStruct((batch or self.batch, n), "float32") for n in (POSE_DIM, config.dynamics_dim)
        )
        picture = jax.ShapeDtypeStruct((1, config.image_size, config.image_size, 3), "float32")
        self.programs["encode"].prepare(self.params, picture)
        self.programs["render"].prepare(self.params, Portrait(volume, identity), Motion(pose, dynamics))

    def encode(self, picture: Float[Array, "b h w 3"], face: Face | None = None) -> Portrait:
        """Portraits of pictures in [0, 1]; their own pose is taken out by the network, which needs no landmarks."""
        del face
        return self.programs["encode"](self.params, picture)

    def motion(self, frames: Float[Array, "b h w 3"]) -> Motion:
        """Raw motion, (b, 6) and (b, z), of pictures in [0, 1]."""
        return self.programs["motion"](self.params, frames)

    def render(self, portrait: Portrait | FittedPortrait, motion: Motion) -> Rendered:
        """Pictures, 0 to 255, of one portrait in n raw motions, (n, 6) and (n, z); the pose is absolute.

        Beside them which of them are finite: NaN is black as a picture.
        """
        params = self.params
        if isinstance(portrait, FittedPortrait):
            portrait, params = portrait.portrait, params | {"decoder": portrait.decoder}
        return self.programs["render"](params, portrait, motion)

    def render_together(
        self, portraits: Sequence[Portrait | FittedPortrait], motions: Sequence[Motion]
    ) -> list[Rendered]:
        """The same for several portraits, each in as many motions; fitted ones have a decoder each and go alone."""
        if any(isinstance(portrait, FittedPortrait) for portrait in portraits):
            return [self.render(portrait, motion) for portrait, motion in zip(portraits, motions, strict=True)]
        levels, finite = self.programs["render_together"](self.params, stacked(portraits), stacked(motions))
        return list(zip(levels, finite, strict=True))[: len(portraits)]


class MotionModel:
    """Stage 2 with its parameters and statistics: sound to motion, a window at a time.

    Attributes:
        config: its sizes; a window has `config.window` frames.
        params: its parameters, float32.
        speech: those of the frozen network that it hears through, {} where it hears log-mel.
        statistics: constants of the normalisation.
        needs, controls, guidance, steps, samplers: see `pair.MotionModel`.
    """

    controls = ("gaze", "distance", "emotion")
    samplers = tuple(SAMPLERS)

    def __init__(self, config: MotionConfig, params: dict[str, Any], statistics: Statistics, speech: Any = None):
        """Joins sizes, parameters and constants.

        That the parameters fit shows when the step is compiled, which raises UserError if not.

        Args:
            config, params, statistics: see the class.
            speech: parameters of the frozen network of `config.audio`, as `audio.weights.read_speech` gives them.

        Raises:
            UserError: statistics of other sizes, or no such parameters where the config needs them.
        """
        z = config.dynamics_dim
        shapes = zip(Statistics._fields, ((6,), (6,), (z,), (z, z), (z,)), strict=True)
        wanted = {name: jax.ShapeDtypeStruct(shape, "float32") for name, shape in shapes}
        _check_parameters("statistics", statistics._asdict(), wanted)
        self.config = config
        check_speech(config.audio, speech)
        self._front = front_end(config.audio)
        self.needs = Sound(self._front.lead, self._front.ahead, config.window, self._front.block, config.spare)
        self.steps = (1, min(STEPS, config.timesteps), config.timesteps)
        self.guidance: Mapping[str, float] = {"audio": GUIDANCE["audio"], "gaze": config.gaze_guidance}
        self.params = jax.device_put(params)
        self.speech = jax.device_put({} if speech is None else speech)
        self.statistics = jax.device_put(statistics)

        def explain() -> None:
            _check_parameters("motion", params, _motion_shapes(dataclasses.replace(config, dtype="float32")))

        static = ("hop", "steps", "stepper")
        self.programs = {
            "step": Program(functools.partial(session_step, config), static, explain=explain),
            "step_together": Program(functools.partial(sessions_step, config), static, explain=explain),
        }

    def prepare(self, options: Options, hop: int | None = None) -> None:
        """Starts compiling the step of such a session, in the background."""
        check_options(self, options)
        carry = session_start(self.config, jax.random.key(0))
        sound = jax.ShapeDtypeStruct((slice_samples(self._front, self.config.window),), "float32")
        controls, guidance = _at(make_controls(), 1), self._guidance(options)
        static = {"hop": hop or self.needs.hop} | self._sampler(options)
        self.programs["step"].prepare(
            self.params, self.speech, self.statistics, carry, sound, controls, guidance, np.int32(0), **static
        )

    def make_controls(self, **wishes: Any) -> Controls:
        """Tracks; see `controls.make_controls`."""
        return make_controls(**wishes)

    def start(self, key: Key[Array, ""], portrait: Any = None, controls: Any = None) -> Carry:
        """A new session. This model reads neither: its motion fits every portrait, and controls come with each step."""
        del portrait, controls
        return session_start(self.config, key)

    def step(
        self,
        carry: Carry,
        sound: Float[Array, " n"],
        heard: int,
        hop: int,
        controls: Controls,
        options: Options = Options(),  # noqa: B008 (frozen)
    ) -> tuple[Carry, Motion]:
        """The next frames, raw motion (hop, 6) and (hop, z) from the samples of `needs`; see `session.session_step`.

        Controls are those at the middle of the hop: the network takes one value a window. Another hop, number of
        steps or sampler compiles another program, as does a scale of guidance that becomes 0 or ceases to be.

        Raises:
            UserError: a hop, a number of heard frames, steps, guidance or a sampler that this model cannot do.
        """
        check_step(self.needs, heard, hop)
        check_options(self, options)
        return self.programs["step"](
            self.params,
            self.speech,
            self.statistics,
            carry,
            sound,
            _at(controls, hop),
            self._guidance(options),
            np.int32(heard),
            hop=hop,
            **self._sampler(options),
        )

    def step_together(
        self,
        carries: Sequence[Carry],
        sounds: Sequence[Float[np.ndarray, " n"]],
        heard: int,
        hop: int,
        controls: Sequence[Controls],
        options: Options = Options(),  # noqa: B008 (frozen)
    ) -> list[tuple[Carry, Motion]]:
        """The same for several sessions by one program, which is compiled for 2, 4, 8, ... of them."""
        check_step(self.needs, heard, hop)
        check_options(self, options)
        wanted = [_at(tracks, hop) for tracks in controls]
        following, motions = self.programs["step_together"](
            self.params,
            self.speech,
            self.statistics,
            stacked(carries),
            stacked(sounds),
            stacked(wanted),
            self._guidance(options),
            np.int32(heard),
            hop=hop,
            **self._sampler(options),
        )
        return [jax.tree.map(lambda leaf, i=i: leaf[i], (following, motions)) for i in range(len(carries))]

    def _sampler(self, options: Options) -> dict[str, Any]:
        """What of the options decides a program."""
        return {"steps": int(options.steps or self.steps[1]), "stepper": SAMPLERS[options.sampler or self.samplers[0]]}

    def _guidance(self, options: Options) -> dict[str, np.ndarray]:
        scales = {**GUIDANCE, **self.guidance, **dict(options.guidance)}
        return {name: np.asarray(scale, np.float32) for name, scale in active(scales).items()}


@dataclasses.dataclass(frozen=True)
class VasaPair:
    """Both stages; motion fits every portrait."""

    face: FaceModel
    motion: MotionModel
    kind: str = KIND
    fps: int = FPS
    adjustments: tuple[str, ...] = ADJUSTMENTS
    pastes: bool = False

    @property
    def programs(self) -> tuple[Program, ...]:
        """Of both stages."""
        return (*self.face.programs.values(), *self.motion.programs.values())

    @property
    def shapes(self) -> Motion:
        """Of one frame's motion."""
        return Motion((POSE_DIM,), (self.face.config.dynamics_dim,))

    def frame(self, face: Face) -> Box:
        """The box in which a face lies as in the world's portraits."""
        return frame_face(face, WORLD)

    def watch(self, face: Face) -> Box:
        """The same."""
        return self.frame(face)

    def prepare(self, options: Options | None, hop: int | None = None, batch: int | None = None) -> None:
        """Starts compiling in the background what encodes and renders, and what generates; see `pair.Pair`."""
        self.face.prepare(batch)
        if options is not None:
            self.motion.prepare(options, hop)

    def retarget(
        self, portrait: Any, state: None, motion: Motion, controls: Controls, adjustments: Adjustments
    ) -> tuple[None, Motion]:
        """Motion as it is, but for adjustments. Gains are of what departs from the training mean, of the mouth's
        opening and of the lids' closing; the eyes go on looking where they looked."""
        del portrait, state
        if adjustments == Adjustments():
            return None, motion
        return None, adjust(self.motion.statistics, motion, controls, adjustments)

    def fit(
        self, portrait: Portrait, picture: Any, motions: Motion, steps: int, seed: int, progress: Callable[[int], None]
    ) -> tuple[FittedPortrait, str]:
        """The portrait, pulled towards its picture; see `fit.fit`."""
        from vasa_jax.inference.fit import fit

        key = jax.random.fold_in(jax.random.key(seed), steps)
        fitted = fit(self.face, portrait, picture, motions, steps=steps, key=key, progress=progress)
        gain = f"PSNR of the picture at its own motion {fitted.before:.1f} dB before, {fitted.after:.1f} dB after"
        return fitted.portrait, f"the portrait was fitted in {steps} steps: {gain}"

    def still(self, portrait: Portrait) -> Motion:
        """Refused: this pair's frames are not put back into a picture."""
        raise UserError(f"models of kind {KIND!r} draw whole squares, which are not put back into a picture")

    def follow(self, driver: DrivingMotion, pose: bool) -> Motion:
        """The head of LivePortrait's motion, moved from the training mean as it moves from its own calmest frame.

        Raises:
            UserError: where more than the pose is asked for: its expressions are keypoints of another model.
        """
        if not pose:
            raise UserError(
                f"LivePortrait's expressions cannot drive a model of kind {KIND!r}; take its head alone, with pose_from"
            )
        calm = calmest(driver.motion)
        turned = np.einsum("tij,kj->tik", np.asarray(driver.motion.rotation), np.asarray(calm.rotation)[0])
        angles = [np.asarray(angle) for angle in rotation_angles(jnp.asarray(turned))]
        moved = np.asarray(driver.motion.translation) - np.asarray(calm.translation)
        farther = -np.log(np.asarray(driver.motion.scale)[:, 0] / np.asarray(calm.scale)[0, 0])
        statistics = jax.device_get(self.motion.statistics)
        pose_of = statistics.pose_mean + np.stack([*angles, moved[:, 0], moved[:, 1], farther], 1)
        still = np.broadcast_to(statistics.dynamics_mean, (len(pose_of), *statistics.dynamics_mean.shape))
        return Motion(pose_of.astype(np.float32), still.astype(np.float32))

    def join(self, pose: Motion, dynamics: Motion) -> Motion:
        """The head pose of one motion and the facial dynamics of another; the eyes look where the second one looked."""
        return _looking_as(dynamics, Motion(pose.pose, dynamics.dynamics))


def adjust(statistics: Statistics, motion: Motion, controls: Controls, adjustments: Adjustments) -> Motion:
    """Motion, (t, 6) and (t, z), with gains, position and zoom.

    With g = amplitude times the gain of a part, a pose becomes m + g (pose - m) around the training mean m (at the
    asked distance), the mouth's opening g times itself, what the lids are closed g times that, other dynamics move g
    around their mean. Position and zoom are added to (tx, ty) and taken from the log distance.
    """
    statistics = jax.device_get(statistics)
    pose, dynamics = (np.asarray(part, np.float32) for part in motion)
    mean = statistics.pose_mean + np.pad(np.asarray(controls.distance, np.float32), ((0, 0), (POSE_DIM - 1, 0)))
    moved = mean + adjustments.amplitude * adjustments.head * (pose - mean)
    moved = moved + np.array([0, 0, 0, *adjustments.position, -np.log(adjustments.zoom)], np.float32)
    rest = np.array([0.0, 1.0, 1.0, 0.0, 0.0], np.float32)  # shut mouth, open lids; the gaze is kept below
    first = len(rest)
    centre, unit = (np.asarray(part[:first], np.float32) for part in (LABEL_MEAN, LABEL_UNIT))
    gains = adjustments.amplitude * np.array([adjustments.mouth, *[adjustments.blink] * 2, 1, 1], np.float32)
    labels = rest + gains * (centre + unit * dynamics[:, :first] - rest)
    labels[:, :3] = np.clip(labels[:, :3], 0, 1)
    others = statistics.dynamics_mean[first:]
    others = others + adjustments.amplitude * (dynamics[:, first:] - others)
    changed = Motion(moved, np.concatenate([(labels - centre) / unit, others], 1))
    return _looking_as(motion, changed)


def _looking_as(seen: Motion, motion: Motion) -> Motion:
    """The second motion, whose eyes look where those of the first one do, NumPy. Stretches are filled up to 8, 16, ...
    frames, so that short ones of any length are one program."""
    count = len(seen.pose)
    fill = max(8, 1 << (count - 1).bit_length()) - count
    filled = jax.tree.map(lambda part: np.pad(part, ((0, fill), (0, 0)), mode="edge"), (seen, motion))
    return Motion(*(np.asarray(part, np.float32)[:count] for part in _turn_eyes(*filled)))


@jax.jit
def _turn_eyes(seen: Motion, motion: Motion) -> Motion:
    return look(motion, gaze_of(seen))


def stacked(trees: Sequence[Any]) -> Any:
    """Equal trees along a new first axis, whose length is a power of two: the last tree is repeated."""
    count = 1 << (len(trees) - 1).bit_length()
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees, *[trees[-1]] * (count - len(trees)))


def _at(controls: Controls, hop: int) -> Controls:
    """The values at the middle of a hop."""
    return Controls(*(track[min(hop // 2, len(track) - 1)] for track in controls))


def from_release(
    release: Release, name: str, dtype: Dtype = "float32", speech: str | os.PathLike | None = None
) -> VasaPair:
    """The pair of a release that was read.

    Args:
        release: as `vasa_jax.training.export` writes it.
        name: what errors call it.
        dtype: of the features while computing; parameters, poses and the sampler's state stay float32.
        speech: folder of the speech network that the model hears through; None is the one that its config names.

    Raises:
        UserError: a release that is not whole, or whose parts do not fit; a speech network that is missing, another
            one, or not needed.
    """
    if missing := [part for part in ("autoencoder", "motion") if part not in release.config]:
        raise UserError(f"{name} is not a complete model: its config.json has no {missing[0]!r}")
    if missing := [part for part in ("autoencoder", "motion", "statistics") if part not in release.tensors]:
        raise UserError(f"{name} is not a complete model: it has no {missing[0]}.safetensors")
    face = configs.from_json(json.dumps(release.config["autoencoder"]), AutoencoderConfig)
    motion = configs.from_json(json.dumps(release.config["motion"]), MotionConfig)
    _check_pair(face, motion)
    parts = release.tensors["statistics"]
    if set(parts) != set(Statistics._fields):
        raise UserError(f"{name}: statistics.safetensors must hold {', '.join(Statistics._fields)}")
    return VasaPair(
        FaceModel(dataclasses.replace(face, dtype=dtype), release.tensors["autoencoder"]),
        MotionModel(
            dataclasses.replace(motion, dtype=dtype),
            release.tensors["motion"],
            Statistics(**parts),
            speech_of(motion.audio, name, speech),
        ),
    )


def speech_of(audio: AudioEncoderConfig, name: str, folder: str | os.PathLike | None) -> dict[str, Any]:
    """The parameters of the frozen network that a release hears through; {} where there is none.

    Args:
        audio: its front end.
        name: what errors call the release.
        folder: of the network; None is the one that `audio` names.

    Raises:
        UserError: a network that is missing, another one, or not needed.
    """
    if not audio.frozen:
        if folder is not None:
            raise UserError(f"{name} hears log-mel and takes no speech network; leave --speech out")
        return {}
    place = audio.weights if folder is None else os.fspath(folder)
    if not os.path.isdir(place):
        raise UserError(
            f"{name} hears through {audio.kind} with SHA-256 {audio.sha256[:16]}, and there is no folder {place!r} of "
            "its weights; name it with --speech"
        )
    return read_speech(place, audio)


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
