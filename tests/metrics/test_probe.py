"""The probe at a tiny size: it learns, repeats itself, is kept, and sees the people that seeds name."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from vasa_jax.metrics import probe
from vasa_jax.metrics.probe import ProbeConfig, Reading

TINY = ProbeConfig(size=32, crop=16, widths=(8, 8), hidden=16, people=64, steps=60, batch=16)


@pytest.fixture(scope="module")
def params():
    """A tiny probe, trained for a second."""
    return probe.train(TINY)


def test_training_repeats_itself_and_learns(params):
    """Same config, same numbers; and it reads the yaw of the frames that it saw better than a constant does."""
    again = probe.train(TINY)
    assert all(jax.tree.leaves(jax.tree.map(lambda a, b: bool((a == b).all()), params, again)))
    frames, truth = probe.world_frames(range(2_000_000, 2_000_064), TINY.size)
    rows = probe.error(probe.read(TINY, params, frames / np.float32(255)), probe.as_reading(truth))
    assert rows["yaw_deg/correlation"] > 0.5


def test_a_trained_probe_is_kept_until_its_config_changes(params, tmp_path, monkeypatch):
    """The second call reads the file; another config trains anew."""
    calls = []
    monkeypatch.setattr(probe, "train", lambda config: calls.append(config) or params)
    first, second = (probe.load_or_train(tmp_path, TINY) for _ in range(2))
    assert len(calls) == 1
    jax.tree.map(assert_allclose, first, second)
    probe.load_or_train(tmp_path, ProbeConfig(**{**vars(TINY), "steps": 61}))
    assert len(calls) == 2
    assert len(list(tmp_path.iterdir())) == 2


def test_any_number_of_frames_can_be_read(params):
    """Padding to the size of a chunk leaves no trace."""
    frames = np.random.default_rng(0).uniform(size=(65, 32, 32, 3)).astype(np.float32)
    whole, one = probe.read(TINY, params, frames), probe.read(TINY, params, frames[64:])
    assert whole.pose.shape == (65, 6) and whole.lids.shape == (65, 2) and whole.mouth.shape == (65,)
    assert_allclose(whole.mouth[64:], one.mouth, atol=1e-6)


def test_errors_of_a_known_reading():
    """A gaze that is 0.1 rad off everywhere has that error and correlation 1."""
    random = np.random.default_rng(0)
    truth = probe.as_reading(random.standard_normal((50, 11)).astype(np.float32))
    rows = probe.error(truth._replace(gaze=truth.gaze + 0.1), truth)
    assert_allclose(rows["gaze_x_deg/error"], np.degrees(0.1), rtol=1e-5)
    assert_allclose([rows["gaze_x_deg/correlation"], rows["mouth/error"]], [1.0, 0.0], atol=1e-6)


def test_mirroring_mirrors_the_labels():
    """Some keys leave the labels alone, others negate yaw, roll, tx and gaze to the side, and exchange the lids."""
    truth = jnp.arange(1.0, 12.0)
    expected = np.array([1, -2, -3, -4, 5, 6, 7, 9, 8, -10, 11], np.float32)
    seen = [np.asarray(probe._augment(jax.random.key(i), jnp.zeros((8, 8, 3)), truth)[1]) for i in range(8)]
    assert {tuple(row) for row in seen} == {tuple(np.asarray(truth)), tuple(expected)}


def test_sizes_are_checked():
    """No frames, no probe."""
    with pytest.raises(ValueError, match="people=0"):
        ProbeConfig(people=0)


def test_readings_keep_their_order():
    """Label rows split into the fields that the table names."""
    reading = probe.as_reading(np.arange(11, dtype=np.float32)[None])
    assert isinstance(reading, Reading)
    assert reading.mouth[0] == 6 and reading.lids[0, 1] == 8 and reading.gaze[0, 0] == 9
