"""Where the model file is at hand: a real portrait, as the judge sees it."""

import numpy as np
import pytest
from PIL import Image

from vasa_jax.metrics import landmarks


def test_the_reason_for_absence_is_named(tmp_path):
    """No folder, or a folder without the model."""
    assert "VASA_JAX_ASSETS" in landmarks.why_unavailable(None)
    assert landmarks.MODEL_FILE in landmarks.why_unavailable(tmp_path)


def test_a_real_face_is_found_and_an_empty_picture_has_none(assets):
    """Every score of an empty picture is NaN."""
    if reason := landmarks.why_unavailable(assets):
        pytest.skip(reason)
    face = Image.open(assets / "portraits" / "generated_woman.png").convert("RGB").resize((384, 384))
    seen = landmarks.read(
        assets / landmarks.MODEL_FILE, np.stack([np.asarray(face), np.full((384, 384, 3), 128, np.uint8)])
    )
    assert seen.found.tolist() == [True, False]
    assert np.isfinite(seen.rotation[0]).all() and np.isnan(seen.rotation[1]).all()
    assert 0.0 <= seen.jaw_open[0] <= 1.0
