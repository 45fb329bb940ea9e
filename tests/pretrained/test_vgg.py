"""The VGG stack: layers, sizes, normalisation, and what a perceptual distance makes of it."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from vasa_jax.autoencoder.perceptual import perceptual
from vasa_jax.errors import UserError
from vasa_jax.pretrained import vgg
from vasa_jax.pretrained.vgg import VGG16, VGG19, VGGFACE, VGGConfig

SMALL = VGGConfig(blocks=(2, 1, 2), widths=(4, 6, 8), layers=("relu1_1", "relu2_1", "relu3_1"))


@pytest.fixture(scope="module")
def params():
    return vgg.init(SMALL, jax.random.key(0))


def test_features_have_the_sizes_of_their_layers(params):
    found = jax.jit(lambda x: vgg.features(SMALL, params, x))(jnp.zeros((2, 16, 32, 3)))
    assert [x.shape for x in found] == [(2, 16, 32, 4), (2, 8, 16, 6), (2, 4, 8, 8)]
    assert all((x >= 0).all() for x in found)
    half = jax.eval_shape(lambda x: vgg.features(SMALL, params, x), jax.ShapeDtypeStruct((1, 8, 8, 3), jnp.bfloat16))
    assert {x.dtype for x in half} == {jnp.dtype(jnp.bfloat16)}


def test_the_mean_colour_is_zero_and_a_deviation_one(params):
    """A kernel that passes red on at its centre shows the normalised red."""
    config = VGGConfig(blocks=(1,), widths=(1,), layers=("relu1_1",))
    variables = jax.tree.map(jnp.zeros_like, vgg.init(config, jax.random.key(0)))
    kernel = variables["params"]["conv1_1"]["kernel"].at[1, 1, 0, 0].set(1.0)
    variables = {"params": {"conv1_1": {"kernel": kernel, "bias": jnp.zeros(1)}}}
    for ours, mean, deviation in ((VGG19, 0.485, 0.229), (VGGFACE, 129.1863 / 255, 1 / 255)):
        small = dataclasses.replace(config, mean=ours.mean, deviation=ours.deviation)
        for factor in (0.0, 2.0):
            picture = jnp.full((1, 4, 4, 3), mean + factor * deviation)
            assert_allclose(vgg.features(small, variables, picture)[0], factor, atol=1e-4)


def test_public_sizes():
    """20.02M and 14.71M parameters, as printed for the convolutions of VGG19 and VGG16."""
    for config, millions in ((VGG19, 20.02), (VGG16, 14.71), (VGGFACE, 14.71)):
        shapes = jax.eval_shape(lambda key, config=config: vgg.init(config, key), jax.random.key(0))
        assert_allclose(sum(x.size for x in jax.tree.leaves(shapes)) / 1e6, millions, atol=0.01)
        assert config.divisor == 16


def test_the_distance_of_a_shifted_picture_grows_with_the_shift(params):
    """Of smooth noise: 0 for the picture itself, and more for 1, 2 and 4 pixels."""
    noise = jax.random.uniform(jax.random.key(1), (2, 8, 8, 3))
    picture = jax.image.resize(noise, (2, 32, 32, 3), "cubic")

    @jax.jit
    def distances(picture):
        see = lambda x: vgg.features(SMALL, params, x)  # noqa: E731
        return jnp.stack([perceptual(see(jnp.roll(picture, n, 2)), see(picture)) for n in (0, 1, 2, 4)])

    found = np.asarray(distances(picture))
    assert not found[0].any() and (np.diff(found, axis=0) > 0).all()


def test_perceptual_of_constants():
    """Layers 1 and 4 apart: 2.5; the target has no slope."""
    one, two = jnp.ones((2, 3, 3, 2)), jnp.ones((2, 2, 2, 5))
    got, wanted = (one, 5.0 * two), (2.0 * one, two)
    assert_allclose(perceptual(got, wanted), [2.5, 2.5])
    assert_allclose(perceptual(wanted, wanted), 0.0)
    of_got, of_wanted = jax.grad(lambda a, b: perceptual((a,), (b,)).sum(), (0, 1))(5.0 * two, two)
    assert_allclose(of_got, 1 / 20)
    assert not of_wanted.any()


@pytest.mark.parametrize(
    "change, told",
    [
        ({"widths": (4, 6)}, "one number of 1 or more for each block"),
        ({"layers": ("relu2_1", "relu1_1")}, "in this order and each once"),
        ({"layers": ("relu4_1",)}, "must name some of relu1_1, relu1_2, relu2_1"),
        ({"layers": ()}, "must name some of"),
        ({"deviation": (1.0, 0.0, 1.0)}, "must be positive"),
    ],
)
def test_nonsense_is_refused(change, told):
    with pytest.raises(UserError, match=told):
        dataclasses.replace(SMALL, **change)


def test_a_picture_that_does_not_halve_is_refused(params):
    with pytest.raises(UserError, match="pictures of 16x18 .* multiples of 4"):
        vgg.features(SMALL, params, jnp.zeros((1, 16, 18, 3)))
