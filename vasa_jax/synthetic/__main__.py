"""The world's door: film a synthetic person, or take only a portrait or a speech.

    vasa-synthetic --out clip.mp4 --seed 3 --seconds 6 --size 256 --emotion happiness:0.8
    vasa-synthetic --portrait portrait.png --speech speech.wav --seed 4000000
    vasa-synthetic --portrait statue.png --style stone --seed 4000024
    vasa-synthetic --sheet world.png

The second line writes the two inputs of VASA-1: a neutral, frontal picture of a person at 256 pixels and what that
person says; the third shows a person as a sculptor would. The last writes a contact sheet of the world as networks see
it in training (`looks`): 8 x 8 people from the seed on. Bad input ends with one line on stderr, exit code 2 and no
file.
"""

import argparse
import io
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import soundfile
from PIL import Image

from vasa_jax.arrays import FPS, SAMPLE_RATE
from vasa_jax.command import Parser, run
from vasa_jax.errors import UserError, check_devices
from vasa_jax.files import check_apart, check_target, whole_file
from vasa_jax.media.tags import Tags
from vasa_jax.media.video import VideoWriter, check_video_target
from vasa_jax.synthetic.cast import STYLES, Character, portraits
from vasa_jax.synthetic.clip import shoot
from vasa_jax.synthetic.identity import identity_from_seed
from vasa_jax.synthetic.performance import perform, read_emotion
from vasa_jax.synthetic.sheet import ROWS, contact_sheet

PORTRAIT_SIZE = 256
LONGEST = 3600.0
SECONDS, SIZE = 6.0, 256
"""What is filmed where nothing else is said."""
TILE = 80
"""Side of the pictures of a sheet, likewise."""
TAGS = Tags(
    title="A synthetic person (vasa-jax)",
    comment="Drawn and voiced by the synthetic world of vasa-jax. Nobody whom it shows exists.",
    source="algorithmicMedia",
)
"""Of pictures and videos: nothing in them was learned."""


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read and check the flags; UserError for what cannot be done."""
    parser = Parser(prog="vasa-synthetic", description="Film a synthetic person who says nonsense.")
    parser.add_argument("--out", type=Path, help="a video with sound (.mp4, .m4v, .mov, .mkv, .webm)")
    parser.add_argument("--portrait", type=Path, help=f"a neutral frontal picture of {PORTRAIT_SIZE} pixels (.png)")
    parser.add_argument("--style", choices=STYLES, help="of the portrait (default plain: a photograph)")
    parser.add_argument("--speech", type=Path, help="what the person says (.wav)")
    parser.add_argument(
        "--sheet", type=Path, help=f"{ROWS} x {ROWS} people in the looks of training, from --seed on (.png)"
    )
    parser.add_argument("--seed", type=int, default=0, help="decides person, voice, words and acting (default 0)")
    parser.add_argument("--seconds", type=float, help=f"length of video and speech (default {SECONDS:g})")
    parser.add_argument(
        "--size",
        type=int,
        help=f"side of the video in pixels, even (default {SIZE}), or of a picture of the sheet ({TILE})",
    )
    parser.add_argument("--emotion", help="a class and its intensity, as happiness:0.8 (default: the seed's own)")
    options = parser.parse_args(arguments)
    given = {"--out": options.out, "--portrait": options.portrait, "--speech": options.speech, "--sheet": options.sheet}
    targets = {name: path for name, path in given.items() if path is not None}
    if not targets:
        raise UserError("nothing to write; give --out, --portrait, --speech or --sheet")
    _refuse_idle(options)
    check_apart(targets, {})
    if options.out is not None:
        check_video_target(options.out)
    for path, suffix in ((options.portrait, ".png"), (options.speech, ".wav"), (options.sheet, ".png")):
        if path is not None and check_target(path).suffix.lower() != suffix:
            raise UserError(f"{path} must end in {suffix}")
    last = 2**32 - (1 if options.sheet is None else ROWS**2)
    if not 0 <= options.seed <= last:
        raise UserError(f"--seed {options.seed} is out of range; give 0 to {last}")
    options.seconds = SECONDS if options.seconds is None else options.seconds
    options.tile = TILE if options.size is None else options.size
    options.size = SIZE if options.size is None else options.size
    if not 1 / FPS <= options.seconds <= LONGEST:
        raise UserError(f"--seconds {options.seconds:g} is out of range; give {1 / FPS:g} to {LONGEST:g}")
    if not 16 <= options.size <= 1024 or options.size % 2:
        raise UserError(f"--size {options.size} must be even and within 16 to 1024")
    options.emotion = None if options.emotion is None else read_emotion(options.emotion)
    return options


def _refuse_idle(options: argparse.Namespace) -> None:
    """Refuse flags that say nothing about what is to be written."""
    if options.size is not None and options.out is None and options.sheet is None:
        raise UserError("--size is that of the video and of the sheet; give --out or --sheet, or leave it out")
    if options.style is not None and options.portrait is None:
        raise UserError("--style is that of the portrait; give --portrait, or leave it out")
    for name in ("seconds", "emotion"):
        if getattr(options, name) is not None and options.out is None and options.speech is None:
            raise UserError(f"--{name} is that of video and speech; give --out or --speech, or leave it out")


def work(options: argparse.Namespace) -> Iterator[str]:
    """Write what the options ask for, with a line for the user after each file."""
    check_devices()
    if options.sheet is not None:
        with whole_file(options.sheet) as hidden:
            contact_sheet(options.seed, options.tile).save(hidden, "PNG", optimize=True, pnginfo=TAGS.png())
        yield f"wrote {options.sheet}"
    if not (options.out or options.portrait or options.speech):
        return
    identity = identity_from_seed(options.seed)
    performance = perform(options.seed, options.seconds, options.emotion)
    if options.out is not None:
        with VideoWriter(options.out, FPS, options.size, (performance.audio, SAMPLE_RATE), tags=TAGS) as writer:
            for frames, _ in shoot(identity, performance.states, options.size):
                for frame in frames:
                    writer.write(frame)
        yield f"wrote {options.out}"
    if options.portrait is not None:
        (picture,) = portraits([Character(options.seed, options.style or "plain")], PORTRAIT_SIZE)
        with whole_file(options.portrait) as hidden:
            Image.fromarray(picture).save(hidden, pnginfo=TAGS.png())
        yield f"wrote {options.portrait}"
    if options.speech is not None:
        sound = io.BytesIO()  # libsndfile calls whatever the system refuses "System error."
        soundfile.write(sound, performance.audio, SAMPLE_RATE, subtype="PCM_16", format="WAV")
        with whole_file(options.speech) as hidden:
            hidden.write_bytes(sound.getbuffer())
        yield f"wrote {options.speech}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0, or 2 after one line on stderr."""
    return run("vasa_jax.synthetic", lambda: work(parse(sys.argv[1:] if arguments is None else arguments)))


if __name__ == "__main__":
    sys.exit(main())
