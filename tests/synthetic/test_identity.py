import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vasa_jax.synthetic.identity import identity_from_seed, sample_identity
from vasa_jax.synthetic.state import neutral_state, random_state, state_pose

COUNT = 2048


@pytest.fixture(scope="module")
def people():
    return jax.jit(jax.vmap(sample_identity))(jax.random.split(jax.random.key(7), COUNT))


@pytest.fixture(scope="module")
def states():
    return jax.jit(jax.vmap(random_state))(jax.random.split(jax.random.key(8), COUNT))


def test_a_person_is_at_least_24_numbers_that_vary(people):
    varying = sum(int(np.sum(np.std(np.asarray(x), axis=0) > 1e-3)) for x in people)
    assert varying >= 24
    assert all(np.isfinite(x).all() and x.dtype == jnp.float32 for x in people)


def test_colours_are_displayable(people):
    for name, value in people._asdict().items():
        if name.endswith("colour"):
            assert value.shape == (COUNT, 3) and value.min() >= 0.0 and value.max() <= 1.0, name


def test_people_differ_in_kind(people):
    brightness = np.asarray(people.skin_colour).mean(-1)
    assert brightness.min() < 0.3 and brightness.max() > 0.8
    for share in (people.hair_volume == 0, people.hair_length > 0.8, people.glasses > 0.5, people.beard > 0):
        assert 0.05 < float(jnp.mean(share)) < 0.6


def test_the_light_is_a_unit_vector_from_the_front(people):
    np.testing.assert_allclose(jnp.linalg.norm(people.light, axis=-1), 1.0, atol=1e-5)
    assert float(people.light[:, 2].max()) < 0.0


def test_a_seed_is_a_person():
    one, again, other = identity_from_seed(11), identity_from_seed(11), identity_from_seed(12)
    assert all(np.array_equal(a, b) for a, b in zip(one, again, strict=True))
    assert not np.array_equal(one.skin_colour, other.skin_colour)


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_outside_32_bits_is_refused(seed):
    with pytest.raises(ValueError, match="seed="):
        identity_from_seed(seed)


def test_random_states_cover_what_was_asked(states):
    degrees = np.degrees(np.asarray(states.rotation))
    np.testing.assert_allclose(degrees.std(0), [10.0, 18.0, 8.0], rtol=0.1)
    assert np.abs(degrees).max() <= 40.01
    np.testing.assert_allclose(np.asarray(states.log_distance).std(), 0.12, rtol=0.1)
    np.testing.assert_allclose(np.asarray(states.translation).std(0), 0.06, rtol=0.1)
    assert np.degrees(np.abs(np.asarray(states.gaze))).max() <= 30.01
    assert 0.10 < float(jnp.mean(jnp.max(states.lids, -1) < 0.25)) < 0.20
    assert float(jnp.max(jnp.abs(states.lids[:, 0] - states.lids[:, 1]))) < 0.1


def test_random_mouths_are_wide_and_independent(states):
    mouth = np.stack([states.jaw, states.lip_width, states.rounding, states.corner_pull, states.teeth])
    assert (mouth.std(1) > 0.25).all()
    assert np.abs(np.corrcoef(mouth) - np.eye(len(mouth))).max() < 0.1


def test_pose_is_rotation_translation_distance():
    state = neutral_state((2,))._replace(
        rotation=jnp.array([[0.1, 0.2, 0.3], [0.0, 0.0, 0.0]]),
        translation=jnp.array([[0.4, 0.5], [0.0, 0.0]]),
        log_distance=jnp.array([0.6, 0.0]),
    )
    np.testing.assert_allclose(state_pose(state), [[0.1, 0.2, 0.3, 0.4, 0.5, 0.6], [0] * 6], atol=1e-6)
