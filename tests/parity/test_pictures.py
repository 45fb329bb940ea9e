"""Photo, crop and paste-back against the answers of the original pipelines, grey level by grey level."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.parity import pipeline_fixtures as inputs
from vasa_jax.liveportrait import pictures
from vasa_jax.liveportrait.pictures import Transform

FILES = {"mona_lisa": "painting_mona_lisa.jpg", "warrior": "statue_warrior.jpg", "pencil": "drawing_pencil.jpg"}


@pytest.fixture(scope="module")
def golden():
    with np.load(Path(__file__).with_name("golden_pipeline_seed1.npz")) as answers:
        return dict(answers)


@pytest.fixture(scope="module", params=["synthetic", *FILES])
def photo(request):
    """A photo's name and pixels."""
    if request.param == "synthetic":
        return request.param, inputs.portrait(1)
    path = request.getfixturevalue("assets") / "portraits" / FILES[request.param]
    return request.param, np.asarray(Image.open(path).convert("RGB"))


def transform_of(golden, name):
    return Transform(golden[f"{name}.M_o2c"], golden[f"{name}.M_c2o"])


def same(found, answer, mean64, exact):
    """A photo from a JPEG file depends on the decoder by a level here and there; what is drawn here is exact."""
    if exact:
        np.testing.assert_array_equal(found[0], answer)
    assert np.abs(found[0].astype(int) - answer).max() <= 3
    np.testing.assert_allclose(found[1].mean((0, 1)), mean64, atol=1e-9 if exact else 0.2)


def test_a_photo_is_shrunk(photo, golden):
    name, pixels = photo
    small = pictures.shrink(pixels)
    assert (*pixels.shape[:2], *small.shape[:2]) == tuple(golden[f"photo.{name}.shape"])
    same((small[4::96, 4::96], small), golden[f"photo.{name}.pixels"], golden[f"photo.{name}.mean64"], name[0] == "s")
    if name == "synthetic":
        np.testing.assert_array_equal(small[600:616, 500:516], golden["photo.synthetic.block"])


def corners(matrix, size):
    return matrix @ np.array([(0, size, 0, size), (0, 0, size, size), (1, 1, 1, 1)], np.float64)


@pytest.mark.parametrize("name", ["synthetic", *FILES])
@pytest.mark.parametrize("turn", ["rot", "upright"])
def test_a_face_is_framed(golden, name, turn):
    found = pictures.find_crop(golden[f"photo.{name}.landmarks"], upright=turn == "rot")
    wanted = transform_of(golden, f"crop.{name}.{turn}")
    assert np.abs(corners(found.to_photo, 512) - corners(wanted.to_photo, 512)).max() < 0.05
    assert np.abs(found.to_crop @ wanted.to_photo - np.eye(3))[:2].max() < 0.05


@pytest.mark.parametrize(
    "variant, options",
    [
        ("scale3", {"scale": 3.0}),
        ("vx_ignored", {}),
        ("vy0", {"up": 0.0}),
        ("dsize224", {"size": 224, "scale": 1.5, "up": -0.1}),
    ],
)
def test_a_face_is_framed_otherwise(golden, variant, options):
    found = pictures.find_crop(golden["photo.synthetic.landmarks"], **options)
    wanted = transform_of(golden, f"crop.variant.{variant}")
    size = options.get("size", 512)
    assert np.abs(corners(found.to_photo, size) - corners(wanted.to_photo, size)).max() < 0.05


@pytest.mark.parametrize("number", range(4))
def test_faces_that_are_almost_upright(golden, number):
    found = pictures.find_crop(golden[f"crop.near_upright{number}.landmarks"])
    wanted = transform_of(golden, f"crop.near_upright{number}")
    assert np.abs(corners(found.to_photo, 512) - corners(wanted.to_photo, 512)).max() < 0.05


def test_a_driving_video_has_one_crop(golden):
    found, wanted = pictures.find_steady_crop(golden["video.landmarks"]), golden["drive_crop.M_o2c"]
    assert (wanted == wanted[0]).all()
    assert np.abs(corners(found.to_crop, 480) - corners(wanted[0], 480)).max() < 0.05
    frame = pictures.halve(pictures.cut(inputs.source_video(1)[5], found))
    apart = np.abs(frame[2::9, 2::9].astype(int) - golden["drive_crop.frame256_5"])
    assert apart.max() <= 3 and apart.mean() <= 0.2


@pytest.mark.parametrize("turn", ["rot", "upright"])
def test_a_crop_is_cut_and_halved(photo, golden, turn):
    name, pixels = photo
    key = f"crop.{name}.{turn}"
    large = pictures.cut(pictures.shrink(pixels), transform_of(golden, key))
    exact = name == "synthetic"
    same((large[3::12, 3::12], large), golden[f"{key}.crop512"], golden[f"{key}.crop512_mean64"], exact)
    small = pictures.halve(large)
    same((small[1::6, 1::6], small), golden[f"{key}.crop256"], golden[f"{key}.crop256_mean64"], exact)


def test_a_photo_that_is_not_cropped_is_squeezed(golden):
    small = pictures.resize(pictures.shrink(inputs.portrait(1)), (256, 256))
    np.testing.assert_array_equal(small[2::11, 2::11], golden["source.no_crop.picture256"])


@pytest.mark.parametrize("turn", ["rot", "upright"])
def test_a_frame_is_pasted_back(photo, golden, turn):
    name, pixels = photo
    small, transform = pictures.shrink(pixels), transform_of(golden, f"crop.{name}.{turn}")
    key = f"paste.{name}.{turn}"
    mask = pictures.warp(pictures.MASK, transform.to_photo, small.shape[:2])[..., 0]
    np.testing.assert_array_equal(mask[5::20, 5::20], golden[f"{key}.mask"])
    pasted = pictures.Pasting(small, transform).paste(inputs.answer(1))
    same((pasted[5::20, 5::20], pasted), golden[f"{key}.pixels"], golden[f"{key}.mean64"], name == "synthetic")
    y, x = golden[f"{key}.block_at"]
    np.testing.assert_array_equal(mask[y : y + 24, x : x + 24], golden[f"{key}.mask_block"])
