"""What the libraries that read sound files have in common."""

import dataclasses
from collections.abc import Callable, Generator

import numpy as np

from vasa_jax.media.mixing import LAYOUTS

MAX_CHANNELS = max(LAYOUTS)

Piece = tuple[np.ndarray, int, str]
"""Samples (n, c), float32; samples a second; the layout of the channels."""


class Refused(Exception):
    """A library cannot read a file; the message says why, without the file's name."""


@dataclasses.dataclass(frozen=True)
class Reader:
    """The sound of a file as one library reads it.

    Attributes:
        rate, layout, channels: of the first piece.
        duration: seconds, an estimate from headers; None where they say nothing.
        pieces: reads from the beginning, and raises `Refused` where the file turns out to be damaged.
    """

    rate: int
    layout: str
    channels: int
    duration: float | None
    pieces: Callable[[], Generator[Piece, None, None]]


def standard_layout(channels: int) -> str:
    """The layout of so many channels, where a file does not say which they are. Raises Refused for too many."""
    if channels not in LAYOUTS:
        raise Refused(f"has {channels} channels; at most {MAX_CHANNELS} can be read; mix it down first")
    return LAYOUTS[channels]
