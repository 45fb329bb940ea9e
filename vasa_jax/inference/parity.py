"""The public pair as its authors' programs run it: their numbers, their order, their defaults.

`public` goes its own way where the originals could be better; this module does not. A photo is shrunk to 1280 pixels,
its face cut out and halved for the networks; sound with silence around it becomes motion, whose head is smoothed over
four seconds; frames are cut off to grey levels and pasted into the shrunk photo under the originals' mask.

The flags are those of JoyVASA's app for sound and of LivePortrait's command line for a driver. What differs from them:
landmarks are MediaPipe's (`liveportrait.pictures`), and nothing is computed in half precision.
"""

import os
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import soxr
from jaxtyping import Array, Float, UInt8

from vasa_jax.arrays import FPS, SAMPLE_RATE
from vasa_jax.errors import UserError
from vasa_jax.faces.framing import look
from vasa_jax.faces.landmarks import Face
from vasa_jax.faces.track import track
from vasa_jax.geometry.rotation import rotation_matrix
from vasa_jax.inference.offline import UNDRIVEN, Model, Performance, check_replayed, name_of
from vasa_jax.inference.public import POSITIONS, PublicMotion, PublicPair, PublicPortrait, ratios_of
from vasa_jax.joyvasa.template import denormalise, smooth
from vasa_jax.joyvasa.windows import Noise, gaussian_noise, generate
from vasa_jax.liveportrait import pictures
from vasa_jax.liveportrait.animation import Rules, drive, follow_speech
from vasa_jax.liveportrait.driving import DrivingMotion
from vasa_jax.liveportrait.keypoints import HeadMotion
from vasa_jax.media.audio import AudioReader, AudioSource, open_sound
from vasa_jax.media.image import ImageSource, open_photo, over_grey
from vasa_jax.media.video import read_rate, read_video

GUIDANCE = 4.0
"""On the sound, as JoyVASA's app sets it."""
SPEECH, DRIVER = Rules(close_lips=True), Rules()
"""The flags of JoyVASA's app, and of LivePortrait's command line."""


class Sitter(NamedTuple):
    """Who is shown.

    photo: shrunk. transform: to the crop and back. portrait: of the crop.
    """

    photo: UInt8[np.ndarray, "h w 3"]
    transform: pictures.Transform
    portrait: PublicPortrait


class Take(NamedTuple):
    """A video before it is rendered.

    keypoints: what W is given, a row a frame. frames: the pictures in order, rendered when asked for: the shrunk photo,
    or without stitching the crop alone.
    """

    keypoints: Float[np.ndarray, "t 21 3"]
    frames: Iterator[UInt8[np.ndarray, "h w 3"]]


def perform_as_originals(
    model: Model, image: ImageSource, audio: AudioSource | AudioReader | None = None, **wishes: Any
) -> Performance:
    """What `Model.perform` makes of a picture where parity is asked for.

    Args:
        model: of the public pair.
        image, audio: as of `Model.perform`.
        wishes: seed, guidance_audio, face and driving, as there; parity and alpha are passed over.

    Raises:
        UserError: another pair, a wish that has no place here, or what `talk_as_originals` refuses.
    """
    pair = model.pair
    if not isinstance(pair, PublicPair):
        raise UserError(f"models of kind {pair.kind!r} have no originals to be like; leave parity out")
    known = ("seed", "guidance_audio", "face", "driving", "parity", "alpha")
    if strange := [name for name in wishes if name not in known]:
        raise UserError(f"parity leaves everything as the originals have it: leave {', '.join(strange)} out")
    driver = wishes.get("driving")
    if driver is None and audio is None:
        raise UserError(UNDRIVEN)
    if driver is not None:
        check_replayed(wishes, ("seed", "guidance_audio"))
    small = pictures.shrink(over_grey(open_photo(image)))
    view = look(small, pair.frame, name_of(image), wishes.get("face"), needed=True)
    assert view.face is not None
    points = view.face.points - 0.5
    rate = float(FPS)
    asked = model.asked(seed=wishes.get("seed", 0), guidance_audio=wishes.get("guidance_audio", GUIDANCE))
    if driver is None:
        noise, guidance = gaussian_noise(jax.random.key(asked.seed)), dict(asked.options.guidance)["audio"]
        samples = samples_as_originals(audio)
        with model.timed("motion"):
            take = talk_as_originals(pair, small, points, samples, noise, guidance)
    else:
        with model.timed("motion"):
            motion = driver if isinstance(driver, DrivingMotion) else _watched(pair, driver)
            take, rate = drive_as_originals(pair, small, points, motion), motion.rate
    height, width = small.shape[:2]
    provenance = model.declare(image, audio, False, asked.seed, wishes)
    frames, count = _timed(model, take.frames), len(take.keypoints)
    return Performance(frames, count, False, rate, height, width, small, view, view.remarks, provenance)


def _timed(model: Model, frames: Iterator[UInt8[np.ndarray, "h w 3"]]) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
    while True:
        with model.timed("render"):
            frame = next(frames, None)
        if frame is None:
            return
        yield frame


def samples_as_originals(audio: Any) -> Float[np.ndarray, " n"]:
    """The whole sound at 16 kHz, its channels' plain mean, by soxr's high quality filter, as librosa loads it."""
    sound = audio.sound if isinstance(audio, AudioReader) else open_sound(audio)
    samples = np.concatenate([block.mean(1) for block in sound.blocks()])
    return np.asarray(soxr.resample(samples, sound.rate, SAMPLE_RATE, "HQ"), np.float32)


def _watched(pair: PublicPair, path: Any) -> DrivingMotion:
    """The motion of a video file."""
    if not isinstance(path, str | os.PathLike) or str(path).lower().endswith(".npz"):
        raise UserError("parity is driven by a video or by LivePortrait's motion alone")
    rate, frames = float(read_rate(path)), list(read_video(path))
    followed = track(frames, pair.watch, str(path))
    points = np.stack([face.points - 0.5 for face in followed.faces])
    return watch_as_originals(pair, frames, points, rate)


def talk_as_originals(
    pair: PublicPair,
    photo: UInt8[np.ndarray, "h w 3"],
    points: Float[np.ndarray, "478 2"],
    samples: Float[np.ndarray, " n"],
    noise: Noise,
    guidance: float = GUIDANCE,
    positions: str = POSITIONS,
    rules: Rules = SPEECH,
) -> Take:
    """A photo that speaks, 25 frames a second: floor((n + 1920) / 640) of them, rarely one less.

    Args:
        pair: the models.
        photo: RGB.
        points: landmarks in pixels of `pictures.shrink(photo)`, integers at pixel centres.
        samples: 16 kHz mono, in [-1, 1].
        noise: of the diffusion, as `joyvasa.gaussian_noise`.
        guidance: on the sound; 1 is none.
        positions: of the denoiser, "constant", as the published weights were trained, or "per_position".
        rules: the originals' flags.

    Raises:
        UserError: no sound, or frames that are not finite.
    """
    sitter = sit(pair, photo, points)
    motion = hear(pair.motion, samples, noise, guidance, positions)
    keypoints = np.asarray(follow_speech(sitter.portrait.source, motion, rules, pair.face.correctors()))
    return Take(keypoints, draw(pair, sitter, keypoints, rules.stitching))


def drive_as_originals(
    pair: PublicPair,
    photo: UInt8[np.ndarray, "h w 3"],
    points: Float[np.ndarray, "478 2"],
    driver: DrivingMotion,
    rules: Rules = DRIVER,
) -> Take:
    """A photo that follows LivePortrait's motion, a frame a frame at the driver's rate.

    Args:
        pair, photo, points, rules: as of `talk_as_originals`.
        driver: the motion of a video or a motion file.

    Raises:
        UserError: a relative driver of one frame, retargeting without the driver's ratios, or frames that are not
            finite.
    """
    if rules.relative and len(driver.motion.scale) == 1 and rules.region != "eyes":
        raise UserError(
            "a driver of one frame is relative to a constant of LivePortrait's files that is not here; "
            "drive with Rules(relative=False), or with two frames or more"
        )
    for name, wanted, there in (
        ("eyes", rules.retarget_eyes, driver.eyes),
        ("lips", rules.retarget_lips, driver.lips),
    ):
        if wanted and there is None:
            raise UserError(f"the driver has no ratios of the {name}, which retargeting follows; leave retargeting out")
    sitter = sit(pair, photo, points)
    keypoints = np.asarray(drive(sitter.portrait.source, driver, rules, pair.face.correctors()))
    return Take(keypoints, draw(pair, sitter, keypoints, rules.stitching))


def watch_as_originals(
    pair: PublicPair, frames: Sequence[UInt8[np.ndarray, "h w 3"]], points: Float[np.ndarray, "t 478 2"], rate: float
) -> DrivingMotion:
    """The motion of a video of a face, cut out by one crop for all frames.

    Args:
        pair: the models.
        frames: RGB.
        points: landmarks of each, in its pixels, integers at pixel centres.
        rate: frames a second.
    """
    transform, motions, ratios = pictures.find_steady_crop(points), [], []
    for frame, marks in zip(frames, points, strict=True):
        seen = pictures.halve(pictures.cut(frame, transform)).astype(np.float32) / 255
        motions.append(jax.device_get(pair.face.motion(jnp.asarray(seen[None]))))
        ratios.append(ratios_of(Face(marks, {}, np.eye(4))))
    eyes, lips = (np.stack(part) for part in zip(*ratios, strict=True))
    return DrivingMotion(HeadMotion(*map(np.concatenate, zip(*motions, strict=True))), rate, eyes, lips)


def sit(pair: PublicPair, photo: UInt8[np.ndarray, "h w 3"], points: Float[np.ndarray, "478 2"]) -> Sitter:
    """A photo and its face, shrunk, cut and read; arguments as of `talk_as_originals`."""
    small, transform = pictures.shrink(photo), pictures.find_crop(points)
    seen = pictures.halve(pictures.cut(small, transform)).astype(np.float32) / 255
    portrait = pair.face.encode(jnp.asarray(seen[None]), Face(points, {}, np.eye(4)))
    return Sitter(small, transform, portrait)


def hear(
    model: PublicMotion, samples: Float[np.ndarray, " n"], noise: Noise, guidance: float, positions: str
) -> HeadMotion:
    """The smoothed motion of a sound; arguments as of `talk_as_originals`."""
    drawn = generate(model.variables, samples, noise, guidance, positions, config=model.config)
    parts = smooth(denormalise(drawn, model.template))
    turned = rotation_matrix(*(jnp.deg2rad(angle[:, 0]) for angle in (parts.pitch, parts.yaw, parts.roll)))
    return HeadMotion(turned, parts.exp, parts.scale, parts.t)


def draw(
    pair: PublicPair, sitter: Sitter, keypoints: Float[np.ndarray | Array, "t 21 3"], whole: bool
) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
    """Render frames of 512 pixels, and paste each into the photo where `whole`."""
    pasting = pictures.Pasting(sitter.photo, sitter.transform)
    for start in range(0, len(keypoints), pair.face.batch):
        levels = np.asarray(pair.face.levels(sitter.portrait, jnp.asarray(keypoints[start : start + pair.face.batch])))
        if not np.isfinite(levels).all():
            raise UserError(f"frames from {start} on are not finite numbers: the weights are damaged; fetch them again")
        for frame in pictures.to_levels(levels):
            yield pasting.paste(frame) if whole else frame
