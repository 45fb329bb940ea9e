import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vasa_jax.arrays import Motion
from vasa_jax.errors import UserError
from vasa_jax.inference import fit as fitting

STEPS = 30


@pytest.fixture(scope="module")
def photo():
    """Smooth colours, which a network of random weights does not give."""
    side = np.linspace(0.0, 1.0, 32, dtype=np.float32)
    return jnp.asarray(np.stack(np.broadcast_arrays(side[:, None], side[None, :], 0.3 + 0.0 * side[None, :]), -1))[None]


@pytest.fixture(scope="module")
def examples():
    random = np.random.default_rng(0)
    return Motion(0.1 * random.normal(size=(7, 6)).astype(np.float32), random.normal(size=(7, 5)).astype(np.float32))


@pytest.fixture(scope="module")
def fitted(model, photo, examples):
    """Two fits with the same arguments, and the steps that the first one told of."""
    face, told = model.face, []
    start = face.encode(photo)
    twice = [
        fitting.fit(face, start, photo, examples, steps=STEPS, key=jax.random.key(3), progress=progress)
        for progress in (told.append, lambda done: None)
    ]
    return start, twice, told


def test_fitting_brings_the_photo_nearer_and_tells_of_every_step(fitted):
    _, (one, _), told = fitted
    assert one.after > one.before + 0.05
    assert told == list(range(1, STEPS + 1))


def test_the_same_arguments_give_the_same_portrait(fitted):
    _, (one, other), _ = fitted
    jax.tree.map(np.testing.assert_array_equal, one, other)


def test_only_the_volume_and_the_decoder_change(model, fitted):
    start, (one, _), _ = fitted
    np.testing.assert_array_equal(one.portrait.portrait.identity, start.identity)
    volume, decoder = one.portrait.portrait.volume, one.portrait.decoder
    assert volume.dtype == start.volume.dtype and jnp.abs(volume - start.volume).max() > 0
    assert jax.tree.structure(decoder) == jax.tree.structure(model.face.params["decoder"])
    assert all(jax.tree.leaves(jax.tree.map(lambda a, b: (a != b).any(), decoder, model.face.params["decoder"])))


def test_a_fitted_portrait_is_rendered_with_its_own_decoder(model, photo, fitted):
    _, (one, _), _ = fitted
    frame, finite = model.face.render(one.portrait, model.face.motion(photo))
    assert frame.shape == (1, 32, 32, 3) and frame.dtype == jnp.uint8 and finite.all()
    square = np.square(np.asarray(frame, np.float64) / 255 - np.asarray(photo, np.float64)).mean()
    np.testing.assert_allclose(-10 * np.log10(square), one.after, atol=1e-6)


def test_no_steps_are_refused(model, photo, examples, fitted):
    with pytest.raises(UserError, match="fit 0 is out of range"):
        fitting.fit(model.face, fitted[0], photo, examples, steps=0, key=jax.random.key(0))


def test_what_lies_outside_of_the_photo_has_no_weight(photo):
    """Moved right by half the picture, the left quarter shows what is not known; moved nearer, everything is known."""
    pose = jnp.zeros((3, 6)).at[1, 3].set(0.5).at[2, 5].set(-0.3)
    picture, weight = fitting.moved(photo, pose)
    np.testing.assert_allclose(picture[0], photo[0], atol=1e-6)
    x = np.linspace(-1.0, 1.0, 32)
    np.testing.assert_array_equal(weight[0], 1.0)
    np.testing.assert_array_equal(weight[1, 5, :, 0], x >= -0.5)
    np.testing.assert_array_equal(weight[2], 1.0)


def test_low_knows_the_colours_of_cells_and_no_detail():
    random = np.random.default_rng(1)
    cells = random.uniform(size=(2, 8, 8, 3)).astype(np.float32)
    detail = random.normal(size=(2, 8, 4, 8, 4, 3)).astype(np.float32)
    detail -= detail.mean((2, 4), keepdims=True)
    picture = (cells[:, :, None, :, None] + detail).reshape(2, 32, 32, 3)
    np.testing.assert_allclose(fitting.low(jnp.asarray(picture)), cells, atol=1e-5)
    assert fitting.low(jnp.zeros((1, 36, 36, 3))).shape == (1, 4, 4, 3)
