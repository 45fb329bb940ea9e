import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vasa_jax.arrays import EMOTIONS, FPS, SAMPLES_PER_FRAME
from vasa_jax.synthetic.head import opening as inner_opening
from vasa_jax.synthetic.performance import (
    EXPRESSIONS,
    Emotion,
    act,
    articulation,
    blinks,
    emotion_vector,
    gaze_motion,
    head_motion,
    perform,
    read_emotion,
    sway,
)
from vasa_jax.synthetic.phonemes import ARTICULATORS, PHONEMES, Accent, Segment, Track, babble, fill_silence
from vasa_jax.synthetic.state import State

NEUTRAL = Emotion("neutral", 1.0)
SEEDS = range(8)
SECONDS = 6.0


@pytest.fixture(scope="module")
def performances():
    return [perform(seed, SECONDS, NEUTRAL) for seed in SEEDS]


def opening(performance) -> np.ndarray:
    """The truth of the label `mouth`, (t,)."""
    return np.asarray(inner_opening(jax.tree.map(jnp.asarray, performance.states)))


def frame_times(count: int) -> np.ndarray:
    return (np.arange(count) + 0.5) / FPS


def spoken(performance) -> np.ndarray:
    times = frame_times(len(performance.states.jaw))
    return np.any([(times >= a) & (times < b) for symbol, a, b in performance.phonemes if symbol != "SIL"], axis=0)


def say(*symbols: str, length: float = 0.12) -> Track:
    pieces = [Segment(symbol, 0.4 + length * i, 0.4 + length * (i + 1)) for i, symbol in enumerate(symbols)]
    seconds = round(pieces[-1].end + 0.4, 2)
    return Track(fill_silence(pieces, seconds), (), (), seconds)


def shape_at(track: Track, time: float) -> dict[str, float]:
    return dict(zip(ARTICULATORS, articulation(track, np.array([time]))[0], strict=True))


def test_one_state_a_frame_and_640_samples(performances):
    performance = performances[0]
    count = round(SECONDS * FPS)
    assert all(len(field) == count and field.dtype == np.float32 for field in performance.states)
    assert performance.audio.shape == (count * SAMPLES_PER_FRAME,) and performance.audio.dtype == np.float32
    again = perform(0, SECONDS, NEUTRAL)
    assert np.array_equal(again.audio, performance.audio) and np.array_equal(again.states.jaw, performance.states.jaw)


def test_controls_stay_in_the_range_that_the_world_draws(performances):
    low = State(-1, -0.2, -0.3, -1.3, 0, -1, 0, 0, -1, 0, -1, 0)  # pyright: ignore[reportArgumentType]
    high = State(1, 0.2, 0.3, 1.3, 1, 1, 1, 1, 1, 1, 1, 1)  # pyright: ignore[reportArgumentType]
    for performance in performances:
        for name in State._fields:
            field = getattr(performance.states, name)
            assert field.min() >= getattr(low, name) and field.max() <= getattr(high, name), name


def test_vowels_and_consonants_shape_the_lips():
    for symbol, letter in (("P", "AA"), ("B", "AA"), ("M", "AA")):
        track = say("AA", symbol, letter)
        middle = 0.4 + 0.12 * (1.0 + PHONEMES[symbol].parts[0].until / 2)
        assert shape_at(track, middle)["closure"] > 0.8
        assert shape_at(track, 0.46)["closure"] < 0.25 and shape_at(track, 0.46)["jaw"] > 0.7
    assert shape_at(say("AA", "F", "AA"), 0.58)["teeth"] > 0.5
    assert shape_at(say("T", "UW", "T"), 0.58)["rounding"] > 0.7 > 0.1 > shape_at(say("T", "IY", "T"), 0.58)["rounding"]
    assert shape_at(say("T", "IY", "T"), 0.58)["lip_width"] > 0.5


def test_a_weak_consonant_takes_its_lips_from_the_vowel_that_follows():
    assert shape_at(say("T", "UW"), 0.46)["rounding"] > shape_at(say("T", "IY"), 0.46)["rounding"] + 0.25


def test_lips_never_step():
    track = babble(np.random.default_rng(3), 5.0, 1.25)
    fine = articulation(track, np.arange(0.0, 5.0, 0.001))
    assert np.abs(np.diff(fine, axis=0)).max() < 0.035  # a step would be near 1
    assert np.abs(np.diff(fine, 2, axis=0)).max() < 0.004


def test_the_mouth_changes_by_a_bounded_amount_a_frame(performances):
    jumps = [np.abs(np.diff(opening(performance))).max() for performance in performances]
    assert max(jumps) < 0.5 and np.mean(jumps) < 0.38


def test_the_mouth_follows_the_sound_without_lag(performances):
    linear, decibel, lags = [], [], []
    for performance in performances:
        mouth = opening(performance)
        rms = np.sqrt((performance.audio.reshape(len(mouth), -1) ** 2).mean(1))
        level = np.maximum(20 * np.log10(rms + 1e-6), 20 * np.log10(rms.max()) - 35)
        linear.append(np.corrcoef(mouth, rms)[0, 1])
        decibel.append(np.corrcoef(mouth, level)[0, 1])
        shifted = [np.corrcoef(np.roll(mouth, k)[6:-6], level[6:-6])[0, 1] for k in range(-5, 6)]
        lags.append(int(np.argmax(shifted)) - 5)
    assert np.mean(linear) > 0.7 and min(linear) > 0.5
    assert np.mean(decibel) > 0.7 and min(decibel) > 0.5
    assert np.median(lags) == 0 and np.abs(lags).max() <= 1


def test_the_jaw_moves_while_speaking_and_rests_in_pauses(performances):
    jaws = np.concatenate([performance.states.jaw[spoken(performance)] for performance in performances])
    assert jaws.std() >= 0.2 and jaws.max() > 0.85
    for performance in performances:
        for symbol, start, end in performance.phonemes:
            if symbol == "SIL" and end - start > 0.3:
                middle = min(int((start + end) / 2 * FPS), len(performance.states.jaw) - 1)
                assert performance.states.jaw[middle] < 0.05
                assert opening(performance)[middle] < 0.05


def test_louder_speech_opens_the_jaw_further():
    quiet = say("T", "AA", "T")
    loud = quiet._replace(segments=tuple(s._replace(loudness=1.2) for s in quiet.segments))
    quiet = quiet._replace(segments=tuple(s._replace(loudness=0.5) for s in quiet.segments))
    jaws = [act(track, NEUTRAL, np.random.default_rng(0)).jaw.max() for track in (quiet, loud)]
    assert jaws[1] > 1.3 * jaws[0]


def test_accents_nod_the_head_and_raise_the_brows():
    track = Track((Segment("SIL", 0.0, 4.0),), (), (), 4.0)
    accented = track._replace(accents=(Accent(2.0, 1.0),))
    plain, nodding = (act(t, NEUTRAL, np.random.default_rng(1)) for t in (track, accented))
    pitch, brows = nodding.rotation[:, 0] - plain.rotation[:, 0], nodding.brow_raise - plain.brow_raise
    assert 0.02 < pitch.max() < 0.3 and abs(int(pitch.argmax()) - 50) <= 1
    assert brows.max() > 0.1 and abs(int(brows.argmax()) - 50) <= 1


def test_sway_has_the_spectrum_of_one_over_f():
    times = np.arange(0, 400.0, 0.2)
    drift = sway(np.random.default_rng(0), times, 24)
    power = (np.abs(np.fft.rfft(drift, axis=0)) ** 2).mean(1)
    frequency = np.fft.rfftfreq(len(times), 0.2)
    octaves = [power[(frequency >= f) & (frequency < 2 * f)].sum() for f in (0.08, 0.16, 0.32, 0.56)]
    assert drift.std() == pytest.approx(1.0, abs=0.1)
    assert max(octaves) < 1.8 * min(octaves)  # equal power in every octave


def test_heads_move_smoothly_about_different_means():
    tracks = [babble(np.random.default_rng(seed), 4.0) for seed in range(30)]
    poses = np.stack(
        [head_motion(t, frame_times(100), NEUTRAL, np.random.default_rng(i)) for i, t in enumerate(tracks)]
    )
    assert np.all(poses.mean(1).std(0) > (0.06, 0.12, 0.04, 0.03, 0.025, 0.08))
    assert np.all(poses.std(1).mean(0) > (0.02, 0.03, 0.01, 0.005, 0.004, 0.005))
    assert np.abs(np.diff(poses, axis=1)).max() < 0.07


def test_eyes_fixate_jump_and_mostly_stay_near_their_home():
    times = frame_times(500)
    pose = np.zeros((500, 6))
    gazes = np.stack([gaze_motion(times, pose, np.random.default_rng(seed))[0] for seed in range(30)])
    step = np.abs(np.diff(gazes, axis=1)).max(-1)
    assert np.median(step) < 1e-3 and step.max() > 0.15  # still, then a saccade
    jumping = step > 0.02
    runs = max(len(run) for row in jumping for run in "".join("x" if x else " " for x in row).split())
    assert runs <= 3
    home = np.median(gazes, axis=1)
    assert (np.linalg.norm(home, axis=-1) < 0.1).mean() > 0.3 and np.abs(home[:, 0]).max() > 0.3
    near = np.linalg.norm(gazes - home[:, None], axis=-1) < 0.15
    assert near.mean() > 0.7


def test_the_head_carries_eyes_that_are_at_their_limit():
    pose = np.zeros((100, 6))
    pose[:, 1] = 0.6  # turned to the viewer's left: the face points to theta = -0.6
    gaze, _ = gaze_motion(frame_times(100), pose, np.random.default_rng(1))
    assert gaze[:, 0].max() <= -0.6 + 0.5 + 1e-6


def test_blinks_close_in_two_or_three_frames_every_few_seconds():
    shut = blinks(frame_times(2500), [10.0, 20.0, 30.0, 40.0], np.random.default_rng(0))
    closed = shut > 0.95
    starts = np.flatnonzero(closed[1:] & ~closed[:-1]) + 1
    assert 100 / 6 <= len(starts) <= 100 / 2 + 2
    for start in starts:
        assert 1 <= int((shut[max(start - 4, 0) : start] > 0.02).sum()) <= 3
    assert np.all(np.diff(starts) > 10)


@pytest.mark.parametrize("name", EMOTIONS)
def test_every_emotion_has_its_own_face(name):
    def mean_face(emotion: Emotion) -> np.ndarray:
        states = act(babble(np.random.default_rng(2), 3.0), emotion, np.random.default_rng(11))
        fields = [
            getattr(states, field).mean() for field in ("brow_raise", "brow_furrow", "corner_pull", "teeth", "jaw")
        ]
        return np.array([*fields, states.lids.max(), states.rotation[:, 0].mean()])

    assert set(EXPRESSIONS) == set(EMOTIONS)
    gap = np.abs(mean_face(Emotion(name, 1.0)) - mean_face(NEUTRAL)).max()
    assert gap == 0.0 if name == "neutral" else gap > 0.25


def test_emotions_are_read_and_refused():
    assert read_emotion("happiness:0.8") == Emotion("happiness", 0.8) and read_emotion("Fear") == Emotion("fear", 1.0)
    vector = emotion_vector(Emotion("anger", 0.25))
    assert vector[0] == 0.25 and vector[EMOTIONS.index("neutral")] == 0.75 and vector.sum() == 1.0
    for text in ("joyful", "happiness:2", "happiness:nan", "happiness:x", ":0.3", ""):
        with pytest.raises(ValueError, match="emotion"):
            read_emotion(text)
    with pytest.raises(ValueError, match="seed"):
        perform(-1, 1.0)
    with pytest.raises(ValueError, match="seconds"):
        perform(0, 0.01)
