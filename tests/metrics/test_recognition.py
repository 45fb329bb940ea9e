import numpy as np
import pytest

from vasa_jax.metrics.recognition import area_under_curve, equal_error_rate, explained, verification


def test_codes_that_are_people_are_told_apart_without_error():
    codes = np.repeat(np.eye(5, dtype=np.float32)[:, None], 3, 1)
    found = verification(codes)
    assert found.equal_error_rate == 0.0 and found.auc == 1.0 and found.rank_1 == 1.0
    assert found.same == 1.0 and found.other == 0.0


def test_codes_without_people_are_at_chance():
    codes = np.random.default_rng(0).normal(size=(100, 3, 64)).astype(np.float32)
    found = verification(codes / np.linalg.norm(codes, axis=-1, keepdims=True))
    assert abs(found.equal_error_rate - 0.5) < 0.05 and abs(found.auc - 0.5) < 0.05 and found.rank_1 < 0.05


def test_normal_scores_have_the_rates_of_their_integrals():
    """Two unit normals a distance d apart cross at d / 2; the area under the curve is Phi(d / sqrt 2)."""
    random = np.random.default_rng(1)
    low, high = random.normal(size=40_000), 2.0 + random.normal(size=40_000)
    assert abs(equal_error_rate(high, low) - 0.1587) < 0.01
    assert abs(area_under_curve(high, low) - 0.9214) < 0.01
    assert area_under_curve(low, low) == 0.5


def test_what_is_explained_is_told_by_column():
    true = np.asarray([[0.0, 1.0, 5.0], [1.0, 2.0, 5.0], [2.0, 6.0, 5.0]])
    read = np.stack([true[:, 0], np.full(3, 3.0), true[:, 2]], -1)
    assert np.array_equal(explained(read, true), [1.0, 0.0, np.nan], equal_nan=True)


def test_a_pair_needs_two():
    with pytest.raises(ValueError, match="two of each make a pair"):
        verification(np.ones((3, 1, 4), np.float32))
