"""The door to inference: a portrait and a sound become a talking face.

    vasa-infer --image portrait.png --audio speech.wav --out talk.mp4
    vasa-infer --image portrait.png --audio speech.wav --out talk.mp4 --gaze left --emotion happy:0.6 --seed 3
    vasa-infer --model joyvasa --image photo.jpg --audio speech.wav --out talk.mp4
    vasa-infer --jobs jobs.csv
    SOUND | vasa-infer --image portrait.png --stream --out - | PLAYER

The path is the Python door's (`vasa_jax.load(...).perform(...)`, VASA-1 section 3): this file parses flags, feeds a
writer, shows progress and says how long each part took. What a user got wrong ends in one line on stderr and exit code
2, and leaves no half-written output.
"""

import contextlib
import dataclasses
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from vasa_jax.command import check_stopped, run
from vasa_jax.doors.flags import read_flags
from vasa_jax.errors import UserError, check_devices

if TYPE_CHECKING:
    from vasa_jax.inference.offline import Model, Performance
    from vasa_jax.media.video import Seal
    from vasa_jax.provenance.keys import Signing

SMALLEST = 16
"""Pixels of the side of the smallest output."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """Animate a portrait with a sound: H.264 and AAC at 25 frames a second, with the original sound."""

    image: str | None = None  # the portrait: PNG, JPEG, WebP, HEIC, AVIF and others
    out: str | None = None  # the video to write (.mp4, .m4v, .mov, .mkv, .webm), or a folder for PNG pictures (frames/)
    audio: str | None = None  # the sound: anything that libsndfile or FFmpeg reads; with --driving only the sound track
    model: str = "demo"  # a bundled model, joyvasa (the public weights), a release folder, or NAME/REPO on the Hub
    speech: str | None = None  # the speech network that the model hears through: a folder, or NAME/REPO on the Hub
    gaze: str | None = None  # left, right, up, down, forward (default), or theta,phi in degrees to the right and up
    distance: float | None = None  # of the head, 0.25 to 4; 1, the default, is the training mean
    emotion: str | None = None  # a class or its adjective with a weight from 0 to 1, as happiness:0.6
    amplitude: float | None = None  # gain of all motion, 0 to 4; 1 is as generated
    head: float | None = None  # gain of the head's turning and swaying, 0 to 4
    mouth: float | None = None  # gain of the mouth's opening, 0 to 4
    blink: float | None = None  # gain of the lids' closing, 0 to 4
    position: str | None = None  # x,y: moves the head right and down, -1 to 1 in halves of the square
    zoom: float | None = None  # enlarges the head, 0.25 to 4
    steps: int | None = None  # of the sampler, 1 or more; default: the model's own
    sampler: str | None = None  # ddim or dpm++, which needs fewer steps; default: the model's own
    guidance_audio: float | None = None  # how strongly motion follows the sound, 0 or more; default: the model's own
    guidance_gaze: float | None = None  # how strongly eyes follow --gaze, 0 or more; default: the model's own
    hop: int | None = None  # frames that are made together; default: all of a window, with --stream 5
    look_ahead: int | None = None  # frames of sound heard behind them; default: all of the window, with --stream 0
    seed: int | None = None  # the same seed gives the same frames; default 0
    driving: str | None = None  # motion of a video of a face, a stored motion (.npz) or LivePortrait's (.pkl)
    pose_from: str | None = None  # as --driving, of which only the head's pose is taken
    dynamics_from: str | None = None  # as --driving, of which all but the head's pose is taken
    save_motion: str | None = None  # also store the motion in this .npz file
    face: str | None = None  # which face: 1 for the largest (default), 2 for the next, or x,y in pixels of the picture
    box: str | None = None  # x,y,size[,degrees]: what the model sees of the picture, instead of looking for a face
    show_crop: str | None = None  # also write what the model sees, with the landmarks of the face, to this PNG
    fit: int | None = None  # steps by which the portrait is pulled towards the picture first; 100 is a good number
    parity: bool = False  # the public pair exactly as its authors' programs run it
    square: bool = False  # write only what the model draws, where it would be put back into the whole picture
    size: int | None = None  # longest side of the output in pixels, 16 to 4096; default: the model's or the picture's
    badge: bool = False  # a notice that viewers see: "AI-generated" for two seconds, a small "AI" from then on
    stream: bool = False  # sound from standard input (WAV, or raw s16le at 16 kHz mono), video to standard output
    paced: bool = False  # with --stream: in real time by the clock, with silence where no sound has come
    container: Literal["mp4", "mpegts"] = "mp4"  # of the video of --stream
    platform: Literal["auto", "cpu", "gpu", "tpu"] = "auto"  # where to compute
    sign_with: tuple[str, str] | None = None  # certificate chain and key (PEM) that sign; default: this machine's own
    tsa: str | None = None  # URL of a time stamp authority that is asked for the time of each signature
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"  # auto is bfloat16 on accelerators, float32 on a CPU
    jobs: str | None = None  # a CSV file with a job a row and flags as columns; rows whose output is there are skipped


WISHES = (
    *("gaze", "distance", "emotion", "amplitude", "head", "mouth", "blink", "zoom", "steps", "sampler"),
    *("guidance_audio", "guidance_gaze", "hop", "look_ahead", "seed", "size", "fit"),
)
"""Options that go to `Model.perform` as they are."""
DRIVERS = ("driving", "pose_from", "dynamics_from")
"""Options that name where motion comes from."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code: 0, 2 after one line on stderr, 130 after a signal to end."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    return run("infer", lambda: work(given))


def parse(arguments: Sequence[str]) -> Options:
    """Reads flags. Raises UserError with tyro's complaint on one line; --help prints and exits with 0."""
    return read_flags(Options, "infer", arguments, description=Options.__doc__)


def work(arguments: Sequence[str]) -> Iterator[str]:
    """Writes what the flags ask for, and says so in a line a job.

    Raises:
        UserError: an option, an input or a target that cannot be used; then nothing is left behind. Of several jobs the
            others are done before.
    """
    options = parse(arguments)
    models = Models(options.platform)
    if options.stream:
        from vasa_jax.doors.live import stream

        prepare_jax(options.platform)
        stream(options, models)
        return
    if options.container != "mp4":
        raise UserError("--container is of --stream; leave it out, or name the file accordingly")
    if options.paced:
        raise UserError("--paced is of --stream; leave it out")
    if options.out == "-":
        raise UserError("--out - is of --stream; name a file, or stream")
    if options.jobs is None:
        yield perform(options, models)
        return
    from vasa_jax.doors.jobs import do_jobs

    yield from do_jobs(options.jobs, arguments, lambda row: perform(parse(row), models))


class Models:
    """Models by name and dtype, each loaded once; and the time, from one job to the next."""

    def __init__(self, platform: str):
        """Nothing is loaded yet."""
        self._began = time.perf_counter()
        self._platform = platform
        self._loaded: dict[tuple[str, str, str | None], Model] = {}

    def load(self, name: str, dtype: str, speech: str | None = None) -> "Model":
        """The model; raises UserError as `vasa_jax.load`."""
        if (name, dtype, speech) not in self._loaded:
            import vasa_jax

            check_devices("" if self._platform == "auto" else f"--platform {self._platform}")
            self._loaded[name, dtype, speech] = vasa_jax.load(name, None if dtype == "auto" else dtype, speech)
        return self._loaded[name, dtype, speech]

    def spent(self) -> float:
        """Seconds since the last call, or since the beginning."""
        now = time.perf_counter()
        spent, self._began = now - self._began, now
        return spent


def perform(options: Options, models: Models) -> str:
    """Does one job and says so. Raises UserError; then nothing is left behind."""
    prepare_jax(options.platform)
    from vasa_jax.inference.motion_file import save_motion
    from vasa_jax.media.audio import AudioReader
    from vasa_jax.media.video import VIDEO_SUFFIXES, WEBM
    from vasa_jax.provenance.credentials import sealer
    from vasa_jax.provenance.watermark import marking

    wishes = wishes_of(options)
    _check(options, wishes)
    suffix = Path(str(options.out)).suffix.lower()
    wishes["alpha"] = suffix == WEBM or suffix not in VIDEO_SUFFIXES
    signing = _signing(options)
    reader = AudioReader(options.audio) if options.audio else None
    model = models.load(options.model, options.dtype, options.speech)
    before = dict(model.seconds)
    wishes |= {name: _driver(path) for name in DRIVERS if (path := getattr(options, name))}
    kept: list[Any] = []
    with _fitting(options.fit) as progress:
        performance = model.perform(
            str(options.image), reader, kept if options.save_motion else None, progress, **wishes
        )
    if options.show_crop:
        _show_crop(options.show_crop, performance, model.size, signing)
    sound = reader.sound if reader else _sound_of(options.driving)
    marked = marking(performance.frames, int(performance.provenance.mark, 16))
    with _writer(options, performance, sound, sealer(performance.provenance, signing)) as writer:
        encoding = _write(performance._replace(frames=marked), writer)
        if options.save_motion:
            save_motion(options.save_motion, model.pair.kind, kept)
        closing = time.perf_counter()
    encoding += time.perf_counter() - closing
    elapsed = models.spent()
    parts = {name: seconds - before[name] for name, seconds in model.seconds.items()} | {"encode": encoding}
    parts["load"] = elapsed - sum(value for name, value in parts.items() if name != "load")  # and imports, and inputs
    for remark in performance.remarks:
        sys.stderr.write(f"infer: {remark}\n")
    took = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in parts.items())
    count, size = writer.frames, f"{performance.width}x{performance.height}"
    length = count / performance.rate
    return f"{options.out}: {count} frames of {size}, {length:.2f} s of video in {elapsed:.1f} s ({took})"


def wishes_of(options: Options) -> dict[str, Any]:
    """What the options ask of `Model.perform`, but for drivers; raises UserError for what says nothing."""
    from vasa_jax.faces.box import parse_box
    from vasa_jax.faces.framing import parse_face

    wishes = {name: value for name in WISHES if (value := getattr(options, name)) is not None}
    if options.position is not None:
        wishes["position"] = _pair("--position", options.position)
    if options.face:
        wishes["face"] = parse_face(options.face)
    if options.box:
        wishes["box"] = parse_box(options.box)
    for name in ("square", "parity", "badge"):
        if getattr(options, name):
            wishes[name] = True
    return wishes


def check_wishes(wishes: dict[str, Any]) -> None:
    """Refuses before any work what no model can do."""
    from vasa_jax.inference.controls import make_controls
    from vasa_jax.media.video import LARGEST

    make_controls(**{name: wishes[name] for name in ("gaze", "distance", "emotion") if name in wishes})
    size = wishes.get("size", LARGEST)
    if not SMALLEST <= size <= LARGEST:
        raise UserError(f"--size {size} cannot be written; give {SMALLEST} to {LARGEST} pixels")


def _check(options: Options, wishes: dict[str, Any]) -> None:
    """Refuses before any work what cannot be done with any model."""
    for name in ("image", "out"):
        if getattr(options, name) is None:
            raise UserError(f"there is no --{name}; give it, or a list of jobs with --jobs")
    if not (options.audio or options.driving or options.dynamics_from):
        raise UserError("there is neither --audio nor --driving; give one of them")
    check_wishes(wishes)
    _check_paths(options)


def _check_paths(options: Options) -> None:
    """Refuses targets that cannot be written, or that would destroy an input or each other."""
    from vasa_jax.checkpoint import bundled_releases
    from vasa_jax.files import check_apart, check_target
    from vasa_jax.inference.motion_file import check_motion_target
    from vasa_jax.media.video import VIDEO_SUFFIXES, check_frame_folder, check_video_target, is_frame_folder
    from vasa_jax.provenance.credentials import check_sidecar

    def named(*names: str) -> dict[str, str]:
        return {f"--{name.replace('_', '-')}": path for name in names if (path := getattr(options, name))}

    model = {"--model": str(bundled_releases().get(options.model, options.model))}
    check_apart(named("out", "save_motion", "show_crop"), named("image", "audio", "speech", *DRIVERS) | model)
    out = str(options.out)
    if is_frame_folder(out):
        check_frame_folder(out)
    elif Path(out).suffix.lower() in VIDEO_SUFFIXES:
        check_video_target(out)
        check_sidecar(out)
    else:
        suffixes = ", ".join(VIDEO_SUFFIXES)
        raise UserError(f"{out} must end in one of {suffixes} (or be a folder, ending in /, for PNG pictures)")
    if options.save_motion:
        check_motion_target(options.save_motion)
    if options.show_crop and check_target(options.show_crop).suffix.lower() != ".png":
        raise UserError(f"--show-crop {options.show_crop} must end in .png")


def _driver(path: str) -> Any:
    """What drives, for `Model.perform`: a path, or LivePortrait's motion where it is a pickle of that."""
    if Path(path).suffix.lower() != ".pkl":
        return path
    from vasa_jax.convert.torch_file import read_torch_file
    from vasa_jax.liveportrait.driving import read_driving

    try:
        return read_driving(read_torch_file(Path(path)))
    except UserError as error:
        raise error if path in str(error) else UserError(f"{path}: {error}") from error


def _sound_of(driving: str | None) -> Any:
    """The sound of a driving video, or None where it has none."""
    from vasa_jax.media.audio import open_sound

    if driving is None or Path(driving).suffix.lower() in (".npz", ".pkl"):
        return None
    try:
        return open_sound(driving)
    except UserError:  # a silent video
        return None


def _signing(options: Options) -> "Signing":
    """What signs the output, tried before any work. Raises UserError."""
    from vasa_jax.provenance.keys import given_signing, own_signing, try_signing

    given = options.sign_with
    signing = given_signing(*given, options.tsa) if given else own_signing(options.tsa)
    try_signing(signing)
    return signing


def _writer(options: Options, performance: "Performance", sound: Any, seal: "Seal") -> Any:
    from fractions import Fraction

    from vasa_jax.media.video import FrameWriter, VideoWriter, is_frame_folder
    from vasa_jax.provenance.credentials import tags_of

    out, size, alpha = str(options.out), (performance.height, performance.width), performance.alpha
    tags = tags_of(performance.provenance)
    if is_frame_folder(out):
        return FrameWriter(out, size, alpha=alpha, tags=tags, seal=seal)
    rate = Fraction(performance.rate).limit_denominator(1001)
    return VideoWriter(out, rate, size, sound, alpha=alpha, tags=tags, seal=seal)


def _show_crop(path: str, performance: "Performance", size: int, signing: "Signing") -> None:
    from PIL import Image

    from vasa_jax.faces.show import draw_crop
    from vasa_jax.files import whole_file
    from vasa_jax.provenance.credentials import sealer

    drawn = draw_crop(performance.photo, performance.view.box, performance.view.face, max(size, 512))
    with whole_file(Path(path)) as hidden:
        Image.fromarray(drawn).save(hidden, format="PNG")
        sealer(dataclasses.replace(performance.provenance, intent="drawn"), signing)(hidden, Path(path))


@contextlib.contextmanager
def _fitting(steps: int | None) -> Iterator[Callable[[int], None]]:
    """What is told of each step of a fit; it shows a bar, and stops where a signal asks to."""
    if not steps or steps < 1:
        yield lambda done: None
        return
    from tqdm import tqdm

    with tqdm(total=steps, unit="step", desc="fitting", dynamic_ncols=True) as bar:

        def progress(done: int) -> None:
            check_stopped()
            bar.update(1)

        yield progress


def _write(performance: "Performance", writer: Any) -> float:
    """Writes every frame under a progress bar; returns the seconds that encoding took."""
    from tqdm import tqdm

    seconds = 0.0
    settings = {"unit": "frame", "desc": "talking", "dynamic_ncols": True, "smoothing": 0.1}
    for frame in tqdm(performance.frames, total=performance.count, **settings):
        check_stopped()
        start = time.perf_counter()
        writer.write(frame)
        seconds += time.perf_counter() - start
    return seconds


def _pair(name: str, text: str) -> tuple[float, float]:
    try:
        x, y = (float(part) for part in text.split(","))
    except ValueError:
        raise UserError(f"{name} {text!r} is not x,y: two numbers with a comma between them") from None
    return x, y


def prepare_jax(platform: str) -> None:
    """Tell JAX where to run ("auto", "cpu", "gpu", "tpu") and where to keep compiled programs for the next run, before
    JAX starts."""
    if platform != "auto":
        os.environ["JAX_PLATFORMS"] = {"gpu": "cuda"}.get(platform, platform)
    from vasa_jax.compile_cache import keep_compiled

    keep_compiled("~/.cache/vasa-jax/compiled")
