"""The discriminator and the losses of both players against numbers worked out by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from numpy.testing import assert_allclose

from vasa_jax.autoencoder import adversarial, discriminator
from vasa_jax.autoencoder.discriminator import DiscriminatorConfig, Scores, advance, discriminate, spectral_norm
from vasa_jax.errors import UserError

SMALL = DiscriminatorConfig(width=4, layers=2, scales=2)
SIZE = 32


@pytest.fixture(scope="module")
def started():
    return jax.jit(lambda key: discriminator.init(SMALL, key, SIZE))(jax.random.key(0))


def test_shapes_and_dtypes(started):
    params, vectors = started
    half = DiscriminatorConfig(width=4, layers=2, scales=2, dtype="bfloat16")
    pictures = jax.random.uniform(jax.random.key(1), (3, SIZE, SIZE, 3))
    for config, dtype in ((SMALL, jnp.float32), (half, jnp.bfloat16)):
        scores = jax.eval_shape(lambda config=config: discriminate(config, params, vectors, pictures))
        assert [x.logits.shape for x in scores] == [(3, 8, 8, 1), (3, 4, 4, 1)]
        assert [x.shape[1:] for x in scores[0].features] == [(16, 16, 4), (8, 8, 8), (8, 8, 16)]
        assert {x.dtype for part in scores for x in part.features} == {jnp.dtype(dtype)}
        assert {part.logits.dtype for part in scores} == {jnp.dtype(jnp.float32)}
    assert {leaf.dtype for leaf in jax.tree.leaves(started)} == {jnp.dtype(jnp.float32)}


def test_sigma_is_the_largest_singular_value(started):
    """After 50 iterations in all, against NumPy's decomposition of every kernel; u and v have unit length."""
    params, vectors = started
    vectors = jax.jit(lambda v: jax.lax.fori_loop(0, 50, lambda _, x: advance(SMALL, params, x), v))(vectors)
    for scale, layers in params.items():
        for name, layer in layers.items():
            matrix, found = np.asarray(layer["kernel"]).reshape(-1, layer["kernel"].shape[-1]), vectors[scale][name]
            assert_allclose([np.linalg.norm(found["u"]), np.linalg.norm(found["v"])], 1.0, rtol=1e-5)
            sigma = spectral_norm(layer["kernel"], found["u"], found["v"])
            assert_allclose(sigma, np.linalg.svd(matrix, compute_uv=False)[0], rtol=1e-3)


@pytest.mark.users_compiler
def test_a_scaled_kernel_says_the_same(started):
    """Only the direction of a kernel counts: its length is divided out, and the slope along itself is zero."""
    params, vectors = started
    pictures = jax.random.uniform(jax.random.key(1), (2, SIZE, SIZE, 3))

    def logits(factor):
        longer = jax.tree_util.tree_map_with_path(lambda path, x: x * factor if path[-1].key == "kernel" else x, params)
        return discriminate(SMALL, longer, vectors, pictures)[0].logits.sum()

    value, slope = jax.jit(jax.value_and_grad(logits))(3.0)
    assert_allclose(value, jax.jit(logits)(1.0), rtol=1e-5)
    assert abs(slope) < 1e-5 * abs(value)


def test_the_slope_of_sigma_is_the_product_of_its_vectors(started):
    """d (v . W u) / dW = v u^T, with u and v constant."""
    params, vectors = started
    kernel, found = params["scale_0"]["conv_1"]["kernel"], vectors["scale_0"]["conv_1"]
    slope = jax.grad(spectral_norm)(kernel, found["u"], found["v"])
    assert_allclose(slope.reshape(-1, kernel.shape[-1]), np.outer(found["v"], found["u"]), rtol=1e-5, atol=1e-7)
    of_vectors = jax.grad(spectral_norm, (1, 2))(kernel, found["u"], found["v"])
    assert not any(x.any() for x in of_vectors)
    ahead = jax.jit(jax.grad(lambda params: sum(x.sum() for x in jax.tree.leaves(advance(SMALL, params, vectors)))))
    assert not any(x.any() for x in jax.tree.leaves(ahead(params)))


def scores(*logits):
    """Of as many scales: constant logits, features that are the logit itself."""
    maps = [jnp.full((1, 2, 2, 1), value) for value in logits]
    return tuple(Scores(x, (x, 2.0 * x)) for x in maps)


@pytest.mark.parametrize(
    "real, fake, of_discriminator, of_generator, right",
    [
        ((2.0, 2.0), (-2.0, -2.0), 0.0, 2.0, 1.0),
        ((0.0, 0.0), (0.0, 0.0), 2.0, 0.0, 0.5),
        ((-1.0, 0.5), (1.0, 0.5), (2.0 + 2.0 + 0.5 + 1.5) / 2, -0.75, 0.25),
    ],
)
def test_hinge_of_constants(real, fake, of_discriminator, of_generator, right):
    real, fake = scores(*real), scores(*fake)
    assert_allclose(adversarial.hinge_discriminator(real, fake), [of_discriminator])
    assert_allclose(adversarial.hinge_generator(fake), [of_generator])
    assert_allclose(adversarial.accuracy(real, fake), [right])


def test_feature_matching_of_constants():
    """Features 1 and 2 against 3 and 6: (2 + 4) / 2; equal ones 0; nothing goes into the real side."""
    assert_allclose(adversarial.feature_matching(scores(1.0), scores(3.0)), [3.0])
    assert_allclose(adversarial.feature_matching(scores(1.0, 2.0), scores(1.0, 2.0)), [0.0])
    slopes = jax.grad(lambda a, b: adversarial.feature_matching(scores(a), scores(b))[0], (0, 1))(1.0, 3.0)
    assert_allclose(slopes, (0.0, 1.5))


def test_feature_matching_of_equal_pictures_is_zero(started):
    pictures = jax.random.uniform(jax.random.key(1), (2, SIZE, SIZE, 3))

    def matching(real, fake):
        real, fake = (discriminate(SMALL, *started, x) for x in (real, fake))
        return adversarial.feature_matching(real, fake).sum()

    of_real, of_fake = jax.jit(jax.grad(matching, (0, 1)))(pictures, 0.9 * pictures)
    assert not of_real.any() and of_fake.any()
    assert jax.jit(matching)(pictures, pictures) == 0.0


def test_samples_do_not_see_each_other(started):
    pictures = jax.random.uniform(jax.random.key(1), (2, SIZE, SIZE, 3))
    judge = jax.jit(lambda x: discriminate(SMALL, *started, x))
    both, first = judge(pictures), judge(pictures.at[1].set(0.0))
    jax.tree.map(lambda a, b: assert_allclose(a[0], b[0], atol=1e-6), both, first)


def test_a_trained_discriminator_separates_two_constants(started):
    """Pictures of 0.4 and of 0.6 are told apart after 100 steps, patch by patch; the vectors keep up."""
    real, fake = (jnp.full((1, SIZE, SIZE, 3), value) for value in (0.4, 0.6))
    optimiser = optax.adam(1e-2)

    def judge(params, vectors):
        return discriminate(SMALL, params, vectors, real), discriminate(SMALL, params, vectors, fake)

    def step(carry, _):
        params, vectors, memory = carry
        vectors = advance(SMALL, params, vectors)
        slopes = jax.grad(lambda params: adversarial.hinge_discriminator(*judge(params, vectors)).mean())(params)
        updates, memory = optimiser.update(slopes, memory)
        return (optax.apply_updates(params, updates), vectors, memory), None

    params, vectors = started
    carry = (params, vectors, optimiser.init(params))
    (params, vectors, _), _ = jax.jit(lambda carry: jax.lax.scan(step, carry, length=100))(carry)
    answers = jax.jit(judge)(params, vectors)
    assert_allclose(adversarial.accuracy(*answers), 1.0)
    assert adversarial.hinge_discriminator(*answers)[0] < 0.5
    kernel, found = params["scale_0"]["conv_2"]["kernel"], vectors["scale_0"]["conv_2"]
    largest = np.linalg.svd(np.asarray(kernel).reshape(-1, kernel.shape[-1]), compute_uv=False)[0]
    assert_allclose(spectral_norm(kernel, found["u"], found["v"]), largest, rtol=0.02)


@pytest.mark.parametrize(
    "size, told", [(24, "multiple of 8, 32 or more"), (16, "16 pixels do not fit"), (36, "scales=2 and layers=2")]
)
def test_pictures_that_do_not_fit_are_refused(size, told):
    with pytest.raises(UserError, match=told):
        discriminator.init(SMALL, jax.random.key(0), size)


@pytest.mark.parametrize("field", [{"width": 0}, {"layers": 0}, {"scales": 0}])
def test_nonsense_is_refused(field):
    with pytest.raises(UserError, match=next(iter(field))):
        DiscriminatorConfig(**field)
