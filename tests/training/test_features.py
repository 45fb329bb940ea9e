"""The world's feature network: its people, its loss, its run and its release."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vasa_jax.arrays import Average
from vasa_jax.data.records import CorruptRecordError, stored, write_clip
from vasa_jax.errors import UserError
from vasa_jax.pretrained import world_features
from vasa_jax.pretrained.helper import load_helper
from vasa_jax.pretrained.world_features import EXPRESSION, WorldFeaturesConfig
from vasa_jax.synthetic.identity import identity_from_seed
from vasa_jax.synthetic.state import State
from vasa_jax.training import features
from vasa_jax.training.config import (
    FeaturesExperiment,
    FeaturesObjectiveConfig,
    OptimiserConfig,
    PeopleWorld,
    Records,
    from_saved,
    to_saved,
)
from vasa_jax.training.export import export
from vasa_jax.training.loop import train
from vasa_jax.training.tasks import make_task

MODEL = WorldFeaturesConfig(stem=4, widths=(4, 6), neck=4, hidden=8, crop=32)
EXPERIMENT = FeaturesExperiment(
    model=MODEL,
    data=PeopleWorld(clips=8, validation_clips=4, frames=2, size=64, threads=1),
    frames_per_sample=2,
    optimiser=OptimiserConfig(warmup=1),
    batch_size=8,
    steps=2,
    log_every=2,
)
SIZE = 64


@pytest.fixture(scope="module")
def people():
    return features.photograph_people([5, 9], 2, SIZE)


def test_a_person_keeps_the_face_and_changes_the_rest(people):
    frames, truth = people
    assert frames.shape == (2, 2, SIZE, SIZE, 3) and frames.dtype == np.uint8
    assert {name: value.shape[2:] for name, value in truth.items()} == features.LABELS
    corners = frames[:, :, :4, :4].reshape(4, -1).astype(float)
    assert np.abs(corners[:, None] - corners[None]).mean(-1)[np.triu_indices(4, 1)].min() > 3.0  # backgrounds
    again, _ = features.photograph_people([9], 2, SIZE)
    np.testing.assert_array_equal(again[0], frames[1])


def test_traits_are_those_of_the_seed_and_leave_the_surroundings_out():
    rows = features.traits(np.asarray([5, 9, 5]))
    assert rows.shape == (3, WorldFeaturesConfig().embedding)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1.0, atol=1e-6)
    np.testing.assert_array_equal(rows[0], rows[2])
    assert rows[0] @ rows[1] < 0.9
    assert not set(features.TRAITS) & set(features.SURROUNDINGS)
    person = identity_from_seed(5)
    assert set(features.TRAITS) | set(features.SURROUNDINGS) < set(person._fields)
    assert set(features.CONTROLS) < set(State._fields)


def test_the_expression_puts_the_gaze_into_the_head():
    """A head turned by 0.3 to the viewer's left whose eyes look into the camera has them turned right."""
    batch = {
        "pose": np.asarray([[0.0, 0.3, 0.0, 0.0, 0.0, 0.0]], np.float32),
        "gaze": np.zeros((1, 2), np.float32),
        "mouth": np.full((1, 1), 0.4, np.float32),
        "lids": np.full((1, 2), 0.7, np.float32),
        "controls": np.arange(7, dtype=np.float32)[None] / 10,
    }
    told = dict(zip(EXPRESSION, np.asarray(features.expression(batch))[0].tolist(), strict=True))
    assert told["gaze_x"] == pytest.approx(0.3, abs=1e-5) and told["gaze_y"] == pytest.approx(0.0, abs=1e-5)
    assert told["mouth"] == pytest.approx(0.4) and told["teeth"] == pytest.approx(0.6)


def test_the_own_person_must_be_nearer_by_the_margin():
    """On two orthogonal rows: cos(m + 0) against 0, and the code of the other person is as wrong as can be."""
    objective = FeaturesObjectiveConfig(margin=0.2, sharpness=10.0)
    rows = jnp.eye(2)
    value, known = features.recognition(objective, jnp.eye(2)[None], rows, jnp.asarray([0]))
    own, other = 10.0 * np.cos(0.2), -10.0 * np.sin(0.2)
    np.testing.assert_allclose(value[0], [np.log1p(np.exp(-own)), np.log1p(np.exp(10.0 - other))], atol=0.02)
    np.testing.assert_array_equal(known[0], [1.0, 0.0])


@pytest.fixture(scope="module")
def batch(people):
    frames, truth = people
    return {"frames": frames, "person": np.asarray([0, 1], np.int32)} | truth


def test_no_sample_sees_another(batch):
    params, rows = world_features.init(MODEL, jax.random.key(0)), jnp.asarray(features.traits(np.arange(6)))
    keys = jax.random.split(jax.random.key(1), 2)
    loss = jax.jit(lambda batch, keys: features.loss(MODEL, EXPERIMENT.objective, params, rows, batch, keys))
    whole, terms = loss(batch, keys)
    parts = [loss({k: v[[i, i]] for k, v in batch.items()}, keys[jnp.asarray([i, i])])[0] for i in range(2)]
    assert float(whole) == pytest.approx(float(sum(parts) / 2), rel=1e-5)
    assert terms.keys() == {"identity", "identity/known", "pose", "expression"}
    assert all(isinstance(term, Average) for term in terms.values())
    assert terms["identity"].count == 2 and terms["identity/known"].count == 4


def test_views_are_augmented_by_their_keys(batch):
    keys = jax.random.split(jax.random.key(1), 2)
    look = jax.jit(lambda objective, keys: features.views(MODEL, objective, batch, keys), static_argnums=0)
    whole, crops = look(EXPERIMENT.objective, keys)
    assert whole.shape == (2, 2, SIZE // 2, SIZE // 2, 3) and crops.shape == (2, 2, 32, 32, 3)
    sheet = jax.eval_shape(lambda: features.shown(MODEL, EXPERIMENT.objective, batch))
    assert sheet.shape == (2 * SIZE // 2, 4 * SIZE // 2, 3)
    other, _ = look(EXPERIMENT.objective, jax.random.split(jax.random.key(2), 2))
    assert np.abs(whole - other).mean() > 0.01
    plain, _ = look(dataclasses.replace(EXPERIMENT.objective, colour=0.0, blur=0.0, noise=0.0), keys)
    half = (batch["frames"] / 255.0).reshape(2, 2, SIZE // 2, 2, SIZE // 2, 2, 3).mean((3, 5))
    np.testing.assert_allclose(plain, half, atol=1e-5)


def test_a_picture_is_softened_to_what_a_grid_holds():
    picture = jnp.zeros((16, 16, 3)).at[:, 8:].set(1.0)
    softer = features.softened(picture, 4)
    np.testing.assert_allclose(softer.mean(), 0.5, atol=1e-6)
    assert 0.0 < softer[8, 7, 0] < softer[8, 8, 0] < 1.0
    np.testing.assert_allclose(features.softened(jnp.full((16, 16, 3), 0.3), 2), 0.3, atol=1e-6)


def test_a_clip_without_the_labels_is_no_sample(people):
    frames, truth = people
    clip = stored(write_clip(frames[0], None, {k: v[0] for k, v in truth.items()} | {"identity": np.int64(12)}))
    sample = features.people_sample(clip, 2, SIZE, 10, None)
    spec = features.people_spec(1, 2, SIZE)
    assert {k: (v.shape, v.dtype) for k, v in sample.items()} == {k: (v.shape[1:], v.dtype) for k, v in spec.items()}
    assert sample["person"] == 2
    with pytest.raises(CorruptRecordError, match="a sample needs 3"):
        features.people_sample(clip, 3, SIZE, 10, None)
    bare = stored(write_clip(frames[0], None, {"pose": truth["pose"][0]}))
    with pytest.raises(CorruptRecordError, match="without gaze, mouth, lids, controls, identity"):
        features.people_sample(bare, 2, SIZE, 10, None)


def test_experiments_that_make_no_sense_are_refused():
    assert from_saved(to_saved(EXPERIMENT), "here") == EXPERIMENT
    for wrong, message in (
        ({"data": Records(path="somewhere")}, "people of the world"),
        ({"frames_per_sample": 3}, "frames_per_sample"),
        ({"model": dataclasses.replace(MODEL, embedding=7)}, "embedding=7 must be 45"),
    ):
        with pytest.raises(UserError, match=message):
            make_task(dataclasses.replace(EXPERIMENT, **wrong))
    for fields in ({"size": 62}, {"size": 65}, {"frames": 1}):
        with pytest.raises(UserError, match="data"):
            PeopleWorld(**fields)
    for fields in ({"identity": -1.0}, {"pose": float("inf")}, {"margin": 2.0}, {"blur": 1.5}):
        with pytest.raises(UserError, match="objective"):
            FeaturesObjectiveConfig(**fields)


def test_a_run_becomes_a_helper(tmp_path):
    task = dataclasses.replace(make_task(EXPERIMENT), pictures=lambda *_: {})
    result = train(EXPERIMENT, task, tmp_path / "run", progress=False)
    assert result.step == 2
    log = (tmp_path / "run" / "log.jsonl").read_text()
    assert '"eval/rank_1/32"' in log and '"eval/yaw_deg/64"' in log and '"train/identity/known"' in log
    sizes = export([tmp_path / "run"], tmp_path / "helper")
    helper, params, _ = load_helper(tmp_path / "helper")
    assert helper.config == MODEL and list(sizes) == ["world_features"]
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == sizes["world_features"]
    with pytest.raises(UserError, match="released alone"):
        export([tmp_path / "run", tmp_path / "run"], tmp_path / "other")
