"""The tiny model of tests/inference, with one picture that was encoded once."""

import numpy as np
import pytest

from tests.inference.conftest import model, no_faces, release  # noqa: F401
from vasa_jax.faces.box import Box
from vasa_jax.inference import Model
from vasa_jax.inference.stream import Sitting

FACE = np.random.default_rng(0).integers(0, 256, (40, 48, 3), np.uint8)


@pytest.fixture(scope="session")
def sitting(model: Model) -> Sitting:  # noqa: F811
    return Sitting(model, FACE, box=Box(24, 20, 40))
