import math

import numpy as np
import pytest

from vasa_jax.arrays import EMOTIONS
from vasa_jax.inference.controls import make_controls, track


@pytest.mark.parametrize(
    "gaze, degrees",
    [
        ("forward", (0, 0)),
        ("left", (-20, 0)),
        ("Right", (20, 0)),
        ("up", (0, 20)),
        ("down", (0, -20)),
        ("-10,5.5", (-10, 5.5)),
        (" 12 , -3 ", (12, -3)),
        ((30.0, -30.0), (30, -30)),
    ],
)
def test_gaze(gaze, degrees):
    np.testing.assert_allclose(make_controls(gaze=gaze).gaze, [np.radians(degrees)], rtol=1e-6)


@pytest.mark.parametrize("gaze", ["sideways", "", "10", "1,2,3", "a,b", "61,0", "0,-90", "nan,0", (0.0, 60.1)])
def test_gaze_that_is_refused(gaze):
    with pytest.raises(ValueError, match="gaze .* (unknown|out of range); choose forward, left"):
        make_controls(gaze=gaze)


@pytest.mark.parametrize("factor", [0.25, 0.5, 1.0, 2.0, 4.0])
def test_distance_is_heard_as_a_logarithm(factor):
    np.testing.assert_allclose(make_controls(distance=factor).distance, [[math.log(factor)]], rtol=1e-6)


@pytest.mark.parametrize("factor", [0.0, -1.0, 0.2, 4.1, 9.0, math.nan, math.inf])
def test_distance_that_is_refused(factor):
    with pytest.raises(ValueError, match="distance .* out of range"):
        make_controls(distance=factor)


def test_no_emotion_is_the_null_emotion():
    assert not make_controls().emotion_known
    assert make_controls(emotion="neutral").emotion_known


@pytest.mark.parametrize(
    "text, name, weight",
    [
        ("happiness", "happiness", 1),
        ("happy:0.6", "happiness", 0.6),
        ("Angry:1", "anger", 1),
        ("afraid:0.5", "fear", 0.5),
    ]
    + [(f"{name}:0.25", name, 0.25) for name in EMOTIONS if name != "neutral"]
    + [("sad:0", "sadness", 0), ("surprised", "surprise", 1), ("disgusted : .5", "disgust", 0.5)],
)
def test_an_emotion_is_mixed_with_neutral(text, name, weight):
    emotion = dict(zip(EMOTIONS, make_controls(emotion=text).emotion[0], strict=True))
    assert emotion.pop(name) == pytest.approx(weight)
    assert emotion.pop("neutral") == pytest.approx(1 - weight)
    assert not any(emotion.values())


NO_EMOTION = ("joyful", "", "happy:", "happy:2", "happy:-0.1", "happy:nan", "happy:much", "happy sad")


@pytest.mark.parametrize("text", NO_EMOTION)
def test_emotions_that_are_refused(text):
    with pytest.raises(ValueError, match="emotion .* (is unknown; choose anger|has no weight from 0 to 1)"):
        make_controls(emotion=text)


def test_tracks_hold_one_value_a_frame():
    controls = make_controls(["left", (0.0, 10.0), "1,2"], [1.0, 2.0], ["happy", None])
    assert [len(leaf) for leaf in controls] == [3, 2, 2, 2]
    part = track(controls, 1, 3)
    np.testing.assert_allclose(np.degrees(part.gaze), [(0, 10), (1, 2), (1, 2)], rtol=1e-6)
    np.testing.assert_allclose(np.exp(part.distance), [[2], [2], [2]], rtol=1e-6)
    assert not part.emotion_known.any() and track(controls, 0, 1).emotion_known.all()
    constant = make_controls("up")
    for leaf, same in zip(track(constant, 100, 2), constant, strict=True):
        np.testing.assert_array_equal(leaf, np.concatenate([same, same]))


@pytest.mark.parametrize("track", [{"gaze": []}, {"distance": []}, {"emotion": []}])
def test_an_empty_track_is_refused(track):
    with pytest.raises(ValueError, match=f"the track of {next(iter(track))} is empty"):
        make_controls(**track)
