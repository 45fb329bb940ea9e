"""The world's feature network takes pictures of any side, and the one that comes along knows what it should."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vasa_jax.checkpoint import bundled_releases
from vasa_jax.errors import UserError
from vasa_jax.geometry.picture import face_crop
from vasa_jax.metrics.recognition import explained, verification
from vasa_jax.pretrained.helper import build_helper, load_helper
from vasa_jax.pretrained.world_features import EXPRESSION, SMALLEST, WorldFeaturesConfig, look
from vasa_jax.synthetic.splits import seeds
from vasa_jax.training import features

SMALL = WorldFeaturesConfig(stem=4, widths=(4, 6), neck=4, hidden=8, embedding=5, crop=32)


@pytest.fixture(scope="module")
def small():
    helper = build_helper("world_features", SMALL)
    return helper, helper.init(jax.random.key(0))


@pytest.mark.parametrize("side", [32, 50, 64, 128])
def test_maps_halve_and_heads_stay(small, side):
    helper, params = small
    seen = jax.eval_shape(lambda x: look(SMALL, params, x), jax.ShapeDtypeStruct((2, side, side, 3), jnp.float32))
    sides = [-(-side // 2**i) for i in range(3)]
    widths = (SMALL.stem, *SMALL.widths)
    assert [x.shape for x in seen.maps] == [(2, s, s, c) for s, c in zip(sides, widths, strict=True)]
    assert [x.shape[1:] for x in (seen.identity, seen.pose, seen.expression)] == [(5,), (6,), (len(EXPRESSION),)]
    maps = jax.eval_shape(helper.features, params, jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32))
    assert len(maps) == 3 and helper.crop == 32 and helper.reach == SMALL.reach


def test_codes_have_unit_length_and_gradients_reach_the_picture(small):
    helper, params = small
    picture = jax.random.uniform(jax.random.key(1), (2, 32, 32, 3))
    np.testing.assert_allclose(jnp.linalg.norm(helper.embed(params, picture), axis=-1), 1.0, atol=1e-5)
    for told in (
        lambda x: sum(jnp.abs(m).sum() for m in helper.features(params, x)),
        lambda x: helper.embed(params, x),
    ):
        slope = jax.grad(lambda x, told=told: jnp.sum(told(x) ** 3))(picture)
        assert np.isfinite(slope).all() and (np.abs(slope).max((1, 2, 3)) > 0).all()


def test_computing_in_bfloat16_keeps_float32_heads(small):
    helper, params = small
    seen = jax.eval_shape(lambda: look(SMALL, params, jnp.zeros((1, 32, 32, 3)), jnp.bfloat16))
    assert {x.dtype for x in seen.maps} == {jnp.dtype("bfloat16")}
    assert {x.dtype for x in (seen.identity, seen.pose, seen.expression)} == {jnp.dtype("float32")}


def test_what_does_not_fit_is_refused(small):
    with pytest.raises(ValueError, match="too small; use 32 pixels"):
        small[0].features(small[1], jnp.zeros((1, SMALLEST - 1, 64, 3)))
    for field, value in {"widths": (8,), "embedding": 0, "crop": 16, "reach": 0.0}.items():
        with pytest.raises(UserError, match=f"model[.:].*{field}"):
            dataclasses.replace(SMALL, **{field: value})


def test_the_full_size_network_is_small():
    shapes = jax.eval_shape(build_helper("world_features", WorldFeaturesConfig()).init, jax.random.key(0))
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) < 1_000_000


@pytest.fixture(scope="module")
def bundled():
    return load_helper("world_features")


def test_the_network_that_comes_along_is_small_and_no_part_of_the_demo():
    folder = bundled_releases()["world_features"]
    assert sum(path.stat().st_size for path in folder.iterdir()) < 2_000_000
    assert folder != bundled_releases()["demo"]


def test_it_knows_people_that_it_never_met(bundled):
    helper, params, _ = bundled
    frames, truth = features.photograph_people(seeds("test")[:8], 3, 64)
    pose, told = truth["pose"].reshape(-1, 6), np.asarray(features.expression(truth)).reshape(24, -1)
    codes, poses, expressions = features.look_at(helper.config, params, frames.reshape(24, 64, 64, 3), pose)
    told_apart = verification(codes.reshape(8, 3, -1))
    assert told_apart.auc > 0.95 and told_apart.rank_1 > 0.7 and told_apart.same - told_apart.other > 0.3
    assert np.degrees(np.abs(poses - pose)[:, :3].mean(0)).max() < 9.0
    squares = dict(zip(EXPRESSION, explained(expressions, told), strict=True))
    assert min(squares["mouth"], squares["gaze_x"], squares["lid_left"]) > 0.4


def test_a_blurred_picture_is_farther_away_the_more_it_is_blurred(bundled):
    helper, params, _ = bundled
    frames, truth = features.photograph_people(seeds("test")[:2], 1, 64)
    true = jnp.asarray(frames[:, 0], jnp.float32) / 255.0
    softer = [jax.vmap(lambda x, f=factor: features.softened(x, f))(true) for factor in (2, 4)]
    look_at = jax.jit(helper.features)
    maps = look_at(params, true)
    first, second = (
        [float(jnp.abs(a - b).mean()) for a, b in zip(look_at(params, soft), maps, strict=True)] for soft in softer
    )
    assert all(0.0 < near < far for near, far in zip(first, second, strict=True))
    crops = [face_crop(x, jnp.asarray(truth["pose"][:, 0]), helper.crop, helper.reach) for x in (true, softer[0])]
    embed = jax.jit(helper.embed)
    one, other = (embed(params, crop) for crop in crops)
    assert ((one * other).sum(-1) > (one[0] * one[1]).sum()).all()
