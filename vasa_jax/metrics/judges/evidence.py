"""Evidence about stage 2: performances that a model generates once, and that all judges share.

Everything is asked of people of the world's split "test", who speak in the world's voices, so the true motion of every
frame is known. Beside it stand the true frames as stage 1 reads them: that is what stage 2 was trained on, so what is
lost there cannot be found again by motion. Motion is read in units of the world (`Take`); what is generated is never
rendered, but for `readings`.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from vasa_jax.arrays import EMOTIONS, SAMPLES_PER_FRAME, Motion
from vasa_jax.autoencoder.config import LABEL_MEAN, LABEL_UNIT
from vasa_jax.autoencoder.gaze import gaze_of
from vasa_jax.errors import UserError
from vasa_jax.inference import vasa
from vasa_jax.inference.controls import DIRECTIONS
from vasa_jax.inference.offline import Model
from vasa_jax.metrics import landmarks
from vasa_jax.metrics.correlation import derangement
from vasa_jax.metrics.judges.reader import Reader, fit_reader
from vasa_jax.metrics.lip_sync import Speech, speeches, unheard
from vasa_jax.synthetic.clip import BATCH, shoot
from vasa_jax.synthetic.identity import identity_from_seed
from vasa_jax.synthetic.performance import Emotion, perform
from vasa_jax.synthetic.render import labels
from vasa_jax.synthetic.splits import seeds
from vasa_jax.synthetic.state import State

DISTANCES = (0.8, 1.0, 1.25)
"""Factors of the mean distance that are asked for."""
TEST = seeds("test")
PEOPLE, VOICES, SPEAKERS = TEST[1000:2000], TEST[2000:3000], TEST[3000:4000]
"""Who performs, whose voices controls are asked with, and who speaks for minutes."""
SEEN = 5
"""Every how many frames a true clip is looked at, where its mean is all that counts."""
MINUTE = 60.0


class Take(NamedTuple):
    """What a head does in t frames, in units of the world.

    pose: (t, 6) as everywhere. mouth: (t,) inner-lip opening 0..1. lids: (t, 2) viewer's left and right, 0..1.
    gaze: (t, 2) theta, phi in the camera's frame, radians. dynamics: (t, z) the code, None where there is none.
    """

    pose: Any
    mouth: Any
    lids: Any
    gaze: Any
    dynamics: Any


class Performance(NamedTuple):
    """A clip of the world, and what a model does with a sound.

    sound: (640 t,) of the clip, at 16 kHz. hop: frames that were generated together, so that windows begin at multiples
    of it. truth: what the world does. encoded: its frames as stage 1 reads them. made: what the model does.
    """

    sound: Any
    hop: int
    truth: Take
    encoded: Take
    made: Take


class Hearing(NamedTuple):
    """One clip with its own sound, with another's, and with none. stranger: (t,) the mouth that the other sound
    belongs to."""

    own: Performance
    other: Performance
    nothing: Performance
    stranger: Float[np.ndarray, " t"]


class Asked(NamedTuple):
    """What was asked for, and what came: of a gaze (2,) in radians, or the logarithm of a distance (1,).

    name: of the wish. wish: its value. made: means (n, c) over the frames of n clips. truth: the same of the world's
    own clips of whom the same is asked; eyes go no farther than their sockets allow. encoded: these as stage 1 reads
    them.
    """

    name: str
    wish: Float[np.ndarray, " c"]
    made: Float[np.ndarray, "n c"]
    truth: Float[np.ndarray, "n c"]
    encoded: Float[np.ndarray, "n c"]


class Felt(NamedTuple):
    """Emotions by their number: asked for (n,), recognised (n,) in generated motion, and in true clips of those
    emotions, as stage 1 reads them (n,)."""

    asked: np.ndarray
    made: np.ndarray
    true: np.ndarray


class Long(NamedTuple):
    """Minutes of generated motion, and the mean and the deviation (z,) of true codes."""

    made: Take
    mean: Any
    deviation: Any


class Brows(NamedTuple):
    """Brows (n, t) as one reader sees them in generated and in true motion, and how well it reads true ones: R2."""

    made: Float[np.ndarray, "n t"]
    true: Float[np.ndarray, "n t"]
    fit: float


class Seen(NamedTuple):
    """The mouth of one clip (t,): the truth, and what the probe reads off its true and its generated frames; the same
    by the Face Landmarker, NaN where it finds no face, None where it was not asked."""

    truth: Any
    probe_true: Any
    probe_made: Any
    landmarker_true: Any
    landmarker_made: Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setting:
    """How much evidence is made."""

    clips: int = 16  # performances
    seconds: float = 10.0  # length of each
    voices: int = 8  # with which every control is asked
    wish_seconds: float = 4.0  # length of each
    minutes: int = 10  # of the performance that drift is measured on
    steps: int = 0  # of the sampler; 0 is the model's own number
    seed: int = 0  # of the generated motion
    # scale by name of condition, as in `Wishes` without "guidance_"; one that is left out has the model's own
    guidance: tuple[tuple[str, float], ...] = ()

    def __post_init__(self):
        if self.clips < 2 or self.voices < 2 or self.minutes < 1 or not self.seconds > 0 or not self.wish_seconds > 0:
            raise UserError(f"{self}: clips and voices must be 2 or more, minutes 1 or more, seconds above 0")


QUICK = Setting(clips=6, seconds=6.0, voices=3, wish_seconds=2.0, minutes=2, steps=10)
"""A few minutes of two cores, for a first look."""
Read = Callable[[Float[np.ndarray, "t h w 3"]], Any]
"""The probe: frames 0..1 to a `probe.Reading`."""


class MotionEvidence:
    """What judges of stage 2 ask for; every attribute is made when it is first read."""

    def __init__(
        self,
        model: Model,
        setting: Setting = Setting(),  # noqa: B008 (frozen)
        read: Callable[[], Read] | None = None,
        landmarker: str | Path | None = None,
        say: Callable[[str], None] = lambda line: None,
    ):
        """Bind a model.

        Args:
            model: of kind "vasa", whose code begins with the labelled numbers of `autoencoder.config`.
            setting: how much is made.
            read: makes the probe, for `readings`.
            landmarker: model file of the second judge of frames; None does not ask it.
            say: told what is under way.

        Raises:
            UserError: for another kind of model.
        """
        if model.pair.kind != vasa.KIND:
            raise UserError(
                f"a model of kind {model.pair.kind!r} speaks other coordinates than the world's; judges know those of "
                f"kind {vasa.KIND!r}"
            )
        self.model, self.setting, self.say = model, setting, say
        self._read, self._landmarker = read, landmarker

    @functools.cached_property
    def speeches(self) -> list[Speech]:
        """Clips of the world."""
        return speeches(PEOPLE, self.setting.clips, self.setting.seconds)

    @functools.cached_property
    def performances(self) -> list[Performance]:
        """Every clip's sound performed."""
        self.say(f"{self.setting.clips} performances of {self.setting.seconds:g} s")
        return [self._perform(number, speech, speech.audio) for number, speech in enumerate(self.speeches)]

    @functools.cached_property
    def hearings(self) -> list[Hearing]:
        """Every clip with another's sound and with none."""
        performances = self.performances
        self.say("the same with another's sound, and with none")
        order = derangement(len(performances), 0)
        found = []
        for number, own in enumerate(performances):
            other = performances[order[number]]
            made = self._made(other.sound, number)
            nothing = take_of(
                _joined(list(unheard(self.model, None, own.sound, self._seed(number), self.setting.steps)))
            )
            row = (own, own._replace(made=made), own._replace(made=nothing), other.truth.mouth)
            found.append(Hearing(*row))
        return found

    @functools.cached_property
    def gazes(self) -> list[Asked]:
        """Eyes that are told where to look, in every direction of the door."""
        found = []
        for name, degrees in DIRECTIONS.items():
            self.say(f"gaze {name}")
            wish = np.radians(np.asarray(degrees, np.float32))
            made = [take.gaze.mean(0) for take in self._asked(gaze=degrees)]
            truth, seen = [], []
            for voice in self._voices:
                states = _every(voice.states, SEEN)
                states = states._replace(gaze=np.broadcast_to(wish, states.gaze.shape))
                truth.append(self._truth(voice.seed, states).gaze.mean(0))
                seen.append(self._encoded(voice.seed, states).gaze.mean(0))
            found.append(Asked(name, wish, *(np.stack(means) for means in (made, truth, seen))))
        return found

    @functools.cached_property
    def distances(self) -> list[Asked]:
        """Heads that are told how far to be: logarithms over the training mean."""
        middle = float(self.model.motion.statistics.pose_mean[5])
        found = []
        for factor in DISTANCES:
            self.say(f"distance {factor:g}")
            wish = np.log([factor])
            made = [take.pose[:, 5:].mean(0) - middle for take in self._asked(distance=factor)]
            truth, seen = [], []
            for voice in self._voices:
                states = _every(voice.states, SEEN)
                far = states.log_distance - states.log_distance.mean() + np.float32(wish + middle)
                states = states._replace(log_distance=far)
                truth.append(self._truth(voice.seed, states).pose[:, 5:].mean(0) - middle)
                seen.append(self._encoded(voice.seed, states).pose[:, 5:].mean(0) - middle)
            found.append(Asked(f"{factor:g}", wish, *(np.stack(means) for means in (made, truth, seen))))
        return found

    @functools.cached_property
    def emotions(self) -> Felt:
        """Every emotion asked of neutral voices, and acted by the world."""
        asked, made, true = [], [], []
        for number, name in enumerate(EMOTIONS):
            self.say(f"emotion {name}")
            for voice, take in zip(self._voices, self._asked(emotion=name), strict=True):
                acted = perform(voice.seed, self.setting.wish_seconds, Emotion(name, 1.0))
                asked.append(number)
                made.append(self.reader.emotion(take.pose, take.dynamics))
                seen = self._encoded(voice.seed, _every(acted.states, SEEN))
                true.append(self.reader.emotion(seen.pose, seen.dynamics))
        return Felt(np.array(asked), np.array(made), np.array(true))

    @functools.cached_property
    def brows(self) -> Brows:
        """Brows of the performances."""
        made = np.stack([self.reader.brows(one.made.pose, one.made.dynamics) for one in self.performances])
        true = np.stack([self.reader.brows(one.encoded.pose, one.encoded.dynamics) for one in self.performances])
        acted = np.stack([speech.states.brow_raise for speech in self.speeches])
        return Brows(made, true, 1.0 - float(np.square(acted - true).mean() / acted.var()))

    @functools.cached_property
    def long(self) -> Long:
        """Minutes of motion: every minute another voice speaks, and the session goes on."""
        self.say(f"{self.setting.minutes} minutes of motion")
        people = speeches(SPEAKERS, self.setting.minutes, MINUTE)
        sound = np.concatenate([speech.audio for speech in people])
        codes = np.concatenate([one.encoded.dynamics for one in self.performances])
        return Long(self._made(sound, 0), codes.mean(0), np.maximum(codes.std(0), 1e-6))

    @functools.cached_property
    def readings(self) -> list[Seen]:
        """The frames of the performances, rendered, and the true ones, as the probe and the Landmarker see them."""
        assert self._read is not None
        self.say("the probe")
        read = self._read()
        found = []
        for number, (speech, one) in enumerate(zip(self.speeches, self.performances, strict=True)):
            self.say(f"rendering clip {number + 1} of {len(self.performances)}")
            true = np.concatenate([frames for frames, _ in self._shot(speech.seed, speech.states, self.model.size)])
            motion = Motion(one.made.pose, one.made.dynamics)
            made = np.stack(list(self.model.frames(self.model.portrait(true[0]), [motion])))
            probed = [np.asarray(read(frames.astype(np.float32) / 255).mouth) for frames in (true, made)]
            asked = [None, None]
            if self._landmarker is not None:
                asked = [landmarks.read(self._landmarker, frames).jaw_open for frames in (true, made)]
            found.append(Seen(one.truth.mouth, *probed, *asked))
        return found

    @functools.cached_property
    def reader(self) -> Reader:
        """What reads brows and emotions in motion of this stage 1."""
        self.say("the reader of brows and emotions")
        return fit_reader(self._encoded)

    @functools.cached_property
    def _voices(self) -> list[Speech]:
        return speeches(VOICES, self.setting.voices, self.setting.wish_seconds, Emotion("neutral", 1.0))

    def _asked(self, **wishes: Any) -> list[Take]:
        return [self._made(voice.audio, number, **wishes) for number, voice in enumerate(self._voices)]

    def _perform(self, number: int, speech: Speech, sound: np.ndarray) -> Performance:
        truth = self._truth(speech.seed, speech.states)
        hop = self.model.motion.needs.hop
        return Performance(sound, hop, truth, self._encoded(speech.seed, speech.states), self._made(sound, number))

    def _truth(self, person: int, states: State) -> Take:
        """What the world draws."""
        true = {name: np.asarray(value) for name, value in labels(identity_from_seed(person), states).items()}
        return Take(true["pose"], true["mouth"][:, 0], true["lids"], true["gaze"], None)

    def _made(self, sound: np.ndarray, number: int, **wishes: Any) -> Take:
        if self.setting.steps:
            wishes["steps"] = self.setting.steps
        wishes |= {f"guidance_{name}": scale for name, scale in self.setting.guidance}
        return take_of(_joined(list(self.model.motions(None, sound, seed=self._seed(number), **wishes))))

    def _seed(self, number: int) -> int:
        return 1000 * self.setting.seed + number

    def _encoded(self, person: int, states: State) -> Take:
        """Frames of the world as stage 1 reads them."""
        parts = []
        for frames, _ in self._shot(person, states, self.model.face.sees):
            levels = np.zeros((BATCH, *frames.shape[1:]), np.float32)
            levels[: len(frames)] = frames / np.float32(255)
            motion = jax.device_get(self.model.face.motion(jnp.asarray(levels)))
            parts.append(Motion(*(part[: len(frames)] for part in motion)))
        return take_of(_joined(parts))

    def _shot(self, person: int, states: State, size: int) -> Any:
        return shoot(identity_from_seed(person), states, size)


def take_of(motion: Motion) -> Take:
    """Motion in units of the world, by the labelled numbers that its code begins with."""
    pose, dynamics = (np.asarray(part, np.float32) for part in motion)
    mouth, left, right = (LABEL_MEAN[k] + LABEL_UNIT[k] * dynamics[:, k] for k in range(3))
    return Take(pose, mouth, np.stack([left, right], 1), np.asarray(gaze_of(Motion(pose, dynamics))), dynamics)


def pauses(sound: Float[np.ndarray, " n"]) -> Bool[np.ndarray, " t"]:
    """Frames in which nothing is said: 30 dB below the loudest frame, as are the two frames on either side."""
    power = np.square(sound[: len(sound) // SAMPLES_PER_FRAME * SAMPLES_PER_FRAME].reshape(-1, SAMPLES_PER_FRAME))
    level = power.mean(1, dtype=np.float64)
    quiet = np.pad(level < 1e-3 * level.max(), 2, constant_values=True)
    return np.asarray(np.lib.stride_tricks.sliding_window_view(quiet, 5).all(1))


def _every(states: State, step: int) -> State:
    return jax.tree.map(lambda x: np.asarray(x)[::step], states)


def _joined(parts: Sequence[Motion]) -> Motion:
    return Motion(*(np.concatenate([np.asarray(part) for part in field]) for field in zip(*parts, strict=True)))
