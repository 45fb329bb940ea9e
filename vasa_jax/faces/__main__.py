"""Faces of a picture, as JSON, a line each and the largest first: `python -m vasa_jax.faces PICTURE`.

`faces.framing` runs this in a process of its own: the detector's native code writes to standard error and may fail to
start, neither of which is to touch the program that asks.
"""

import io
import json
import sys
from collections.abc import Iterator, Sequence

import numpy as np

from vasa_jax.command import Parser, run
from vasa_jax.faces.landmarks import Landmarker
from vasa_jax.media.image import open_image


def work(arguments: Sequence[str]) -> Iterator[str]:
    """Look for faces; a line of JSON each. Raises UserError for bad input, NoDetectorError without a detector."""
    parser = Parser(prog="python -m vasa_jax.faces", description="The faces of a picture as JSON, the largest first.")
    parser.add_argument("picture", help="a picture of any format, or - for an array (.npy) on standard input")
    name = parser.parse_args(arguments).picture
    given = io.BytesIO(sys.stdin.buffer.read()) if name == "-" else None
    photo = np.load(given, allow_pickle=False) if given else np.asarray(open_image(name))
    with Landmarker() as landmarker:
        for face in landmarker.find(photo):
            yield json.dumps(
                {"points": face.points.tolist(), "shapes": face.shapes, "transform": face.transform.tolist()}
            )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0, or 2 after one line on stderr."""
    return run("faces", lambda: work(sys.argv[1:] if arguments is None else arguments))


if __name__ == "__main__":
    sys.exit(main())
