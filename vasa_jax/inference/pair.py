"""A pair: a face model and a motion model that drive each other, and all that drivers may know of them.

Portrait, Motion and Carry are pytrees that the pair alone looks into; time leads in every leaf of a Motion. Drivers,
commands, server and benchmarks go through these protocols, so that any pair runs behind the same door: they know no
margins of a front end, no pose numbers, no keypoints.
"""

import dataclasses
from typing import Any, NamedTuple, Protocol

import numpy as np
from jaxtyping import Array, Float, Key, UInt8

from vasa_jax.errors import UserError
from vasa_jax.faces.box import Box
from vasa_jax.faces.landmarks import Face

Portrait = Any
Motion = Any
Carry = Any


class Sound(NamedTuple):
    """The stretch of 16 kHz sound that one step of a motion model hears.

    lead: samples before the window's first frame. ahead: samples behind its last. window: frames, 640 samples each.
    """

    lead: int
    ahead: int
    window: int


@dataclasses.dataclass(frozen=True)
class Options:
    """How motion is sampled.

    steps: of the sampler; 0 is the pair's own number. guidance: scale by name of condition, as pairs; a name that is
        left out has the pair's own scale.
    """

    steps: int = 0
    guidance: tuple[tuple[str, float], ...] = ()


class FaceModel(Protocol):
    """Pictures to portraits and motion, and back.

    size: side of a rendered frame, in pixels. sees: side of the picture that `encode` and `motion` read.
    """

    size: int
    sees: int

    def encode(self, picture: Float[Array, "1 n n 3"]) -> Portrait:
        """What stays of the face in a picture in [0, 1]."""
        ...

    def motion(self, frames: Float[Array, "t n n 3"]) -> Motion:
        """What moves in pictures in [0, 1]."""
        ...

    def render(self, portrait: Portrait, motion: Motion) -> UInt8[np.ndarray, "t m m 3"]:
        """Frames of a portrait in any number of motions; the model owns its batch."""
        ...


class MotionModel(Protocol):
    """Sound to motion, a window at a time. needs: what a step hears."""

    needs: Sound

    def start(self, key: Key[Array, ""], portrait: Portrait, controls: Any) -> Carry:
        """A session of which nothing is known yet."""
        ...

    def step(
        self, carry: Carry, sound: Float[Array, " n"], heard: int, hop: int, controls: Any, options: Options
    ) -> tuple[Carry, Motion]:
        """The next `hop` frames.

        Args:
            carry: of the session, which remembers the last frames that were emitted.
            sound: `needs.lead` + 640 `needs.window` + `needs.ahead` samples around the window that begins at the next
                frame; zeros where there is none, or none yet.
            heard: frames of the window whose sound exists, `hop` or more.
            hop: frames to emit, 1 to `needs.window`.
            controls: of these frames.
            options: how to sample.
        """
        ...


class Pair(Protocol):
    """Both models, and what joins them.

    kind: of the release, which motion files carry too. fps: frames a second.
    """

    kind: str
    face: FaceModel
    motion: MotionModel

    def frame(self, face: Face) -> Box:
        """Where the pair wants to look at a face."""
        ...

    def retarget(self, portrait: Portrait, state: Any, motion: Motion) -> tuple[Any, Motion]:
        """Fit stretches of motion of another face, or of none, to a portrait, one after the other; None is the first
        state."""
        ...


def check_step(needs: Sound, heard: int, hop: int) -> None:
    """Raise UserError for a hop or a number of heard frames that a step cannot do with."""
    if not 1 <= hop <= needs.window:
        raise UserError(f"hop {hop} is out of range; give 1 to {needs.window} frames")
    if not hop <= heard <= needs.window:
        raise UserError(f"{heard} heard frames are out of range; give {hop}, the hop, to {needs.window}")
