"""Judges of stage 2 on motion whose numbers are known."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from vasa_jax.metrics.judges import motion as judges
from vasa_jax.metrics.judges.evidence import Asked, Brows, Felt, Hearing, Long, Performance, Seen, Take, pauses
from vasa_jax.metrics.judges.protocol import ask, select
from vasa_jax.metrics.judges.theval import score, scores

HOP, FRAMES = 10, 200


def take(pose, mouth=None, lids=None):
    """A take of a head that moves; what is not given rests."""
    count = len(pose)
    mouth = np.full(count, 0.2) if mouth is None else mouth
    lids = np.full((count, 2), 0.8) if lids is None else lids
    return Take(pose, mouth, lids, np.zeros((count, 2)), pose[:, :3])


def swaying(rng, size=1.0):
    """A head that sways smoothly, its own way, in every component."""
    time = np.arange(FRAMES)[:, None] / 25
    phase, rate = rng.uniform(0, 6, (2, 6))
    return size * 0.1 * np.sin(2 * np.pi * (0.5 + 0.1 * rate) * time + phase)


def rows_of(name, evidence):
    """A judge's rows of evidence, by name."""
    [judge] = select(judges.MOTION_JUDGES, [name])
    return {row.name: row for row in judge.rows(evidence)}


def performances(make, count=4):
    """Clips of swaying heads, of which something is made."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(count):
        truth = take(swaying(rng), 0.3 + 0.2 * rng.uniform(size=FRAMES))
        found.append(Performance(np.ones(640 * FRAMES), HOP, truth, truth, make(truth, rng)))
    return found


@pytest.fixture
def same():
    """Motion that is the truth."""
    return performances(lambda truth, rng: truth)


def test_the_truth_is_like_the_truth(same):
    """Everything is 1 times the truth, and THEval gives 1."""
    for name in ("jitter", "amplitude", "mouth"):
        for row in rows_of(name, same).values():
            if row.truth:
                assert row.of_truth == 1 and row.encoded == row.truth, row.name
    assert_allclose([row.score for row in scores(rows_of("amplitude", same).values())], 1.0)
    assert rows_of("spectrum", same)["spectrum"].value == 0


def test_a_step_at_every_window_is_the_seam():
    """Steps within windows are 1, those at borders 5, in all components: the seam is 5 where truth has 1."""

    def stairs(border):
        steps = np.where(np.arange(1, FRAMES) % HOP == 0, border, 1.0)
        return np.concatenate([[0.0], steps.cumsum()])[:, None] * np.ones((1, 6))

    truth, made = take(stairs(1.0)), take(stairs(5.0))
    seam = rows_of("seam", [Performance(None, HOP, truth, truth, made)] * 3)
    assert_allclose(seam["seam/pose"][3:7], (5, 5, 5, 1), rtol=1e-9)
    assert_allclose(seam["seam/dynamics"].value, 5, rtol=1e-9)
    assert np.isnan(judges.steps_at(stairs(1.0)[:5], HOP, np.ones(6))).all()


def test_noise_has_a_known_second_difference():
    """White noise of deviation s: x[t+1] - 2 x[t] + x[t-1] has deviation sqrt(6) s, mean size sqrt(2 / pi) of it."""
    noise = np.radians(0.3) * np.random.default_rng(1).normal(size=20_000)
    assert_allclose(np.degrees(judges.second_difference(noise)), 0.3 * np.sqrt(6 * 2 / np.pi), rtol=0.03)
    assert judges.second_difference(np.arange(10.0)) == 0
    trembling = performances(lambda truth, rng: take(truth.pose + 0.01 * rng.normal(size=truth.pose.shape)))
    assert rows_of("jitter", trembling)["jitter/yaw"].of_truth > 5


def test_amplitude_is_linear():
    """Twice the truth is 2; the mean step in degrees of a ramp is its slope."""
    double = performances(lambda truth, rng: take(2 * truth.pose))
    rows = rows_of("amplitude", double)
    for name in ("step", "angles", "sway"):
        assert_allclose(rows[f"amplitude/{name}"].of_truth, 2.0, rtol=1e-6)
    assert_allclose(score(2.0, 1.0), 0.0)
    assert_allclose(rows_of("spectrum", double)["spectrum"].value, 20 * np.log10(2), rtol=0.01)


def test_power_lies_in_its_octave():
    """A sine of 1 Hz: between 0.8 and 1.6 Hz there is more than in all other bands together."""
    power = judges.bands(np.sin(2 * np.pi * np.arange(250)[:, None] / 25))[:, 0]
    assert power.argmax() == 3 and power[3] > power.sum() / 2


def test_blinks_are_counted():
    """Three dips to a shut eye, one of them deep only at its second try, and a squint that is none."""
    lids = np.full(FRAMES, 0.8)
    for first in (20, 60, 100):
        lids[first : first + 4] = 0.1
    lids[62], lids[150:160] = 0.5, 0.5
    assert judges.count_blinks(lids) == 3
    both = take(np.zeros((FRAMES, 6)), lids=np.stack([lids, lids], 1))
    [row] = rows_of("blinks", [Performance(None, HOP, both, both, both)] * 2).values()
    assert_allclose(row.value, 3 / (FRAMES / 25 / 60))


def test_lips_are_silent_where_the_sound_is():
    """Half a clip without sound: the two frames beside the voice are none of the pause; the mouth is a third open in
    it, and moves by 0.1."""
    sound = np.ones(640 * FRAMES, np.float32)
    sound[640 * 100 :] = 0
    still = pauses(sound)
    assert not still[:102].any() and still[102:].all()
    mouth = np.where(still, 1 / 3 + 0.05 * (-1.0) ** np.arange(FRAMES), 0.9)
    shut = take(np.zeros((FRAMES, 6)), np.where(still, 0.0, 0.9))
    rows = rows_of("silent_lips", [Performance(sound, HOP, shut, shut, take(shut.pose, mouth))] * 2)
    assert_allclose(rows["silent_lips/opening"].value, 100 / 3, rtol=1e-6)
    assert_allclose(rows["silent_lips/step"].value, 10.0, rtol=1e-6)
    assert rows["silent_lips/step"].truth == 0 and rows["silent_lips/stillness"].truth == 1
    assert_allclose(rows["silent_lips/stillness"].value, 1 - 10 / judges.step(100 * mouth), rtol=1e-6)


def test_a_mouth_that_follows_its_sound_is_told_from_one_that_flaps():
    """Own mouths are the truth two frames late, the others noise."""
    rng, found = np.random.default_rng(2), []
    for _ in range(6):
        mouth, stranger, flapping = np.random.default_rng(rng.integers(1000)).uniform(size=(3, FRAMES))
        smooth = np.convolve(np.pad(mouth, 4, mode="edge"), np.ones(9) / 9, "valid")
        truth = take(np.zeros((FRAMES, 6)), smooth)
        own = Performance(None, HOP, truth, truth, take(truth.pose, np.roll(smooth, 2)))
        other, nothing = (own._replace(made=take(truth.pose, curve)) for curve in (stranger, flapping))
        found.append(Hearing(own, other, nothing, stranger))
    rows = rows_of("lip_sync", found)
    assert rows["lip_sync/own"].value > 0.6 and rows["lip_sync/own"].encoded == 1
    assert rows["lip_sync/own_lag"].value == 2
    assert rows["lip_sync/other"].value == rows["lip_sync/other"].truth
    assert abs(rows["lip_sync/nothing"].value) < 0.15 and rows["lip_sync/own_above_nothing"].low > 0.4


def test_wishes_are_measured():
    """3 and 4 degrees beside the asked direction are 5 off; 10 % too far is 10; chance recognises one of eight."""
    wish = np.radians([-20.0, 0.0])
    gaze = Asked(
        "left", wish, np.tile(wish + np.radians([3.0, 4.0]), (5, 1)), wish[None], wish[None] + np.radians([0.0, 1.0])
    )
    [row] = rows_of("gaze", [gaze]).values()
    assert_allclose((row.value, row.encoded, row.truth), (5, 1, 0), rtol=1e-5)
    far = Asked("0.8", np.log([0.8]), *np.full((3, 4, 1), np.log(0.88)))
    assert_allclose(rows_of("distance", [far])["distance/0.8"].value, 10.0)
    asked = np.repeat(np.arange(8), 10)
    felt = rows_of("emotion", Felt(asked, np.zeros(80, int), asked))["emotion"]
    assert felt.value == judges.CHANCE and felt.truth == 100


def test_drift_is_a_slope():
    """A head that turns by 2 degrees a minute, a code that leaves its place by half a deviation a minute; of what only
    trembles the interval holds 0."""
    frames = 10 * 60 * 25
    minutes = np.arange(frames) / 1500
    pose = 0.05 * np.random.default_rng(4).normal(size=(frames, 6))
    pose[:, 1] += np.radians(2) * minutes
    made = take(pose)._replace(dynamics=np.ones((frames, 4)) * (3 + minutes)[:, None])
    rows = rows_of("drift", Long(made, np.zeros(4), np.full(4, 2.0)))
    assert_allclose(rows["drift/yaw"].value, 2.0, atol=0.05)
    assert rows["drift/yaw"].low > 1.9 and rows["drift/pitch"].low < 0 < rows["drift/pitch"].high
    assert_allclose(rows["drift/code"].value, 0.5, rtol=1e-4)
    assert abs(rows["drift/step"].value) < 1


def test_brows_and_frames_are_read():
    """Brows that move half as much; a probe that sees the mouth, a tracker that finds half of the faces."""
    true = np.tile((-1.0) ** np.arange(20), (3, 1))
    assert_allclose([row.of_truth for row in rows_of("brows", Brows(0.5 * true, true, 1.0)).values()], 0.5)
    mouth = np.random.default_rng(3).uniform(size=40)
    seen = np.where(np.arange(40) < 20, mouth, np.nan)
    rows = rows_of("frames", [Seen(mouth, mouth, 1 - mouth, mouth, seen)] * 2)
    assert_allclose([rows["frames/mouth"].value, rows["frames/mouth"].truth], [-1, 1])
    assert_allclose([rows["frames/jaw_open"].value, rows["frames/face_found"].value], [1, 50])
    assert list(rows_of("frames", [Seen(mouth, mouth, mouth, None, None)] * 2)) == ["frames/mouth"]


def test_every_judge_has_a_line():
    """And evidence that exists."""
    assert all(judge.about and judge.needs for judge in judges.MOTION_JUDGES)
    assert list(ask([], object())) == []
