"""Faces of pictures, as JSON: `python -m vasa_jax.faces PICTURE`; a line a picture, its faces in a list, largest first.

`faces.apart` runs this in a process of its own and sends it pictures for as long as it wants.
"""

import io
import json
import sys
from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import BinaryIO, cast

import numpy as np

from vasa_jax.command import Parser, run
from vasa_jax.faces.landmarks import Landmarker
from vasa_jax.media.image import open_photo, over_grey


def work(arguments: Sequence[str]) -> Iterator[str]:
    """Look for faces; a line of JSON a picture. Raises UserError for bad input, NoDetectorError without a detector."""
    parser = Parser(prog="python -m vasa_jax.faces", description="The faces of pictures as JSON, the largest first.")
    parser.add_argument(
        "picture", help="a picture of any format, or - for arrays (.npy), one after the other, on stdin"
    )
    name = parser.parse_args(arguments).picture
    with Landmarker() as landmarker:
        for photo in _arrays() if name == "-" else [over_grey(open_photo(name))]:
            yield json.dumps(
                [
                    {"points": face.points.tolist(), "shapes": face.shapes, "transform": face.transform.tolist()}
                    for face in landmarker.find(photo)
                ]
            )


def _arrays() -> Iterator[np.ndarray]:
    given = cast(io.BufferedReader, sys.stdin.buffer)
    stream = SimpleNamespace(read=given.read)  # NumPy asks a file for its position, which a pipe has none of
    while given.peek(1):
        yield np.lib.format.read_array(cast(BinaryIO, stream), allow_pickle=False)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0, or 2 after one line on stderr."""
    return run("faces", lambda: work(sys.argv[1:] if arguments is None else arguments))


if __name__ == "__main__":
    sys.exit(main())
