"""ArcFace: sizes, unit length, where its faces lie, and identity as a distance."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from vasa_jax.autoencoder.perceptual import identity_distance
from vasa_jax.errors import UserError
from vasa_jax.geometry.picture import FACE_CENTRE, face_crop
from vasa_jax.pretrained import arcface
from vasa_jax.pretrained.arcface import CROP, REACH, ArcFaceConfig
from vasa_jax.pretrained.helper import build_helper

SMALL = ArcFaceConfig(stages=(1, 2, 1, 1), width=4, code=8)


@pytest.fixture(scope="module")
def params():
    return jax.jit(lambda key: arcface.init(SMALL, key))(jax.random.key(0))


def test_codes_have_unit_length_and_tell_pictures_apart(params):
    helper = build_helper("arcface", SMALL)
    assert (helper.crop, helper.reach) == (122, 0.6)
    crops = jax.random.uniform(jax.random.key(1), (3, helper.crop, helper.crop, 3)).at[2].set(0.7)
    codes = jax.jit(helper.embed)(params, crops)
    assert codes.shape == (3, 8)
    assert_allclose(jnp.square(codes).sum(-1), 1.0, rtol=1e-5)
    assert_allclose(identity_distance(codes, codes), 0.0, atol=1e-6)
    assert identity_distance(codes[:1], codes[2:])[0] > 1e-3


def test_identity_of_known_codes():
    """Equal 0, orthogonal 1, opposite 2; the target has no slope."""
    codes = jnp.asarray([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
    targets = jnp.asarray([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    assert_allclose(identity_distance(codes, targets), [0.0, 1.0, 2.0], atol=1e-6)
    of_codes, of_targets = jax.grad(lambda a, b: identity_distance(a, b).sum(), (0, 1))(codes, targets)
    assert_allclose(of_codes[1], [0.0, -1.0], atol=1e-6)
    assert not of_targets.any()


def test_maps_are_those_of_the_stages(params):
    shapes = jax.eval_shape(lambda x: arcface.features(SMALL, params, x), jax.ShapeDtypeStruct((2, 64, 64, 3), "f4"))
    assert [x.shape for x in shapes] == [(2, 32, 32, 4), (2, 16, 16, 8), (2, 8, 8, 16), (2, 4, 4, 32)]


def test_faces_lie_as_the_template_does():
    """A picture whose colours are its coordinates, seen through the crop: eyes and mouth of the mean real face, in head
    units from the crop's centre, come to the template within three pixels."""
    size, pose = 256, jnp.asarray([[0.0, 0.0, 0.3, 0.05, -0.02, 0.4]])
    side = jnp.linspace(-1.0, 1.0, size)
    places = jnp.stack(jnp.meshgrid(side, side), -1)
    picture = jnp.concatenate([places, jnp.zeros((size, size, 1))], -1)[None]
    rows = jax.jit(lambda x: arcface._aligned(face_crop(x, pose, CROP, REACH)))(picture)[0, ..., :2]
    units = np.asarray([[-0.184, -0.083], [0.181, -0.084], [-0.151, 0.307], [0.142, 0.308]])
    template = np.asarray([[38.3, 51.7], [73.5, 51.5], [41.5, 92.4], [70.7, 92.2]])
    scale, roll = np.exp(-0.4), 0.3
    turn = np.asarray([[np.cos(roll), -np.sin(roll)], [np.sin(roll), np.cos(roll)]])
    centre = np.asarray([0.05, -0.02]) + scale * turn @ np.asarray(FACE_CENTRE[:2])
    for unit, wanted in zip(units, template, strict=True):
        place = centre + scale * turn @ unit
        distance = np.square(np.asarray(rows) - place).sum(-1)
        y, x = np.unravel_index(distance.argmin(), distance.shape)
        assert np.hypot(x - wanted[0], y - wanted[1]) < 3.5, (unit, x, y)


def test_nonsense_is_refused():
    with pytest.raises(UserError, match="must be 1 or more"):
        ArcFaceConfig(stages=(3, 4, 0, 3))
