"""`infer.py --stream`: sound on standard input, a talking face on standard output, as fast as the machine allows.

espeak-ng --stdout "hello" | python infer.py --image portrait.png --stream --out - | ffplay -
"""

import sys
from typing import TYPE_CHECKING, Any

from vasa_jax.errors import UserError

if TYPE_CHECKING:
    from vasa_jax.doors.infer import Models, Options

ELSEWHERE = (
    *("audio", "driving", "pose_from", "dynamics_from", "save_motion", "show_crop", "fit", "parity", "jobs"),
    *("sign_with", "tsa"),
)
"""Options that a stream has no use for."""


def stream(options: "Options", models: "Models") -> None:
    """Does what the options say, and reports on standard error; a reader who leaves ends it quietly.

    Raises:
        UserError: an option or an input that cannot be used.
    """
    from vasa_jax.doors.infer import WISHES, _pair
    from vasa_jax.faces.box import parse_box
    from vasa_jax.faces.framing import parse_face
    from vasa_jax.inference.stream import Stream
    from vasa_jax.media.live import LiveWriter, read_sound

    for name in ELSEWHERE:
        if getattr(options, name):
            raise UserError(f"--{name.replace('_', '-')} does nothing with --stream; leave it out")
    if options.image is None or options.out != "-":
        raise UserError("--stream needs --image PORTRAIT and --out -: the video goes to standard output")
    wishes: dict[str, Any] = {name: value for name in WISHES if (value := getattr(options, name)) is not None}
    if options.position is not None:
        wishes["position"] = _pair("--position", options.position)
    if options.face:
        wishes["face"] = parse_face(options.face)
    if options.box:
        wishes["box"] = parse_box(options.box)
    if options.square:
        wishes["square"] = True
    model = models.load(options.model, options.dtype, options.speech)
    live = Stream(model, options.image, **wishes)
    for remark in live.remarks:
        sys.stderr.write(f"infer: {remark}\n")
    try:
        with (
            open(sys.stdin.fileno(), "rb", buffering=0, closefd=False) as source,
            LiveWriter(_Pipe(sys.stdout.fileno()), (live.height, live.width), options.container) as writer,
        ):
            for samples in read_sound(source):
                live.push(samples)
                while (chunk := live.pull()) is not None:
                    writer.write(chunk.frames, chunk.sound)
            live.end()
            while (chunk := live.pull()) is not None:
                writer.write(chunk.frames, chunk.sound)
        sys.stderr.write(f"infer: {writer.frames} frames of {live.width}x{live.height}\n")
    except BrokenPipeError:
        return


class _Pipe:
    """A descriptor that takes all bytes at once and keeps none."""

    def __init__(self, number: int):
        self._file = open(number, "wb", buffering=0, closefd=False)  # noqa: SIM115

    def write(self, data: bytes) -> int:
        """Writes all of it. Raises BrokenPipeError where the reader has left."""
        left = memoryview(data)
        while left:
            left = left[self._file.write(left) :]
        return len(data)
