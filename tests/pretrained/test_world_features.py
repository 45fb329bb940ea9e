"""The world's feature network takes pictures of any side, and the one that comes along knows what it should."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vasa_jax.errors import UserError
from vasa_jax.pretrained.helper import build_helper
from vasa_jax.pretrained.world_features import EXPRESSION, SMALLEST, WorldFeaturesConfig, look

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
