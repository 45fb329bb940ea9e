"""Labels that are read off blend shapes, at faces whose expression is plain."""

from typing import Any

import numpy as np

from vasa_jax.preparation.labels import Looks, expression_of

NAMES = ("mouthSmile", "mouthFrown", "browOuterUp", "browDown")


def looks(*faces):
    """One frame a face, each of the blend shapes that it names, on both sides."""
    shapes = {f"{name}{side}": np.zeros(len(faces)) for name in NAMES for side in ("Left", "Right")}
    shapes["browInnerUp"] = np.zeros(len(faces))
    for frame, face in enumerate(faces):
        for name, value in face.items():
            shapes[name][frame] = value
    nothing: Any = None
    return Looks(nothing, nothing, nothing, shapes, nothing)


def test_corners_and_brows_have_a_sign_and_a_whole_expression_is_1():
    smile = {"mouthSmileLeft": 1.0, "mouthSmileRight": 1.0}
    frown = {"mouthFrownLeft": 1.0, "mouthFrownRight": 1.0, "browDownLeft": 1.0, "browDownRight": 1.0}
    surprise = {"browInnerUp": 1.0, "browOuterUpLeft": 1.0, "browOuterUpRight": 1.0}
    one_sided = {"mouthSmileLeft": 0.6, "browDownRight": 0.4}
    labels = expression_of(looks({}, smile, frown, surprise, one_sided))
    np.testing.assert_allclose(labels, [[0, 0], [1, 0], [-1, -1], [0, 1], [0.3, -0.2]], atol=1e-12)
