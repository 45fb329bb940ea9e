"""Motion files: the real ones hold heads, and broken ones are refused with the field."""

import numpy as np
import pytest

from vasa_jax.convert.torch_file import read_torch_file
from vasa_jax.liveportrait.driving import read_driving


def content(frames=3, rotation="R", **more):
    frame = {
        rotation: np.eye(3, dtype=np.float32)[None],
        "exp": np.zeros((1, 21, 3), np.float32),
        "scale": np.ones((1, 1), np.float32),
        "t": np.zeros((1, 3), np.float32),
    }
    return {"n_frames": frames, "output_fps": 25, "motion": [dict(frame) for _ in range(frames)], **more}


def test_real_files_hold_heads(assets):
    files = sorted((assets / "motion").glob("*.pkl"))
    assert len(files) == 12
    for file in files:
        driving = read_driving(read_torch_file(file))
        rotation, expression, scale, translation = (np.asarray(part) for part in driving.motion)
        np.testing.assert_allclose(
            rotation @ rotation.swapaxes(1, 2), np.tile(np.eye(3), (len(rotation), 1, 1)), atol=1e-5
        )
        np.testing.assert_allclose(np.linalg.det(rotation), 1.0, atol=1e-5)
        assert 1.1 <= scale.min() and scale.max() <= 1.69
        assert np.abs(expression).max() <= 0.0825 and np.abs(translation[:, :2]).max() <= 0.23
        assert driving.rate in (20, 25, 30)
        for ratios, width in ((driving.eyes, 2), (driving.lips, 1)):
            assert ratios is None or (
                ratios.shape == (len(rotation), width) and 0.0 <= ratios.min() < ratios.max() < 1.0
            )


@pytest.mark.parametrize("rotation", ["R", "R_d"])
def test_both_spellings_and_optional_ratios(rotation):
    driving = read_driving(content(rotation=rotation, c_d_lip_lst=[np.zeros((1, 1))] * 3))
    assert np.asarray(driving.motion.rotation).shape == (3, 3, 3)
    assert driving.eyes is None and driving.lips is not None and driving.lips.shape == (3, 1)


def test_a_number_is_no_motion_file():
    with pytest.raises(ValueError, match="holds a int and no table"):
        read_driving(3)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda c: c.pop("motion"), "no 'motion'"),
        (lambda c: c.update(n_frames=4), "says 4 frames and holds 3"),
        (lambda c: c["motion"][1].pop("exp"), "frame 1 of the motion file has no 'exp'"),
        (lambda c: c["motion"][2].update(t=np.full((1, 3), np.nan)), "'t' of frame 2"),
        (lambda c: c["motion"][0].update(scale=np.ones(3)), r"of shape \(1, 1\), not of \(3,\)"),
        (lambda c: c.update(c_eyes_lst=[np.zeros((1, 2))]), "2 for each of its 3 frames"),
        (lambda c: c.update(c_eyes_lst=np.inf), "2 for each of its 3 frames"),
        (lambda c: c.update(c_lip_lst=[[1], [2, 3]]), "'c_lip_lst' of the motion file is no array of numbers"),
        (lambda c: c.update(c_lip_lst=[1e300] * 3), "must be finite numbers"),
        (lambda c: c.update(motion=3), "no list of tables"),
        (lambda c: c.update(motion=[None] * 3), "no list of tables"),
        (lambda c: c.update(n_frames=np.zeros(3)), "frames and holds 3"),
        (lambda c: c.update(output_fps=np.nan), "says nan frames a second"),
        (lambda c: c.update(output_fps=1e-9), "says 1e-09 frames a second"),
        (lambda c: c.update(output_fps="25"), "frames a second; give 1 to 1000|says 25 frames"),
        (lambda c: c["motion"][0].update(R={}), "'R' of the motion file is no array of numbers"),
    ],
)
def test_broken_files_are_refused(change, message):
    broken = content()
    change(broken)
    with pytest.raises(ValueError, match=message):
        read_driving(broken)
