"""Portraits in every style: the same person, framed alike, and a statue without colours of its own."""

import numpy as np
import pytest

from vasa_jax.errors import UserError
from vasa_jax.synthetic.cast import STYLES, Character, portraits
from vasa_jax.synthetic.clip import shoot
from vasa_jax.synthetic.identity import identity_from_seed
from vasa_jax.synthetic.state import neutral_state

SIZE = 64


def test_one_person_in_every_style():
    pictures = portraits([Character(4_000_034, style) for style in STYLES], SIZE)
    again = portraits([Character(4_000_034, style) for style in STYLES], SIZE)
    np.testing.assert_array_equal(pictures, again)
    world, _ = next(shoot(identity_from_seed(4_000_034), neutral_state((1,)), SIZE))
    assert np.abs(pictures[0].astype(float) - world[0]).mean() < 4.0  # but for the light's warmth
    apart = np.abs(pictures[:, None].astype(float) - pictures[None]).mean((2, 3, 4)) + 255 * np.eye(len(STYLES))
    assert apart.min() > 10.0
    face = pictures[:, SIZE // 2 : 3 * SIZE // 4, 3 * SIZE // 8 : 5 * SIZE // 8].astype(float)
    hue = face[..., 0] / (face.sum(-1) + 1.0)
    assert hue[STYLES.index("stone")].std() < 0.5 * hue[0].std()


def test_what_is_no_character_is_refused():
    with pytest.raises(UserError, match="style 'carved' is unknown; choose plain"):
        portraits([Character(1, "carved")], SIZE)
    with pytest.raises(UserError, match="must be in 0"):
        portraits([Character(-1, "plain")], SIZE)
