"""The streaming driver: sound is pushed as it comes, in any pieces, and frames are pulled as soon as they can exist.

It drives the same step of the pair as `inference.offline`, a hop of frames at a time. With hop h and look-ahead l, the
frames i .. i + h - 1 are made when the samples up to

    640 (i + h + l) + ahead                                                                       (1)

exist (`ahead` is the front end's, 6 ms of log-mel), whatever else has come by then: so motion depends on the sound
alone, never on when it came, and equals the offline driver's for the same hop and look-ahead, bit for bit. There is no
clock in here. A caller with one decides when it will wait no longer, and asks for a hop `now`: silence stands for
what is missing, the mouth closes within `SHUTS` frames (by what the model makes of silence, and by a gain for certain),
and head, eyes and lids go on. Every chunk of frames brings its own sound, the silence included, so that sound and
picture have one clock, which counts frames.

All that a stream remembers is its `State`, a small pytree: what the model remembers of the last frames, the sound that
still waits, and what was asked for.

Frames leave a stream with a watermark (`provenance.watermark`), whose number is drawn for each stream: no signed
credentials can go with a stream, so the mark in its pixels and its tags say that it is generated.

```
stream = Stream(vasa_jax.load("demo"), "portrait.png", hop=5)
for samples in microphone:  # float32 at 16 kHz, or int16
    stream.push(samples)
    while (chunk := stream.pull()) is not None:
        ...  # chunk.frames: uint8 (5, h, w, 3); chunk.sound: the 3200 samples that belong to them
```
"""

import itertools
import math
import secrets
from collections.abc import Sequence
from functools import partial
from numbers import Real
from typing import Any, NamedTuple, Unpack

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, UInt8

from vasa_jax.arrays import FPS, SAMPLE_RATE, SAMPLES_PER_FRAME
from vasa_jax.errors import UserError
from vasa_jax.inference.controls import between, replaced, track
from vasa_jax.inference.offline import Asked, Model, Wishes, check_finite, first, name_of
from vasa_jax.inference.pair import ADJUSTMENTS, Adjustments, Listening, Motion, Options, check_known
from vasa_jax.media.audio import LOUDEST
from vasa_jax.media.image import ImageSource
from vasa_jax.media.tags import Tags
from vasa_jax.provenance.badge import badged
from vasa_jax.provenance.credentials import TERMS, Intent
from vasa_jax.provenance.watermark import BITS, marker

HOP, LOOK_AHEAD = 5, 0
"""Frames that are made together, and frames of sound that are waited for behind them, unless one asks for others."""
SAMPLER, STEPS = "dpm++", 5
"""How motion is sampled unless one asks for another sampler, where a model has this one."""
EASE = 400.0
"""Milliseconds in which a change of what is asked for takes effect."""
SHUTS, OPENS = 4, 2
"""Frames in which the mouth closes where sound is missing, and in which it may open again."""
OFFLINE = ("driving", "pose_from", "dynamics_from", "parity", "alpha", "fit")
"""Wishes that a stream cannot do."""


class Course(NamedTuple):
    """What is asked for, and how it came to be: from frame `since` on `before` turns into `asked`, in `ease` frames.

    before: one frame's controls and adjustments. asked: tracks of both, counted from `since`; see `controls.track`.
    """

    before: Any
    asked: Any
    since: Any
    ease: Any


class State(NamedTuple):
    """What a stream remembers, NumPy arrays.

    carry: of the motion model, its key as numbers. fitted: of `pair.retarget`, None before the first frame. sound: (n,)
    float32, what waits, from `needs.lead` samples before the next frame. frame: number of that. course: of what is
    asked for. mouth: gain of the mouth, 1 but where sound is missing. lacking: whether sound was missing last. ended:
    whether none will follow. mark: that frames carry.
    """

    carry: Any
    fitted: Any
    sound: Float[np.ndarray, " n"]
    frame: int
    course: Course
    mouth: float
    lacking: bool
    ended: bool
    mark: int


class Chunk(NamedTuple):
    """Frames that were made together.

    first: number of the first one. frames: uint8 (t, h, w, c). sound: (640 t,) float32 at 16 kHz, theirs. motion: raw,
    of t frames. lacking: (t,), whether the sound of a frame had not come and silence stands for it.
    """

    first: int
    frames: UInt8[np.ndarray, "t h w c"]
    sound: Float[np.ndarray, " n"]
    motion: Motion
    lacking: Bool[np.ndarray, " t"]


class Sitting:
    """One picture, opened and encoded once, for any number of streams.

    Attributes:
        model: that encoded it. height, width: of frames, in pixels. intent: what frames show, as of
        `provenance.credentials`. remarks: what to tell the user, a line each. tried: in what ways streams have already
        drawn it.
    """

    def __init__(self, model: Model, image: ImageSource, **wishes: Unpack[Wishes]):
        """Opens the picture, finds the face and encodes it.

        Args:
            model: any pair.
            image: as of `Model.animate`.
            wishes: as there; those of the streams to come say what is compiled meanwhile, beside face, box, square and
                size.

        Raises:
            UserError: a picture or a wish that cannot be used.
        """
        asked = _asked(model, wishes)
        hop = asked.listening.hop
        scene = model.scene(image, partial(model.pair.prepare, asked.options, hop, hop), **wishes)
        self.model, self.portrait = model, model.portrait(scene.shown, scene.view.face)
        finish = model.finish(scene, self.portrait, name_of(image), wishes.get("size"), False)
        self.finish, (self.height, self.width, _) = finish.apply, finish.shape
        self.intent: Intent = "created" if scene.square else "composite"
        self.remarks = (*scene.view.remarks, *finish.remarks)
        self.tried: set[tuple[Listening, Options]] = set()


class Stream:
    """One portrait that speaks as sound comes in; not for several threads at once.

    Attributes:
        model: that it is made with. sitting: the picture. listening: hop and heard frames. options: of sampling.
        remarks: what to tell the user, a line each. height, width: of frames, in pixels. mark: 32 bits that the
        watermark of its frames carries. badge: whether they have the notice that people see.
    """

    def __init__(
        self, model: Model, image: ImageSource | Sitting, *, mark: int | None = None, **wishes: Unpack[Wishes]
    ):
        """Opens the picture, compiles and tries everything once, so that the first frames are not late.

        Args:
            model: any pair.
            image: as of `Model.animate`, or what was made of it.
            mark: below 2^32; None draws one by chance.
            wishes: as there, but for those in `OFFLINE`; hop, look_ahead, sampler and steps default to this module's.

        Raises:
            UserError: a picture or a wish that cannot be used.
        """
        asked = _asked(model, wishes)
        self.model, self.listening, self.options = model, asked.listening, asked.options
        self.sitting = image if isinstance(image, Sitting) else Sitting(model, image, **wishes)
        self.height, self.width, self.remarks = self.sitting.height, self.sitting.width, self.sitting.remarks
        self.badge = wishes.get("badge", False)
        self._set_mark(secrets.randbits(BITS) if mark is None else mark)
        adjustments = np.array([_numbers(asked.adjustments)])
        tracks = asked.controls, adjustments
        self._start = model.motion.start(jax.random.key(asked.seed), self.sitting.portrait, asked.controls)
        self._carry, self._fitted = self._start, None
        self._course = Course(track(tracks, 0, 1), tracks, 0, 0)
        self._frame, self._mouth, self._lacking, self._ended = 0, 1.0, False, False
        self._pieces = [np.zeros(model.motion.needs.lead, np.float32)]
        self._count = 0
        self._try()

    @property
    def tags(self) -> Tags:
        """What a container of its frames says: that they are generated, and their mark in hexadecimal."""
        return Tags(source=TERMS[self.sitting.intent], identity=f"{self.mark:08x}")

    @property
    def ready(self) -> bool:
        """Whether `pull` would make frames."""
        if self._ended:
            return self._count > 0
        return self._count >= SAMPLES_PER_FRAME * self.listening.heard + self.model.motion.needs.ahead

    @property
    def waiting(self) -> int:
        """Samples that were pushed and belong to frames that were not made."""
        return self._count

    @property
    def frame(self) -> int:
        """Number of the next frame, which shows the samples from 640 times that on."""
        return self._frame

    def push(self, samples: np.ndarray) -> None:
        """Appends sound: any number of samples (n,) at 16 kHz, float in [-1, 1] or int16.

        Raises:
            UserError: another shape or type, NaN, floats on another scale, or sound behind the end.
        """
        samples = checked_sound(samples)
        if self._ended:
            raise UserError("the sound has ended; open another stream for more")
        if len(samples):
            self._pieces.append(samples)
            self._count += len(samples)

    def end(self) -> None:
        """Says that no more sound will come: what waits becomes frames, the last one filled up with silence."""
        self._ended = True

    def interrupt(self) -> None:
        """Drops the sound that waits. The next frames go on from the pose of those that were pulled."""
        self.drop(self._count)
        self._lacking = True

    def drop(self, count: int) -> None:
        """Leaves out the oldest samples that wait, at most so many."""
        lead, sound = self.model.motion.needs.lead, self._sound()
        self._set_sound(np.concatenate([sound[:lead], sound[lead + count :]]))

    def change(self, ease: float = EASE, **wishes: Any) -> None:
        """Asks for something else from the next hop on; what is not named stays.

        Args:
            ease: milliseconds in which the change takes effect, 0 to 60000; 0 is at once.
            wishes: controls and adjustments, as of `Model.animate`; tracks (of controls alone) count from the next hop.

        Raises:
            UserError: a wish that the model lacks or cannot do.
        """
        steered, fresh, changed = self._change(ease, wishes)
        before = self._at(self._frame - 1)
        controls, adjustments = _behind(self._course, self._frame)
        taken = [name in changed for name in ADJUSTMENTS for _ in range(_SIZES[name])]
        numbers = np.where(np.array([taken]), _numbers(Adjustments(**changed))[None], adjustments[:1])
        asked = replaced(controls, fresh, steered), numbers
        self._course = Course(before, asked, self._frame, round(ease * FPS / 1000))

    def check_change(self, ease: float = EASE, **wishes: Any) -> None:
        """Raises what `change` would raise, and changes nothing."""
        self._change(ease, wishes)

    def _change(self, ease: float, wishes: dict[str, Any]) -> tuple[dict[str, Any], Any, dict[str, Any]]:
        """Wishes that are controls, their tracks, and those that are adjustments."""
        if not 0 <= ease <= 60_000:
            raise UserError(f"ease {ease:g} is out of range; give 0 to 60000 milliseconds")
        motion = self.model.motion
        check_known(self.model.pair, wishes)
        steered = {name: value for name, value in wishes.items() if name in motion.controls}
        changed = {name: value for name, value in wishes.items() if name not in motion.controls}
        for name, value in changed.items():
            if not all(isinstance(part, Real) for part in (value if name == "position" else (value,))):
                raise UserError(f"{name} {value!r} is no track; give one value, and change it again when it is due")
        Adjustments(**changed)
        return steered, motion.make_controls(**steered), changed

    def pull(self, now: bool = False, spare: int = 0) -> Chunk | None:
        """The next hop of frames, or None where the sound for it is not there.

        Args:
            now: make it in any case, with silence in place of sound that has not come. The silence follows the sound
                that there is; but where sound was missing already, it goes before it, so that speech that sets in is
                not torn apart. None is then the end alone.
            spare: samples of speech that sets in that are kept for the next hop, so that sound which comes as it is
                spoken may come late by as much from then on.

        Raises:
            UserError: weights that make NaN.
        """
        (chunk,) = pull_together([self], now, spare)
        return chunk

    @property
    def state(self) -> State:
        """All that the stream remembers, as NumPy arrays, which can be stored and given to `restore`."""
        carry = jax.tree.map(_plain, self._carry)
        fitted = jax.tree.map(np.asarray, self._fitted)
        sound, course = self._sound().copy(), jax.tree.map(np.copy, self._course)
        return State(carry, fitted, sound, self._frame, course, self._mouth, self._lacking, self._ended, self.mark)

    def restore(self, state: State) -> None:
        """Goes on where a stream of the same model, picture, hop and look-ahead was.

        Raises:
            UserError: the state of another model.
        """
        own, found = jax.tree.map(_plain, self._start), state.carry
        if jax.tree.structure(own) != jax.tree.structure(found) or any(
            np.shape(a) != np.shape(b) for a, b in zip(jax.tree.leaves(own), jax.tree.leaves(found), strict=True)
        ):
            raise UserError("the state is another model's; restore it in a stream of the model that it came from")
        self._carry = jax.tree.map(_alike, self._start, found)
        before, asked, since, ease = state.course
        self._fitted, self._course = state.fitted, Course(before, asked, int(since), int(ease))
        self._frame, self._mouth = int(state.frame), float(state.mouth)
        self._lacking, self._ended = bool(state.lacking), bool(state.ended)
        self._set_sound(np.asarray(state.sound, np.float32))
        if int(state.mark) != self.mark:
            self._set_mark(int(state.mark))

    def _take(self, now: bool, spare: int) -> "_Hop | None":
        """Takes the sound of the next hop."""
        ready = self.ready
        if not (ready or (now and not self._ended)):
            return None
        needs, hop = self.model.motion.needs, self.listening.hop
        size, sound, come = SAMPLES_PER_FRAME * hop, self._sound(), self._count
        silence = 0
        if not ready and self._lacking and come < size:
            begun = max(0, come - spare)
            silence = size - begun
            sound = np.insert(sound, needs.lead, np.zeros(silence, np.float32))
            come = size if begun else 0
        need = needs.lead + SAMPLES_PER_FRAME * needs.window + needs.ahead
        window = np.pad(sound[:need], (0, max(0, need - len(sound))))
        count = min(hop, math.ceil(come / SAMPLES_PER_FRAME)) if self._ended else hop
        places = SAMPLES_PER_FRAME * np.arange(hop)
        lacking = (places >= come) | (places + SAMPLES_PER_FRAME <= silence)
        self._lacking = not self._ended and come < size
        self._set_sound(np.pad(sound, (0, max(0, needs.lead + size - len(sound))))[size:])
        taken = _Hop(self._frame, window, count, lacking & (not self._ended), *self._asked(hop))
        self._frame += hop
        return taken

    def _finish(self, hop: "_Hop", motion: Motion, frames: UInt8[np.ndarray, "t m m 3"]) -> Chunk:
        lead = self.model.motion.needs.lead
        theirs = hop.sound[lead : lead + SAMPLES_PER_FRAME * hop.count].copy()
        finished = [self.sitting.finish(frame) for frame in frames]
        if self.badge:
            finished = [badged(frame, hop.first + i, self.model.fps) for i, frame in enumerate(finished)]
        finished = np.stack([self._marked(frame) for frame in finished])
        return Chunk(hop.first, finished, theirs, first(motion, hop.count), hop.lacking[: hop.count])

    def _set_mark(self, mark: int) -> None:
        self.mark, self._marked = mark, marker(mark, (self.height, self.width))

    def _placed(self, motion: Motion, controls: Any, adjustments: Float[np.ndarray, "t k"]) -> Motion:
        """Motion fitted to the portrait, in stretches of frames with the same adjustments."""
        portrait = self.sitting.portrait
        cuts = np.flatnonzero((adjustments[1:] != adjustments[:-1]).any(1)) + 1
        parts = []
        with self.model.timed("motion"):
            for begin, end in itertools.pairwise((0, *cuts.tolist(), len(adjustments))):
                stretch = jax.tree.map(lambda leaf, begin=begin, end=end: leaf[begin:end], motion)
                theirs, asked = track(controls, begin, end - begin), _adjustments(adjustments[begin])
                self._fitted, placed = self.model.pair.retarget(portrait, self._fitted, stretch, theirs, asked)
                parts.append(placed)
            return parts[0] if len(parts) == 1 else jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)

    def _gains(self, lacking: Bool[np.ndarray, " t"]) -> Float[np.ndarray, "t k"]:
        """Factors of adjustments: the mouth closes where sound is lacking."""
        gains = np.ones((len(lacking), sum(_SIZES.values())))
        if "mouth" in self.model.pair.adjustments:
            for i, silent in enumerate(lacking):
                step = -1 / SHUTS if silent else 1 / OPENS
                gains[i, MOUTH] = self._mouth = min(1.0, max(0.0, self._mouth + step))
        return gains

    def _asked(self, count: int) -> tuple[Any, Float[np.ndarray, "t k"]]:
        """Controls and adjustments of the next frames."""
        course, at = self._course, self._frame - self._course.since
        if at + 1 >= course.ease:
            return track(course.asked, at, count)
        rows = [self._at(self._frame + i) for i in range(count)]
        return jax.tree.map(lambda *leaves: np.concatenate(leaves), *rows)

    def _at(self, frame: int) -> tuple[Any, Float[np.ndarray, "1 k"]]:
        """Those of one frame; before the course begins, what it begins from."""
        (before, asked, _, ease), at = self._course, frame - self._course.since
        if at < 0:
            return before
        share = (at + 1) / max(ease, 1)
        after = track(asked, int(at), 1)
        if share >= 1:
            return after
        smooth = share * share * (3 - 2 * share)
        return tuple(between(a, b, smooth) for a, b in zip(before, after, strict=True))

    def _sound(self) -> Float[np.ndarray, " n"]:
        if len(self._pieces) > 1:
            self._pieces = [np.concatenate(self._pieces)]
        return self._pieces[0]

    def _set_sound(self, sound: Float[np.ndarray, " n"]) -> None:
        self._pieces, self._count = [sound], len(sound) - self.model.motion.needs.lead

    def _try(self) -> None:
        """Makes a hop of silence and forgets it: what has to be compiled is compiled, and paste-back has begun."""
        if (self.listening, self.options) not in self.sitting.tried:
            hop, before = self.listening.hop, self.state
            self.model.pair.prepare(self.options, hop, hop)
            chunk = self.pull(now=True)
            self.restore(before)
            assert chunk is not None
            self._try_stretches(chunk.motion)
            self.sitting.tried.add((self.listening, self.options))

    def _try_stretches(self, motion: Motion) -> None:
        """Fits stretches of all lengths that adjustments may cut a hop into."""
        pair, (controls, _) = self.model.pair, self._asked(self.listening.hop)
        changed = Adjustments(mouth=0.5) if "mouth" in pair.adjustments else Adjustments()
        with self.model.timed("motion"):
            for count in range(1, self.listening.hop + 1):
                asked = track(controls, 0, count)
                pair.retarget(self.sitting.portrait, None, first(motion, count), asked, changed)


def _asked(model: Model, wishes: Any) -> Asked:
    """Wishes of a stream as the pair reads them; raises UserError."""
    for name in OFFLINE:
        if wishes.get(name):
            raise UserError(f"{name} cannot be done in a stream; leave it out, or make a video")
    own: dict[str, Any] = {"hop": HOP, "look_ahead": LOOK_AHEAD}
    if SAMPLER in model.motion.samplers and "sampler" not in wishes:
        own |= {"sampler": SAMPLER, "steps": STEPS}
    return model.asked(**own | wishes)


class _Hop(NamedTuple):
    """What frames are made of. first: number of the first one. sound: around their window, as the motion model needs
    it. count: how many they are. lacking: whether a frame's sound is missing. controls, adjustments: theirs."""

    first: int
    sound: Float[np.ndarray, " n"]
    count: int
    lacking: Bool[np.ndarray, " t"]
    controls: Any
    adjustments: Float[np.ndarray, "t k"]


def checked_sound(samples: np.ndarray) -> Float[np.ndarray, " n"]:
    """Samples as `Stream.push` takes them, as floats in [-1, 1]; raises UserError where they are none."""
    samples = np.asarray(samples)
    if samples.ndim != 1 or not (samples.dtype == np.int16 or np.issubdtype(samples.dtype, np.floating)):
        raise UserError(
            f"sound is {samples.dtype} {samples.shape}; push mono samples (n,) at {SAMPLE_RATE} Hz, float or int16"
        )
    scale = 2**15 if samples.dtype == np.int16 else 1
    samples = samples.astype(np.float32) / np.float32(scale)
    if not np.isfinite(samples).all():
        raise UserError("sound holds NaN or infinite samples; leave them out")
    if len(samples) and np.abs(samples).max() > LOUDEST:
        raise UserError(f"sound holds samples beyond {LOUDEST:g}, but floats must be in [-1, 1]; divide by 32768")
    return samples


def pull_together(streams: Sequence[Stream], now: bool = False, spare: int | Sequence[int] = 0) -> list[Chunk | None]:
    """The next hop of each of several streams of one model, generated and drawn by one program for all of them.

    A stream alone makes what the offline driver makes, bit for bit; in company numbers are rounded otherwise.

    Args:
        streams: of one model, with the same hop, look-ahead and options of sampling.
        now, spare: see `Stream.pull`; spare is one for all or one for each.

    Raises:
        UserError: streams that differ, or weights that make NaN.
    """
    lead = streams[0]
    if any(
        (other.model, other.listening, other.options) != (lead.model, lead.listening, lead.options) for other in streams
    ):
        raise UserError("streams of another model, hop, look-ahead or sampling cannot be pulled together; pull each")
    spares = [spare] * len(streams) if isinstance(spare, int) else spare
    taken = [(stream, stream._take(now, kept)) for stream, kept in zip(streams, spares, strict=True)]
    hops = [(stream, hop) for stream, hop in taken if hop is not None]
    if not hops:
        return [None] * len(streams)
    model, (size, heard) = lead.model, lead.listening
    with model.timed("motion"):
        carries = [stream._carry for stream, _ in hops]
        sounds, controls = [hop.sound for _, hop in hops], [hop.controls for _, hop in hops]
        if len(hops) == 1:
            stepped = [model.motion.step(carries[0], jnp.asarray(sounds[0]), heard, size, controls[0], lead.options)]
        else:
            stepped = model.motion.step_together(carries, sounds, heard, size, controls, lead.options)
        motions = [first(motion, size) for _, motion in stepped]
    placed = []
    for (stream, hop), (carry, _), motion in zip(hops, stepped, motions, strict=True):
        check_finite(motion)
        stream._carry = carry
        placed.append(stream._placed(motion, hop.controls, hop.adjustments * stream._gains(hop.lacking)))
    portraits = [stream.sitting.portrait for stream, _ in hops]
    with model.timed("render"):
        if len(hops) == 1:
            rendered = [model.face.render(portraits[0], placed[0])]
        else:
            rendered = model.face.render_together(portraits, placed)
    chunks = {
        id(stream): stream._finish(hop, motion, model.read(frames, hop.count))
        for (stream, hop), motion, frames in zip(hops, motions, rendered, strict=True)
    }
    return [chunks.get(id(stream)) for stream in streams]


_SIZES = {name: 2 if name == "position" else 1 for name in ADJUSTMENTS}
"""How many numbers an adjustment is."""
MOUTH = sum(_SIZES[name] for name in ADJUSTMENTS[: ADJUSTMENTS.index("mouth")])
"""Where among these the gain of the mouth stands."""


def _numbers(adjustments: Adjustments) -> Float[np.ndarray, " k"]:
    return np.concatenate([np.ravel(getattr(adjustments, name)) for name in ADJUSTMENTS])


def _adjustments(numbers: Float[np.ndarray, " k"]) -> Adjustments:
    values, at = {}, 0
    for name, size in _SIZES.items():
        part = [float(number) for number in numbers[at : at + size]]
        values[name], at = tuple(part) if size > 1 else part[0], at + size
    return Adjustments(**values)


def _behind(course: Course, frame: int) -> Any:
    """The tracks of a course from a frame on."""
    return jax.tree.map(lambda leaf: leaf[min(frame - int(course.since), len(leaf) - 1) :], course.asked)


def _plain(leaf: Any) -> np.ndarray:
    """An array, or the numbers of a key."""
    is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(leaf) if is_key else leaf)


def _alike(leaf: Any, plain: np.ndarray) -> Any:
    """The inverse of `_plain` for an array like `leaf`."""
    is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return jax.random.wrap_key_data(jnp.asarray(plain), impl=jax.random.key_impl(leaf)) if is_key else plain
