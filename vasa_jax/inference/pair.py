"""A pair: a face model and a motion model that drive each other, and all that drivers may know of them.

Portrait, Motion, Carry and Controls are pytrees that the pair alone looks into; time leads in every leaf of a Motion.
Drivers, commands, server and benchmarks go through these protocols, so that any pair runs behind the same door: they
know no margins of a front end, no pose numbers, no keypoints.
"""

import dataclasses
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Array, Bool, Float, Key, UInt8

from vasa_jax.errors import UserError
from vasa_jax.faces.box import Box
from vasa_jax.faces.landmarks import Face
from vasa_jax.inference.program import Program
from vasa_jax.liveportrait.driving import DrivingMotion

Portrait = Any
Motion = Any
Carry = Any
Controls = Any
Rendered = tuple[UInt8[Array, "t m m 3"], Bool[Array, " t"]]
"""Frames, and which of them are finite: NaN is black as a picture."""


class Sound(NamedTuple):
    """The stretch of 16 kHz sound that one step of a motion model hears.

    lead: samples before the window's first frame. ahead: samples behind its last. window: frames, 640 samples each.
    block: frames whose sound is heard together; hops are multiples of it. spare: last frames of a window that were made
    without hearing what follows, so that the next window makes them anew wherever sound goes on.
    """

    lead: int
    ahead: int
    window: int
    block: int = 1
    spare: int = 0

    @property
    def hop(self) -> int:
        """Frames that a driver takes of each window where all sound is there."""
        return self.window - self.spare


class Listening(NamedTuple):
    """How a sound is heard, step by step. hop: frames that a step emits. heard: frames of its window whose sound it
    hears, these and those behind them that it waits for."""

    hop: int
    heard: int


@dataclasses.dataclass(frozen=True)
class Options:
    """How motion is sampled.

    steps: of the sampler; 0 is the pair's own number. guidance: scale by name of condition, as pairs; a name that is
        left out has the pair's own scale. sampler: its name; "" is the pair's own.
    """

    steps: int = 0
    guidance: tuple[tuple[str, float], ...] = ()
    sampler: str = ""


@dataclasses.dataclass(frozen=True)
class Adjustments:
    """How motion is changed before it is drawn; the defaults leave it as it was generated.

    amplitude: gain of all that moves. head, mouth, blink: further gains of turning, swaying and nodding, of opening the
        mouth, and of closing the lids. position: by how much the head is moved to the right and down, in units of half
        the square that the model draws. zoom: by how much it is enlarged.

    Raises UserError for what is not finite, gains outside 0 to 4, positions beyond 1 and zooms outside 0.25 to 4.
    """

    amplitude: float = 1.0
    head: float = 1.0
    mouth: float = 1.0
    blink: float = 1.0
    position: tuple[float, float] = (0.0, 0.0)
    zoom: float = 1.0

    def __post_init__(self):
        for name in ("amplitude", "head", "mouth", "blink"):
            if not 0 <= getattr(self, name) <= 4:
                raise UserError(f"{name} {getattr(self, name):g} is out of range; give 0 to 4; 1 is as generated")
        if len(self.position) != 2 or not all(math.isfinite(part) and abs(part) <= 1 for part in self.position):
            raise UserError(f"position {self.position} is out of range; give x,y from -1 to 1, half of the square each")
        if not 0.25 <= self.zoom <= 4:
            raise UserError(f"zoom {self.zoom:g} is out of range; give 0.25 to 4; 1 is as generated")


ADJUSTMENTS = tuple(field.name for field in dataclasses.fields(Adjustments))
"""Their names."""


@runtime_checkable
class FaceModel(Protocol):
    """Pictures to portraits and motion, and back."""

    @property
    def size(self) -> int:
        """Side of a rendered frame, in pixels."""
        ...

    @property
    def sees(self) -> int:
        """Side of the picture that `encode` and `motion` read, in pixels."""
        ...

    @property
    def batch(self) -> int:
        """Frames that one call of `render` draws best."""
        ...

    def encode(self, picture: Float[Array, "1 n n 3"], face: Face | None = None) -> Portrait:
        """What stays of the face in a picture in [0, 1], whose landmarks may be known."""
        ...

    def motion(self, frames: Float[Array, "t n n 3"]) -> Motion:
        """What moves in pictures in [0, 1]."""
        ...

    def render(self, portrait: Portrait, motion: Motion) -> Rendered:
        """Frames of a portrait in retargeted motions, any number of them; they may still be under way."""
        ...

    def render_together(self, portraits: Sequence[Portrait], motions: Sequence[Motion]) -> list[Rendered]:
        """The same for several portraits, each in as many motions."""
        ...


@runtime_checkable
class MotionModel(Protocol):
    """Sound to motion, a window at a time."""

    @property
    def needs(self) -> Sound:
        """What a step hears."""
        ...

    @property
    def controls(self) -> Collection[str]:
        """What `make_controls` knows."""
        ...

    @property
    def guidance(self) -> Mapping[str, float]:
        """The scales that can be set, and their own values."""
        ...

    @property
    def steps(self) -> tuple[int, int, int]:
        """Of the sampler: the fewest, its own number, and the most."""
        ...

    @property
    def samplers(self) -> Collection[str]:
        """Names of the samplers that it can be sampled with, its own one first."""
        ...

    def make_controls(self, **wishes: Any) -> Controls:
        """Tracks of what a user asks for, constant or one row a frame; raises UserError for what cannot be done."""
        ...

    def start(self, key: Key[Array, ""], portrait: Portrait, controls: Controls) -> Carry:
        """A session of which nothing is known yet."""
        ...

    def step(
        self, carry: Carry, sound: Float[Array, " n"], heard: int, hop: int, controls: Controls, options: Options
    ) -> tuple[Carry, Motion]:
        """The next `hop` frames.

        Args:
            carry: of the session, which remembers the last frames that were emitted.
            sound: `needs.lead` + 640 `needs.window` + `needs.ahead` samples around the window that begins at the next
                frame; zeros where there is none, or none yet.
            heard: frames of the window whose sound exists, with `needs.ahead` samples behind them; `hop` or more.
            hop: frames to emit, a multiple of `needs.block`, up to `needs.window`.
            controls: of these frames.
            options: how to sample.
        """
        ...

    def step_together(
        self,
        carries: Sequence[Carry],
        sounds: Sequence[Float[np.ndarray, " n"]],
        heard: int,
        hop: int,
        controls: Sequence[Controls],
        options: Options,
    ) -> list[tuple[Carry, Motion]]:
        """The same for several sessions, one carry, sound and controls each."""
        ...


@runtime_checkable
class Pair(Protocol):
    """Both models, and what joins them."""

    @property
    def kind(self) -> str:
        """Of the release; motion files carry it too."""
        ...

    @property
    def fps(self) -> int:
        """Frames a second."""
        ...

    @property
    def face(self) -> FaceModel:
        """What draws."""
        ...

    @property
    def motion(self) -> MotionModel:
        """What moves."""
        ...

    @property
    def adjustments(self) -> Collection[str]:
        """Names of `Adjustments` that `retarget` can do."""
        ...

    @property
    def pastes(self) -> bool:
        """Whether frames belong back into the whole photo."""
        ...

    @property
    def programs(self) -> Iterable[Program]:
        """What is compiled, so that a driver can tell waiting from working."""
        ...

    @property
    def shapes(self) -> Motion:
        """A motion whose leaves are the shapes of one frame, as tuples inside."""
        ...

    def frame(self, face: Face) -> Box:
        """Where the pair wants to look at a face."""
        ...

    def watch(self, face: Face) -> Box:
        """Where it wants to look at a face of a driving video, so that the head is seen to move."""
        ...

    def prepare(self, options: Options | None, hop: int | None = None, batch: int | None = None) -> None:
        """Start compiling in the background what a picture needs.

        Args:
            options: of generating motion; None where none is generated.
            hop: frames of a step; None is `needs.hop`.
            batch: frames that will be rendered together; None is `FaceModel.batch`.
        """
        ...

    def retarget(
        self, portrait: Portrait, state: Any, motion: Motion, controls: Controls, adjustments: Adjustments
    ) -> tuple[Any, Motion]:
        """Fit stretches of motion to a portrait, one after the other; None is the first state."""
        ...

    def fit(
        self, portrait: Portrait, picture: Any, motions: Motion, steps: int, seed: int, progress: Callable[[int], None]
    ) -> tuple[Portrait, str]:
        """Pull a portrait towards its picture, and say how far it came.

        Args:
            portrait: of `FaceModel.encode`.
            picture: that, (1, n, n, 3) in [0, 1].
            motions: raw motion, as it will be drawn.
            steps: 1 or more.
            seed: of what is drawn.
            progress: told of each step.

        Raises:
            UserError: where the pair has no fit, or for fewer steps.
        """
        ...

    def still(self, portrait: Portrait) -> Motion:
        """The one frame of retargeted motion that shows the portrait as its picture does."""
        ...

    def join(self, pose: Motion, dynamics: Motion) -> Motion:
        """The head of one motion and the face of another, equally long."""
        ...

    def follow(self, driver: DrivingMotion, pose: bool) -> Motion:
        """LivePortrait's motion, or of it the head's pose alone, as motion of this pair; raises UserError where the
        pair cannot read it."""
        ...


def listening(needs: Sound, hop: int | None = None, look_ahead: int | None = None) -> Listening:
    """How a sound is heard by a user's numbers.

    Args:
        needs: of the motion model.
        hop: frames that are made together; None is `needs.hop`.
        look_ahead: frames behind them whose sound is heard too; None is all of the window.

    Raises:
        UserError: a hop that the model cannot do, or a look-ahead beyond its window.
    """
    hop = needs.hop if hop is None else hop
    check_step(needs, needs.window, hop)
    most = needs.window - hop
    if look_ahead is not None and not 0 <= look_ahead <= most:
        raise UserError(f"look_ahead {look_ahead} is out of range; with hop {hop} this model hears 0 to {most} frames")
    return Listening(hop, needs.window if look_ahead is None else hop + look_ahead)


def check_step(needs: Sound, heard: int, hop: int) -> None:
    """Raise UserError for a hop or a number of heard frames that a step cannot do with."""
    if not 1 <= hop <= needs.window:
        raise UserError(f"hop {hop} is out of range; give 1 to {needs.window} frames")
    if hop % needs.block:
        raise UserError(
            f"hop {hop} cannot be done: this model hears sound in blocks of {needs.block} frames; give a multiple of "
            "that, or train one with audio.block 1"
        )
    if not hop <= heard <= needs.window:
        raise UserError(f"{heard} heard frames are out of range; give {hop}, the hop, to {needs.window}")


def check_options(motion: MotionModel, options: Options) -> None:
    """Raise UserError for steps, guidance or a sampler that a motion model cannot do."""
    fewest, own, most = motion.steps
    steps = options.steps or own
    if fewest == most and steps != own:
        raise UserError(f"steps {steps} cannot be done: this model always samples in {own}; leave steps out")
    if steps != int(steps) or not fewest <= steps <= most:
        raise UserError(f"steps {steps} is out of range; give {fewest} to {most}, a whole number")
    if options.sampler and options.sampler not in motion.samplers:
        raise UserError(f"this model has no sampler {options.sampler!r}; it has {_listed(motion.samplers)}")
    for name, scale in options.guidance:
        if name not in motion.guidance:
            raise UserError(f"this model has no guidance_{name}; it has {_listed(motion.guidance, 'guidance_')}")
        if not math.isfinite(scale):
            raise UserError(f"guidance_{name} {scale} is out of range; give a finite number")


def check_known(pair: Pair, wishes: Iterable[str]) -> None:
    """Raise UserError for a control or an adjustment that a pair lacks, by its name."""
    known = (*pair.motion.controls, *pair.adjustments)
    for name in wishes:
        if name not in known:
            raise UserError(f"models of kind {pair.kind!r} have no {name}; leave it out, or choose {_listed(known)}")


def _listed(names: Iterable[str], before: str = "") -> str:
    return ", ".join(f"{before}{name}" for name in names) or "none"
