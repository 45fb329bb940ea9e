import io
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image, PngImagePlugin

from tests.media.heic import write_grid
from vasa_jax.errors import UserError
from vasa_jax.media.image import open_photo, over_grey

RED_LEFT = np.zeros((40, 60, 3), np.uint8)
RED_LEFT[:, :30, 0] = 255
UNDO = {2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE", 6: "ROTATE_90"} | {
    7: "TRANSVERSE",
    8: "ROTATE_270",
}


def turned(orientation: int) -> Image.Image:
    """RED_LEFT as a camera that was held otherwise stores it."""
    upright = Image.fromarray(RED_LEFT)
    return upright if orientation == 1 else upright.transpose(Image.Transpose[UNDO[orientation]])


def is_red_left(source) -> bool:
    picture = over_grey(open_photo(source)).astype(int)
    expected = RED_LEFT.astype(int)
    return picture.shape == expected.shape and np.abs(picture[:, [8, 50]] - expected[:, [8, 50]]).max() < 16


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".bmp", ".tiff", ".gif"])
def test_formats(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    Image.fromarray(RED_LEFT).save(path)
    picture = open_photo(path)
    assert picture.shape == (40, 60, 3) and picture.dtype == np.uint8
    np.testing.assert_allclose(picture[20, 8], [255, 0, 0], atol=12)
    np.testing.assert_allclose(picture[20, 50], [0, 0, 0], atol=12)


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
    np.testing.assert_allclose(over_grey(open_photo(picture)), level, atol=5)


def test_16_bit_grey(tmp_path):
    path = tmp_path / "deep.png"
    Image.fromarray(np.full((32, 32), 257 * 51, np.uint16)).save(path)
    np.testing.assert_array_equal(open_photo(path), np.full((32, 32, 3), 51))


def test_transparent_pixels_show_neutral_grey(tmp_path):
    pixels = np.zeros((32, 32, 4), np.uint8)
    pixels[:, 16:] = (0, 255, 0, 255)
    path = tmp_path / "alpha.png"
    Image.fromarray(pixels).save(path)
    picture = over_grey(open_photo(path))
    np.testing.assert_array_equal(picture[16, 4], 3 * [128])
    np.testing.assert_array_equal(picture[16, 28], [0, 255, 0])


def test_transparent_palette(tmp_path):
    picture = Image.new("P", (32, 32), 0)
    picture.putpalette([255, 0, 0, 0, 0, 255])
    path = tmp_path / "palette.png"
    picture.save(path, transparency=0)
    np.testing.assert_array_equal(over_grey(open_photo(path)), np.full((32, 32, 3), 128))


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tiff", ".avif", ".mpo"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_undone(tmp_path, orientation, suffix):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    path = tmp_path / f"phone{suffix}"
    turned(orientation).save(path, exif=exif, quality=95)
    assert is_red_left(path)


def jpeg_with(exif: bytes, orientation: int = 6) -> bytes:
    """A JPEG of RED_LEFT with these bytes as EXIF, whatever they are."""
    file = io.BytesIO()
    turned(orientation).save(file, "JPEG", quality=95)
    data, segment = file.getvalue(), b"Exif\0\0" + exif
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + data[2:]


def entries(*rows: bytes) -> bytes:
    return b"II*\0" + struct.pack("<IH", 8, len(rows)) + b"".join(rows) + bytes(4)


TURN_6 = struct.pack("<HHIHH", 0x0112, 3, 1, 6, 0)
ODD = {
    "text as resolution": struct.pack("<HHI4s", 0x011A, 2, 4, b"72\0\0"),
    "a fraction over nothing": struct.pack("<HHII", 0x011A, 5, 1, 60000),
    "an unknown type": struct.pack("<HHII", 0x9999, 99, 1, 0),
    "a value without end": struct.pack("<HHII", 0x010F, 2, 2**31, 8),
    "a folder that is none": struct.pack("<HHII", 0x8769, 4, 1, 65000),
    "text as camera data": struct.pack("<HHI4s", 0x8769, 2, 4, b"abc\0"),
}


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD.keys())
def test_odd_exif_beside_the_orientation(tmp_path, odd):
    path = tmp_path / "odd.jpg"
    path.write_bytes(jpeg_with(entries(TURN_6, odd)))
    assert is_red_left(path)


@pytest.mark.parametrize(
    "exif",
    [b"", b"II", b"letters", entries(TURN_6)[:14], entries(struct.pack("<HHIHH", 0x0112, 3, 1, 77, 0))],
    ids=["none", "cut", "text", "cut entry", "orientation 77"],
)
def test_exif_that_says_nothing(tmp_path, exif):
    path = tmp_path / "odd.jpg"
    path.write_bytes(jpeg_with(exif, orientation=1))
    assert is_red_left(path)
    turned(1).save(tmp_path / "odd.png", exif=exif or b"Exif\0\0")
    assert is_red_left(tmp_path / "odd.png")


def test_a_long_text_in_a_png(tmp_path):
    """Picture generators store their workflow; the orientation beside it still counts."""
    text, exif = PngImagePlugin.PngInfo(), Image.Exif()
    text.add_text("workflow", "node " * 420_000, zip=True)
    exif[ExifTags.Base.Orientation] = 8
    turned(8).save(tmp_path / "a.png", pnginfo=text, exif=exif)
    assert is_red_left(tmp_path / "a.png")


def test_damaged_chunks_beside_the_pixels_of_a_png(tmp_path):
    path = tmp_path / "a.png"
    turned(1).save(path, icc_profile=b"profile" * 9, dpi=(72, 72))
    data = bytearray(path.read_bytes())
    for kind in (b"iCCP", b"pHYs"):
        data[data.index(kind) + 5] ^= 255
    path.write_bytes(data)
    assert is_red_left(path)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tiff"])
def test_colour_profiles_that_are_none(tmp_path, suffix):
    turned(1).save(tmp_path / f"a{suffix}", icc_profile=b"no profile")
    assert is_red_left(tmp_path / f"a{suffix}")


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png", ".avif", ".tiff"])
def test_of_an_animation_the_first_picture(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    turned(1).save(path, save_all=True, append_images=[Image.new("RGB", (60, 40), "white")], duration=100)
    assert is_red_left(path)


def test_tiles_of_a_telephone(tmp_path):
    """Four pictures that make one, of which a corner is cut off, and a turn that stands beside them."""
    grey = np.full((128, 128, 3), 90, np.uint8)
    grey[:60, :60], grey[:60, 40:100] = (0, 0, 255), (255, 0, 0)
    for turn, shape in ((0, (90, 100, 3)), (3, (100, 90, 3))):
        write_grid(tmp_path / "a.heic", grey, (100, 90), turn)
        picture = open_photo(tmp_path / "a.heic")
        assert picture.shape == shape
        red = picture[20, 80] if turn == 0 else picture[80, 69]
        np.testing.assert_allclose(red, (255, 0, 0), atol=24)


def test_heic_without_its_decoder(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    path = tmp_path / "a.heic"
    path.write_bytes(b"\0\0\0\x18ftypheic" + bytes(12))
    with pytest.raises(UserError, match=r"a\.heic is a HEIC picture and pillow-heif.*save the picture as JPEG"):
        open_photo(path)


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("a.jxl", b"\xff\x0a" + bytes(40), "JPEG XL"),
        ("a.DNG", b"II*\0" + bytes(40), "a raw file of a camera"),
        ("a.pdf", b"%PDF-1.7" + bytes(40), "PDF"),
        ("a.png", b"version https://git-lfs.github.com/spec/v1", "git lfs pull"),
        ("a.heic", b"\0\0\0\x18ftypheic" + bytes(40), "not a usable image"),
        ("a.avif", b"\0\0\0\x18ftypavif" + bytes(40), "not a usable image"),
        ("a.mp4", b"\0\0\0\x18ftypisom" + bytes(40), "its format is unknown"),
    ],
)
def test_what_is_not_read_says_what_to_do(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message) as error:
        open_photo(tmp_path / name)
    assert name in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".gif", ".tiff", ".avif", ".heic"])
@pytest.mark.parametrize("part", [0.3, 0.9])
def test_cut_off_files_are_refused_by_name(tmp_path, suffix, part):
    if suffix == ".heic":
        from pillow_heif import register_heif_opener

        register_heif_opener()
    path = tmp_path / f"a{suffix}"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[: int(part * path.stat().st_size)])
    with pytest.raises(UserError, match=rf"a{suffix} is not a usable image") as error:
        open_photo(path)
    assert "\n" not in str(error.value)


def test_more_pixels_than_are_honest(tmp_path):
    path = tmp_path / "bomb.png"
    Image.new("1", (16, 16)).save(path)
    data, header = path.read_bytes(), b"IHDR" + struct.pack(">IIBBBBB", 60000, 60000, 1, 0, 0, 0, 0)
    path.write_bytes(data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[33:])
    with pytest.raises(UserError, match=r"bomb\.png is too large to read: .*3600000000 pixels.*smaller"):
        open_photo(path)


def test_more_pixels_than_there_is_memory_for(tmp_path):
    path = tmp_path / "large.png"
    Image.new("1", (16, 16)).save(path)
    data, header = path.read_bytes(), b"IHDR" + struct.pack(">IIBBBBB", 12_000, 12_000, 1, 0, 0, 0, 0)
    path.write_bytes(data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[33:])
    with pytest.raises(UserError, match=r"large\.png is too large to read: it has 12000x12000 pixels.*smaller"):
        open_photo(path)


def test_a_jpeg_of_endless_scans(tmp_path):
    path = tmp_path / "slow.jpg"
    Image.new("L", (16, 16)).save(path, progressive=True)
    assert open_photo(path).shape == (16, 16, 3)
    data = path.read_bytes()
    last = data.rfind(b"\xff\xda")
    path.write_bytes(data[:last] + data[last:-2] * 1000 + data[-2:])
    with pytest.raises(UserError, match=r"slow\.jpg is not a usable image: its JPEG has 100\d scans"):
        open_photo(path)


@pytest.mark.parametrize("rows", [255, 256, 257, 600])
def test_wide_numbers_are_scaled_some_rows_at_a_time(rows):
    levels = np.arange(rows * 3, dtype=np.uint16).reshape(rows, 3) * 36
    shown = open_photo(Image.fromarray(levels))
    np.testing.assert_array_equal(shown[:, :, 0], np.round(levels / 257))


def test_colours_that_cannot_be_converted():
    with pytest.raises(UserError, match="mode La"):
        open_photo(Image.new("La", (32, 32)))


def test_transparency_is_kept_where_there_is_some(tmp_path):
    """Colours as in the file, even where nobody sees them."""
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 4), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    photo = open_photo(tmp_path / "a.png")
    np.testing.assert_array_equal(photo, pixels)
    share = pixels[..., 3:] / 255
    np.testing.assert_allclose(over_grey(photo), share * pixels[..., :3] + (1 - share) * 128, atol=1)
    pixels[..., 3] = 255
    np.testing.assert_array_equal(open_photo(pixels), pixels[..., :3])
    opaque = open_photo(pixels[..., :3])
    assert over_grey(opaque) is opaque


def test_float_and_16_bit_arrays():
    for given, level in (
        (np.full((32, 32, 3), 0.25, np.float64), 64),
        (np.full((32, 32, 1), 32768, np.uint16), 128),
        (np.full((32, 32), 128, np.uint8), 128),
    ):
        np.testing.assert_array_equal(open_photo(given), np.full((32, 32, 3), level))


@pytest.mark.parametrize(
    "array, message",
    [
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
        open_photo(array)


@pytest.mark.parametrize("content", [b"", b"a letter\n" * 20, b"\x89PNG\r\n\x1a\n" + b"\0" * 50])
def test_files_that_are_no_picture(tmp_path, content):
    path = tmp_path / "bad.png"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="is not a usable image") as error:
        open_photo(path)
    assert "\n" not in str(error.value)


def test_files_that_are_not_there(tmp_path):
    with pytest.raises(ValueError, match="no such image file"):
        open_photo(tmp_path / "none.png")
    with pytest.raises(ValueError, match="not a file"):
        open_photo(tmp_path)


def test_real_portraits(assets: Path):
    for path in sorted((assets / "portraits").iterdir()):
        picture = open_photo(path)
        assert min(picture.shape[:2]) > 500 and picture.shape[2] == 3 and picture.min() < picture.max(), path
