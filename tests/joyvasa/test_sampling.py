"""The sampler against data whose answer is known, and against a loop."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from tests.joyvasa.tiny import SAMPLE, TINY, method, normal, variables
from vasa_jax.joyvasa import sample
from vasa_jax.joyvasa.sampling import ancestral, schedule


def inputs(batch=1):
    shape = (batch, TINY.window, TINY.motion)
    return normal(1, batch, TINY.window, TINY.width), normal(2, *shape), normal(3, TINY.steps, *shape)


def test_schedule_has_the_published_values():
    tables = schedule(50)
    assert_allclose(tables.alpha[[1, 50]], [0.9982525, 0.001], rtol=1e-6)
    assert_allclose(tables.abar[[0, 25, 50]], [1.0, 0.4938436, 9.7e-7], rtol=2e-3)
    assert_allclose(tables.abar[25], 0.4938436, rtol=1e-6)
    assert_allclose(tables.sigma[[1, 50]], [0.0, 0.9990149], atol=1e-7)
    assert tables.keep[1] == 0.0 and tables.move[1] == 1.0
    assert_allclose(1 - schedule(1000).alpha[1], 1e-4, rtol=1e-9)  # the floor of beta, beyond 50 steps


def test_data_on_one_point_is_hit_exactly():
    point = jnp.arange(6.0).reshape(1, 6)
    result = ancestral(lambda x, step: point, normal(0, 1, 6), normal(1, 50, 1, 6))
    np.testing.assert_array_equal(result, point)


def test_noise_of_a_step_lies_one_place_before_it():
    """A loop in float64 over steps 5..1; the denoiser sees the step, so that its order counts too."""
    noise, steps = normal(0, 1, 4), normal(1, 5, 1, 4)
    result = ancestral(lambda x, step: 0.5 * x + step, noise, steps)
    x, (alpha, abar, *_) = np.asarray(noise, np.float64), schedule(5)
    for t in range(5, 0, -1):
        x0 = 0.5 * x + t
        mean = (1 - abar[t - 1]) * np.sqrt(alpha[t]) * x + (1 - alpha[t]) * np.sqrt(abar[t - 1]) * x0
        sigma = np.sqrt((1 - abar[t - 1]) / (1 - abar[t]) * (1 - alpha[t]))
        x = mean / (1 - abar[t]) + (sigma * np.asarray(steps[t - 1]) if t > 1 else 0.0)
    assert_allclose(result, x, rtol=1e-5, atol=1e-5)


def test_the_last_step_is_free_of_noise_and_without_previous_the_learned_start_is_used():
    tree, (audio, noise, steps) = variables(), inputs(2)
    expected = SAMPLE(tree, audio, noise, steps)
    np.testing.assert_array_equal(SAMPLE(tree, audio, noise, steps.at[0].add(9.0)), expected)
    assert np.abs(SAMPLE(tree, audio, noise, steps.at[1].add(9.0)) - expected).max() > 1e-4
    start = tuple(jnp.repeat(tree["params"][f"start_{name}"], 2, 0) for name in ("motion", "audio"))
    assert_allclose(SAMPLE(tree, audio, noise, steps, start), expected, atol=1e-6)
    other = SAMPLE(tree, audio, noise, steps, (start[0] + 1.0, start[1]))
    assert np.abs(other - expected).max() > 1e-4


def test_guidance_goes_from_the_null_through_the_sound_and_beyond():
    """With a single step the sample is the guided prediction, so it is linear in the scale."""
    tree, (audio, noise, steps) = variables(), inputs()
    one = jax.jit(partial(sample, config=dataclasses.replace(TINY, steps=1)))
    null = jnp.broadcast_to(tree["params"]["null_audio"], audio.shape)
    without, given = (one(tree, sound, noise, steps[:1], guidance=1.0) for sound in (null, audio))
    assert np.abs(without - given).max() > 1e-2
    for scale in (0.0, 1.0, 2.8):
        found = one(tree, audio, noise, steps[:1], guidance=scale)
        assert_allclose(found, without + scale * (given - without), atol=1e-5)


def test_cross_attention_is_computed_outside_the_loop():
    """The loop gets its answer, and of the (layers, c, c) matrices only the four of the self-attention."""
    tree, (audio, noise, steps) = variables(), inputs()
    motion, before = tree["params"]["start_motion"], tree["params"]["start_audio"]
    step = jnp.array([3])
    whole = method("denoise", position_mode="constant")(tree, noise, audio, motion, before, step)
    crossed = method("cross_attention")(tree, audio, before)
    parts = method("predict", position_mode="constant")(tree, noise, motion, crossed, step)
    assert_allclose(whole, parts, atol=1e-6)
    jaxpr = jax.make_jaxpr(partial(sample, config=TINY))(tree, audio, noise, steps)
    (loop,) = [e for e in jaxpr.eqns if e.primitive.name == "scan" and e.params["length"] == TINY.steps]
    shapes = [variable.aval.shape for variable in loop.invars]
    assert shapes.count((TINY.layers, 2, TINY.previous + TINY.window, TINY.width)) == 1
    assert shapes.count((TINY.layers, TINY.width, TINY.width)) == 4


def test_nonsense_is_refused():
    tree, (audio, noise, steps) = variables(), inputs()
    with pytest.raises(ValueError, match="unknown position_mode='per_frame'; choose one of constant, per_position"):
        sample(tree, audio, noise, steps, position_mode="per_frame", config=TINY)
    with pytest.raises(ValueError, match="does not fit 4 steps"):
        sample(tree, audio, noise, steps[1:], config=TINY)
    with pytest.raises(ValueError, match="must be at least 1"):
        schedule(0)
