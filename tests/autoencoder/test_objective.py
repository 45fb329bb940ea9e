"""The stage-1 objective: every leaf learns, samples stay apart, labels may be missing, terms mean what they say."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.tiny import AUTOENCODER
from vasa_jax.autoencoder import objective
from vasa_jax.autoencoder.config import AutoencoderConfig, demo_model
from vasa_jax.autoencoder.objective import ObjectiveConfig

LABELS = ("pose", "gaze", "mouth", "lids", "regions")
WITHOUT_GRADIENT: dict[str, str] = {}
"""Leaves of the demo network that get no gradient after the first step, with the reason."""


def make_batch(size: int, b: int, n: int) -> dict[str, jax.Array]:
    """Random pictures with plausible labels."""
    draw = np.random.default_rng(0)
    return {
        "frames": jnp.asarray(draw.integers(0, 256, (b, n, size, size, 3)), jnp.uint8),
        "pose": jnp.asarray(0.2 * draw.standard_normal((b, n, 6)), jnp.float32),
        "gaze": jnp.asarray(0.2 * draw.standard_normal((b, n, 2)), jnp.float32),
        "mouth": jnp.asarray(draw.uniform(size=(b, n, 1)), jnp.float32),
        "lids": jnp.asarray(draw.uniform(size=(b, n, 2)), jnp.float32),
        "regions": jnp.asarray(np.tile([0.0, 0.0, 0.3, 0.2], (b, n, 3, 1)), jnp.float32),
    }


def evaluate(config: AutoencoderConfig, weights: ObjectiveConfig, batch: dict[str, jax.Array]):
    """Gradient and metrics as a function of the parameters, compiled."""
    keys = jax.random.split(jax.random.key(1), len(batch["pose"]))

    def total(params):
        return objective.loss(config, weights, params, batch, keys)

    return jax.jit(jax.grad(total, has_aux=True))


def test_every_leaf_of_the_demo_network_learns():
    """After one real step (the warps' last convolutions start at zero) every leaf but a listed few has a gradient."""
    config = demo_model()
    weights = ObjectiveConfig(consistency=0.0, canonical=0.0)
    params = jax.jit(lambda key: objective.init(config, key))(jax.random.key(0))
    gradient = evaluate(config, weights, make_batch(config.image_size, 1, 3))
    first, _ = gradient(params)
    params = jax.tree.map(lambda p, g: p - 1e-3 * jnp.sign(g), params, first)
    second, metrics = gradient(params)
    leaves = jax.tree_util.tree_leaves_with_path(second["autoencoder"])
    rounding = 1e-7 * max(np.abs(leaf).max() for _, leaf in leaves)
    silent = {
        jax.tree_util.keystr(path, simple=True, separator="/") for path, leaf in leaves if np.abs(leaf).max() < rounding
    }
    assert silent == set(WITHOUT_GRADIENT)
    assert all(np.isfinite(value) for value in means(metrics).values())


def means(parts):
    """Of the terms that some sample has."""
    return {name: part.total / part.count for name, part in parts.items() if part.count}


@pytest.fixture(scope="module")
def params():
    """Parameters of the tiny network."""
    return jax.jit(lambda key: objective.init(AUTOENCODER, key))(jax.random.key(0))


@pytest.fixture(scope="module")
def learning(params):
    """A compiled evaluation of all terms with the gradient, of a batch of two clips."""
    keys = jax.random.split(jax.random.key(1), 2)

    def total(params, batch):
        return objective.loss(AUTOENCODER, ObjectiveConfig(), params, batch, keys)

    compiled = jax.jit(jax.value_and_grad(total, has_aux=True))

    def evaluated(batch):
        (value, parts), gradient = compiled(params, batch)
        return (value, means(parts)), gradient

    return evaluated


@pytest.fixture(scope="module")
def loss(learning):
    """The terms alone."""
    return lambda batch: learning(batch)[0]


def test_all_terms_are_there_and_add_up(loss):
    """The total is the weighted sum of the parts."""
    total, parts = loss(make_batch(32, 2, 3))
    weights = ObjectiveConfig()
    names = set(parts) - {"psnr"}
    assert set(objective.TERMS) == names
    np.testing.assert_allclose(total, sum(getattr(weights, name) * parts[name] for name in names), rtol=1e-5)


def test_change_is_blind_to_what_is_wrong_with_the_person(loss):
    """Two identical drivers change nothing, and neither do their renders, however wrong these are."""
    batch = {name: jnp.concatenate([x[:, :1], x[:, 1:2], x[:, 1:2]], 1) for name, x in make_batch(32, 2, 3).items()}
    _, parts = loss(batch)
    assert parts["square"] > 1e-3 and parts["change"] < 0.05 * parts["square"]


def test_missing_labels_are_left_out(loss):
    """A batch without labels has no label terms, and everything stays finite."""
    batch = make_batch(32, 2, 3)
    bare = batch | {name: jnp.full_like(batch[name], jnp.nan) for name in ("pose", "gaze", "mouth", "lids", "regions")}
    total, parts = loss(bare)
    assert np.isfinite(total) and set(objective.TERMS) - set(parts) == {"pose", "labels", "rendered_labels"}


def test_a_sample_without_labels_does_not_dilute_the_means_of_the_others(loss):
    """The label terms of two clips of which one has labels are those of that one; the total has half of them."""
    batch, weights = make_batch(32, 2, 3), ObjectiveConfig()
    ends = [loss({k: x.at[i].set(jnp.nan) if k in LABELS else x for k, x in batch.items()}) for i in range(2)]
    np.testing.assert_allclose(np.mean([parts["pose"] for _, parts in ends]), loss(batch)[1]["pose"], rtol=1e-5)
    total, parts = ends[0]
    shared = sum(
        getattr(weights, name) * part * (0.5 if name in ("pose", "labels", "rendered_labels") else 1.0)
        for name, part in parts.items()
        if name != "psnr"
    )
    np.testing.assert_allclose(total, shared, rtol=1e-5)


def test_a_term_of_weight_0_is_not_traced_and_cannot_poison_the_total(params):
    """Whatever it would be: the rest of the objective is computed as if it were not there."""
    broken = {"rendered_labels", "contrastive", "consistency", "canonical", "change", "pose", "labels", "gradient"}
    weights = dataclasses.replace(ObjectiveConfig(), **dict.fromkeys(broken, 0.0))
    with pytest.MonkeyPatch.context() as patch:
        for name in ("contrastive", "labelled_square_error"):
            patch.setattr(objective.losses, name, lambda *_: pytest.fail("it was computed"))
        _, parts = jax.eval_shape(
            lambda p, batch, keys: objective.loss(AUTOENCODER, weights, p, batch, keys),
            params,
            make_batch(32, 2, 3),
            jax.random.split(jax.random.key(1), 2),
        )
    assert set(parts) == set(objective.TERMS) - broken | {"psnr"}
    with pytest.raises(ValueError, match="the weights of all terms are 0"):
        ObjectiveConfig(**dict.fromkeys(objective.TERMS, 0.0))


def hidden(batch, *names):
    return batch | {name: jnp.full_like(batch[name], jnp.nan) for name in names}


@pytest.mark.parametrize("name", ["pose", "gaze", "mouth", "lids", "regions"])
def test_each_missing_label_leaves_out_its_term_alone(learning, name):
    """The total is the weighted sum of the other terms, and every gradient is finite."""
    (total, parts), gradient = learning(hidden(make_batch(32, 2, 3), name))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((total, parts, gradient)))
    others = set(parts) - {"psnr", name}
    assert (name == "pose") == ("pose" not in parts)
    np.testing.assert_allclose(total, sum(getattr(ObjectiveConfig(), term) * parts[term] for term in others), rtol=1e-5)


def test_the_label_term_is_the_mean_over_the_labels_that_are_there(learning):
    """Mouth, lids and gaze are one, two and two numbers; gaze in the head is unknown without a pose."""
    batch, numbers = make_batch(32, 2, 3), {"mouth": 1, "lids": 2, "gaze": 2}

    def labels_term(*missing):
        return float(learning(hidden(batch, *missing))[0][1].get("labels", 0.0))

    square = {name: count * labels_term(*(set(numbers) - {name})) for name, count in numbers.items()}
    np.testing.assert_allclose(labels_term(), sum(square.values()) / 5, rtol=1e-5)
    for name in numbers:
        others = set(numbers) - {name}
        expected = sum(square[other] for other in others) / sum(numbers[other] for other in others)
        np.testing.assert_allclose(labels_term(name), expected, rtol=1e-5)
    assert labels_term(*numbers) == 0.0


def test_a_record_without_regions_weighs_every_pixel_alike(learning):
    """As one whose regions lie far outside the picture."""
    batch = make_batch(32, 2, 3)
    far = batch | {"regions": jnp.full_like(batch["regions"], 0.01).at[..., :2].set(9.0)}
    (total, _), _ = learning(hidden(batch, "regions"))
    (same, _), _ = learning(far)
    (other, _), _ = learning(batch)
    np.testing.assert_allclose(total, same, rtol=1e-6)
    assert total != other


def test_consistency_of_a_still_clip_is_zero(params):
    """If frames and labels never change, both portraits and both pictures are the same up to the augmentation of the
    codes."""
    batch = {name: jnp.repeat(value[:, :1], 3, 1) for name, value in make_batch(32, 1, 3).items()}
    calm = ObjectiveConfig(augmentation=objective.AugmentationConfig(crop=0.0, warp=0.0, colour=0.0))
    keys = jax.random.split(jax.random.key(0), 1)
    _, parts = jax.jit(lambda p, batch: objective.loss(AUTOENCODER, calm, p, batch, keys))(params, batch)
    parts = means(parts)
    np.testing.assert_allclose(parts["consistency"], 0.0, atol=1e-6)
    np.testing.assert_allclose(parts["canonical"], 0.0, atol=1e-5)


def test_samples_do_not_see_each_other(params, loss):
    """The mean over two samples is the mean of the two alone, each with its own key."""
    batch = make_batch(32, 2, 3)
    keys = jax.random.split(jax.random.key(1), 2)
    alone = jax.jit(lambda p, one, key: objective.loss(AUTOENCODER, ObjectiveConfig(), p, one, key)[0])
    each = [alone(params, {name: x[i : i + 1] for name, x in batch.items()}, keys[i : i + 1]) for i in range(2)]
    np.testing.assert_allclose(loss(batch)[0], np.mean(each), rtol=2e-5)


def test_a_short_code_is_refused():
    """The labels must fit into the dynamics code."""
    with pytest.raises(ValueError, match="dynamics_dim"):
        objective.init(dataclasses.replace(AUTOENCODER, dynamics_dim=3), jax.random.key(0))
