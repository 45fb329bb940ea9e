from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vasa_jax.media.image import load_image, resize_frame, to_uint8

RED_LEFT = np.zeros((40, 60, 3), np.uint8)
RED_LEFT[:, :30, 0] = 255


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".bmp", ".tiff", ".gif"])
def test_formats(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    Image.fromarray(RED_LEFT).save(path)
    picture = load_image(path, 32)
    assert picture.shape == (32, 32, 3)
    assert picture.dtype == np.float32
    np.testing.assert_allclose(picture[16, 4], [1, 0, 0], atol=0.05)
    np.testing.assert_allclose(picture[16, 28], [0, 0, 0], atol=0.05)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "CMYK", "YCbCr", "HSV", "LA", "RGBA", "PA", "RGBX", "I", "F"])
def test_every_mode_shows_grey_as_grey(mode):
    level = 255 if mode == "1" else 102
    grey = Image.new("L", (32, 32), level)
    if mode == "F":
        picture = Image.fromarray(np.full((32, 32), level / 255, np.float32))
    elif mode == "I":
        picture = Image.fromarray(np.full((32, 32), level * 257, np.int32))
    else:
        picture = grey.convert("RGB").convert(mode) if mode not in ("LA", "PA") else grey.convert("LA").convert(mode)
    assert picture.mode == mode
    np.testing.assert_allclose(load_image(picture, 32), level / 255, atol=0.02)


def test_16_bit_grey(tmp_path):
    path = tmp_path / "deep.png"
    Image.fromarray(np.full((32, 32), 257 * 51, np.uint16)).save(path)
    np.testing.assert_allclose(load_image(path, 32), 0.2, atol=1e-6)


def test_transparent_pixels_show_neutral_grey(tmp_path):
    pixels = np.zeros((32, 32, 4), np.uint8)
    pixels[:, 16:] = (0, 255, 0, 255)
    path = tmp_path / "alpha.png"
    Image.fromarray(pixels).save(path)
    picture = load_image(path, 32)
    np.testing.assert_allclose(picture[16, 4], 128 / 255, atol=1e-6)
    np.testing.assert_allclose(picture[16, 28], [0, 1, 0], atol=1e-6)


def test_transparent_palette(tmp_path):
    picture = Image.new("P", (32, 32), 0)
    picture.putpalette([255, 0, 0, 0, 0, 255])
    path = tmp_path / "palette.png"
    picture.save(path, transparency=0)
    np.testing.assert_allclose(load_image(path, 32), 128 / 255, atol=1e-6)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_undone(tmp_path, orientation):
    upright = Image.fromarray(RED_LEFT)
    undo = {2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE", 6: "ROTATE_90"} | {
        7: "TRANSVERSE",
        8: "ROTATE_270",
    }
    stored = upright if orientation == 1 else upright.transpose(Image.Transpose[undo[orientation]])
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "phone.jpg"
    stored.save(path, exif=exif, quality=95)
    picture = load_image(path, 40, crop=(0, 0, 40))
    np.testing.assert_allclose(picture[20, 8], [1, 0, 0], atol=0.05)
    np.testing.assert_allclose(picture[20, 37], [0, 0, 0], atol=0.05)


def test_the_central_square_is_the_default():
    wide = np.zeros((20, 60, 3), np.uint8)
    wide[:, 20:40] = 255
    np.testing.assert_array_equal(load_image(wide, 20), 1.0)


def test_a_crop_is_cut_exactly():
    picture = np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8)
    np.testing.assert_array_equal(to_uint8(load_image(picture, 32, crop=(30, 10, 32))), picture[10:42, 30:62])


def test_reducing_does_not_alias():
    board = np.indices((256, 256)).sum(0) % 2 * 255
    small = load_image(np.repeat(board[..., None].astype(np.uint8), 3, 2), 32)
    np.testing.assert_allclose(small, 0.5, atol=0.02)


def test_float_and_16_bit_arrays():
    np.testing.assert_allclose(load_image(np.full((32, 32, 3), 0.25, np.float64), 16), 0.25, atol=0.002)
    np.testing.assert_allclose(load_image(np.full((32, 32, 1), 32768, np.uint16), 16), 0.5, atol=0.002)
    np.testing.assert_allclose(load_image(np.full((32, 32), 128, np.uint8), 16), 0.5, atol=0.002)


@pytest.mark.parametrize(
    "array, message",
    [
        (np.zeros((1, 1, 3), np.uint8), "too small"),
        (np.zeros((15, 400, 3), np.uint8), "too small"),
        (np.full((32, 32, 3), np.nan), "NaN"),
        (np.full((32, 32, 3), 200.0), "must lie in"),
        (np.zeros((32, 32, 3), np.int64), "dtype"),
        (np.zeros((32, 32, 2), np.uint8), "shape"),
        (np.zeros((4, 32, 32, 3), np.uint8), "shape"),
        (np.zeros((0, 32, 3), np.uint8), "shape"),
    ],
)
def test_arrays_that_are_no_picture(array, message):
    with pytest.raises(ValueError, match=message):
        load_image(array, 32)


@pytest.mark.parametrize("crop", [(-1, 0, 32), (0, 0, 33), (10, 10, 30), (0, 0, 4), (0, 0, -5)])
def test_crops_that_leave_the_picture(crop):
    with pytest.raises(ValueError, match="crop"):
        load_image(np.zeros((32, 32, 3), np.uint8), 32, crop=crop)


@pytest.mark.parametrize("content", [b"", b"a letter\n" * 20, b"\x89PNG\r\n\x1a\n" + b"\0" * 50])
def test_files_that_are_no_picture(tmp_path, content):
    path = tmp_path / "bad.png"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="is not a usable image") as error:
        load_image(path, 32)
    assert "\n" not in str(error.value)


def test_a_cut_off_jpeg(tmp_path):
    path = tmp_path / "cut.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:1500])
    with pytest.raises(ValueError, match="is not a usable image"):
        load_image(path, 32)


def test_files_that_are_not_there(tmp_path):
    with pytest.raises(ValueError, match="no such image file"):
        load_image(tmp_path / "none.png", 32)
    with pytest.raises(ValueError, match="not a file"):
        load_image(tmp_path, 32)


def test_frames_are_rounded_and_resized():
    np.testing.assert_array_equal(to_uint8(np.array([[[-1.0, 0.5, 2.0]]])), [[[0, 128, 255]]])
    frame = np.full((32, 32, 3), 7, np.uint8)
    assert resize_frame(frame, 32) is frame
    np.testing.assert_array_equal(resize_frame(frame, 48), np.full((48, 48, 3), 7, np.uint8))


def test_real_portraits(assets: Path):
    for path in sorted((assets / "portraits").iterdir()):
        picture = load_image(path, 128)
        assert picture.shape == (128, 128, 3), path
        assert 0 <= picture.min() < picture.max() <= 1, path
