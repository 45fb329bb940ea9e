"""W and G in bfloat16: their features are, what decides where things lie is not, and the picture stays close."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vasa_jax.liveportrait.generator import SpadeGenerator
from vasa_jax.liveportrait.warping import WarpingModule


def random_variables(module, *inputs):
    """Variables of He's scale with norms that do something, without the time that JAX's generators take to compile."""
    random = np.random.default_rng(0)
    shapes = jax.eval_shape(module.init, jax.random.key(0), *inputs)

    def draw(path, leaf):
        name = path[-1].key
        if name.endswith("kernel"):
            return random.standard_normal(leaf.shape, np.float32) * np.sqrt(
                2 / np.prod(leaf.shape[:-1]), dtype=np.float32
            )
        low, high = (0.5, 1.5) if name in ("scale", "var") else (-0.2, 0.2)
        return random.uniform(low, high, leaf.shape).astype(np.float32)

    return jax.tree_util.tree_map_with_path(lambda path, leaf: jnp.asarray(draw(path, leaf)), shapes)


@pytest.fixture(scope="module")
def rendered():
    """Of both dtypes: what W gives for a small volume, with the source's part prepared, and G's picture of it."""
    random = np.random.default_rng(1)
    volume = jnp.asarray(random.standard_normal((1, 2, 32, 32, 32), np.float32))
    source, driving = jnp.asarray(random.uniform(-0.5, 0.5, (2, 1, 21, 3)).astype(np.float32))
    w = random_variables(WarpingModule(), volume, driving, source)
    g = random_variables(SpadeGenerator(), jnp.zeros((1, 4, 4, 256)))

    def render(dtype, w, g):
        prepared = WarpingModule(dtype).apply(w, volume, source, method="prepare")
        warped = WarpingModule(dtype).apply(w, prepared, driving, method="warp")
        return prepared, warped, SpadeGenerator(dtype).apply(g, warped["features"][:, :4, :4])

    return {dtype: jax.jit(render, static_argnums=0)(dtype, w, g) for dtype in (None, jnp.bfloat16)}


def test_features_are_computed_in_the_dtype_and_places_in_float32(rendered):
    prepared, warped, picture = rendered[jnp.bfloat16]
    assert {prepared.volume.dtype, prepared.compressed.dtype, prepared.staying.dtype} == {jnp.dtype("bfloat16")}
    assert warped["features"].dtype == jnp.bfloat16
    exact = prepared.keypoints, prepared.heat, warped["deformation"], warped["occlusion"], picture
    assert {x.dtype for x in exact} == {jnp.dtype("float32")}


def test_a_picture_of_bfloat16_stays_close(rendered):
    (_, wanted, picture), (_, found, other) = rendered.values()
    moved = np.abs(found["deformation"] - wanted["deformation"])
    error = np.abs(other - picture)
    assert np.std(picture) > 0.2 and 0 < moved.max() < 2e-3  # of a grid from -1 to 1
    assert np.sqrt(np.square(error).mean()) < 0.015 and error.max() < 0.1
