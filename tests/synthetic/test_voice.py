import numpy as np
import pytest
from scipy.linalg import solve_toeplitz

from vasa_jax.arrays import SAMPLE_RATE
from vasa_jax.synthetic.phonemes import PHONEMES, VOWELS, Accent, Phrase, Segment, Track, babble, blend
from vasa_jax.synthetic.voice import Voice, intonation, sample_voice, synthesise


def plain_voice(**changes) -> Voice:
    voice = sample_voice(np.random.default_rng(0))
    calm = dict(pitch=110.0, tract=1.0, breath=0.02, snr=60.0, jitter=0.0, shimmer=0.0, declination=0.0, level=-20.0)
    return voice._replace(**(calm | changes))


def held(symbol: str, seconds: float = 0.8) -> Track:
    return Track((Segment("SIL", 0.0, 0.1), Segment(symbol, 0.1, seconds)), (), (), seconds)


def formant_peaks(sound: np.ndarray) -> np.ndarray:
    """Frequencies of the sharp poles of an 18th-order linear prediction."""
    windowed = sound * np.hanning(len(sound))
    steep = np.append(windowed[0], windowed[1:] - 0.9 * windowed[:-1])
    lags = np.correlate(steep, steep, "full")[len(steep) - 1 :][:19]
    poles = np.roots(np.r_[1.0, -solve_toeplitz(lags[:18], lags[1:])])
    return np.sort(np.angle(poles[(poles.imag > 0) & (np.abs(poles) > 0.85)]) * SAMPLE_RATE / (2 * np.pi))


@pytest.mark.parametrize("symbol", ["AA", "IY", "UW", "AE", "ER"])
@pytest.mark.parametrize("tract", [0.9, 1.15])
def test_vowels_have_their_formants(symbol, tract):
    sound = synthesise(held(symbol), plain_voice(tract=tract), np.random.default_rng(1))
    peaks = formant_peaks(sound[6000:10096].astype(float))
    for formant in PHONEMES[symbol].formants:
        assert np.abs(peaks - formant / tract).min() < 0.07 * formant / tract + 20


def test_pitch_is_what_was_asked_for():
    for pitch in (90.0, 150.0, 250.0):
        sound = synthesise(held("AA"), plain_voice(pitch=pitch), np.random.default_rng(2))[6000:10096].astype(float)
        correlation = np.correlate(sound, sound, "full")[len(sound) - 1 :]
        lag = 50 + int(np.argmax(correlation[50:220]))
        assert SAMPLE_RATE / lag == pytest.approx(pitch, rel=0.03)


def test_intonation_declines_rises_on_accents_and_ends_as_told():
    times = np.array([0.2, 1.0, 1.8, 1.98])
    voice = plain_voice(declination=4.0, intonation=3.0)
    plain = intonation(Track((), (), (Phrase(0.0, 2.0, -1.0),), 2.0), voice, times)
    accented = intonation(Track((), (Accent(1.0, 1.0),), (Phrase(0.0, 2.0, 1.0),), 2.0), voice, times)
    assert plain[0] > plain[1] > plain[2] > plain[3]
    assert 12 * np.log2(accented[1] / plain[1]) == pytest.approx(3.0, abs=0.01)
    assert accented[3] > accented[2] > plain[2]


def test_speech_is_sound_and_pauses_are_silent():
    for seed in range(4):
        rng = np.random.default_rng(seed)
        voice = sample_voice(rng)
        track = babble(rng, 4.0, voice.rate)
        sound = synthesise(track, voice, rng)
        assert sound.dtype == np.float32 and sound.shape == (64_000,) and np.abs(sound).max() <= 1.0
        times = np.arange(64_000) / SAMPLE_RATE
        speaking, pausing = np.zeros(64_000, bool), np.zeros(64_000, bool)
        for segment in track.segments:
            margin = 0.06 if segment.symbol == "SIL" else 0.0
            inside = (times >= segment.start + margin) & (times < segment.end - margin)
            (pausing if segment.symbol == "SIL" else speaking)[inside] = True
        speech, noise = (20 * np.log10(np.sqrt(np.mean(sound[part] ** 2))) for part in (speaking, pausing))
        assert voice.level - 6 < speech < voice.level + 1
        assert noise == pytest.approx(voice.level - voice.snr, abs=3.0)


def test_fricatives_hiss_high_and_nasals_hum_low():
    def centroid(symbol: str) -> float:
        sound = synthesise(held(symbol), plain_voice(snr=60.0), np.random.default_rng(3))[6000:10096]
        power = np.abs(np.fft.rfft(sound)) ** 2
        return float((np.linspace(0.0, 8000.0, len(power)) * power).sum() / power.sum())

    assert centroid("S") > 4500 > centroid("SH") > 2500 > 800 > centroid("M")


def test_speakers_differ_and_seeds_repeat():
    voices = [sample_voice(np.random.default_rng(seed)) for seed in range(200)]
    pitch, tract, rate = (np.array([getattr(voice, name) for voice in voices]) for name in ("pitch", "tract", "rate"))
    assert 85 <= pitch.min() < 110 and 220 < pitch.max() <= 260
    assert 0.85 <= tract.min() < 0.92 and 1.1 < tract.max() <= 1.18 and np.corrcoef(pitch, tract)[0, 1] < -0.5
    assert 0.8 <= rate.min() < 0.85 and 1.2 < rate.max() <= 1.25
    track = babble(np.random.default_rng(5), 1.0)
    first, again = (synthesise(track, voices[0], np.random.default_rng(6)) for _ in range(2))
    assert np.array_equal(first, again)


def test_tracks_tile_time_with_words_accents_and_pauses():
    for seed in range(20):
        track = babble(np.random.default_rng(seed), 6.0, 1.1)
        ends = [0.0, *(segment.end for segment in track.segments)]
        assert all(s.start == pytest.approx(e) and s.end > s.start for s, e in zip(track.segments, ends, strict=False))
        assert ends[-1] == 6.0 and track.segments[0].symbol == track.segments[-1].symbol == "SIL"
        pauses = [s.end - s.start for s in track.segments[1:-1] if s.symbol == "SIL"]
        assert all(0.2 <= pause <= 1.2 for pause in pauses)
        assert track.accents and all(0.0 < accent.time < 6.0 for accent in track.accents)
        assert sum(s.symbol in VOWELS for s in track.segments) >= 8
    assert len(PHONEMES) == 40 and babble(np.random.default_rng(7), 2.0) == babble(np.random.default_rng(7), 2.0)


def test_nonsense_lengths_and_rates_are_refused():
    for seconds in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="seconds"):
            babble(np.random.default_rng(0), seconds)
    with pytest.raises(ValueError, match="rate"):
        babble(np.random.default_rng(0), 1.0, 3.0)
    assert babble(np.random.default_rng(0), 0.04).segments[-1].end == 0.04


def test_blend_reaches_targets_and_crosses_half_way():
    values, ones = np.array([[0.0], [1.0], [0.0]]), np.ones((3, 1))
    starts, ends, width = np.array([0.0, 1.0, 2.0]), np.array([1.0, 2.0, 3.0]), np.full(3, 0.05)
    reached = blend(np.array([0.5, 1.0, 1.5, 2.5]), starts, ends, values, ones, width)[:, 0]
    np.testing.assert_allclose(reached, [0.0, 0.5, 1.0, 0.0], atol=1e-6)
    firm = blend(np.array([1.0]), starts, ends, values, np.array([[1.0], [9.0], [1.0]]), width)
    assert firm[0, 0] == pytest.approx(0.9, abs=1e-6)  # equation (2) with dominances 1 and 9
