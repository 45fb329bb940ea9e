"""The public pair: LivePortrait draws, JoyVASA moves, with the weights that their authors published (MIT).

One portrait gives an appearance volume and keypoints; JoyVASA turns sound into LivePortrait's motion, which moves the
portrait relative to a calm frame of that motion; the small stitching network mends the shoulders. The networks and the
rules between them are in `liveportrait` and `joyvasa`; this module joins them behind `inference.pair`.
"""

import contextlib
import dataclasses
import functools
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, UInt8

from vasa_jax.arrays import FPS, SAMPLES_PER_FRAME
from vasa_jax.checkpoint import Release, load_release
from vasa_jax.errors import UserError
from vasa_jax.faces.box import Box
from vasa_jax.faces.landmarks import MOUTH, Face
from vasa_jax.geometry.rotation import rotation_matrix
from vasa_jax.inference.pair import Options, Sound, check_step
from vasa_jax.joyvasa.motion_generator import RELEASED, MotionGenerator
from vasa_jax.joyvasa.sampling import GUIDANCE, sample
from vasa_jax.joyvasa.template import denormalise
from vasa_jax.liveportrait import pictures
from vasa_jax.liveportrait.animation import Correctors, Rules, Source, drive, follow_speech
from vasa_jax.liveportrait.appearance import AppearanceFeatureExtractor
from vasa_jax.liveportrait.driving import DrivingMotion
from vasa_jax.liveportrait.generator import SpadeGenerator
from vasa_jax.liveportrait.keypoints import HeadMotion, place, read_heads
from vasa_jax.liveportrait.motion_extractor import MotionExtractor
from vasa_jax.liveportrait.stitching import RETARGET_EYE, RETARGET_LIP, STITCHING, Corrector
from vasa_jax.liveportrait.warping import WarpingModule, WarpSource
from vasa_jax.media.audio import AudioReader, AudioSource
from vasa_jax.nn.resize import average_pool

KIND = "liveportrait-joyvasa"
"""Of releases and motion files of this pair."""
NETWORKS = ("appearance", "motion_extractor", "warping", "generator", "stitching", "retarget_eye", "retarget_lip")
"""Names of LivePortrait's networks in a release."""
BATCHES = {"cpu": 1}
"""Frames in one call of W and G by platform; 8 elsewhere. A CPU gains nothing from more."""
CALM_SECONDS = 0.25
"""Time constant of the smoothing of the head."""
POSITIONS = "constant"
"""Kind of positions that the published motion generator was trained with."""
Dtype = Literal["float32", "bfloat16"]


class PublicPortrait(NamedTuple):
    """What W and G need of a portrait, and what motion is fitted to.

    volume: of `WarpingModule.prepare`. source: canonical keypoints, own motion, ratios of eyes and lips.
    """

    volume: WarpSource
    source: Source


class PublicFace:
    """LivePortrait.

    Attributes:
        size: side of a frame. sees: side of the picture that is read, a crop of `frame_face`.
    """

    size, sees = pictures.CROP, pictures.CROP

    def __init__(self, tensors: dict[str, Any]):
        """`tensors`: name of `NETWORKS` to Flax variables, float32."""
        self._variables = {name: jax.device_put(tensors[name]) for name in NETWORKS}

    def encode(self, picture: Float[Array, "1 n n 3"], ratios: tuple[Any, Any] | None = None) -> PublicPortrait:
        """What stays of a face.

        Args:
            picture: the crop, in [0, 1], 512 or 256 pixels wide.
            ratios: of eyes (2,) and lips (1,), from landmarks; without them the mouth counts as shut.
        """
        volume, keypoints, motion = _encode(self._variables, jnp.asarray(picture))
        eyes, lips = (np.zeros(2, np.float32), np.zeros(1, np.float32)) if ratios is None else ratios
        return PublicPortrait(volume, Source(keypoints[0], HeadMotion(*(part[0] for part in motion)), eyes, lips))

    def motion(self, frames: Float[Array, "t n n 3"]) -> HeadMotion:
        """LivePortrait's motion of pictures in [0, 1]."""
        batches = [_motion(self._variables, batch) for batch in _batches(frames)]
        return jax.tree.map(lambda *parts: np.concatenate(parts)[: len(frames)], *map(jax.device_get, batches))

    def render(self, portrait: PublicPortrait, motion: Float[Array, "t 21 3"]) -> UInt8[np.ndarray, "t 512 512 3"]:
        """Frames of a portrait whose keypoints were placed by `PublicPair.retarget`; rounded."""
        frames = self.levels(portrait, motion)
        return np.round(np.clip(frames, 0, 1) * 255).astype(np.uint8)

    def levels(self, portrait: PublicPortrait, motion: Float[Array, "t 21 3"]) -> Float[np.ndarray, "t 512 512 3"]:
        """Frames as the generator gives them, float32 in [0, 1]."""
        parts = [np.asarray(_render(self._variables, portrait.volume, batch)) for batch in _batches(motion)]
        return np.concatenate(parts)[: len(motion)]

    def correctors(self) -> Correctors:
        """The three small networks."""
        names = {"stitching": STITCHING, "retarget_eye": RETARGET_EYE, "retarget_lip": RETARGET_LIP}
        networks = {name: functools.partial(_correct, size, self._variables[name]) for name, size in names.items()}
        return Correctors(networks["stitching"], networks["retarget_eye"], networks["retarget_lip"])


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
        needs: 100 frames of sound at a time, nothing before and behind.
    """

    needs = Sound(0, 0, RELEASED.window)

    def __init__(self, tensors: dict[str, Any]):
        """`tensors`: "motion_generator", Flax variables, and "template", the statistics of `joyvasa.template`."""
        self._variables = jax.device_put(tensors["motion_generator"])
        self._template = {name: np.asarray(value) for name, value in tensors["template"].items()}

    def start(self, key: Key[Array, ""], portrait: Any = None, controls: Any = None) -> PublicCarry:
        """A session that begins with the learned frames."""
        del portrait, controls
        params = self._variables["params"]
        return PublicCarry(key, np.int32(0), params["start_motion"], params["start_audio"])

    def step(
        self,
        carry: PublicCarry,
        sound: Float[Array, " n"],
        heard: int,
        hop: int,
        controls: Any = None,
        options: Options = Options(),  # noqa: B008 (frozen)
    ) -> tuple[PublicCarry, HeadMotion]:
        """The next frames; see `pair.MotionModel`. JoyVASA was not trained for sound that is still to come: what is
        not heard is silence to it."""
        del controls
        check_step(self.needs, heard, hop)
        scale = _guidance(options)
        silent = np.arange(len(sound)) >= heard * SAMPLES_PER_FRAME
        sound = jnp.where(silent, 0.0, jnp.asarray(sound, jnp.float32))
        carry, drawn = _step(self._variables, carry, sound, scale, hop)
        parts = denormalise(drawn[0], self._template)
        pitch, yaw, roll = (jnp.deg2rad(angle[:, 0]) for angle in (parts.pitch, parts.yaw, parts.roll))
        return carry, HeadMotion(rotation_matrix(pitch, yaw, roll), parts.exp, parts.scale, parts.t)


class RetargetState(NamedTuple):
    """calm: the frame of the driver that motion is relative to. last: the smoothed head of the frame before."""

    calm: HeadMotion
    last: HeadMotion


@dataclasses.dataclass(frozen=True)
class PublicPair:
    """Both, joined by LivePortrait's relative motion.

    rules: how motion moves a portrait.
    """

    face: PublicFace
    motion: PublicMotion
    rules: Rules = Rules(close_lips=True)  # noqa: RUF009 (frozen)
    kind: str = KIND
    fps: int = FPS

    def frame(self, face: Face) -> Box:
        """The crop of the originals, turned with the face, as a box of the photo."""
        transform = pictures.find_crop(face.points - 0.5)
        middle = transform.to_photo @ np.array([255.5, 255.5, 1.0])
        k, turn = np.hypot(*transform.to_crop[0, :2]), np.arctan2(transform.to_crop[0, 1], transform.to_crop[0, 0])
        return Box(float(middle[0] + 0.5), float(middle[1] + 0.5), float(pictures.CROP / k), float(np.degrees(turn)))

    def retarget(
        self, portrait: PublicPortrait, state: RetargetState | None, motion: HeadMotion
    ) -> tuple[RetargetState, Float[Array, "t 21 3"]]:
        """Keypoints of a stretch of motion from speech, relative to the calmest frame of the first stretch; the head
        is smoothed with a time constant of `CALM_SECONDS`."""
        if state is None:
            calm = calmest(motion)
            state = RetargetState(calm, calm)
        smoothed = _smooth(state.last, motion, 1 - np.exp(-1 / (CALM_SECONDS * FPS)))
        joined = HeadMotion(*(jnp.concatenate([a, b]) for a, b in zip(state.calm, smoothed, strict=True)))
        placed = follow_speech(portrait.source, joined, self.rules, self.face.correctors())[1:]
        return RetargetState(state.calm, HeadMotion(*(part[-1:] for part in smoothed))), placed

    def follow(self, portrait: PublicPortrait, driver: DrivingMotion) -> Float[Array, "t 21 3"]:
        """Keypoints of a driving video's or motion file's frames, by LivePortrait's rules."""
        return drive(portrait.source, driver, self.rules, self.face.correctors())


def calmest(motion: HeadMotion) -> HeadMotion:
    """The frame (1, ...) of a stretch whose expression is smallest and whose head is turned least."""
    size = np.abs(np.asarray(motion.expression)).mean((1, 2))
    turn = 1 - np.trace(np.asarray(motion.rotation), axis1=1, axis2=2) / 3
    index = int(np.argmin(size / (size.mean() + 1e-9) + turn / (turn.mean() + 1e-9)))
    return HeadMotion(*(jnp.asarray(part)[index : index + 1] for part in motion))


def ratios_of(face: Face) -> tuple[np.ndarray, np.ndarray]:
    """Height over width of both eyes (2,) and of the inner lips (1,) of a face."""

    def ratio(upper: int, lower: int, left: int, right: int) -> float:
        high, wide = (np.hypot(*(face.points[a] - face.points[b])) for a, b in ((upper, lower), (left, right)))
        return float(high / (wide + 1e-6))

    eyes = [ratio(159, 145, 33, 133), ratio(386, 374, 362, 263)]
    return np.array(eyes, np.float32), np.array([ratio(*pictures.INNER_LIPS, *MOUTH)], np.float32)


def load_public(folder: str | Path) -> PublicPair:
    """The pair of a release folder; raises UserError where it is none of this kind, or not whole."""
    return from_release(load_release(folder), str(folder))


def from_release(release: Release, name: str) -> PublicPair:
    """The pair of a release that was read; raises as `load_public`."""
    wanted = (*NETWORKS, "motion_generator", "template")
    if release.config.get("kind") != KIND:
        raise UserError(f"{name} is a release of kind {release.config.get('kind')!r}, not {KIND!r}")
    if missing := [part for part in wanted if part not in release.tensors]:
        raise UserError(f"{name} is half of a pair: it has no {missing[0]}.safetensors; convert both again")
    return PublicPair(PublicFace(release.tensors), PublicMotion(release.tensors))


@jax.jit
def _encode(variables: Any, picture: Float[Array, "1 n n 3"]) -> tuple[WarpSource, Array, HeadMotion]:
    seen = _halved(picture)
    keypoints, motion = read_heads(MotionExtractor().apply(variables["motion_extractor"], seen))  # pyright: ignore
    volume = AppearanceFeatureExtractor().apply(variables["appearance"], seen)
    placed = place(keypoints, motion)
    return WarpingModule().apply(variables["warping"], volume, placed, method="prepare"), keypoints, motion  # pyright: ignore


@jax.jit
def _motion(variables: Any, frames: Float[Array, "t n n 3"]) -> HeadMotion:
    return read_heads(MotionExtractor().apply(variables["motion_extractor"], _halved(frames)))[1]  # pyright: ignore


@jax.jit
def _render(variables: Any, source: WarpSource, driving: Float[Array, "t 21 3"]) -> Float[Array, "t 512 512 3"]:
    source = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (len(driving), *leaf.shape[1:])), source)
    warped: Any = WarpingModule().apply(variables["warping"], source, driving, method="warp")
    return jnp.asarray(SpadeGenerator().apply(variables["generator"], warped["features"]))


@functools.partial(jax.jit, static_argnums=0)
def _correct(sizes: Any, variables: Any, features: Float[Array, "t k"]) -> Float[Array, "t n"]:
    return jnp.asarray(Corrector(sizes).apply(variables, features))


@functools.partial(jax.jit, static_argnames=("hop",))
def _step(
    variables: Any, carry: PublicCarry, sound: Float[Array, " n"], guidance: Any, hop: int
) -> tuple[PublicCarry, Float[Array, "1 t d"]]:
    shape = (1, RELEASED.window, RELEASED.motion)
    start = jax.random.normal(jax.random.fold_in(carry.key, 0), shape)
    noise = jax.random.normal(jax.random.fold_in(carry.key, carry.window + 1), (RELEASED.steps, *shape))
    features = jnp.asarray(MotionGenerator().apply(variables, sound[None], method="audio_features"))
    previous = (carry.motion, carry.audio)
    drawn = sample(variables, features, start, noise, previous, guidance, POSITIONS)[:, :hop]

    def last(before: Array, new: Array) -> Array:
        return jnp.concatenate([before, new], 1)[:, -RELEASED.previous :]

    following = PublicCarry(
        carry.key, carry.window + 1, last(carry.motion, drawn), last(carry.audio, features[:, :hop])
    )
    return following, drawn


def _guidance(options: Options) -> float:
    scales = dict(options.guidance)
    scale = scales.pop("audio", GUIDANCE)
    if scales:
        raise UserError(f"this pair has no guidance {next(iter(scales))!r}; its one scale is 'audio'")
    if options.steps not in (0, RELEASED.steps):
        raise UserError(f"this pair samples in {RELEASED.steps} steps, as it was trained; leave steps out")
    return float(scale)


def _halved(picture: Float[Array, "t n n 3"]) -> Float[Array, "t 256 256 3"]:
    return average_pool(picture, (2, 2)) if picture.shape[1] == pictures.CROP else picture


def _batches(items: Any) -> Iterator[Array]:
    """Batches of one size, so that one shape is compiled; the last one is filled up with its last item."""
    size = BATCHES.get(jax.default_backend(), 8)
    items = jnp.asarray(items)
    for i in range(0, len(items), size):
        batch = items[i : i + size]
        yield jnp.concatenate([batch, jnp.repeat(batch[-1:], size - len(batch), 0)])


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


class PublicModel:
    """The public pair as a Python door, in the manner of `offline.Model`.

    Attributes:
        pair: the models. size: side of the frames, in pixels. fps: frames a second.
        seconds: how long each part has taken since loading: load, portrait, motion, render; compiling included.
    """

    def __init__(self, pair: PublicPair):
        """Wraps a pair."""
        self.pair = pair
        self.size, self.fps = pair.face.size, pair.fps
        self.seconds: dict[str, float] = dict.fromkeys(("load", "portrait", "motion", "render"), 0.0)

    def frame(self, face: Face) -> Box:
        """What of a photo the pair wants to see."""
        return self.pair.frame(face)

    def portrait(self, picture: Float[np.ndarray, "n n 3"], face: Face | None = None) -> PublicPortrait:
        """The portrait of a crop of `size` pixels in [0, 1]; of the face, if given, the ratios of eyes and lips."""
        with timed(self.seconds, "portrait"):
            ratios = None if face is None else ratios_of(face)
            return jax.block_until_ready(self.pair.face.encode(jnp.asarray(picture)[None], ratios))

    def motions(
        self,
        portrait: PublicPortrait,
        audio: AudioSource | AudioReader,
        *,
        seed: int = 0,
        guidance_audio: float = GUIDANCE,
    ) -> Iterator[Float[np.ndarray, "t 21 3"]]:
        """Keypoints of a portrait that speaks, window by window, 25 frames a second, ceil(samples / 640) in all.

        Raises:
            UserError: a seed or a scale that is out of range, or a sound that cannot be read.
        """
        if not 0 <= seed < 2**32:
            raise UserError(f"seed {seed} is out of range; give a whole number from 0 to 4294967295")
        if not (np.isfinite(guidance_audio) and guidance_audio >= 0):
            raise UserError(f"guidance_audio {guidance_audio} is out of range; give a finite number, 0 or more")
        reader = audio if isinstance(audio, AudioReader) else AudioReader(audio)
        options = Options(guidance=(("audio", float(guidance_audio)),))

        def generate() -> Iterator[np.ndarray]:
            carry, state = self.pair.motion.start(jax.random.key(seed)), None
            window = self.pair.motion.needs.window
            for samples, count in _windows(reader, window * SAMPLES_PER_FRAME):
                with timed(self.seconds, "motion"):
                    carry, motion = self.pair.motion.step(carry, jnp.asarray(samples), window, window, None, options)
                    state, placed = self.pair.retarget(portrait, state, motion)
                    stretch = np.asarray(placed)[:count]
                if not np.isfinite(stretch).all():
                    raise UserError("the motion model generated NaN: damaged weights, or guidance that is too strong")
                yield stretch

        return generate()

    def frames(
        self, portrait: PublicPortrait, motions: Iterable[Float[np.ndarray, "t 21 3"]]
    ) -> Iterator[UInt8[np.ndarray, "512 512 3"]]:
        """Renders stretches of keypoints, one frame at a time."""
        for stretch in motions:
            for placed in stretch:
                with timed(self.seconds, "render"):
                    (frame,) = self.pair.face.render(portrait, placed[None])
                yield frame


@contextlib.contextmanager
def timed(seconds: dict[str, float], part: str) -> Iterator[None]:
    """Adds the time inside to a part."""
    start = time.perf_counter()
    try:
        yield
    finally:
        seconds[part] += time.perf_counter() - start


def _windows(blocks: Iterable[np.ndarray], length: int) -> Iterator[tuple[np.ndarray, int]]:
    """Windows of `length` samples, silence behind the sound, and how many frames of each the sound fills."""
    waiting = np.zeros(0, np.float32)
    for block in blocks:
        waiting = np.concatenate([waiting, block])
        while len(waiting) >= length:
            yield waiting[:length], length // SAMPLES_PER_FRAME
            waiting = waiting[length:]
    if len(waiting):
        yield np.pad(waiting, (0, length - len(waiting))), -(-len(waiting) // SAMPLES_PER_FRAME)
