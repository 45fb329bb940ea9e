"""The door to inference: a portrait and a sound become a talking face.

    vasa-infer --image portrait.png --audio speech.wav --out talk.mp4
    vasa-infer --image portrait.png --audio speech.wav --out talk.mp4 --gaze left --emotion happy:0.6 --seed 3

The path is the Python door's (`vasa_jax.load(...).animate(...)`, VASA-1 section 3): this file parses flags, feeds a
writer, shows progress and says how long each part took. What a user got wrong ends in one line on stderr and exit code
2, and leaves no half-written output.
"""

import contextlib
import dataclasses
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal

from vasa_jax.command import run
from vasa_jax.doors.flags import read_flags
from vasa_jax.errors import UserError, check_devices

if TYPE_CHECKING:
    from vasa_jax.inference import Model

STOPPED: list[int] = []
"""Signals that asked this process to end."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """Animate a portrait with a sound: H.264 and AAC at 25 frames a second, with the original sound."""

    image: str  # the portrait: PNG, JPEG, WebP and others
    out: str  # the video to write (.mp4, .m4v, .mov, .mkv), or a folder for PNG pictures (frames/)
    audio: str = ""  # the sound: anything that soundfile or PyAV can read; may be left out with --motion
    model: str = "demo"  # a bundled model, or a folder with config.json and safetensors
    gaze: str = "forward"  # left, right, up, down, forward, or theta,phi in degrees (right and up are positive)
    distance: float = 1.0  # of the head, 0.25 to 4; 1 is the training mean
    emotion: str = ""  # a class or its adjective with a weight from 0 to 1, as happiness:0.6; empty is no request
    steps: int = 50  # of the sampler, 1 or more
    guidance_audio: float = 0.5  # how strongly motion follows the sound, 0 or more
    guidance_gaze: float = 1.0  # how strongly eyes follow --gaze, 0 or more
    seed: int = 0  # the same seed gives the same frames
    platform: Literal["auto", "cpu", "gpu", "tpu"] = "auto"  # where to compute
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"  # auto is bfloat16 on accelerators, float32 on a CPU
    size: int = 0  # side of the output in pixels; 0 is the model's own
    crop: str = ""  # x,y,size of the square of the portrait to use, in pixels; empty is the central square
    save_motion: str = ""  # also store the motion in this .npz file
    motion: str = ""  # replay the motion of this .npz file instead of generating


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code: 0, 2 after one line on stderr, 130 after a signal to end."""
    STOPPED.clear()
    with _signals_caught():
        return run("infer", lambda: work(parse(sys.argv[1:] if arguments is None else arguments)))


def parse(arguments: Sequence[str]) -> Options:
    """Reads flags. Raises UserError with tyro's complaint on one line; --help prints and exits with 0."""
    return read_flags(Options, "infer", arguments, description=Options.__doc__)


def work(options: Options) -> Iterator[str]:
    """Writes what the options ask for, and says so in a line.

    Raises:
        UserError: an option, an input or a target that cannot be used; then nothing is left behind.
    """
    began = time.perf_counter()
    _prepare_jax(options.platform)
    import vasa_jax
    from vasa_jax.arrays import FPS
    from vasa_jax.inference.controls import make_controls
    from vasa_jax.inference.motion_file import check_motion_target, record, save_motion
    from vasa_jax.media.audio import AudioReader
    from vasa_jax.media.image import load_image
    from vasa_jax.media.video import FrameWriter, VideoWriter, is_frame_folder

    make_controls(options.gaze, options.distance, options.emotion or None)  # complain before the slow parts
    crop = _parse_crop(options.crop)
    if not options.audio and not options.motion:
        raise UserError("there is neither --audio nor --motion; give one of them")
    reader = AudioReader(options.audio) if options.audio else None
    if options.save_motion:
        check_motion_target(options.save_motion)
    check_devices("" if options.platform == "auto" else f"--platform {options.platform}")
    model = vasa_jax.load(options.model, None if options.dtype == "auto" else options.dtype)
    size = options.size or model.size
    if is_frame_folder(options.out):
        writer = FrameWriter(options.out, size)
    else:
        writer = VideoWriter(options.out, FPS, size, reader.sound if reader else None)

    picture = load_image(options.image, model.size, crop)
    model.prepare(options.steps, options.guidance_audio, options.guidance_gaze, generate=not options.motion)
    portrait = model.portrait(picture)
    if options.motion:
        replayed = model.replay(options.motion)
        motions, total = iter([replayed]), len(replayed.pose)
    else:
        assert reader is not None
        motions, total = _generate(options, model, portrait, reader), reader.frames
    kept = []
    frames = model.frames(portrait, record(motions, kept) if options.save_motion else motions)
    with writer:
        encoding = _write(frames, writer, total, size)
        if options.save_motion:
            save_motion(options.save_motion, kept)
        closing = time.perf_counter()
    encoding += time.perf_counter() - closing
    elapsed = time.perf_counter() - began
    parts = {**model.seconds, "encode": encoding}
    parts["load"] += elapsed - sum(parts.values())  # imports, start-up and reading the inputs
    took = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in parts.items())
    count = writer.frames
    yield f"{options.out}: {count} frames of {size}x{size}, {count / FPS:.2f} s of video in {elapsed:.1f} s ({took})"


def _generate(options: Options, model: "Model", portrait, reader) -> Iterator:
    return model.motions(
        portrait,
        reader,
        gaze=options.gaze,
        distance=options.distance,
        emotion=options.emotion or None,
        seed=options.seed,
        steps=options.steps,
        guidance_audio=options.guidance_audio,
        guidance_gaze=options.guidance_gaze,
    )


def _write(frames, writer, total: int | None, size: int) -> float:
    """Writes every frame under a progress bar; returns the seconds that encoding took."""
    from tqdm import tqdm

    from vasa_jax.media.image import resize_frame

    seconds = 0.0
    for frame in tqdm(frames, total=total, unit="frame", desc="talking", dynamic_ncols=True, smoothing=0.1):
        if STOPPED:
            raise KeyboardInterrupt
        start = time.perf_counter()
        writer.write(resize_frame(frame, size))
        seconds += time.perf_counter() - start
    return seconds


def _prepare_jax(platform: str) -> None:
    """Tells JAX where to run and where to keep compiled programs for the next run; it must happen before JAX starts."""
    if platform != "auto":
        os.environ["JAX_PLATFORMS"] = {"gpu": "cuda"}.get(platform, platform)
    from vasa_jax.compile_cache import keep_compiled

    keep_compiled("~/.cache/vasa-jax/compiled")


def _parse_crop(crop: str) -> tuple[int, int, int] | None:
    if not crop:
        return None
    try:
        x, y, side = (int(part) for part in crop.split(","))
    except ValueError:
        raise UserError(f"--crop {crop!r} is not x,y,size: three whole numbers of pixels") from None
    return x, y, side


@contextlib.contextmanager
def _signals_caught() -> Iterator[None]:
    """Ends inside as by Ctrl-C at SIGINT and SIGTERM, so that a killed run removes what it had begun.

    Python drops an exception that strikes inside a callback of its garbage collector (JAX has one); so the signal is
    remembered too, and `_write` looks before every frame.
    """

    def stop(number: int, frame: object) -> None:
        STOPPED.append(number)
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():  # signals are not ours to catch
        yield
        return
    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
