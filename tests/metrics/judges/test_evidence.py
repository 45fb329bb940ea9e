"""Evidence is made of a model once, and has the shapes that judges ask for; the reader finds what is linear."""

import functools

import numpy as np
import pytest
from numpy.testing import assert_allclose

import vasa_jax
from tests.inference.tiny import head_motion_model, write_release
from vasa_jax.arrays import EMOTIONS, Motion
from vasa_jax.errors import UserError
from vasa_jax.inference.offline import Model
from vasa_jax.metrics.judges import evidence
from vasa_jax.metrics.judges.evidence import MotionEvidence, Setting, take_of
from vasa_jax.metrics.judges.motion import MOTION_JUDGES
from vasa_jax.metrics.judges.protocol import ask
from vasa_jax.metrics.judges.reader import fit_reader, solve
from vasa_jax.metrics.judges.theval import METRICS, scores
from vasa_jax.metrics.probe import Reading

SMALL = Setting(clips=2, seconds=1.0, voices=2, wish_seconds=0.4, minutes=2, steps=1)


@pytest.mark.long
def test_every_judge_hears_a_small_model(tmp_path, monkeypatch):
    """Random weights: every row has a value or says that it has none, and every made thing is made once."""
    monkeypatch.setattr(evidence, "MINUTE", 12.0)
    small = functools.partial(fit_reader, people=range(2_000_000, 2_000_001))
    monkeypatch.setattr(evidence, "fit_reader", small)
    model = vasa_jax.load(write_release(tmp_path / "tiny"))
    said = []

    def read(frames):
        assert frames.shape == (25, 32, 32, 3) and frames.max() <= 1
        return Reading(None, frames.mean((1, 2, 3)), None, None)

    seen = MotionEvidence(model, SMALL, lambda: read, None, said.append)
    rows = {row.name: row for row in ask(MOTION_JUDGES, seen)}
    assert {name.split("/")[0] for name in rows} == {judge.name for judge in MOTION_JUDGES}
    assert len(said) == len(set(said)) and np.isfinite(rows["jitter/yaw"].value)
    one = seen.performances[0]
    assert one.hop == 8 and one.made.pose.shape == one.truth.pose.shape == one.encoded.pose.shape == (25, 6)
    assert one.made.dynamics.shape == (25, 5) and len(one.sound) == 640 * 25
    assert len(seen.long.made.pose) == 2 * 12 * 25 and [asked.name for asked in seen.distances] == ["0.8", "1", "1.25"]
    assert set(seen.emotions.asked) == set(range(len(EMOTIONS))) and len(seen.emotions.made) == 16
    assert [score.name for score in scores(rows.values())] == [*METRICS, "mean"]
    assert rows["distance/0.8"].truth < 0.01 and rows["gaze/left"].truth < 3


def test_other_coordinates_are_refused():
    """LivePortrait's motion has no labelled numbers."""

    class Foreign(Model):
        def __init__(self):
            self.pair = type("Pair", (), {"kind": "liveportrait-vasa", "motion": head_motion_model()})

    with pytest.raises(UserError, match="kind 'liveportrait-vasa' speaks other coordinates"):
        MotionEvidence(Foreign())
    with pytest.raises(UserError, match="2 or more"):
        Setting(clips=1)


def test_codes_are_read_in_units_of_the_world():
    """The mean of the labels and one unit more, by `autoencoder.config`; eyes that rest in a turned head look aside."""
    pose = np.zeros((2, 6), np.float32)
    pose[1, 1] = 0.3
    code = np.array([[0.0, 0, 0, 0, 0, 9], [1, 1, -1, 0, 0, 9]], np.float32)
    take = take_of(Motion(pose, code))
    assert_allclose(take.mouth, [0.3, 0.55], rtol=1e-6)
    assert_allclose(take.lids, [[0.7, 0.7], [0.95, 0.45]], rtol=1e-6)
    assert_allclose(take.gaze, [[0, 0], [-0.3, 0]], atol=1e-6)


def test_the_reader_finds_what_is_linear():
    """Brows that are a sum of two inputs; three classes that differ in their means only."""
    rng = np.random.default_rng(0)
    inputs, felt = rng.normal(size=(60, 10, 8)), np.arange(60) % 3
    inputs[:, :, 7] += 3.0 * felt[:, None]
    reader = solve(inputs, 0.3 * inputs[..., 0] - 0.2 * inputs[..., 6] + 0.1, felt, 3)
    pose, code = inputs[0, :, :6], inputs[0, :, 6:]
    assert_allclose(reader.brows(pose, code), 0.3 * pose[:, 0] - 0.2 * code[:, 0] + 0.1, atol=0.02)
    assert [reader.emotion(one[:, :6], one[:, 6:]) for one in inputs] == felt.tolist()
