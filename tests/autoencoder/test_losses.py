"""The terms of the stage-1 objective against numbers worked out by hand."""

import jax
import jax.numpy as jnp
import numpy as np
from numpy.testing import assert_allclose

from vasa_jax.autoencoder import losses


def test_multi_scale_l1_of_a_constant_offset():
    """An offset of 0.25 has L1 0.25 at every octave and no gradient error."""
    target = jax.random.uniform(jax.random.key(0), (2, 16, 16, 3), maxval=0.5)
    l1, gradient = losses.multi_scale_l1(target + 0.25, target, jnp.ones((2, 16, 16, 1)), scales=3)
    assert_allclose(l1, 0.25, rtol=1e-5)
    assert_allclose(gradient, 0.0, atol=1e-6)


def test_gradient_term_of_a_ramp():
    """A ramp of slope 1/8 a pixel: the finite difference is 1/8 at full size, 1/4 after one halving."""
    ramp = jnp.broadcast_to(jnp.arange(8.0)[None, None, :, None] / 8, (1, 8, 8, 3))
    _, gradient = losses.multi_scale_l1(ramp, jnp.zeros_like(ramp), jnp.ones((1, 8, 8, 1)), scales=2)
    assert_allclose(gradient, (1 / 8 * 7 / 8 + 1 / 4 * 3 / 4) / 2, rtol=1e-5)


def test_weights_decide_where_errors_count():
    """With weight 3 on the wrong half and 1 on the right one, the error counts three quarters."""
    weight = jnp.concatenate([jnp.full((1, 4, 2, 1), 3.0), jnp.ones((1, 4, 2, 1))], 2)
    picture = jnp.concatenate([jnp.ones((1, 4, 2, 3)), jnp.zeros((1, 4, 2, 3))], 2)
    l1, _ = losses.multi_scale_l1(picture, jnp.zeros_like(picture), weight, scales=1)
    assert_allclose(l1, 0.75, rtol=1e-6)


def test_weighted_square_counts_like_the_weights_and_always_has_a_slope():
    """Errors 2 and 1 under weights 3 and 1: (3 * 4 + 1) / 4; a small change under a large error still has its slope."""
    weight = jnp.concatenate([jnp.full((1, 4, 2, 1), 3.0), jnp.ones((1, 4, 2, 1))], 2)
    error = jnp.concatenate([jnp.full((1, 4, 2, 3), -2.0), jnp.ones((1, 4, 2, 3))], 2)
    assert_allclose(losses.weighted_square(error, weight), [13 / 4], rtol=1e-6)
    slope = jax.grad(lambda d: losses.weighted_square(jnp.full((1, 2, 2, 1), 5.0) + d, jnp.ones((1, 2, 2, 1)))[0])(0.0)
    assert_allclose(slope, 10.0, rtol=1e-6)


def test_region_weight_peaks_inside_and_ignores_missing_regions():
    """Weight is about 1 + extra at a region's centre, 1 + extra / 2 on its ellipse, 1 far away and for NaN."""
    regions = jnp.asarray([[[0.0, 0.0, 0.25, 0.25], [jnp.nan] * 4]])
    weight = losses.region_weight(regions, 65, 4.0)[0, :, :, 0]
    assert weight[32, 32] > 4.9
    assert_allclose(weight[32, 32 + 8], 3.0, atol=1e-3)  # pixel 32 + 8 is a quarter of the way to the border's centre
    assert_allclose(weight[0, 0], 1.0, atol=1e-3)
    assert_allclose(losses.region_weight(jnp.full((1, 3, 4), jnp.nan), 8, 4.0), 1.0)


def test_contrastive_closed_form():
    """Equal anchor and positive, orthogonal negatives: -log(e^4 / (e^4 + 2)) with s = 5, m = 0.2."""
    one, two, three = jnp.eye(3)[:, None]
    value = losses.contrastive(one, one, jnp.stack([two, three], 1))
    assert_allclose(value, -np.log(np.exp(4.0) / (np.exp(4.0) + 2.0)), rtol=1e-5)


def test_contrastive_prefers_the_right_code():
    """Moving the positive towards the anchor lowers the loss, moving a negative there raises it."""
    anchor, away = jnp.asarray([[1.0, 0.0]]), jnp.asarray([[0.0, 1.0]])
    near = jnp.asarray([[1.0, 0.5]])
    assert losses.contrastive(anchor, near, away[:, None]) < losses.contrastive(anchor, away, away[:, None])
    assert losses.contrastive(anchor, near, near[:, None]) > losses.contrastive(anchor, near, away[:, None])


def test_labels_that_are_missing_do_not_count():
    """NaN entries take no part, neither in the value nor in the gradient; a sample without labels gives 0."""
    label = jnp.asarray([[1.0, jnp.nan], [jnp.nan, jnp.nan]])
    unit = jnp.asarray([0.5, 1.0])
    assert_allclose(losses.labelled_square_error(jnp.zeros((2, 2)), label, unit), [4.0, 0.0])
    slope = jax.grad(lambda p: losses.labelled_square_error(p, label, unit).sum())(jnp.zeros((2, 2)))
    assert_allclose(slope, [[-8.0, 0.0], [0.0, 0.0]])


def test_no_sample_sees_another():
    """Changing one sample leaves the terms of the others alone."""
    key = jax.random.key(1)
    a, b = jax.random.uniform(key, (2, 2, 8, 8, 3))
    weight = jnp.ones((2, 8, 8, 1))
    first = losses.multi_scale_l1(a, b, weight, scales=2)[0][0]
    assert first == losses.multi_scale_l1(a.at[1].set(0.0), b, weight, scales=2)[0][0]
