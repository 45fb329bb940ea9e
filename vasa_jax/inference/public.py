"""The public pair: LivePortrait draws, JoyVASA moves, with the weights that their authors published (MIT).

One portrait gives an appearance volume and keypoints; JoyVASA turns sound into LivePortrait's motion, which moves the
portrait relative to a calm frame of that motion; the small stitching network mends the shoulders. The networks and the
rules between them are in `liveportrait` and `joyvasa`; this module joins them behind `inference.pair`.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Key, UInt8

from vasa_jax.arrays import FPS, SAMPLES_PER_FRAME
from vasa_jax.checkpoint import Release
from vasa_jax.errors import UserError
from vasa_jax.faces.box import Box
from vasa_jax.faces.landmarks import MOUTH, Face
from vasa_jax.geometry.rotation import rotation_matrix
from vasa_jax.inference.pair import ADJUSTMENTS, Adjustments, Options, Sound, check_options, check_step
from vasa_jax.inference.program import Program
from vasa_jax.joyvasa.motion_generator import RELEASED, MotionGenerator, MotionGeneratorConfig
from vasa_jax.joyvasa.sampling import GUIDANCE, sample
from vasa_jax.joyvasa.template import denormalise
from vasa_jax.liveportrait import pictures
from vasa_jax.liveportrait.animation import Correctors, Source, animate, calmest
from vasa_jax.liveportrait.appearance import AppearanceFeatureExtractor
from vasa_jax.liveportrait.driving import DrivingMotion
from vasa_jax.liveportrait.keypoints import HeadMotion, place, read_heads
from vasa_jax.liveportrait.motion_extractor import MotionExtractor
from vasa_jax.liveportrait.rendering import render
from vasa_jax.liveportrait.stitching import RETARGET_EYE, RETARGET_LIP, STITCHING, Corrector
from vasa_jax.liveportrait.warping import WarpingModule, WarpSource
from vasa_jax.nn.resize import average_pool

KIND = "liveportrait-joyvasa"
"""Of releases and motion files of this pair."""
NETWORKS = ("appearance", "motion_extractor", "warping", "generator", "stitching", "retarget_eye", "retarget_lip")
"""Names of LivePortrait's networks in a release."""
BATCH = 8
"""Frames in one call of W and G on an accelerator; a CPU gains nothing from more than one."""
CALM_SECONDS = 0.25
"""Time constant of the smoothing of the head."""
POSITIONS = "constant"
"""Kind of positions that the published motion generator was trained with."""
Dtype = Literal["float32", "bfloat16"]
Rendered = tuple[UInt8[Array, "t 512 512 3"], Bool[Array, " t"]]


class PublicPortrait(NamedTuple):
    """What W and G need of a portrait, and what motion is fitted to.

    volume: of `WarpingModule.prepare`. source: canonical keypoints, own motion, ratios of eyes and lips.
    """

    volume: WarpSource
    source: Source


class PublicFace:
    """LivePortrait.

    Attributes:
        size: side of a frame. sees: side of the picture that is read, a crop of `PublicPair.frame`.
        batch: frames in one call of W and G, or fewer where `prepare` was told so.
    """

    size, sees = pictures.CROP, pictures.CROP

    def __init__(self, tensors: dict[str, Any], dtype: Dtype = "float32"):
        """`tensors`: name of `NETWORKS` to Flax variables, float32. `dtype`: of the features of W and G."""
        features = self._features = None if dtype == "float32" else jnp.dtype(dtype)
        self.batch = 1 if jax.default_backend() == "cpu" else BATCH
        self._sizes = {self.batch}
        self._variables = {name: jax.device_put(tensors[name]) for name in NETWORKS}
        sizes = {"stitching": STITCHING, "retarget_eye": RETARGET_EYE, "retarget_lip": RETARGET_LIP}
        self.programs = {"encode": Program(functools.partial(_encode, features), rare=True), "motion": Program(_motion)}
        self.programs |= {"render": Program(functools.partial(render, dtype=features))}
        self.programs |= {name: Program(functools.partial(_correct, size), rare=True) for name, size in sizes.items()}

    def prepare(self, batch: int | None = None) -> None:
        """Starts compiling what encodes one picture and what renders a batch of frames of it, in the background; where
        fewer than `self.batch` are rendered together, what renders so many."""
        size = min(batch or self.batch, self.batch)
        self._sizes.add(size)
        read, picture, volume = self._encoding
        self.programs["encode"].prepare(*read, picture)
        driving = jax.ShapeDtypeStruct((size, 21, 3), "float32")
        self.programs["render"].prepare(*self._of("warping", "generator"), volume, driving)

    @functools.cached_property
    def _encoding(self) -> tuple[Any, Any, Any]:
        """What encodes: variables, and the shapes of a picture and of its volume."""
        read = self._of("appearance", "motion_extractor", "warping")
        picture = jax.ShapeDtypeStruct((1, self.sees, self.sees, 3), "float32")
        return read, picture, jax.eval_shape(functools.partial(_encode, self._features), *read, picture)[0]

    def encode(self, picture: Float[Array, "1 n n 3"], face: Face | None = None) -> PublicPortrait:
        """What stays of a face.

        Args:
            picture: the crop, in [0, 1], 512 or 256 pixels wide.
            face: its landmarks, for the ratios of eyes and lips; without them the mouth counts as shut.
        """
        eyes, lips = (np.zeros(2, np.float32), np.zeros(1, np.float32)) if face is None else ratios_of(face)
        networks = self._of("appearance", "motion_extractor", "warping")
        volume, keypoints, motion = self.programs["encode"](*networks, jnp.asarray(picture))
        return PublicPortrait(volume, Source(keypoints[0], HeadMotion(*(part[0] for part in motion)), eyes, lips))

    def motion(self, frames: Float[Array, "t n n 3"]) -> HeadMotion:
        """LivePortrait's motion of pictures in [0, 1]."""
        return self.programs["motion"](*self._of("motion_extractor"), jnp.asarray(frames))

    def render(self, portrait: PublicPortrait, motion: Float[Array | np.ndarray, "t 21 3"]) -> Rendered:
        """Frames of 512 pixels of a portrait whose keypoints were placed by `PublicPair.retarget`; rounded."""
        levels = self.levels(portrait, motion)
        return jnp.round(jnp.clip(levels, 0, 1) * 255).astype(jnp.uint8), jnp.isfinite(levels).all((1, 2, 3))

    def render_together(self, portraits: Sequence[PublicPortrait], motions: Sequence[Any]) -> list[Rendered]:
        """The same for several portraits, one after the other: one fills the device."""
        return [self.render(portrait, motion) for portrait, motion in zip(portraits, motions, strict=True)]

    def levels(
        self, portrait: PublicPortrait, motion: Float[Array | np.ndarray, "t 21 3"]
    ) -> Float[Array, "t 512 512 3"]:
        """Frames as the generator gives them, float32 in [0, 1]."""
        networks = self._of("warping", "generator")
        parts = [self.programs["render"](*networks, portrait.volume, batch) for batch in self._batches(motion)]
        return jnp.concatenate(parts)[: len(motion)]

    def correctors(self) -> Correctors:
        """The three small networks."""

        def corrector(name: str) -> Callable[[Any], Any]:
            return lambda features: self.programs[name](self._variables[name], jnp.asarray(features))

        return Correctors(corrector("stitching"), corrector("retarget_eye"), corrector("retarget_lip"))

    def _of(self, *names: str) -> tuple[Any, ...]:
        return tuple(self._variables[name] for name in names)

    def _batches(self, items: Any) -> Iterator[Array]:
        """Batches of sizes that are compiled; the last one is filled up with its last item to the next of them."""
        items = jnp.asarray(items)
        for i in range(0, len(items), self.batch):
            batch = items[i : i + self.batch]
            size = min(size for size in self._sizes if size >= len(batch))
            yield jnp.concatenate([batch, jnp.repeat(batch[-1:], size - len(batch), 0)])


class PublicCarry(NamedTuple):
    """What a JoyVASA session remembers: its key, the windows so far, and the last frames that were emitted.

    motion: (1, p, d), normalised. audio: (1, p, c), their features.
    """

    key: Any
    window: Any
    motion: Any
    audio: Any


class PublicMotion:
    """JoyVASA.

    Attributes:
        needs: windows of 100 frames, nothing before and behind: a frame is made of its own sound, as in training.
        controls, guidance, steps, samplers: see `pair.MotionModel`.
        variables, template: of the generator, and its statistics (`joyvasa.template`).
    """

    controls = ()
    guidance: Mapping[str, float] = MappingProxyType({"audio": GUIDANCE})
    samplers = ("ancestral",)

    def __init__(self, tensors: dict[str, Any], config: MotionGeneratorConfig = RELEASED):
        """`tensors`: "motion_generator", Flax variables of a generator of such sizes, and "template", the statistics of
        `joyvasa.template`."""
        self.config = config
        self.needs = Sound(0, 0, config.window)
        self.steps = (config.steps, config.steps, config.steps)
        self.variables = jax.device_put(tensors["motion_generator"])
        self.template = {name: np.asarray(value) for name, value in tensors["template"].items()}
        self.programs = {"step": Program(functools.partial(_step, config), static=("hop",))}

    def prepare(self, options: Options, hop: int | None = None) -> None:
        """Starts compiling the step of a session that emits so many frames, or whole windows, in the background."""
        carry = self.start(jax.random.key(0))
        sound = jax.ShapeDtypeStruct((SAMPLES_PER_FRAME * self.needs.window,), "float32")
        self.programs["step"].prepare(self.variables, carry, sound, self._guidance(options), hop=hop or self.needs.hop)

    def make_controls(self, **wishes: Any) -> tuple[()]:
        """None: this model hears sound alone. Raises UserError for any wish."""
        for name in wishes:
            raise UserError(f"models of kind {KIND!r} have no {name}; leave it out")
        return ()

    def start(self, key: Key[Array, ""], portrait: Any = None, controls: Any = None) -> PublicCarry:
        """A session that begins with the learned frames."""
        del portrait, controls
        params = self.variables["params"]
        return PublicCarry(key, np.int32(0), params["start_motion"], params["start_audio"])

    def step(
        self,
        carry: PublicCarry,
        sound: Float[Array, " n"],
        heard: int,
        hop: int,
        controls: Any = (),
        options: Options = Options(),  # noqa: B008 (frozen)
    ) -> tuple[PublicCarry, HeadMotion]:
        """The next frames; see `pair.MotionModel`. JoyVASA was not trained for sound that is still to come: what is
        not heard is silence to it."""
        del controls
        check_step(self.needs, heard, hop)
        check_options(self, options)
        silent = np.arange(len(sound)) >= heard * SAMPLES_PER_FRAME
        sound = jnp.where(silent, 0.0, jnp.asarray(sound, jnp.float32))
        carry, drawn = self.programs["step"](self.variables, carry, sound, self._guidance(options), hop=hop)
        parts = denormalise(drawn[0], self.template)
        pitch, yaw, roll = (jnp.deg2rad(angle[:, 0]) for angle in (parts.pitch, parts.yaw, parts.roll))
        return carry, HeadMotion(rotation_matrix(pitch, yaw, roll), parts.exp, parts.scale, parts.t)

    def step_together(
        self,
        carries: Sequence[PublicCarry],
        sounds: Sequence[Float[np.ndarray, " n"]],
        heard: int,
        hop: int,
        controls: Sequence[Any],
        options: Options = Options(),  # noqa: B008 (frozen)
    ) -> list[tuple[PublicCarry, HeadMotion]]:
        """The same for several sessions, one after the other."""
        each = zip(carries, sounds, controls, strict=True)
        return [self.step(carry, jnp.asarray(sound), heard, hop, wanted, options) for carry, sound, wanted in each]

    def _guidance(self, options: Options) -> np.ndarray:
        return np.asarray(dict(options.guidance).get("audio", GUIDANCE), np.float32)


class RetargetState(NamedTuple):
    """calm: the frame of the driver that motion is relative to. last: the smoothed head of the frame before."""

    calm: HeadMotion
    last: HeadMotion


@dataclasses.dataclass(frozen=True)
class PublicPair:
    """Both, joined by relative motion."""

    face: PublicFace
    motion: Any  # PublicMotion, or another model of LivePortrait's motion
    kind: str = KIND
    fps: int = FPS
    adjustments: tuple[str, ...] = ADJUSTMENTS
    pastes: bool = True

    @property
    def programs(self) -> tuple[Program, ...]:
        """Of both."""
        return (*self.face.programs.values(), *self.motion.programs.values())

    @property
    def shapes(self) -> HeadMotion:
        """Of one frame's motion."""
        return HeadMotion((3, 3), (21, 3), (1,), (3,))

    def frame(self, face: Face) -> Box:
        """The crop of the originals, turned with the face, as a box of the photo."""
        return pictures.find_box(face.points)

    def watch(self, face: Face) -> Box:
        """The crop of the originals for driving videos, upright."""
        return pictures.find_box(face.points, pictures.DRIVER_SCALE, pictures.DRIVER_UP, upright=False)

    def prepare(self, options: Options | None, hop: int | None = None, batch: int | None = None) -> None:
        """Starts compiling in the background what encodes and renders, and what generates; see `pair.Pair`."""
        if options is not None:
            self.motion.prepare(options, hop)
        self.face.prepare(batch)

    def retarget(
        self,
        portrait: PublicPortrait,
        state: RetargetState | None,
        motion: HeadMotion,
        controls: Any,
        adjustments: Adjustments,
    ) -> tuple[RetargetState, Float[Array, "t 21 3"]]:
        """Keypoints of a stretch of motion, relative to the calmest frame of the first window of the first stretch; the
        head is smoothed with a time constant of `CALM_SECONDS`."""
        del controls
        if state is None:
            calm = calmest(HeadMotion(*(np.asarray(part)[: self.motion.needs.window] for part in motion)))
            state = RetargetState(calm, calm)
        smoothed = _smooth(state.last, motion, 1 - np.exp(-1 / (CALM_SECONDS * FPS)))
        placed = animate(
            portrait.source,
            smoothed,
            state.calm,
            self.face.correctors(),
            face=adjustments.amplitude,
            head=adjustments.amplitude * adjustments.head,
            mouth=adjustments.mouth,
            blink=adjustments.blink,
            position=adjustments.position,
            zoom=adjustments.zoom,
        )
        return RetargetState(state.calm, HeadMotion(*(part[-1:] for part in smoothed))), placed

    def fit(self, portrait: Any, picture: Any, motions: Any, steps: int, seed: int, progress: Any) -> Any:
        """Refused: this pair draws a photo well as it is."""
        raise UserError(f"models of kind {self.kind!r} have no fit; leave it out")

    def still(self, portrait: PublicPortrait) -> Float[Array, "1 21 3"]:
        """The portrait's own keypoints."""
        return portrait.source.placed

    def join(self, pose: HeadMotion, dynamics: HeadMotion) -> HeadMotion:
        """Rotation, scale and translation of one motion, the expression of another."""
        return pose._replace(expression=dynamics.expression)

    def follow(self, driver: DrivingMotion, pose: bool) -> HeadMotion:
        """LivePortrait's motion is this pair's own."""
        del pose
        return HeadMotion(*(np.asarray(part, np.float32) for part in driver.motion))


def ratios_of(face: Face) -> tuple[np.ndarray, np.ndarray]:
    """Height over width of both eyes (2,) and of the inner lips (1,) of a face."""

    def ratio(upper: int, lower: int, left: int, right: int) -> float:
        high, wide = (np.hypot(*(face.points[a] - face.points[b])) for a, b in ((upper, lower), (left, right)))
        return float(high / (wide + 1e-6))

    eyes = [ratio(159, 145, 33, 133), ratio(386, 374, 362, 263)]
    return np.array(eyes, np.float32), np.array([ratio(*pictures.INNER_LIPS, *MOUTH)], np.float32)


def check_face(tensors: Mapping[str, Any], name: str) -> None:
    """Raise UserError where a release, called `name`, lacks one of LivePortrait's networks."""
    if missing := [network for network in NETWORKS if network not in tensors]:
        raise UserError(f"{name} is half of a pair: it has no {missing[0]}.safetensors; convert both again")


def from_release(release: Release, name: str, dtype: Dtype = "float32") -> PublicPair:
    """The pair of a release that was read.

    Args:
        release: as `convert.pair` writes it.
        name: what errors call it.
        dtype: of the features of W and G while computing; parameters, keypoints and grids stay float32.

    Raises:
        UserError: a release that is not whole.
    """
    check_face(release.tensors, name)
    if missing := [part for part in ("motion_generator", "template") if part not in release.tensors]:
        raise UserError(f"{name} is half of a pair: it has no {missing[0]}.safetensors; convert both again")
    return PublicPair(PublicFace(release.tensors, dtype), PublicMotion(release.tensors))


def _encode(
    dtype: DTypeLike | None, appearance: Any, extractor: Any, warping: Any, picture: Float[Array, "1 n n 3"]
) -> tuple[WarpSource, Array, HeadMotion]:
    seen = halved(picture)
    keypoints, motion = read_heads(MotionExtractor().apply(extractor, seen))  # pyright: ignore
    volume = AppearanceFeatureExtractor().apply(appearance, seen)
    placed = place(keypoints, motion)
    return WarpingModule(dtype).apply(warping, volume, placed, method="prepare"), keypoints, motion  # pyright: ignore


def _motion(extractor: Any, frames: Float[Array, "t n n 3"]) -> HeadMotion:
    return read_heads(MotionExtractor().apply(extractor, halved(frames)))[1]  # pyright: ignore


def _correct(sizes: Any, variables: Any, features: Float[Array, "t k"]) -> Float[Array, "t n"]:
    return jnp.asarray(Corrector(sizes).apply(variables, features))


def _step(
    config: MotionGeneratorConfig,
    variables: Any,
    carry: PublicCarry,
    sound: Float[Array, " n"],
    guidance: Any,
    hop: int,
) -> tuple[PublicCarry, Float[Array, "1 t d"]]:
    shape = (1, config.window, config.motion)
    start = jax.random.normal(jax.random.fold_in(carry.key, 0), shape)
    noise = jax.random.normal(jax.random.fold_in(carry.key, carry.window + 1), (config.steps, *shape))
    features = jnp.asarray(MotionGenerator(config).apply(variables, sound[None], method="audio_features"))
    previous = (carry.motion, carry.audio)
    drawn = sample(variables, features, start, noise, previous, guidance, POSITIONS, config)[:, :hop]

    def last(before: Array, new: Array) -> Array:
        return jnp.concatenate([before, new], 1)[:, -config.previous :]

    following = PublicCarry(
        carry.key, carry.window + 1, last(carry.motion, drawn), last(carry.audio, features[:, :hop])
    )
    return following, drawn


def halved(picture: Float[Array, "t n n 3"]) -> Float[Array, "t 256 256 3"]:
    """Pictures as the networks read them: those of 512 pixels at half their size, those of 256 as they are."""
    return average_pool(picture, (2, 2)) if picture.shape[1] == pictures.CROP else picture


def _smooth(last: HeadMotion, motion: HeadMotion, share: float) -> HeadMotion:
    """Rotation, scale and translation of a stretch, each frame `share` new and the rest the frame before."""
    parts = {}
    for name in ("rotation", "scale", "translation"):
        rows, before = np.asarray(getattr(motion, name)), np.asarray(getattr(last, name))[0]
        smoothed = np.empty_like(rows)
        for i, row in enumerate(rows):
            before = smoothed[i] = share * row + (1 - share) * before
        parts[name] = smoothed
    left, _, right = np.linalg.svd(parts["rotation"])  # the nearest rotation
    return motion._replace(**parts | {"rotation": left @ right})
