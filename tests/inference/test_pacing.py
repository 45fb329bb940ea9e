import pytest

from vasa_jax.inference.pacing import Pace


def test_ticks_keep_their_rhythm_however_late_each_begins():
    pace = Pace(100.0, 5)
    assert pace.wait(99.5) == 0.5
    for n, delay in enumerate([0.0, 0.15, 0.02, 0.19, 0.0]):
        now = 100.001 + 0.2 * n + delay
        assert pace.wait(now) == 0
        assert pace.tick(now) == pytest.approx(100.2 + 0.2 * n)
    assert pace.late == 0 and pace.wait(100.9) == pytest.approx(0.1)


def test_missed_ticks_are_left_out_and_nothing_is_made_up_for():
    pace = Pace(0.0, 5)
    pace.tick(0.0)
    assert pace.tick(0.75) == pytest.approx(0.8) and pace.late == 1  # of 0.2, 0.4 and 0.6 the last is begun
    assert pace.wait(0.76) == pytest.approx(0.04)
