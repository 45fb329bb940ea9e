"""The stage-1 objective: every leaf learns, samples stay apart, labels may be missing, terms mean what they say."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.tiny import AUTOENCODER
from vasa_jax.autoencoder import objective
from vasa_jax.autoencoder.config import AutoencoderConfig, demo_model
from vasa_jax.autoencoder.discriminator import DiscriminatorConfig, discriminate
from vasa_jax.autoencoder.model import Autoencoder
from vasa_jax.autoencoder.objective import ObjectiveConfig
from vasa_jax.autoencoder.views import CODES, CROSSED, RENDERED, look
from vasa_jax.nn.cost import count_macs
from vasa_jax.pretrained.helper import Helper

LABELS = ("pose", "gaze", "mouth", "lids", "expression", "regions")
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
        "expression": jnp.asarray(draw.uniform(-1, 1, (b, n, 2)), jnp.float32),
        "regions": jnp.asarray(np.tile([0.0, 0.0, 0.3, 0.2], (b, n, 3, 1)), jnp.float32),
    }


def evaluate(config: AutoencoderConfig, weights: ObjectiveConfig, batch: dict[str, jax.Array]):
    """Gradient and metrics as a function of the parameters, compiled."""
    keys = jax.random.split(jax.random.key(1), len(batch["pose"]))

    def total(params):
        return computed(config, weights, params, batch, keys)

    return jax.jit(jax.grad(total, has_aux=True))


def computed(model, weights, params, batch, keys, step=0, helpers=None, **more):
    """The objective of a batch: its views, and the terms on them."""
    needed = objective.needed(weights, "other_frames" in batch)
    views = look(model, weights.augmentation, needed, params, batch, keys, step, weights.consistency_every)
    return objective.loss(weights, views, helpers or {}, step, **more)


def started(model):
    """Fresh parameters, compiled."""
    return jax.jit(lambda key: objective.init(model, key)[0])(jax.random.key(0))


@pytest.mark.long
def test_every_leaf_of_the_demo_network_learns():
    """After one real step (the warps' last convolutions start at zero) every leaf but a listed few has a gradient."""
    config = demo_model()
    weights = ObjectiveConfig(consistency=0.0, canonical=0.0)
    params = started(config)
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
    return started(AUTOENCODER)


@pytest.fixture(scope="module")
def learning(params):
    """A compiled evaluation of all terms with the gradient, of a batch of two clips."""
    keys = jax.random.split(jax.random.key(1), 2)

    def total(params, batch):
        return computed(AUTOENCODER, ObjectiveConfig(), params, batch, keys)

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
    assert {term.name for term in objective.terms(weights)} == names
    np.testing.assert_allclose(total, sum(getattr(weights, name) * parts[name] for name in names), rtol=1e-5)


def test_change_is_blind_to_what_is_wrong_with_the_person(loss):
    """Two identical drivers change nothing, and neither do their renders, however wrong these are."""
    batch = {name: jnp.concatenate([x[:, :1], x[:, 1:2], x[:, 1:2]], 1) for name, x in make_batch(32, 2, 3).items()}
    _, parts = loss(batch)
    assert parts["square"] > 1e-3 and parts["change"] < 0.05 * parts["square"]


def test_missing_labels_are_left_out(loss):
    """A batch without labels has no label terms, and everything stays finite."""
    batch = make_batch(32, 2, 3)
    bare = batch | {name: jnp.full_like(batch[name], jnp.nan) for name in LABELS}
    total, parts = loss(bare)
    names = {term.name for term in objective.terms(ObjectiveConfig())}
    assert np.isfinite(total) and names - set(parts) == {"pose", "labels", "rendered_labels"}


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
            lambda p, batch, keys: computed(AUTOENCODER, weights, p, batch, keys),
            params,
            make_batch(32, 2, 3),
            jax.random.split(jax.random.key(1), 2),
        )
    assert set(parts) == {"l1", "square", "psnr"}
    with pytest.raises(ValueError, match="the weights of all terms are 0"):
        ObjectiveConfig(**{term.name: 0.0 for term in objective.TERMS})


def hidden(batch, *names):
    return batch | {name: jnp.full_like(batch[name], jnp.nan) for name in names}


@pytest.mark.parametrize("name", LABELS)
def test_each_missing_label_leaves_out_its_term_alone(learning, name):
    """The total is the weighted sum of the other terms, and every gradient is finite."""
    (total, parts), gradient = learning(hidden(make_batch(32, 2, 3), name))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((total, parts, gradient)))
    others = set(parts) - {"psnr", name}
    assert (name == "pose") == ("pose" not in parts)
    np.testing.assert_allclose(total, sum(getattr(ObjectiveConfig(), term) * parts[term] for term in others), rtol=1e-5)


def test_the_label_term_is_the_mean_over_the_labels_that_are_there(learning):
    """Of one, two, two and two numbers; gaze in the head is unknown without a pose."""
    batch, numbers = make_batch(32, 2, 3), {"mouth": 1, "lids": 2, "gaze": 2, "expression": 2}

    def labels_term(*missing):
        return float(learning(hidden(batch, *missing))[0][1].get("labels", 0.0))

    square = {name: count * labels_term(*(set(numbers) - {name})) for name, count in numbers.items()}
    np.testing.assert_allclose(labels_term(), sum(square.values()) / 7, rtol=1e-5)
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
    _, parts = jax.jit(lambda p, batch: computed(AUTOENCODER, calm, p, batch, keys))(params, batch)
    parts = means(parts)
    np.testing.assert_allclose(parts["consistency"], 0.0, atol=1e-6)
    np.testing.assert_allclose(parts["canonical"], 0.0, atol=1e-5)


def test_samples_do_not_see_each_other(params, loss):
    """The mean over two samples is the mean of the two alone, each with its own key."""
    batch = make_batch(32, 2, 3)
    keys = jax.random.split(jax.random.key(1), 2)
    alone = jax.jit(lambda p, one, key: computed(AUTOENCODER, ObjectiveConfig(), p, one, key)[0])
    each = [alone(params, {name: x[i : i + 1] for name, x in batch.items()}, keys[i : i + 1]) for i in range(2)]
    np.testing.assert_allclose(loss(batch)[0], np.mean(each), rtol=2e-5)


def test_a_short_code_is_refused():
    """The labels must fit into the dynamics code."""
    with pytest.raises(ValueError, match="dynamics_dim"):
        objective.init(dataclasses.replace(AUTOENCODER, dynamics_dim=3), jax.random.key(0))


def with_others(batch):
    """The batch beside a frame of each clip's neighbour."""
    return batch | {f"other_{name}": jnp.roll(value[:, -1:], 1, 0) for name, value in batch.items()}


BARE = {term.name: 0.0 for term in objective.TERMS}
CALM = objective.AugmentationConfig(crop=0.0, warp=0.0, colour=0.0)
TWO = jax.random.split(jax.random.key(1), 2)


@pytest.fixture(scope="module")
def viewed(params):
    """A function of batches of two clips beside others: the views, crossed ones among them, compiled once."""
    return functools.partial(
        jax.jit(functools.partial(look, AUTOENCODER, CALM, {RENDERED, CROSSED, CODES})), params, keys=TWO
    )


@pytest.fixture(scope="module")
def views(viewed):
    return viewed(with_others(make_batch(32, 2, 3)))


def weigh(weights, views, helpers=None, step=0, discriminator=None):
    """The objective of some views as numbers, compiled."""
    compiled = jax.jit(lambda views, step: objective.loss(weights, views, helpers or {}, step, discriminator))
    value, parts = compiled(views, jnp.int32(step))
    return float(value), {name: float(mean) for name, mean in means(parts).items()}


def test_the_crossed_picture_is_the_source_in_the_others_motion(params, viewed):
    """As the network itself renders it from both pictures, where nothing is labelled."""
    batch = with_others(make_batch(32, 2, 3))
    bare = {name: jnp.full_like(x, jnp.nan) if x.dtype != jnp.uint8 else x for name, x in batch.items()}
    source, driver = bare["frames"][:, 0] / 255.0, bare["other_frames"][:, 0] / 255.0
    expected = jax.jit(Autoencoder(AUTOENCODER).apply)({"params": params["autoencoder"]}, source, driver)
    np.testing.assert_allclose(viewed(bare).crossed, expected, atol=1e-5)
    weights = ObjectiveConfig(**BARE | {"l1": 1.0})
    assert objective.needed(weights, crossed=True) == {RENDERED}
    assert objective.needed(dataclasses.replace(weights, contrastive=1.0), crossed=True) == {RENDERED, CROSSED, CODES}


def stub(embed, times=1.0):
    """A helper whose features are the picture times a number, and whose codes are a function of the crops."""
    return Helper("stub", None, dict, lambda params, x: (times * x,), embed, crop=8, reach=0.6), {}


def test_a_swapped_person_costs_and_the_same_person_does_not(views):
    """l_cross_id of pictures known to be right or wrong: 0 where crops have the colour of the source, 2 of its
    opposite."""
    weights = ObjectiveConfig(**BARE | {"cross_identity": 1.0})
    helpers = {"identity": stub(lambda params, crops: crops.mean((1, 2)) - 0.5)}
    white = jnp.ones_like(views.crossed)
    for crossed, cost in ((white, 0.0), (0.0 * white, 2.0)):
        shown = views._replace(frames=views.frames.at[:, 0].set(1.0), crossed=crossed)
        value, parts = weigh(weights, shown, helpers)
        assert value == pytest.approx(cost, abs=1e-5) == parts["cross_identity"]


def test_perceptual_terms_compare_the_features_of_their_helpers(views):
    weights = ObjectiveConfig(**BARE | {"perceptual": 2.0, "gaze": 3.0})
    value, parts = weigh(weights, views, {"perceptual": stub(None), "gaze": stub(None, 2.0)})
    l1 = float(jnp.abs(views.rendered - views.frames[:, 1:]).mean())
    assert parts["perceptual"] == pytest.approx(l1, rel=1e-4) and parts["gaze"] == pytest.approx(2 * l1, rel=1e-4)
    assert value == pytest.approx(2 * l1 + 3 * 2 * l1, rel=1e-4)


def test_crossed_codes_are_positives_of_the_contrastive_term(views):
    """A crossed code that is the other person's own is better than one that is the source's."""
    weights, codes = ObjectiveConfig(**BARE | {"contrastive": 1.0}), views.motion.dynamics
    right, _ = weigh(weights, views._replace(crossed_code=codes[:, -1]))
    wrong, _ = weigh(weights, views._replace(crossed_code=codes[:, 0]))
    assert right < wrong


@pytest.mark.long
def test_consistency_in_some_steps_is_the_same_and_counts_more(params, learning):
    """Where it is due it is what it is with every step; else it is not counted at all."""
    batch = make_batch(32, 2, 3)
    (_, whole), _ = learning(batch)
    rarely = ObjectiveConfig(**BARE | {"l1": 1.0, "consistency": 0.5, "canonical": 0.05}, consistency_every=4)
    total = jax.jit(
        jax.value_and_grad(lambda p, step: computed(AUTOENCODER, rarely, p, batch, TWO, step), has_aux=True)
    )
    ((value, due), gradient), ((_, between), _) = total(params, jnp.int32(8)), total(params, jnp.int32(9))
    due = means(due)
    for name in ("consistency", "canonical"):
        assert float(due[name]) == pytest.approx(float(whole[name]), rel=1e-4)
    assert float(value) == pytest.approx(
        float(due["l1"] + 4 * 0.5 * due["consistency"] + 4 * 0.05 * due["canonical"]), rel=1e-4
    )
    assert set(means(between)) == {"l1", "psnr"}
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


def test_the_game_begins_at_its_step(views):
    weights = ObjectiveConfig(**BARE | {"adversarial": 1.0, "matching": 2.0, "adversarial_start": 3})
    config = DiscriminatorConfig(width=4, layers=1, scales=2)
    params, vectors = jax.jit(lambda key: objective.init(AUTOENCODER, key, config))(jax.random.key(0))
    judge = functools.partial(discriminate, config, params["discriminator"], vectors)
    total, parts = weigh(weights, views, step=2, discriminator=judge)
    assert total == 0.0 and set(parts) == {"psnr"}
    total, parts = weigh(weights, views, step=3, discriminator=judge)
    assert total == pytest.approx(parts["adversarial"] + 2 * parts["matching"], rel=1e-5)
    value, told = jax.jit(functools.partial(objective.discriminator_loss, config))(
        params["discriminator"], vectors, views
    )
    assert np.isfinite(value) and 0.0 <= means(told)["accuracy"] <= 1.0
    assert objective.needed(weights, crossed=False) == {RENDERED}


def test_motion_alone_is_compared_with_labels_without_a_picture(params):
    """Nothing is rendered, the encoders alone learn, and a step costs a fraction."""
    weights, batch = ObjectiveConfig(**BARE | {"pose": 1.0, "labels": 1.0}), make_batch(32, 2, 3)
    assert objective.needed(weights, crossed=True) == frozenset()
    gradient, parts = evaluate(AUTOENCODER, weights, batch)(params)
    assert set(parts) == {"pose", "labels"}
    learned = {name for name, tree in gradient["autoencoder"].items() if any(x.any() for x in jax.tree.leaves(tree))}
    assert learned == {"pose_encoder", "dynamics_encoder"}
    keys = jax.random.split(jax.random.key(1), 2)
    alone, whole = (
        count_macs(lambda p, kind=kind: computed(AUTOENCODER, kind, p, batch, keys)[0], params)
        for kind in (weights, dataclasses.replace(weights, l1=1.0))
    )
    assert alone < 0.5 * whole
