"""Performance: how a synthetic person acts out a track of phonemes, at 25 frames a second.

Frame i shows the face at the centre of its interval, t_i = (i + 1/2) / 25 s, the instant whose sound it accompanies.
What VASA-1 (section 3.2) learns to generate together is made together here:

* lips and jaw from the dominance boxes of `phonemes.blend`, the jaw scaled by loudness; closed lips hide the jaw, and
  so do silences;
* head = the clip's own mean pose + emotion + a posture for each phrase + nods on pitch accents + sway whose power falls
  as 1/f (equal power in every octave from 0.06 to 1.2 Hz);
* gaze rests on targets around the clip's own direction and jumps between them within one or two frames; the eyes keep
  their target while the head moves, within what the sockets allow;
* lids follow gaze and emotion, and blink every 2 to 6 s and at some large saccades;
* brows rise with accents; an emotion bends brows, lids, mouth, head and voice.

Everything is decided by a seed, in NumPy: a clip costs milliseconds beside its rendering.
"""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Float32

from vasa_jax.arrays import EMOTIONS, FPS
from vasa_jax.errors import UserError
from vasa_jax.synthetic.phonemes import PHONEMES, Accent, Track, babble, blend
from vasa_jax.synthetic.state import State
from vasa_jax.synthetic.voice import Voice, sample_voice, synthesise

LIP_WIDTHS = (0.042, 0.055, 0.06, 0.045, 0.038)
"""w of `phonemes.blend` for each articulator, in seconds: the lips round slowly and close fast."""

POSE_SPREAD = np.array((0.09, 0.20, 0.06, 0.05, 0.04, 0.12))
POSE_LIMIT = np.array((0.40, 0.68, 0.37, 0.17, 0.17, 0.29))
SWAY = np.array((0.030, 0.050, 0.022, 0.012, 0.010, 0.014))
POSTURE = np.array((0.040, 0.080, 0.035, 0.010, 0.008, 0.010))
"""Standard deviations over clips, hard limits, and standard deviations within a clip of the pose vector."""

SOCKET = np.array((0.50, 0.33))
"""How far the eyes turn in the head, theta and phi in radians."""


class Emotion(NamedTuple):
    """One of EMOTIONS and its intensity, 0..1; intensity 0 is neutral."""

    name: str
    intensity: float


class Expression(NamedTuple):
    """What an emotion of intensity 1 adds to the face (units of `State`), and by what it multiplies the voice."""

    brow_raise: float = 0.0
    brow_furrow: float = 0.0
    lids: float = 0.0
    corner_pull: float = 0.0
    lip_width: float = 0.0
    jaw: float = 0.0
    teeth: float = 0.0
    pitch: float = 0.0
    roll: float = 0.0
    voice_pitch: float = 1.0
    voice_range: float = 1.0
    voice_rate: float = 1.0
    effort: float = 1.0


EXPRESSIONS: dict[str, Expression] = {
    "anger": Expression(-0.70, 0.95, -0.06, -0.35, -0.15, 0.03, 0.22, 0.08, 0.0, 1.08, 1.35, 1.10, 1.15),
    "contempt": Expression(0.28, 0.10, -0.22, 0.38, 0.10, 0.0, 0.0, -0.14, 0.10, 0.96, 0.75, 0.93, 0.90),
    "disgust": Expression(-0.45, 0.70, -0.28, -0.60, 0.20, 0.04, 0.35, -0.06, -0.05, 0.93, 0.85, 0.90, 1.00),
    "fear": Expression(0.75, 0.45, 0.22, -0.30, 0.45, 0.08, 0.12, -0.05, 0.0, 1.22, 0.90, 1.15, 0.95),
    "happiness": Expression(0.15, 0.0, -0.14, 0.90, 0.40, 0.03, 0.30, -0.03, 0.04, 1.12, 1.40, 1.05, 1.05),
    "neutral": Expression(),
    "sadness": Expression(0.40, 0.50, -0.22, -0.75, -0.15, 0.0, 0.0, 0.15, 0.06, 0.92, 0.50, 0.85, 0.80),
    "surprise": Expression(0.95, 0.0, 0.25, 0.05, -0.10, 0.16, 0.0, -0.08, 0.0, 1.20, 1.60, 1.00, 1.10),
}


class Performance(NamedTuple):
    """What happens in one clip of t frames.

    states: `State` of NumPy float32 arrays with leading axis t. audio: (640 t,) float32 at 16 kHz. phonemes: (symbol,
    start, end) in seconds, tiling the clip. emotion: (8,) float32, the intensity at its class and the rest at neutral;
    sums to 1.
    """

    states: State
    audio: Float32[np.ndarray, " n"]
    phonemes: tuple[tuple[str, float, float], ...]
    emotion: Float32[np.ndarray, " 8"]


def check_emotion(emotion: Emotion) -> Emotion:
    """The emotion itself; UserError for an unknown class or an intensity outside 0..1."""
    if emotion.name not in EMOTIONS:
        raise UserError(f"emotion {emotion.name!r} is unknown; choose one of {', '.join(EMOTIONS)}")
    if not 0.0 <= emotion.intensity <= 1.0:
        raise UserError(f"emotion intensity {emotion.intensity} must lie in 0..1")
    return emotion


def read_emotion(text: str) -> Emotion:
    """An emotion written as `class` or `class:intensity`, as in happiness:0.8; UserError for anything else."""
    name, colon, number = text.strip().lower().partition(":")
    try:
        intensity = float(number) if colon else 1.0
    except ValueError:
        raise UserError(f"emotion {text!r} has no intensity from 0 to 1; write for example happiness:0.8") from None
    return check_emotion(Emotion(name, intensity))


def emotion_vector(emotion: Emotion) -> Float32[np.ndarray, " 8"]:
    """The emotion as weights of the eight classes: its intensity, and what is left of 1 at neutral."""
    vector = np.zeros(len(EMOTIONS), np.float32)
    vector[EMOTIONS.index("neutral")] = 1.0 - emotion.intensity
    vector[EMOTIONS.index(emotion.name)] += emotion.intensity
    return vector


def sample_emotion(rng: np.random.Generator) -> Emotion:
    """Neutral in three clips of ten, else one of the other seven at intensity 0.3 to 1."""
    if rng.random() < 0.3:
        return Emotion("neutral", 1.0)
    others = [name for name in EMOTIONS if name != "neutral"]
    return Emotion(str(rng.choice(others)), float(rng.uniform(0.3, 1.0)))


def colour_voice(voice: Voice, emotion: Emotion) -> Voice:
    """The speaker's voice under an emotion: pitch, range, rate, and breath against effort."""
    face, k = EXPRESSIONS[emotion.name], emotion.intensity
    return voice._replace(
        pitch=voice.pitch * face.voice_pitch**k,
        intonation=voice.intonation * face.voice_range**k,
        rate=float(np.clip(voice.rate * face.voice_rate**k, 0.7, 1.4)),
        breath=voice.breath * face.effort ** (-2.0 * k),
        return_time=voice.return_time * face.effort ** (-3.0 * k),
    )


def articulation(track: Track, times: Float[np.ndarray, " t"]) -> Float[np.ndarray, "t 5"]:
    """The articulators (order of `phonemes.ARTICULATORS`) at `times` in seconds, for speech of loudness 1."""
    rows = []
    for segment in track.segments:
        phoneme, length = PHONEMES[segment.symbol], segment.end - segment.start
        target, firm = np.array(phoneme.target), np.array(phoneme.dominance)
        pieces = [(0.0, 1.0, target, firm)]
        if phoneme.glide:
            pieces = [(0.0, 0.55, target, firm), (0.55, 1.0, np.array(PHONEMES[phoneme.glide].target), firm)]
        elif phoneme.kind == "stop" and target[4] > 0.5:  # the lips part with the burst
            until, opened = phoneme.parts[0].until, np.array((0.3, 0.0, 0.0, 0.1, 0.0))
            pieces = [(0.0, until, target, firm), (until, 1.0, opened, np.array((0.2, 0.2, 0.2, 0.2, 0.6)))]
        rows += [(segment.start + a * length, segment.start + b * length, x, m) for a, b, x, m in pieces]
    starts, ends = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
    targets, dominance = np.stack([row[2] for row in rows]), np.stack([row[3] for row in rows])
    columns = [
        blend(times, starts, ends, targets[:, k : k + 1], dominance[:, k : k + 1], np.full(len(rows), width))
        for k, width in enumerate(LIP_WIDTHS)
    ]
    return np.concatenate(columns, 1)


def loudness(track: Track, times: Float[np.ndarray, " t"]) -> Float[np.ndarray, " t"]:
    """Loudness of the syllable spoken at `times`, about 0.4 to 1.3 (silences borrow it from their neighbours)."""
    starts, ends = (np.array([getattr(s, name) for s in track.segments]) for name in ("start", "end"))
    level = np.array([[s.loudness] for s in track.segments])
    weight = np.array([[0.05 if s.symbol == "SIL" else 1.0] for s in track.segments])
    return blend(times, starts, ends, level, weight, np.full(len(level), 0.05))[:, 0]


def sway(rng: np.random.Generator, times: Float[np.ndarray, " t"], count: int) -> Float[np.ndarray, "t c"]:
    """`count` independent drifts of variance 1 whose power falls as 1/f: one sinusoid in each third of an octave."""
    frequency = np.geomspace(0.06, 1.2, 14) * np.exp(0.1 * rng.normal(size=(count, 14)))
    phase = rng.uniform(0.0, 2.0 * np.pi, (count, 14))
    return np.sqrt(2.0 / 14.0) * np.sin(2.0 * np.pi * times[:, None, None] * frequency + phase).sum(-1)


def accent_bumps(accents: tuple[Accent, ...], times: Float[np.ndarray, " t"], width: float) -> Float[np.ndarray, " t"]:
    """Sum of the accents' strengths as Gaussian bumps of standard deviation `width` in seconds."""
    total = np.zeros_like(times)
    for accent in accents:
        total += accent.strength * np.exp(-0.5 * ((times - accent.time) / width) ** 2)
    return total


def head_motion(
    track: Track, times: Float[np.ndarray, " t"], emotion: Emotion, rng: np.random.Generator
) -> Float[np.ndarray, "t 6"]:
    """Pose vectors (pitch, yaw, roll, tx, ty, log distance): mean, emotion, postures, nods and sway, within limits."""
    face, k = EXPRESSIONS[emotion.name], emotion.intensity
    lively = float(rng.uniform(0.6, 1.5)) * face.voice_range ** (0.7 * k)
    mean = np.clip(POSE_SPREAD * rng.normal(size=6), -2.2 * POSE_SPREAD, 2.2 * POSE_SPREAD)
    mean[0] += k * face.pitch
    mean[2] += k * face.roll * (1.0 if rng.random() < 0.5 else -1.0)
    pose = mean + lively * SWAY * sway(rng, times, 6)
    starts = np.array([0.0, *(phrase.start - 0.15 for phrase in track.phrases)])
    ends = np.append(starts[1:], track.seconds)
    posture = POSTURE * rng.normal(size=(len(starts), 6))
    pose += lively * blend(times, starts, ends, posture, np.ones_like(posture), np.full(len(starts), 0.28))
    pose[:, 0] += float(rng.uniform(0.05, 0.11)) * lively * accent_bumps(track.accents, times, 0.10)
    for accent in track.accents:
        turn = np.array((0.0, 0.03, 0.02, 0.0, 0.0, -0.008)) * rng.normal(size=6)
        pose += lively * turn * accent_bumps((accent,), times, 0.16)[:, None]
    return np.clip(pose, -POSE_LIMIT, POSE_LIMIT)


def gaze_motion(
    times: Float[np.ndarray, " t"], pose: Float[np.ndarray, "t 6"], rng: np.random.Generator
) -> tuple[Float[np.ndarray, "t 2"], list[float]]:
    """Gaze (theta, phi) in the camera frame, and the instants of large saccades in seconds.

    Half of the clips look into the camera, half past it by up to 0.5 and 0.25 rad; three fixations of four stay near
    that direction. A target beyond the eyes' reach is followed as far as the sockets allow.
    """
    aside = rng.random() < 0.5
    home = rng.uniform(-1.0, 1.0, 2) * np.array((0.5, 0.25)) if aside else 0.03 * rng.normal(size=2)
    starts, targets, time = [], [], 0.0
    while time < times[-1] + 1.0:
        glance = bool(starts) and rng.random() < 0.25
        starts.append(time)
        targets.append(home + rng.normal(size=2) * (np.array((0.20, 0.11)) if glance else 0.025))
        time += float(rng.uniform(0.25, 0.9) if glance else 0.4 + rng.exponential(1.1))
    beginnings, aims = np.array(starts), np.clip(np.array(targets), (-0.6, -0.4), (0.6, 0.4))
    endings = np.append(beginnings[1:], time)
    gaze = blend(times, beginnings, endings, aims, np.ones_like(aims), np.full(len(aims), 0.016))
    facing = -pose[:, 1::-1]  # where the face points, to first order: theta = -yaw, phi = -pitch
    jumps = np.linalg.norm(np.diff(aims, axis=0), axis=1) > 0.15
    return np.clip(gaze, facing - SOCKET, facing + SOCKET), [float(x) for x in beginnings[1:][jumps]]


def blinks(times: Float[np.ndarray, " t"], saccades: list[float], rng: np.random.Generator) -> Float[np.ndarray, " t"]:
    """How far the lids are shut by blinks, 0..1: 90 ms to close, 50 ms shut, 160 ms to open."""
    instants = [time - 0.03 for time in saccades if rng.random() < 0.35]
    time = float(rng.uniform(0.3, 5.0))
    while time < times[-1]:
        if all(abs(time - other) > 0.6 for other in instants):
            instants.append(time)
        time += float(rng.uniform(2.0, 6.0))
    shut = np.zeros_like(times)
    for begin in instants:
        ramp = np.minimum((times - begin) / 0.09, (begin + 0.30 - times) / 0.16)
        shut = np.maximum(shut, 0.5 - 0.5 * np.cos(np.pi * np.clip(ramp, 0.0, 1.0)))
    return shut


def act(track: Track, emotion: Emotion, rng: np.random.Generator) -> State:
    """The face that speaks `track` in round(25 seconds) frames: a `State` of NumPy float32 arrays, leading axis t."""
    times = (np.arange(round(track.seconds * FPS)) + 0.5) / FPS
    face, slow = EXPRESSIONS[emotion.name], sway(rng, times, 3)
    k = np.clip(emotion.intensity * (1.0 + 0.12 * slow[:, 0]), 0.0, 1.0)
    jaw, width, rounding, teeth, closure = articulation(track, times).T
    effort = (0.4 + 0.6 * loudness(track, times)) * face.effort**k
    pose = head_motion(track, times, emotion, rng)
    gaze, saccades = gaze_motion(times, pose, rng)
    bumps = accent_bumps(track.accents, times, 0.12)
    brows = float(rng.uniform(0.15, 0.40)) * bumps + 0.05 * slow[:, 1] + k * face.brow_raise
    rest = 0.75 + 0.05 * float(np.clip(rng.normal(), -2.0, 2.0)) + k * face.lids
    lids = rest + 0.30 * (gaze[:, 1] + pose[:, 0]) + 0.05 * bumps
    lids = np.clip(lids, 0.2, 1.0) * (1.0 - blinks(times, saccades, rng))
    slant = 0.015 * rng.normal()
    open_lips = 1.0 - closure
    fields: dict[str, Any] = dict(
        rotation=pose[:, :3],
        translation=pose[:, 3:5],
        log_distance=pose[:, 5],
        gaze=gaze,
        lids=np.clip(lids[:, None] * (1.0 + slant * np.array((-1.0, 1.0))), 0.0, 1.0),
        brow_raise=np.clip(brows, -1.0, 1.0),
        brow_furrow=np.clip(k * face.brow_furrow + 0.04 * np.abs(slow[:, 2]), 0.0, 1.0),
        jaw=np.clip((jaw * effort + k * face.jaw) * open_lips, 0.0, 1.0),
        lip_width=np.clip(width + k * face.lip_width, -1.0, 1.0),
        rounding=np.clip(rounding * (1.0 - 0.3 * k * max(face.corner_pull, 0.0)), 0.0, 1.0),
        corner_pull=np.clip(0.06 * rng.normal() + 0.04 * slow[:, 1] + k * face.corner_pull, -1.0, 1.0),
        teeth=np.clip((teeth + k * face.teeth) * open_lips, 0.0, 1.0),
    )
    return State(**{name: field.astype(np.float32) for name, field in fields.items()})


def perform(seed: int, seconds: float, emotion: Emotion | None = None) -> Performance:
    """What the person of `seed` says and does in round(25 seconds) frames; an emotion not given is the seed's too.

    Raises UserError for a negative seed, less than one frame, or an unknown emotion.
    """
    if seed < 0:
        raise UserError(f"{seed=} must not be negative")
    if not round(seconds * FPS) >= 1:
        raise UserError(f"{seconds=} is shorter than one video frame; ask for {1 / FPS} or more")
    speaker, words, actor, mood = (np.random.default_rng((seed, stream)) for stream in range(4))
    emotion = sample_emotion(mood) if emotion is None else check_emotion(emotion)
    voice = colour_voice(sample_voice(speaker), emotion)
    track = babble(words, round(seconds * FPS) / FPS, voice.rate)
    return Performance(
        states=act(track, emotion, actor),
        audio=synthesise(track, voice, speaker),
        phonemes=tuple((segment.symbol, segment.start, segment.end) for segment in track.segments),
        emotion=emotion_vector(emotion),
    )
