"""Phonemes: what each sound asks of the lips and of the vocal tract, and a generator of nonsense speech.

One track of phonemes drives both the face (`performance`) and the voice (`voice`), so the two agree by construction.
Each of the 40 symbols (ARPAbet's, plus SIL for silence) carries targets for five articulators, a dominance for each of
them (how firmly the sound insists, after Cohen and Massaro's model of coarticulation, 1993), three formants, noise and
nasality, and a mean duration. A target is never reached by a step: with boxes [a_s, b_s] that tile the time axis,
`blend` evaluates

    D_s(t) = m_s (tanh((t - a_s) / w_s) - tanh((t - b_s) / w_s)) / 2        (1)  smooth box of segment s, dominance m_s
    x(t)   = sum_s D_s(t) x_s / sum_s D_s(t)                                (2)  value at time t

so a weak neighbour takes its lips from a strong one (the t of "two" is already round).

`babble` strings syllables (onset, nucleus, coda) into words with one stress, words into phrases with pitch accents,
and phrases into a track with pauses. The words mean nothing in any language.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from vasa_jax.errors import UserError

ARTICULATORS = ("jaw", "lip_width", "rounding", "teeth", "closure")
"""Order of `Phoneme.target` and `Phoneme.dominance`: jaw 0..1, lip_width -1..1, rounding, teeth and closure 0..1."""


class Part(NamedTuple):
    """A stretch of a phoneme, up to the fraction `until` of its duration, and the amplitudes of its three sources."""

    until: float
    voice: float
    noise: float = 0.0
    breath: float = 0.0


class Phoneme(NamedTuple):
    """One symbol: seconds, hertz, and the articulators in the order of `ARTICULATORS`.

    `width` is w of equation (1) for the lips, in seconds; `glide` names the vowel that a diphthong ends on; `noise` is
    the centre and the bandwidth of the frication; `nasal` is 1 where the nose is open.
    """

    kind: str
    target: tuple[float, ...]
    dominance: tuple[float, ...]
    formants: tuple[float, float, float]
    parts: tuple[Part, ...]
    duration: float
    noise: tuple[float, float] = (4000.0, 3000.0)
    nasal: float = 0.0
    width: float = 0.045
    glide: str | None = None


class Segment(NamedTuple):
    """A phoneme in time: seconds, stress (0 none, 0.5 word stress, 1 accented) and loudness (about 0.4 to 1.3)."""

    symbol: str
    start: float
    end: float
    stress: float = 0.0
    loudness: float = 1.0


class Accent(NamedTuple):
    """A pitch accent: the centre of its vowel in seconds, and its strength (about 0.5 to 1.5)."""

    time: float
    strength: float


class Phrase(NamedTuple):
    """One breath of speech between two pauses, in seconds; `final` is -1 for a falling and +1 for a rising end."""

    start: float
    end: float
    final: float


class Track(NamedTuple):
    """What is said and when: segments that tile [0, seconds] without a gap, pitch accents and phrases."""

    segments: tuple[Segment, ...]
    accents: tuple[Accent, ...]
    phrases: tuple[Phrase, ...]
    seconds: float


def _vowel(formants, jaw, width, rounding, teeth, ms, glide=None) -> Phoneme:
    dominance = (1.3, 1.0, 0.7 + 1.5 * rounding, 0.7, 1.0)
    target = (jaw, width, rounding, teeth, 0.0)
    return Phoneme("vowel", target, dominance, formants, (Part(1.0, 1.0, 0.0, 0.05),), ms / 1000, glide=glide)


def _sonorant(formants, target, dominance, ms, voice=0.6, nasal=0.0) -> Phoneme:
    kind = "nasal" if nasal else "glide"
    return Phoneme(kind, target, dominance, formants, (Part(1.0, voice),), ms / 1000, nasal=nasal)


def _fricative(formants, target, dominance, noise, level, voice, ms) -> Phoneme:
    return Phoneme("fricative", target, dominance, formants, (Part(1.0, voice, level),), ms / 1000, noise)


def _stop(formants, target, dominance, noise, level, voiced, ms) -> Phoneme:
    if voiced:
        parts = (Part(0.62, 0.07), Part(0.80, 0.25, level), Part(1.0, 0.7))
    else:
        parts = (Part(0.55, 0.0), Part(0.72, 0.0, level, 0.15), Part(1.0, 0.1, 0.1 * level, 0.5))
    return Phoneme("stop", target, dominance, formants, parts, ms / 1000, noise)


def _affricate(formants, target, dominance, noise, level, voiced, ms) -> Phoneme:
    parts = (Part(0.4, 0.07 if voiced else 0.0), Part(1.0, 0.3 if voiced else 0.0, level))
    return Phoneme("stop", target, dominance, formants, parts, ms / 1000, noise)


# Target and dominance of places of articulation.
_BILABIAL = ((0.10, 0.0, 0.1, 0.0, 1.0), (0.5, 0.3, 0.15, 1.0, 5.0))  # lips meet, the rest follows
_LABIODENTAL = ((0.06, 0.15, 0.0, 0.75, 0.0), (3.0, 0.6, 0.6, 6.0, 3.0))  # upper teeth on the lower lip
_ALVEOLAR = ((0.17, 0.1, 0.05, 0.30, 0.0), (0.9, 0.25, 0.15, 0.5, 1.0))
_VELAR = ((0.24, 0.0, 0.05, 0.15, 0.0), (0.5, 0.15, 0.12, 0.25, 1.0))
_SIBILANT = ((0.10, 0.35, 0.0, 0.55, 0.0), (2.0, 0.7, 0.4, 1.8, 1.5))
_POSTALVEOLAR = ((0.14, -0.3, 0.65, 0.50, 0.0), (2.0, 1.3, 2.0, 1.5, 1.5))
_DENTAL = ((0.20, 0.15, 0.0, 0.65, 0.0), (1.4, 0.4, 0.3, 2.0, 1.0))

# fmt: off
PHONEMES: dict[str, Phoneme] = {
    "SIL": Phoneme(
        "silence", (0.0, 0.0, 0.0, 0.0, 0.6), (2.0, 0.8, 0.6, 1.0, 1.0), (500.0, 1500.0, 2500.0), (Part(1.0, 0.0),), 0.3
    ),
    "IY": _vowel((280, 2250, 2950), 0.29, 0.75, 0.0, 0.55, 110),
    "IH": _vowel((400, 1950, 2550), 0.43, 0.45, 0.0, 0.45, 85),
    "EH": _vowel((550, 1800, 2500), 0.63, 0.40, 0.0, 0.40, 105),
    "AE": _vowel((690, 1680, 2450), 0.92, 0.45, 0.0, 0.45, 135),
    "AA": _vowel((760, 1150, 2500), 1.00, 0.10, 0.0, 0.25, 140),
    "AO": _vowel((590, 880, 2500), 0.83, -0.35, 0.60, 0.10, 135),
    "AH": _vowel((640, 1220, 2450), 0.69, 0.05, 0.0, 0.25, 85),
    "UH": _vowel((450, 1050, 2300), 0.47, -0.30, 0.50, 0.15, 90),
    "UW": _vowel((310, 870, 2300), 0.28, -0.70, 0.95, 0.05, 115),
    "ER": _vowel((480, 1300, 1680), 0.45, -0.10, 0.35, 0.20, 115),
    "AY": _vowel((760, 1200, 2500), 1.00, 0.15, 0.0, 0.30, 165, "IH"),
    "AW": _vowel((740, 1200, 2500), 1.00, 0.05, 0.10, 0.25, 165, "UW"),
    "OY": _vowel((570, 860, 2450), 0.78, -0.45, 0.75, 0.10, 170, "IH"),
    "EY": _vowel((470, 1950, 2600), 0.58, 0.50, 0.0, 0.45, 135, "IY"),
    "OW": _vowel((500, 880, 2400), 0.62, -0.50, 0.80, 0.05, 140, "UW"),
    "P": _stop((280, 950, 2250), *_BILABIAL, (1000, 1400), 0.25, False, 100),
    "B": _stop((250, 950, 2250), *_BILABIAL, (900, 1200), 0.20, True, 85),
    "T": _stop((320, 1750, 2700), *_ALVEOLAR, (4800, 2600), 0.35, False, 90),
    "D": _stop((270, 1750, 2700), *_ALVEOLAR, (4300, 2600), 0.25, True, 70),
    "K": _stop((300, 1900, 2250), *_VELAR, (2100, 900), 0.32, False, 95),
    "G": _stop((260, 1900, 2250), *_VELAR, (2000, 900), 0.24, True, 75),
    "CH": _affricate((300, 1900, 2600), *_POSTALVEOLAR, (3300, 1600), 0.32, False, 115),
    "JH": _affricate((270, 1900, 2600), *_POSTALVEOLAR, (3000, 1600), 0.22, True, 95),
    "F": _fricative((320, 1100, 2300), *_LABIODENTAL, (6200, 4500), 0.09, 0.0, 100),
    "V": _fricative((280, 1100, 2300), *_LABIODENTAL, (5500, 4500), 0.05, 0.40, 70),
    "TH": _fricative((320, 1400, 2600), *_DENTAL, (6000, 4800), 0.06, 0.0, 95),
    "DH": _fricative((280, 1400, 2600), *_DENTAL, (5500, 4500), 0.04, 0.45, 50),
    "S": _fricative((320, 1700, 2700), *_SIBILANT, (5900, 1700), 0.24, 0.0, 105),
    "Z": _fricative((270, 1700, 2700), *_SIBILANT, (5700, 1700), 0.15, 0.35, 80),
    "SH": _fricative((300, 1900, 2600), *_POSTALVEOLAR, (3200, 1400), 0.28, 0.0, 110),
    "ZH": _fricative((270, 1900, 2600), *_POSTALVEOLAR, (3000, 1400), 0.16, 0.35, 80),
    "HH": Phoneme(
        "fricative", (0.4, 0.0, 0.0, 0.2, 0.0), (0.15, 0.1, 0.1, 0.1, 1.0), (500.0, 1500.0, 2500.0),
        (Part(1.0, 0.0, 0.02, 0.5),), 0.065, (1500.0, 2000.0),
    ),
    "M": _sonorant((260, 1050, 2250), *_BILABIAL, 80, 0.55, 1.0),
    "N": _sonorant((260, 1650, 2600), *_ALVEOLAR, 70, 0.55, 1.0),
    "NG": _sonorant((270, 1950, 2350), *_VELAR, 80, 0.55, 1.0),
    "L": _sonorant((340, 1150, 2750), (0.34, 0.1, 0.0, 0.35, 0.0), (0.8, 0.3, 0.3, 0.6, 1.0), 65),
    "R": _sonorant((340, 1150, 1600), (0.24, -0.3, 0.50, 0.20, 0.0), (1.0, 1.0, 1.5, 0.6, 1.0), 70),
    "W": _sonorant((300, 680, 2250), (0.14, -0.7, 1.0, 0.0, 0.0), (2.0, 2.0, 4.0, 1.0, 1.0), 70),
    "Y": _sonorant((270, 2250, 3000), (0.24, 0.6, 0.0, 0.45, 0.0), (1.0, 1.0, 0.8, 0.6, 1.0), 65),
}

# fmt: on

VOWELS = tuple(symbol for symbol, phoneme in PHONEMES.items() if phoneme.kind == "vowel")
_NUCLEI = "AA AE AH AO EH IH IY UW UH ER AY AW OY EY OW".split()
_NUCLEUS_WEIGHTS = (10, 9, 8, 6, 9, 8, 9, 7, 3, 4, 8, 5, 2, 7, 8)
_REDUCED = "AH AH AH IH IH ER UH IY OW".split()
_ONSETS = "B P M M W F V D T N L R S Z K G HH SH JH CH Y TH DH B P M F W".split()
_CLUSTERS = "P-L P-R B-L B-R T-R D-R K-L K-R G-R F-L F-R S-P S-T S-K S-M S-N S-L S-W T-W K-W TH-R S-P-L S-T-R".split()
_CODAS = "N T S M D L R K P Z NG V F B SH N T S M-P N-T N-D S-T L-D K-S NG-K".split()


def _syllable(rng: np.random.Generator, stressed: bool, last: bool) -> tuple[list[str], str, list[str]]:
    draw = rng.random()
    onset = [] if draw < 0.1 else [str(rng.choice(_ONSETS))] if draw < 0.8 else str(rng.choice(_CLUSTERS)).split("-")
    if stressed:
        nucleus = str(rng.choice(_NUCLEI, p=np.array(_NUCLEUS_WEIGHTS) / sum(_NUCLEUS_WEIGHTS)))
    else:
        nucleus = str(rng.choice(_REDUCED))
    coda = str(rng.choice(_CODAS)).split("-") if rng.random() < (0.5 if last else 0.2) else []
    return onset, nucleus, coda


def _word(
    rng: np.random.Generator, start: float, rate: float, gain: float, accented: bool, last: bool
) -> tuple[list[Segment], Accent | None]:
    """The segments of one word from `start` on, and its pitch accent if it has one."""
    count = int(rng.choice((1, 2, 3, 4), p=(0.38, 0.37, 0.18, 0.07)))
    stressed = 0 if rng.random() < 0.6 else int(rng.integers(count))
    segments, accent, time = [], None, start
    for index in range(count):
        strong, final = index == stressed, last and index == count - 1
        stress = (1.0 if accented else 0.5) if strong else 0.0
        loudness = gain * (0.62 + 0.48 * stress) * float(np.exp(0.06 * rng.normal())) * (0.88 if final else 1.0)
        stretch = (1.2 if strong else 0.78) * (1.4 if final else 1.0) / rate
        onset, nucleus, coda = _syllable(rng, strong, index == count - 1)
        for symbol in (*onset, nucleus, *coda):
            factor = stretch if symbol == nucleus else (stretch + 1.0 / rate) / 2 * (0.85 if len(onset) > 1 else 1.0)
            length = PHONEMES[symbol].duration * factor * float(np.exp(0.13 * rng.normal()))
            segments.append(Segment(symbol, time, time + length, stress, loudness))
            if symbol == nucleus and strong and accented:
                accent = Accent(time + length / 2, float(rng.uniform(0.5, 1.5)))
            time += length
    return segments, accent


def babble(rng: np.random.Generator, seconds: float, rate: float = 1.0) -> Track:
    """Nonsense speech of `seconds` (at least one video frame) at `rate` times the mean speed (0.5..2).

    Silence of 0.1 to 0.8 s opens the track, pauses of 0.2 to 0.6 s part the phrases (one in ten is longer, up to 1.2
    s, as listening is), and silence closes it. The same state of `rng` gives the same track.
    """
    if not seconds >= 0.04:
        raise UserError(f"{seconds=} is shorter than one video frame; ask for 0.04 or more")
    if not 0.5 <= rate <= 2.0:
        raise UserError(f"{rate=} must lie in 0.5..2 (1 is the mean speed of speech)")
    spoken: list[Segment] = []
    accents, phrases = [], []
    time, limit = min(float(rng.uniform(0.1, 0.8)), 0.15 * seconds), seconds - 0.08
    while time < limit:
        count, begin, gain = int(rng.integers(2, 7)), len(spoken), float(rng.uniform(0.82, 1.12))
        for index in range(count):
            last = index == count - 1
            word, accent = _word(rng, time, rate, gain * (1.0 - 0.025 * index), last or rng.random() < 0.4, last)
            if word[-1].end > limit:
                time = seconds
                break
            spoken += word
            accents += [accent] if accent else []
            time = word[-1].end
        if len(spoken) > begin:
            final = 1.0 if rng.random() < 0.25 else -1.0
            phrases.append(Phrase(spoken[begin].start, spoken[-1].end, final))
        time += float(rng.uniform(0.6, 1.2) if rng.random() < 0.1 else rng.uniform(0.2, 0.6))
    return Track(fill_silence(spoken, seconds), tuple(accents), tuple(phrases), seconds)


def fill_silence(spoken: list[Segment], seconds: float) -> tuple[Segment, ...]:
    """Put SIL into every gap of `spoken`, so that the segments tile [0, seconds]."""
    tiled, time = [], 0.0
    for segment in spoken:
        if segment.start > time + 1e-9:
            tiled.append(Segment("SIL", time, segment.start))
        tiled.append(segment)
        time = segment.end
    if time < seconds - 1e-9:
        tiled.append(Segment("SIL", time, seconds))
    return tuple(tiled)


def blend(
    times: Float[np.ndarray, " t"],
    starts: Float[np.ndarray, " s"],
    ends: Float[np.ndarray, " s"],
    values: Float[np.ndarray, "s k"],
    dominance: Float[np.ndarray, "s k"],
    width: Float[np.ndarray, " s"],
) -> Float[np.ndarray, "t k"]:
    """Equations (1) and (2) at sorted `times`: smooth tracks through the targets of boxes that tile the time axis.

    Times, starts, ends and width in seconds; the first and the last box are taken to last for ever. `values` and
    `dominance` (above 0) hold k tracks. Only boxes within 12 widths of a block of times are looked at, so long tracks
    cost linear time.
    """
    reach, block = 12.0 * float(width.max()), 256
    starts, ends = np.r_[-1e3, starts[1:]], np.r_[ends[:-1], 1e6]
    result = np.empty((len(times), values.shape[1]))
    for begin in range(0, len(times), block):
        now = times[begin : begin + block, None]
        low = int(np.searchsorted(ends, now[0, 0] - reach))
        high = int(np.searchsorted(starts, now[-1, 0] + reach)) or 1
        a, b, w = starts[low:high], ends[low:high], width[low:high]
        box = np.tanh((now - a) / w) - np.tanh((now - b) / w)
        result[begin : begin + block] = box @ (dominance * values)[low:high] / (box @ dominance[low:high])
    return result
