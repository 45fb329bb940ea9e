"""The door of the demonstration: three characters of the synthetic world speak in turn, each to other controls.

    vasa-demo --out talk.mp4
    vasa-demo --gallery docs/gallery.png
    vasa-demo --model my-model --out talk.mp4

In a row stand a person, a painting and a statue whom no training has met; pictures and voices come with the package,
as `vasa-synthetic` draws and speaks them. Each says something in its own voice while
its controls change half-way; the others wait as the model drew them last. Below is what the model was given, and
the controls. The video is what `make demo` writes, the gallery an animation of the same without its sound for pages.
Both are signed and marked as all output; bad input ends with one line on stderr, exit code 2 and no file.
"""

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from jaxtyping import Float32, UInt8

from vasa_jax.arrays import FPS, SAMPLE_RATE, SAMPLES_PER_FRAME
from vasa_jax.command import Parser, run
from vasa_jax.errors import UserError, check_devices
from vasa_jax.files import check_apart

if TYPE_CHECKING:
    from vasa_jax.inference.offline import Model
    from vasa_jax.media.row import Caption
    from vasa_jax.provenance.credentials import Provenance


class Act(NamedTuple):
    """What a character shows. name: for its caption. file: of its picture and voice in `CHARACTERS`, without suffix.
    parts: controls of equal parts of its turn, as `Model.animate` takes them."""

    name: str
    file: str
    parts: tuple[dict[str, Any], ...]


ACTS = (
    Act("a person", "person", ({"gaze": "left"}, {"gaze": "right"})),
    Act("a painting", "painting", ({"distance": 1.3}, {"distance": 0.85})),
    Act("a statue", "statue", ({"emotion": "happy"}, {"emotion": "sad"})),
)
CHARACTERS = Path(__file__).parents[1] / "synthetic" / "characters"
"""Portraits (.png) and what they say (.wav): `vasa-synthetic --portrait --speech --seconds 3.2` of seed 4000034, of
4000004 with `--style painted`, and of 4000024 with `--style stone`."""
TURN = 80
"""Frames of a turn, of which the voices have no more."""
SIDE = 256
"""Pixels of a character in the video, at least; a model that draws larger pictures shows them as they are."""
GALLERY_SIDE, GALLERY_EVERY = 160, 2
"""Pixels of a character in the gallery, and every how many frames it shows one."""
SAMPLING: dict[str, Any] = {"sampler": "dpm++", "steps": 12}
"""Fewer steps than the model's own number, of the sampler that needs fewer."""
SEED = 1
"""Of the motion."""


class Show(NamedTuple):
    """frames: of each act, as the model draws them. sound: of all turns, one after the other, at 16 kHz. portraits:
    what the model was given. provenance: what files must say about themselves."""

    frames: list[UInt8[np.ndarray, "t m m 3"]]
    sound: Float32[np.ndarray, " n"]
    portraits: UInt8[np.ndarray, "a p p 3"]
    provenance: "Provenance"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0, or 2 after one line on stderr."""
    return run("vasa-demo", lambda: work(parse(sys.argv[1:] if arguments is None else arguments)))


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read and check the flags; UserError for what cannot be done."""
    parser = Parser(prog="vasa-demo", description="Three characters speak in turn, each to other controls.")
    parser.add_argument("--out", type=Path, help="a video with sound (.mp4, .m4v, .mov, .mkv, .webm)")
    parser.add_argument("--gallery", type=Path, help="an animation of the same for pages, without sound (.png)")
    parser.add_argument("--model", default="demo", help="name of a bundled model, or a release folder (default demo)")
    options = parser.parse_args(arguments)
    targets = {"--out": options.out, "--gallery": options.gallery}
    targets = {name: path for name, path in targets.items() if path is not None}
    if not targets:
        raise UserError("nothing to write; give --out or --gallery")
    check_apart(targets, {})
    return options


def work(options: argparse.Namespace) -> Iterator[str]:
    """Write what the options ask for, with a line for the user after each file."""
    from vasa_jax.doors.infer import prepare_jax
    from vasa_jax.media.animation import check_animation_target, write_animation
    from vasa_jax.media.row import row_shape
    from vasa_jax.media.video import VideoWriter, check_video_target
    from vasa_jax.provenance.credentials import check_sidecar, sealer, tags_of
    from vasa_jax.provenance.keys import own_signing, try_signing
    from vasa_jax.provenance.watermark import marking

    if options.out is not None:
        check_sidecar(check_video_target(options.out))
    if options.gallery is not None:
        check_animation_target(options.gallery)
    began = time.perf_counter()
    prepare_jax("auto")
    signing = own_signing()
    try_signing(signing)
    check_devices()
    import vasa_jax

    model = vasa_jax.load(options.model)
    show = perform(model)
    mark = int(show.provenance.mark, 16)
    marks: Any = {"tags": tags_of(show.provenance), "seal": sealer(show.provenance, signing)}
    if options.out is not None:
        side = max(SIDE, model.size)
        with VideoWriter(options.out, FPS, row_shape(len(ACTS), side), (show.sound, SAMPLE_RATE), **marks) as writer:
            for frame in marking(compose(show, side), mark):
                writer.write(frame)
        seconds = writer.frames / FPS
        parts = ", ".join(f"{name} {spent:.1f} s" for name, spent in model.seconds.items())
        yield f"{options.out}: {seconds:.1f} s of video in {time.perf_counter() - began:.1f} s ({parts})"
    if options.gallery is not None:
        frames = marking(compose(show, GALLERY_SIDE, GALLERY_EVERY), mark)
        size = write_animation(options.gallery, frames, FPS / GALLERY_EVERY, **marks)
        yield f"{options.gallery}: {size / 1e6:.2f} MB"


def perform(model: "Model") -> Show:
    """Let the model animate every act."""
    import soundfile
    from PIL import Image
    from tqdm import tqdm

    from vasa_jax.faces.box import Box
    from vasa_jax.inference.pair import Options
    from vasa_jax.provenance.credentials import declare

    if missing := sorted(controls_of(ACTS) - set(model.motion.controls)):
        raise UserError(f"the model {model.name} lacks {', '.join(missing)}, which the demonstration shows")
    model.pair.prepare(Options(SAMPLING["steps"], (), SAMPLING["sampler"]), model.motion.needs.hop)
    given = np.stack([np.asarray(Image.open(CHARACTERS / f"{act.file}.png")) for act in ACTS])
    length = TURN * SAMPLES_PER_FRAME
    sounds = [soundfile.read(CHARACTERS / f"{act.file}.wav", length, dtype="float32")[0] for act in ACTS]
    middle = given.shape[1] / 2
    whole = Box(middle, middle, 2 * middle)
    drawn = []
    with tqdm(total=len(ACTS) * TURN, unit="frame", desc="talking", dynamic_ncols=True) as bar:
        for act, picture, sound in zip(ACTS, given, sounds, strict=True):
            frames = []
            for frame in model.animate(picture, sound, box=whole, seed=SEED, **SAMPLING, **tracks(act.parts)):
                frames.append(frame)
                bar.update(1)
            drawn.append(np.stack(frames))
    speech = np.concatenate(sounds)
    said = {act.name: "; ".join(map(words, act.parts)) for act in ACTS}
    row = np.concatenate(list(given), 1)
    provenance = declare(model.name, model.sha256, row, "created", speech, None, SEED, SAMPLING | said)
    return Show(drawn, speech, given, provenance)


def compose(show: Show, side: int, every: int = 1) -> Iterator[UInt8[np.ndarray, "y x 3"]]:
    """Frames of the whole row, of which one in `every` is shown, with characters of `side` pixels."""
    from vasa_jax.media.row import draw_row, fitted, icon_side

    waiting = [fitted(frames[0], side) for frames in show.frames]
    icons = [fitted(portrait, icon_side(side)) for portrait in show.portraits]
    for turn, frames in enumerate(show.frames):
        for number in range(0, len(frames), every):
            waiting[turn] = fitted(frames[number], side)
            yield draw_row(waiting, captions(icons, turn, number), side)
        waiting[turn] = fitted(frames[-1], side)


def captions(icons: Sequence[UInt8[np.ndarray, "n n 3"]], turn: int, number: int) -> list["Caption"]:
    """What stands below each character in frame `number` of a turn; the others' turns are over or to come."""
    from vasa_jax.media.row import Caption

    told = []
    for place, (act, icon) in enumerate(zip(ACTS, icons, strict=True)):
        asked = part(act.parts, number if place == turn else 0 if place > turn else TURN - 1)
        told.append(Caption((act.name, words(asked)), icon, place == turn))
    return told


def part(parts: tuple[dict[str, Any], ...], number: int) -> dict[str, Any]:
    """Controls of frame `number` of a turn."""
    return parts[number * len(parts) // TURN]


def words(asked: dict[str, Any]) -> str:
    """Controls as the command line names them."""
    return ", ".join(f"{name} {value}" for name, value in asked.items())


def tracks(parts: tuple[dict[str, Any], ...]) -> dict[str, Any]:
    """Controls of a turn as tracks of one value a frame."""
    return {name: [part(parts, number)[name] for number in range(TURN)] for name in parts[0]}


def controls_of(acts: Sequence[Act]) -> set[str]:
    """Names of all controls that are shown."""
    return {name for act in acts for asked in act.parts for name in asked}


if __name__ == "__main__":
    sys.exit(main())
