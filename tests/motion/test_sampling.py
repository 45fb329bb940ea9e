"""Sampling a window with the transformer."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.motion.tiny import STATISTICS, TINY, batch, params
from vasa_jax.diffusion.ddim import Ddim
from vasa_jax.motion import sampling
from vasa_jax.motion.denoiser import predict
from vasa_jax.motion.objective import conditions_of_batch
from vasa_jax.motion.sampling import sample_window
from vasa_jax.nn.cost import count_jaxpr

PARAMS, KEY = params(), jax.random.key(5)
CONDITIONS = conditions_of_batch(TINY, STATISTICS, batch(3))[1]


draw_noisy = jax.jit(partial(sample_window, TINY, steps=3, stepper=Ddim(0.5)))


def test_a_window_depends_on_its_key_and_on_nothing_else_in_the_batch():
    whole = np.asarray(draw_noisy(PARAMS, KEY, CONDITIONS))
    assert whole.shape == (3, 6, 10)
    np.testing.assert_array_equal(whole, draw_noisy(PARAMS, KEY, CONDITIONS))
    assert (whole != draw_noisy(PARAMS, jax.random.key(6), CONDITIONS)).any(-1).all()
    assert (whole[0] != whole[1]).any(-1).all()
    first = draw_noisy(PARAMS, KEY, jax.tree.map(lambda x: x[:1], CONDITIONS))
    np.testing.assert_allclose(first, whole[:1], atol=1e-5)


def test_one_step_is_the_guided_prediction_at_the_top():
    scales = {"audio": 0.5, "gaze": 1.0, "distance": 0.0, "emotion": 0.25}
    result = jax.jit(partial(sample_window, TINY, steps=1, guidance=scales))(PARAMS, KEY, CONDITIONS)
    noise = jax.vmap(lambda i: jax.random.normal(jax.random.split(jax.random.fold_in(KEY, i))[0], (6, 10)))(
        jnp.arange(3)
    )
    run = jax.jit(partial(predict, TINY, PARAMS, noise, jnp.full(3, 1000.0)))
    expected = 2.75 * run(CONDITIONS)
    for name, scale in scales.items():
        mask = f"{name}_mask"
        expected -= scale * run(CONDITIONS._replace(**{mask: jnp.zeros_like(getattr(CONDITIONS, mask))}))
    np.testing.assert_allclose(result, expected, atol=1e-5)


def test_every_sampler_ends_with_its_last_prediction_and_they_differ_before_it():
    draws = {
        name: jax.jit(partial(sample_window, TINY, steps=4, stepper=stepper))(PARAMS, KEY, CONDITIONS)
        for name, stepper in sampling.SAMPLERS.items()
    }
    assert sorted(draws) == ["ddim", "dpm++"] and next(iter(draws)) == "ddim"
    assert all(jnp.isfinite(drawn).all() for drawn in draws.values())
    assert float(jnp.abs(draws["ddim"] - draws["dpm++"]).max()) > 1e-4


def test_branches_are_made_for_scales_that_are_not_zero(monkeypatch):
    seen = []

    def spy(config, params, noisy, level, embedded):
        seen.append(noisy.shape[0])
        return noisy

    monkeypatch.setattr(sampling, "denoise", spy)
    for scales in ({}, {"distance": 0.0}, sampling.GUIDANCE, dict.fromkeys(sampling.GUIDED, 1.0)):
        jax.eval_shape(partial(sample_window, TINY, PARAMS, guidance=scales), KEY, CONDITIONS)
    assert seen == [3, 3, 9, 15]


def test_conditions_are_embedded_once_for_all_steps_and_branches():
    """Products outside the steps are those of the embeddings, for each sample once, whatever the guidance."""
    alone, guided = (
        jax.make_jaxpr(partial(sample_window, TINY, steps=3, guidance=scales))(PARAMS, KEY, CONDITIONS).jaxpr
        for scales in ({}, dict.fromkeys(sampling.GUIDED, 1.0))
    )
    frames, width, heard = TINY.context + TINY.window, TINY.width, TINY.audio.feature_dim
    a_frame = 320 * heard + heard * heard + heard * width
    vectors = sum((size + width) * width for size in (2, 1, 8))
    embedding = 3 * (frames * a_frame + TINY.context * TINY.motion_dim * width + vectors)
    inside = []
    for jaxpr in (alone, guided):
        (steps,) = (equation for equation in jaxpr.eqns if equation.primitive.name == "scan")
        inside.append(3 * count_jaxpr(steps.params["jaxpr"].jaxpr))
        assert count_jaxpr(jaxpr) == embedding + inside[-1]
    assert inside[1] == 5 * inside[0]


@pytest.mark.parametrize("options", [{"guidance": {"pose": 1.0}}, {"steps": 0}])
def test_nonsense_is_refused(options):
    with pytest.raises(ValueError, match="pose|steps=0"):
        sample_window(TINY, PARAMS, KEY, CONDITIONS, **options)
