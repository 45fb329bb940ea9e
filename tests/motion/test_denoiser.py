"""The motion transformer: its composition, and what may reach what."""

import dataclasses
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.motion.tiny import STATISTICS, TINY, batch, params
from vasa_jax.arrays import Motion
from vasa_jax.motion.conditions import GUIDED, Conditions, empty
from vasa_jax.motion.config import MotionConfig, demo_model
from vasa_jax.motion.denoiser import Denoiser, denoise, embed, initialise, predict, without
from vasa_jax.motion.objective import conditions_of_batch
from vasa_jax.nn.cost import count_macs, count_parameters

PARAMS = params()
RUN = jax.jit(partial(predict, TINY))


@pytest.fixture(scope="module")
def inputs():
    clean, conditions = conditions_of_batch(TINY, STATISTICS, batch(2))
    return clean, jnp.array([700.0, 3.0]), conditions


def test_the_base_size_is_composed_as_written():
    config = MotionConfig()
    tree = jax.eval_shape(partial(initialise, config), jax.random.key(0))
    attention, ffn = 4 * (512 * 512 + 512), 512 * 2048 + 2048 + 2048 * 512 + 512
    assert {name: count_parameters(part) for name, part in tree.items()} == {
        "motion_embedding": 134 * 512 + 512,
        "audio_embedding": 768 * 512 + 512,
        "time_embedding": ffn,
        "gaze_embedding": 3 * 512 + 512 * 512 + 512,
        "distance_embedding": 2 * 512 + 512 * 512 + 512,
        "emotion_embedding": 9 * 512 + 512 * 512 + 512,
        "positions": 60 * 512,
        "types": 8 * 512,
        "nulls": 6 * 512,
        "encoder": 8 * (attention + ffn + 4 * 512) + 2 * 512,
        "readout": 512 * 134 + 134,
    }
    assert count_parameters(tree) == 28_684_422


def test_the_base_size_takes_the_written_tokens_and_operations():
    config = MotionConfig()
    tree = jax.eval_shape(partial(initialise, config), jax.random.key(0))
    noisy, level = jax.ShapeDtypeStruct((1, 50, 134), jnp.float32), jax.ShapeDtypeStruct((1,), jnp.float32)
    assert config.num_tokens == 124
    assert 2e-9 * count_macs(partial(predict, config), tree, noisy, level, empty(config, 1)) == pytest.approx(
        6.5, rel=0.015
    )


def test_an_unknown_value_is_never_read(inputs):
    clean, level, conditions = inputs
    nothing = empty(TINY, 2)
    masks = {name: value for name, value in nothing._asdict().items() if name.endswith("_mask")}
    poisoned = Conditions(
        **{name: value * jnp.nan for name, value in conditions._asdict().items() if name not in masks}, **masks
    )
    np.testing.assert_array_equal(RUN(PARAMS, clean, level, nothing), RUN(PARAMS, clean, level, poisoned))
    gradient = jax.jit(jax.grad(lambda p: predict(TINY, p, clean, level, poisoned).sum()))(PARAMS)
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


def test_every_known_value_is_read(inputs):
    clean, level, conditions = inputs
    before = RUN(PARAMS, clean, level, conditions)
    for name, value in conditions._asdict().items():
        if not name.endswith("_mask"):
            after = RUN(PARAMS, clean, level, conditions._replace(**{name: value + 1.0}))
            assert float(jnp.abs(after - before).max()) > 1e-5, name
    assert float(jnp.abs(RUN(PARAMS, clean, level + 50, conditions) - before).max()) > 1e-5


@pytest.mark.parametrize("name", GUIDED)
def test_without_a_condition_it_is_as_unknown_as_a_mask_makes_it(inputs, name):
    clean, level, conditions = inputs
    told = jax.jit(partial(embed, TINY))(PARAMS, conditions)
    hidden = without(TINY, told, name)
    masked = conditions._replace(**{f"{name}_mask": jnp.zeros_like(getattr(conditions, f"{name}_mask"))})
    np.testing.assert_allclose(hidden.tokens, embed(TINY, PARAMS, masked).tokens, atol=1e-6)
    np.testing.assert_array_equal(hidden.absent, told.absent)
    drawn = jax.jit(partial(denoise, TINY))(PARAMS, clean, level, hidden)
    np.testing.assert_allclose(drawn, RUN(PARAMS, clean, level, masked), atol=1e-6)


def test_the_context_is_no_branch_of_guidance(inputs):
    with pytest.raises(ValueError, match="'context'"):
        without(TINY, embed(TINY, PARAMS, inputs[2]), "context")


def test_samples_do_not_see_each_other(inputs):
    clean, level, conditions = inputs
    both = RUN(PARAMS, clean, level, conditions)
    other = jax.tree.map(lambda x: x.at[1].set(jnp.zeros((), x.dtype)), (clean, level, conditions))
    np.testing.assert_array_equal(both[0], RUN(PARAMS, *other)[0])


def test_motion_and_sound_of_one_frame_share_its_position():
    """Moving a frame's row of the table moves both its tokens, and no other."""
    tree = jax.eval_shape(lambda: params())
    assert tree["positions"].shape == (TINY.context + TINY.window, TINY.width)
    assert tree["types"].shape == (8, TINY.width)
    noisy, conditions = jnp.zeros((1, 6, 10)), empty(TINY, 1)
    tokens = tokens_of(PARAMS, noisy, conditions)
    moved = tokens_of({**PARAMS, "positions": PARAMS["positions"].at[4].add(1.0)}, noisy, conditions)
    assert np.flatnonzero(np.abs(moved - tokens).max(-1)[0]).tolist() == [4, 9 + 4]


def tokens_of(tree, noisy, conditions):
    """What enters the transformer, (b, n, c)."""
    seen = []

    def record(call, args, kwargs, context):
        if context.module.name == "encoder":
            seen.append(args[0])
        return call(*args, **kwargs)

    with nn.intercept_methods(record):
        Denoiser(TINY).apply({"params": tree}, noisy, jnp.zeros(1), conditions)
    return np.asarray(seen[0])


def test_bfloat16_layers_give_a_float32_result_close_to_float32(inputs):
    clean, level, conditions = inputs
    half = predict(dataclasses.replace(TINY, dtype="bfloat16"), PARAMS, clean, level, conditions)
    assert half.dtype == jnp.float32
    np.testing.assert_allclose(half, RUN(PARAMS, clean, level, conditions), atol=0.1)


def test_float64_is_kept_throughout(inputs):
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda x: x.astype(jnp.float64) if x.dtype == jnp.float32 else x, (PARAMS, *inputs))
        result = jax.jit(partial(predict, TINY))(*wide)
        assert result.dtype == jnp.float64
    np.testing.assert_allclose(result, RUN(PARAMS, *inputs), atol=1e-5)


def test_raw_motion_enters_normalised(inputs):
    raw = batch(2)
    shifted = STATISTICS._replace(pose_mean=jnp.ones(6), pose_scale=jnp.full(6, 2.0))
    clean, conditions = conditions_of_batch(TINY, shifted, raw)
    motion = Motion(raw["motion_pose"], raw["motion_dynamics"])
    np.testing.assert_allclose(clean[..., :6], (motion.pose[:, 3:] - 1) / 2, atol=1e-6)
    np.testing.assert_allclose(conditions.previous_motion[..., 6:], motion.dynamics[:, :3], atol=1e-6)


def test_a_fresh_network_hears_each_frame_at_its_own_moment():
    """What sound changes in the answer is largest at its own frame: alignment need not be discovered in training."""
    config = demo_model()
    fresh, noisy = initialise(config, jax.random.key(0)), jax.random.normal(jax.random.key(1), (1, 50, 38))
    conditions = empty(config, 1)
    sound = 2.0 * jax.random.normal(jax.random.key(2), conditions.audio.shape) - 4.0
    conditions = conditions._replace(audio=sound, audio_mask=jnp.ones((1, 50), bool))
    run = jax.jit(lambda sound: predict(config, fresh, noisy, jnp.full(1, 900.0), conditions._replace(audio=sound)))
    before = run(sound)
    for frame in (3, 24, 49):
        change = jnp.abs(run(sound.at[:, frame].add(4.0)) - before).mean((0, 2))
        assert int(change.argmax()) == frame
        assert change[frame] > 2.0 * jnp.sort(change)[-2]


def anchored(**changes):
    """TINY with an anchor that holds for good, and a network whose readout knows nothing: a constant."""
    config = dataclasses.replace(TINY, anchor=True, **changes)
    tree = params(config)
    constant = {
        "kernel": jnp.zeros_like(tree["readout"]["kernel"]),
        "bias": jnp.full_like(tree["readout"]["bias"], 0.3),
    }
    return config, tree | {"readout": constant, "hold": jnp.ones_like(tree["hold"])}


@pytest.mark.parametrize("cutoff", [0.0, 4.0])
@pytest.mark.parametrize("frames", [0, 1, 2, 3])
def test_an_anchor_leaves_from_the_last_frame_whose_context_is_known(inputs, frames, cutoff):
    """Where any of the context is known, its last frame is: the window starts there, however few frames are known."""
    clean, level, conditions = inputs
    config, tree = anchored(head_cutoff=cutoff)
    mask = jnp.broadcast_to(jnp.arange(3) >= 3 - frames, (2, 3))
    previous = jnp.where(mask[..., None], conditions.previous_motion, jnp.nan)
    told = conditions._replace(previous_motion=previous, previous_motion_mask=mask)
    drawn = predict(config, tree, clean, level, told)
    expected = conditions.previous_motion[:, -1:] if frames else jnp.full((2, 1, 10), 0.3)
    np.testing.assert_allclose(drawn, jnp.broadcast_to(expected, drawn.shape), atol=1e-5)


def test_a_fresh_anchor_fades(inputs):
    clean, level, conditions = inputs
    config, tree = anchored()
    tree |= {"hold": params(config)["hold"]}
    drawn = predict(config, tree, clean, level, conditions)
    missed = conditions.previous_motion[:, -1:] - 0.3
    np.testing.assert_allclose(drawn, 0.3 + jnp.exp(-jnp.arange(6) / 15)[None, :, None] * missed, atol=1e-5)


def test_without_an_anchor_and_a_cutoff_the_network_is_that_of_older_releases():
    assert "hold" not in PARAMS and "hold" in params(dataclasses.replace(TINY, anchor=True))
    smooth = params(dataclasses.replace(TINY, head_cutoff=4.0))
    assert jax.tree.structure(smooth) == jax.tree.structure(PARAMS)
