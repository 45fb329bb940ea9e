"""Voice: an embedded formant synthesiser, so that the world speaks without a download.

Source and filter after Klatt (1980), at 16 kHz. The glottal source is the derivative of the flow over one period (after
KLGLOTT88, with an exponential return phase as in the LF model, Fant et al. 1985, which makes it continuous), p the
phase 0..1 and x = p / o:

    g(p) = 2 x - 3 x^2            for p < o                                              (1)
    g(p) = -exp(-(p - o) / r)     for p >= o,  o open quotient, r return time in periods (2)

with jitter, shimmer and breath noise gated by the open phase. It runs through a cascade of seven resonators (three of
them move with the phonemes) and a nasal pole and zero; frication and bursts run through a band of their own. Pitch =
declination over the phrase, a bump on every accent, a fall or a rise at the end. All targets move by the dominance
boxes of `phonemes.blend`. Pauses carry only the floor of recording noise.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float32
from scipy import signal

from vasa_jax.arrays import SAMPLE_RATE
from vasa_jax.synthetic.phonemes import PHONEMES, Track, blend

BLOCK = 80
"""Samples that share one set of filter coefficients: 5 ms, an eighth of a video frame."""


class Voice(NamedTuple):
    """One speaker and one recording.

    pitch: mean F0 in Hz, 85..260. tract: length over the mean, 0.85..1.18 (formants divide by it). rate: speed of
    speech, 0.8..1.25. breath: share of breath noise in the source, 0..0.4. open_quotient: 0.5..0.75. return_time: r of
    equation (2), 0.003 (bright) to 0.022 (soft). jitter, shimmer: relative spread of period and strength. intonation:
    height of an accent in semitones. declination: fall over a phrase in semitones. bandwidth: factor on the formants'
    bandwidths. upper: F4 and F5 in Hz before division by `tract`. tone: tilt of the microphone, -0.8 (bright) to 0
    (dull). level: RMS of the speech in dB of full scale, -30..-15. snr: speech over recording noise in dB, 25..60.
    """

    pitch: float
    tract: float
    rate: float
    breath: float
    open_quotient: float
    return_time: float
    jitter: float
    shimmer: float
    intonation: float
    declination: float
    bandwidth: float
    upper: tuple[float, float]
    tone: float
    level: float
    snr: float


def sample_voice(rng: np.random.Generator) -> Voice:
    """Draw a speaker: short tracts go with high voices, loosely."""
    height = rng.random()
    breath = float(rng.uniform(0.0, 1.0)) ** 2
    return Voice(
        pitch=float(np.clip(85.0 * (260.0 / 85.0) ** (0.8 * height + 0.2 * rng.random()), 85.0, 260.0)),
        tract=float(np.clip(1.15 - 0.27 * height + 0.04 * rng.normal(), 0.85, 1.18)),
        rate=float(rng.uniform(0.8, 1.25)),
        breath=0.02 + 0.33 * breath,
        open_quotient=float(rng.uniform(0.5, 0.65) + 0.1 * breath),
        return_time=float(rng.uniform(0.003, 0.010) + 0.012 * breath),
        jitter=float(rng.uniform(0.003, 0.012)),
        shimmer=float(rng.uniform(0.02, 0.08)),
        intonation=float(rng.uniform(1.5, 5.0)),
        declination=float(rng.uniform(2.0, 5.0)),
        bandwidth=float(rng.uniform(0.85, 1.35)),
        upper=(float(rng.uniform(3350, 3750)), float(rng.uniform(4300, 4800))),
        tone=float(rng.uniform(-0.8, 0.0)),
        level=float(rng.uniform(-30.0, -15.0)),
        snr=float(rng.uniform(25.0, 60.0)),
    )


class Controls(NamedTuple):
    """What the synthesiser follows, one row for each block of 5 ms.

    formants: F1, F2, F3 in Hz. noise: centre and bandwidth of the frication in Hz. nasal: 0..1. amplitudes: of voice,
    noise and breath, 1 = a vowel of loudness 1.
    """

    formants: Float[np.ndarray, "t 3"]
    noise: Float[np.ndarray, "t 2"]
    nasal: Float[np.ndarray, " t"]
    amplitudes: Float[np.ndarray, "t 3"]


def controls(track: Track, times: Float[np.ndarray, " t"]) -> Controls:
    """Formants and source amplitudes (voice, noise, breath) of a mean tract at `times` (seconds)."""
    slow, fast = [], []
    for segment in track.segments:
        phoneme, length = PHONEMES[segment.symbol], segment.end - segment.start
        weight = {"silence": 0.05, "vowel": 1.0}.get(phoneme.kind, 0.15 if segment.symbol == "HH" else 1.3)
        ending = PHONEMES[phoneme.glide].formants if phoneme.glide else phoneme.formants
        halves = ((0.0, 0.55, phoneme.formants), (0.55, 1.0, ending)) if phoneme.glide else ((0.0, 1.0, ending),)
        for low, high, formants in halves:
            span = (segment.start + low * length, segment.start + high * length)
            slow.append((*span, weight, *formants, *phoneme.noise, phoneme.nasal))
        low = 0.0
        for part in phoneme.parts:
            gains = np.array((part.voice, part.noise, part.breath)) * segment.loudness
            fast.append((segment.start + low * length, segment.start + part.until * length, *gains))
            low = part.until
    moving, sharp = np.array(slow), np.array(fast)
    weights = np.repeat(moving[:, 2:3], 6, axis=1)
    weights[:, 5] = 1.0
    smooth = blend(times, moving[:, 0], moving[:, 1], moving[:, 3:], weights, np.full(len(moving), 0.022))
    even, quick = np.ones((len(sharp), 3)), np.full(len(sharp), 0.005)
    amplitudes = blend(times, sharp[:, 0], sharp[:, 1], sharp[:, 2:], even, quick)
    return Controls(smooth[:, :3], smooth[:, 3:5], smooth[:, 5], np.where(amplitudes < 1e-4, 0.0, amplitudes))


def intonation(track: Track, voice: Voice, times: Float[np.ndarray, " t"]) -> Float[np.ndarray, " t"]:
    """Pitch in Hz at `times` (seconds): declination, accents and phrase ends over the speaker's mean."""
    semitones = np.zeros_like(times)
    for phrase in track.phrases:
        place = (times - phrase.start) / (phrase.end - phrase.start)
        inside = (place > -0.2) & (place < 1.2)
        ending = np.clip((times - phrase.end + 0.35) / 0.35, 0.0, 1.0)
        fall = phrase.final * (1.0 + 0.9 * voice.intonation) * ending**2 * (3.0 - 2.0 * ending)
        semitones = np.where(inside, voice.declination * (0.5 - np.clip(place, 0.0, 1.0)) + fall, semitones)
    for accent in track.accents:
        semitones += accent.strength * voice.intonation * np.exp(-0.5 * ((times - accent.time) / 0.09) ** 2)
    return voice.pitch * 2.0 ** (semitones / 12.0)


def glottal_source(
    pitch: Float[np.ndarray, " n"], voice: Voice, rng: np.random.Generator
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Equations (1) and (2) for a pitch in Hz at the sample rate, and how open the glottis is (0..1)."""
    phase = np.cumsum(pitch) / SAMPLE_RATE
    period = phase.astype(np.int64)
    position = phase - period
    quotient, back = voice.open_quotient, voice.return_time
    x = position / quotient
    opened = position < quotient
    shape = np.where(opened, 2.0 * x - 3.0 * x * x, -np.exp(-np.maximum(position - quotient, 0.0) / back))
    strength = 1.0 + voice.shimmer * rng.standard_normal(int(period[-1]) + 1)
    return shape * strength[period], np.where(opened, np.sin(np.pi * np.minimum(x, 1.0)), 0.0)


def _resonators(
    frequency: Float[np.ndarray, "*t k"], bandwidth: Float[np.ndarray, "*t k"]
) -> Float[np.ndarray, "*t k 6"]:
    """Klatt's two-pole resonators of gain 1 at 0 Hz, as second-order sections."""
    radius = np.exp(-np.pi * bandwidth / SAMPLE_RATE)
    b = 2.0 * radius * np.cos(2.0 * np.pi * frequency / SAMPLE_RATE)
    c = -radius * radius
    zero = np.zeros_like(b)
    return np.stack((1.0 - b - c, zero, zero, zero + 1.0, -b, -c), -1)


def upper_sections(voice: Voice) -> Float[np.ndarray, "4 6"]:
    """The resonances that stand still, F7 down to F4, as second-order sections."""
    frequency = np.minimum(np.array((6500.0, 5500.0, *reversed(voice.upper))) / voice.tract, 7600.0)
    return _resonators(frequency, voice.bandwidth * (np.array((400.0, 300.0, 220.0, 160.0)) + 0.02 * frequency))


def moving_sections(moves: Controls, voice: Voice) -> Float[np.ndarray, "t 4 6"]:
    """The nasal zero and pole, which cancel while the nose is shut, then F3, F2, F1: the lowest last, to hide steps."""
    frequency = moves.formants[:, ::-1] / voice.tract
    bandwidth = voice.bandwidth * (np.array((90.0, 60.0, 50.0)) + 0.02 * frequency)
    formants = _resonators(frequency, bandwidth + moves.nasal[:, None] * np.array((40.0, 60.0, 60.0)))
    hundred = np.full((len(moves.nasal), 1), 100.0)
    pole = _resonators(hundred * 2.7 / voice.tract, hundred)
    zero = _resonators(hundred * (2.7 + 2.0 * moves.nasal[:, None]) / voice.tract, hundred)
    gain = pole[..., :1] / zero[..., :1]
    nose = np.concatenate((gain, zero[..., 4:] * gain, pole[..., 3:]), -1)
    return np.concatenate((nose, formants), 1)


def noise_sections(moves: Controls) -> Float[np.ndarray, "t 2 6"]:
    """Two equal band-pass sections around the frication's centre, scaled so that white noise of variance 1 keeps it."""
    centre = 2.0 * np.pi * np.minimum(moves.noise[:, 0], 7000.0) / SAMPLE_RATE
    wide = np.pi * moves.noise[:, 1] / SAMPLE_RATE
    alpha = np.tan(np.minimum(wide, 1.2))
    zero = np.zeros_like(centre)
    one = np.stack((alpha, zero, -alpha, 1.0 + alpha, -2.0 * np.cos(centre), 1.0 - alpha), -1) / (1.0 + alpha)[:, None]
    power = 0.5 * np.pi * moves.noise[:, 1] / SAMPLE_RATE  # two cascaded poles pass pi / 4 of their bandwidth, of 8 kHz
    louder = one.copy()
    louder[:, :3] /= np.sqrt(power)[:, None]
    return np.stack((one, louder), 1)


def _filter(sections: Float[np.ndarray, "t k 6"], sound: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Run `sound` through second-order sections that change every BLOCK samples; silent blocks stay silent."""
    blocks = sound.reshape(-1, BLOCK)
    result, state = np.zeros_like(blocks), np.zeros((sections.shape[1], 2))
    active = np.abs(blocks).max(1) > 0.0
    for index, (section, block) in enumerate(zip(sections, blocks, strict=True)):
        if active[index] or np.abs(state).max() > 1e-6:
            result[index], state = signal.sosfilt(section, block, zi=state)
        else:
            state = np.zeros_like(state)
    return result.reshape(-1)


def recording_noise(count: int, rng: np.random.Generator) -> Float[np.ndarray, " n"]:
    """Noise of RMS 1 between white and pink."""
    pole = float(rng.uniform(0.0, 0.9))
    coloured = np.asarray(signal.lfilter((1.0,), (1.0, -pole), rng.standard_normal(count)))
    return coloured / np.sqrt(np.mean(coloured**2))


def synthesise(track: Track, voice: Voice, rng: np.random.Generator) -> Float32[np.ndarray, " n"]:
    """Speak a track: round(16000 seconds) float32 samples in [-1, 1] at 16 kHz. The same `rng`, the same sound."""
    count = round(track.seconds * SAMPLE_RATE)
    blocks = -(-count // BLOCK)
    times = (np.arange(blocks) + 0.5) * BLOCK / SAMPLE_RATE
    clock = np.arange(blocks * BLOCK) / SAMPLE_RATE
    moves = controls(track, times)
    wobble = 1.0 + voice.jitter * rng.standard_normal(blocks)
    source, opening = glottal_source(np.interp(clock, times, intonation(track, voice, times) * wobble), voice, rng)
    voiced, hiss, breath = (np.interp(clock, times, track_of) for track_of in moves.amplitudes.T)
    white = rng.standard_normal((2, len(clock)))
    breathing = breath * (1.0 - voice.breath) + voice.breath * voiced * (0.2 + opening)
    excitation = np.asarray(signal.sosfilt(upper_sections(voice), voiced * source + 0.15 * breathing * white[0]))
    speech = _filter(moving_sections(moves, voice), excitation)
    speech = speech + _filter(noise_sections(moves), hiss * white[1])
    speech = np.convolve(speech, (1.0, voice.tone))[:count]
    loud = voiced[:count] > 0.3
    if loud.any():
        speech = speech * 10.0 ** (voice.level / 20.0) / np.sqrt(np.mean(speech[loud] ** 2))
    noisy = speech + 10.0 ** ((voice.level - voice.snr) / 20.0) * recording_noise(count, rng)
    return (noisy / max(1.0, float(np.abs(noisy).max()) / 0.98)).astype(np.float32)
