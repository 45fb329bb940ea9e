"""The training objective: per-sample randomness, gradients, unlabelled clips."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.joyvasa.tiny import SPEECH
from tests.motion.tiny import STATISTICS, TINY, batch, params
from vasa_jax.audio.augmentation import SoundAugmentationConfig
from vasa_jax.audio.front_end import AudioEncoderConfig
from vasa_jax.motion import objective
from vasa_jax.motion.config import DropConfig
from vasa_jax.motion.denoiser import predict

PARAMS = params()
KEYS = jax.random.split(jax.random.key(3), 16)
LOSS = jax.jit(partial(objective.loss, TINY))
GRADIENT = jax.jit(jax.value_and_grad(lambda p, data: objective.loss(TINY, p, STATISTICS, data, KEYS[:4])[0]))


def test_the_loss_is_a_mean_over_samples_that_do_not_see_each_other():
    data = batch(4)
    whole, metrics = LOSS(PARAMS, STATISTICS, data, KEYS[:4])
    alone = [
        float(LOSS(PARAMS, STATISTICS, jax.tree.map(lambda x, i=i: x[i : i + 1], data), KEYS[i : i + 1])[0])
        for i in range(4)
    ]
    assert float(whole) == pytest.approx(float(np.mean(alone)), rel=1e-5)
    assert float(whole) > (6 * float(metrics["pose"]) + 4 * float(metrics["dynamics"])) / 10


@pytest.mark.parametrize("context", [True, False])
def test_errors_where_a_window_joins_its_context_count_more(monkeypatch, context):
    """A network that is off by 0.1 throughout: where the context is known, its first step is as wrong as its frames."""
    monkeypatch.setattr(objective, "q_sample", lambda schedule, x0, level, eps: x0)
    monkeypatch.setattr(objective, "predict", lambda config, params, noisy, level, conditions: noisy + 0.1)
    config = dataclasses.replace(TINY, drop=DropConfig(context=0.0 if context else 1.0), velocity=0.7)
    value, metrics = objective.loss(config, PARAMS, STATISTICS, batch(4), KEYS[:4])
    first = objective.FIRST * np.exp(-np.arange(6) / objective.FIRST_FRAMES).mean()
    more = first + 0.7 / 6 if context else 0
    assert float(value) == pytest.approx(0.01 * (1 + more), rel=1e-3)
    assert float(metrics["pose"]) == pytest.approx(0.01, rel=1e-3) == float(metrics["dynamics"])


def test_a_stray_context_is_left_from_where_it_is_and_the_truth_found_again():
    x0, known = objective.conditions_of_batch(TINY, STATISTICS, batch(16))
    strayed, told = objective.stray(x0, known, KEYS)
    off = told.previous_motion - known.previous_motion
    np.testing.assert_allclose(off, jnp.broadcast_to(off[:, :1], off.shape), atol=1e-6)
    assert (off[..., :6] == 0).all() and 4 <= (off[:, 0, 6:].any(1)).sum() <= 12
    left = jnp.exp(-(1 + jnp.arange(6)) / objective.STRAY_FRAMES)[None, :, None]
    np.testing.assert_allclose(strayed - x0, left * off[:, :1], atol=1e-6)
    alone = known._replace(previous_motion_mask=jnp.zeros((16, 3), bool))
    np.testing.assert_array_equal(objective.stray(x0, alone, KEYS)[0], x0)


def test_other_keys_give_another_loss_and_the_same_keys_the_same():
    data = batch(4)
    first, again, other = (float(LOSS(PARAMS, STATISTICS, data, keys)[0]) for keys in (KEYS[:4], KEYS[:4], KEYS[4:8]))
    assert first == again != other


def test_every_parameter_has_a_gradient():
    often = dataclasses.replace(TINY, drop=DropConfig(condition=0.5))
    gradient = jax.jit(jax.grad(lambda p: objective.loss(often, p, STATISTICS, batch(16), KEYS)[0]))(PARAMS)
    still = [jax.tree_util.keystr(path) for path, g in jax.tree_util.tree_leaves_with_path(gradient) if not g.any()]
    assert not still
    assert (jnp.abs(gradient["nulls"]).max(1) > 0).all()
    assert (jnp.abs(gradient["types"]).max(1) > 0).all()


def test_unlabelled_clips_train_as_if_the_label_were_hidden():
    data = batch(4)
    blank = data | {name: jnp.full_like(data[name], jnp.nan) for name in ("gaze", "distance", "emotion")}
    value, _ = LOSS(PARAMS, STATISTICS, blank, KEYS[:4])
    assert jnp.isfinite(value)
    _, conditions = objective.conditions_of_batch(TINY, STATISTICS, blank)
    assert not (conditions.gaze_mask.any() or conditions.distance_mask.any() or conditions.emotion_mask.any())


@pytest.mark.parametrize(
    "name, masks",
    [(name, (f"{name}_mask",)) for name in ("gaze", "distance", "emotion")]
    + [("samples", ("audio_mask", "previous_audio_mask"))],
)
def test_each_missing_condition_is_masked_alone(name, masks):
    """As if it were hidden, whatever its value: a clip without sound too; loss and gradients are finite."""
    data = batch(4)
    blank = data | {name: jnp.full_like(data[name], jnp.nan)}
    x0, whole = objective.conditions_of_batch(TINY, STATISTICS, data)
    _, conditions = objective.conditions_of_batch(TINY, STATISTICS, blank)
    hidden = whole._replace(**{mask: jnp.zeros_like(getattr(whole, mask)) for mask in masks})
    for mask in [field for field in whole._fields if field.endswith("_mask")]:
        assert (getattr(conditions, mask) == getattr(hidden, mask)).all(), mask
    run = jax.jit(partial(predict, TINY))
    answers = [run(PARAMS, x0, jnp.ones(4), known) for known in (conditions, hidden, whole)]
    assert (answers[0] == answers[1]).all() and (answers[0] != answers[2]).any()
    value, gradient = GRADIENT(PARAMS, blank)
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves((value, gradient)))


def test_a_batch_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"batch\['samples'\] has shape"):
        objective.loss(TINY, PARAMS, STATISTICS, batch(2) | {"samples": jnp.zeros((2, 100))}, KEYS[:2])
    features = dataclasses.replace(TINY, audio=AudioEncoderConfig(feature_dim=16, block=1, speech=SPEECH))
    with pytest.raises(ValueError, match="no 'features'"):
        objective.loss(features, PARAMS, STATISTICS, batch(2), KEYS[:2])


def test_frozen_features_take_the_place_of_log_mel():
    config = dataclasses.replace(TINY, audio=AudioEncoderConfig(feature_dim=16, block=1, speech=SPEECH))
    tree, data = params(config), batch(2, config, heard=True)
    assert "mel_encoder" not in tree
    run = jax.jit(partial(objective.loss, config))
    value, _ = run(tree, STATISTICS, data, KEYS[:2])
    louder, _ = run(tree, STATISTICS, data | {"features": data["features"] + 1}, KEYS[:2])
    assert value != louder


def test_augmentation_changes_the_sound_by_each_samples_own_key():
    data = batch(4)
    strong = SoundAugmentationConfig(share=1.0, settled=0.5)
    hear = jax.jit(partial(objective.listen, TINY, {}, augmentation=strong))

    def run(data, keys):
        return LOSS(PARAMS, STATISTICS, hear(data, keys), keys)[0]

    whole = run(data, KEYS[:4])
    alone = [float(run(jax.tree.map(lambda x, i=i: x[i : i + 1], data), KEYS[i : i + 1])) for i in range(4)]
    assert float(whole) == pytest.approx(float(np.mean(alone)), rel=1e-5)
    assert whole != LOSS(PARAMS, STATISTICS, data, KEYS[:4])[0]
    plain = objective.listen(TINY, {}, data, KEYS[:4], SoundAugmentationConfig())
    assert LOSS(PARAMS, STATISTICS, plain, KEYS[:4])[0] == pytest.approx(
        float(LOSS(PARAMS, STATISTICS, data, KEYS[:4])[0]), rel=1e-5
    )


def test_a_settled_sample_is_heard_at_its_own_level_from_the_first_frame_on():
    """Quiet speech: without it the first frames are heard as quiet as they are."""
    quiet = batch(1)
    sound = (
        0.01
        * jnp.sin(jnp.arange(quiet["samples"].shape[1]) ** 2 / 4e4)
        * (jnp.arange(quiet["samples"].shape[1]) % 1600 < 1200)
    )
    quiet |= {"samples": sound[None]}
    loud = [
        objective.listen(TINY, {}, quiet, KEYS[:1], SoundAugmentationConfig(settled=settled))["features"][0, 0].max()
        for settled in (0.0, 1.0)
    ]
    assert loud[1] > loud[0] + 1
