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
from pathlib import Path
from typing import Any, Literal

from vasa_jax.command import run
from vasa_jax.doors.flags import read_flags
from vasa_jax.errors import UserError, check_devices

STOPPED: list[int] = []
"""Signals that asked this process to end."""
SMALLEST = 16
"""Pixels of the side of the smallest output."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """Animate a portrait with a sound: H.264 and AAC at 25 frames a second, with the original sound."""

    image: str  # the portrait: PNG, JPEG, WebP, HEIC, AVIF and others
    out: str  # the video to write (.mp4, .m4v, .mov, .mkv), or a folder for PNG pictures (frames/)
    audio: str | None = None  # the sound: anything that libsndfile or FFmpeg reads; with --motion only the sound track
    model: str = "demo"  # a bundled model, or a folder with config.json and safetensors
    gaze: str | None = None  # left, right, up, down, forward (default), or theta,phi in degrees to the right and up
    distance: float | None = None  # of the head, 0.25 to 4; 1, the default, is the training mean
    emotion: str | None = None  # a class or its adjective with a weight from 0 to 1, as happiness:0.6
    steps: int | None = None  # of the sampler, 1 or more; default 50
    guidance_audio: float | None = None  # how strongly motion follows the sound, 0 or more; default 0.5
    guidance_gaze: float | None = None  # how strongly eyes follow --gaze, 0 or more; default 1
    seed: int | None = None  # the same seed gives the same frames; default 0
    platform: Literal["auto", "cpu", "gpu", "tpu"] = "auto"  # where to compute
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"  # auto is bfloat16 on accelerators, float32 on a CPU
    size: int | None = None  # side of the output in pixels, 16 to 4096, even for a video; default: the model's own
    crop: str | None = None  # x,y,size in pixels of a square of the portrait; default: around its largest face
    save_motion: str | None = None  # also store the motion in this .npz file
    motion: str | None = None  # replay the motion of this .npz file instead of generating


WISHES = ("gaze", "distance", "emotion", "steps", "guidance_audio", "guidance_gaze", "seed")
"""Options of the generator, whose defaults are those of `Model.motions`."""


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
    import numpy as np

    import vasa_jax
    from vasa_jax.arrays import FPS
    from vasa_jax.faces.box import WORLD
    from vasa_jax.faces.box import crop as cut
    from vasa_jax.faces.framing import start_looking
    from vasa_jax.inference.motion_file import record, save_motion
    from vasa_jax.media.audio import AudioReader
    from vasa_jax.media.image import choose_square, load_image, open_image
    from vasa_jax.media.video import FrameWriter, VideoWriter, is_frame_folder

    wishes = _wishes(options)
    _check_paths(options)
    _check_size(options)
    upright = open_image(options.image)
    crop = choose_square(upright, _parse_crop(options.crop), options.image)
    looking = None if options.crop else start_looking(np.asarray(upright), WORLD, options.image)
    reader = AudioReader(options.audio) if options.audio else None
    check_devices("" if options.platform == "auto" else f"--platform {options.platform}")
    model = vasa_jax.load(options.model, None if options.dtype == "auto" else options.dtype)
    size = options.size or model.size
    if is_frame_folder(options.out):
        writer = FrameWriter(options.out, size)
    else:
        writer = VideoWriter(options.out, FPS, size, reader.sound if reader else None)

    view = looking.result() if looking else None
    if view is not None and view.face is not None:
        picture = cut(np.asarray(upright), view.box, model.size).astype(np.float32) / 255
    else:
        picture = load_image(upright, model.size, crop)
    compiled = {name: wishes[name] for name in ("steps", "guidance_audio", "guidance_gaze") if name in wishes}
    model.prepare(**compiled, generate=not options.motion)
    portrait = model.portrait(picture)
    if options.motion:
        replayed = model.replay(options.motion)
        motions, total = iter([replayed]), len(replayed.pose)
    else:
        assert reader is not None
        motions, total = model.motions(portrait, reader, **wishes), reader.frames
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
    for remark in view.remarks if view else ():
        sys.stderr.write(f"infer: {remark}\n")
    took = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in parts.items())
    count = writer.frames
    yield f"{options.out}: {count} frames of {size}x{size}, {count / FPS:.2f} s of video in {elapsed:.1f} s ({took})"


def _wishes(options: Options) -> dict[str, Any]:
    """What was asked of the generator, checked as far as it can be without a model."""
    from vasa_jax.inference.controls import make_controls

    if not options.audio and not options.motion:
        raise UserError("there is neither --audio nor --motion; give one of them")
    wishes = {name: value for name in WISHES if (value := getattr(options, name)) is not None}
    if options.motion and wishes:
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in wishes)
        raise UserError(f"--motion replays what is stored, on which {flags} has no effect; leave out one or the other")
    make_controls(**{name: wishes[name] for name in ("gaze", "distance", "emotion") if name in wishes})
    return wishes


def _check_paths(options: Options) -> None:
    """Refuses targets that cannot be written, or that would destroy an input or each other."""
    from vasa_jax.checkpoint import bundled_releases
    from vasa_jax.files import check_apart
    from vasa_jax.inference.motion_file import check_motion_target
    from vasa_jax.media.video import VIDEO_SUFFIXES, check_frame_folder, check_video_target, is_frame_folder

    model = bundled_releases().get(options.model, options.model)
    outputs = {"--out": options.out, "--save-motion": options.save_motion}
    inputs = {"--image": options.image, "--audio": options.audio, "--motion": options.motion, "--model": model}
    check_apart(*({name: path for name, path in paths.items() if path} for paths in (outputs, inputs)))
    if is_frame_folder(options.out):
        check_frame_folder(options.out)
    elif Path(options.out).suffix.lower() in VIDEO_SUFFIXES:
        check_video_target(options.out)
    else:
        suffixes = ", ".join(VIDEO_SUFFIXES)
        raise UserError(f"{options.out} must end in one of {suffixes} (or be a folder, ending in /, for PNG pictures)")
    if options.save_motion:
        check_motion_target(options.save_motion)


def _check_size(options: Options) -> None:
    from vasa_jax.media.video import LARGEST, is_frame_folder

    even = "" if is_frame_folder(options.out) else ", even, since H.264 needs even sizes"
    if options.size is not None and (not SMALLEST <= options.size <= LARGEST or (even and options.size % 2)):
        raise UserError(f"--size {options.size} cannot be written; give {SMALLEST} to {LARGEST} pixels{even}")


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


def _parse_crop(crop: str | None) -> tuple[int, int, int] | None:
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
