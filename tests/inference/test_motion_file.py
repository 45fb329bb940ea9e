import zipfile

import numpy as np
import pytest

from vasa_jax.arrays import Motion
from vasa_jax.inference import motion_file
from vasa_jax.inference.motion_file import load_motion, record, save_motion

SHAPES = Motion((6,), (5,))


def stretch(frames: int, seed: int = 0) -> Motion:
    draw = np.random.default_rng(seed).normal
    return Motion(*(draw(size=(frames, size)).astype(np.float32) for size in (6, 5)))  # pyright: ignore[reportArgumentType]


def test_round_trip(tmp_path):
    kept = []
    for part in record(iter([stretch(8), stretch(3, 1)]), kept):
        assert part is kept[-1]
    save_motion(tmp_path / "m.npz", "vasa", kept)
    loaded = load_motion(tmp_path / "m.npz", "vasa", SHAPES)
    for whole, parts in zip(loaded, zip(*kept, strict=True), strict=True):
        np.testing.assert_array_equal(whole, np.concatenate(parts))
    assert [path.name for path in tmp_path.iterdir()] == ["m.npz"]


def write(path, **changes):
    arrays = {"pose": np.zeros((4, 6)), "dynamics": np.zeros((4, 5)), "fps": 25, "kind": "vasa"} | changes
    np.savez(path, **{name: value for name, value in arrays.items() if value is not None})


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"pose": None}, "is not a motion file"),
        ({"fps": None}, "is not a motion file"),
        ({"kind": None}, "is not a motion file"),
        ({"kind": "liveportrait-joyvasa"}, "of a model of kind 'liveportrait-joyvasa'; this one is 'vasa'"),
        ({"pose": np.zeros((3, 6))}, "needs"),
        ({"pose": np.zeros((4, 7))}, "needs"),
        ({"dynamics": np.zeros((4, 128))}, "needs"),
        ({"pose": np.zeros((0, 6)), "dynamics": np.zeros((0, 5))}, "needs"),
        ({"pose": np.full((4, 6), np.nan)}, "NaN"),
        ({"pose": np.full((4, 6), 1e300)}, "NaN or infinite"),
        ({"dynamics": np.full((4, 5), "a")}, "must be numbers"),
        ({"fps": 30}, "30 frames a second"),
        ({"pose": np.array([{}, {}], object)}, "is not a motion file"),
    ],
)
def test_files_that_are_refused(tmp_path, changes, message):
    write(tmp_path / "m.npz", **changes)
    with pytest.raises(ValueError, match=message) as error:
        load_motion(tmp_path / "m.npz", "vasa", SHAPES)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"", b"letter", b"PK\x03\x04broken", b"\x93NUMPY"])
def test_files_that_hold_no_arrays(tmp_path, content):
    (tmp_path / "m.npz").write_bytes(content)
    with pytest.raises(ValueError, match="is not a motion file"):
        load_motion(tmp_path / "m.npz", "vasa", SHAPES)


def test_headers_that_nobody_wrote_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "m.npz", "w") as archive:
        for name in ("pose", "dynamics", "kind", "fps"):
            archive.writestr(f"{name}.npy", b"\x93NUMPY\1\0\x0a\0{'descr': (")
    with pytest.raises(ValueError, match="is not a motion file"):
        load_motion(tmp_path / "m.npz", "vasa", SHAPES)


def test_a_file_that_unpacks_to_more_than_motion_is_refused_unread(tmp_path, monkeypatch):
    write(tmp_path / "m.npz")
    monkeypatch.setattr(motion_file, "LARGEST", 100)
    with pytest.raises(ValueError, match="m.npz holds more than 0 MB"):
        load_motion(tmp_path / "m.npz", "vasa", SHAPES)


def test_a_single_array_is_refused(tmp_path):
    np.save(tmp_path / "m.npy", np.zeros((4, 6)))
    with pytest.raises(ValueError, match="is not a motion file"):
        load_motion(tmp_path / "m.npy", "vasa", SHAPES)


def test_names_that_are_refused(tmp_path):
    with pytest.raises(ValueError, match="no such motion file"):
        load_motion(tmp_path / "none.npz", "vasa", SHAPES)
    with pytest.raises(ValueError, match="must end in .npz"):
        save_motion(tmp_path / "m.txt", "vasa", [stretch(1)])
    with pytest.raises(ValueError, match="no folder"):
        save_motion(tmp_path / "none" / "m.npz", "vasa", [stretch(1)])
