import io
import resource
import struct

import msgpack
import numpy as np
import pytest
from PIL import Image

from vasa_jax.data import (
    CorruptRecordError,
    Record,
    encode_picture,
    open_shards,
    read_clip,
    records,
    write_clip,
    write_shard,
)
from vasa_jax.data.pictures import decode_picture
from vasa_jax.data.records import stored
from vasa_jax.errors import UserError

RNG = np.random.default_rng(0)


def smooth_frames(count, size=32):
    x, y = np.meshgrid(np.arange(size), np.arange(size))
    frames = [np.stack([4 * x + 10 * i, 4 * y, 2 * (x + y)], -1) for i in range(count)]
    return np.clip(frames, 0, 255).astype(np.uint8)


def test_a_clip_comes_back():
    frames, audio = smooth_frames(3), RNG.uniform(-1, 1, 640 * 3).astype(np.float32)
    labels = {
        "pose": RNG.normal(size=(3, 6)).astype(np.float32),
        "identity": np.int64(12345678901),
        "phonemes": [("AA", 0.0, 0.1), ("SIL", 0.1, 0.12)],
    }
    data = write_clip(frames, audio, labels)
    clip = read_clip(data)
    assert clip.frames.shape == frames.shape and np.abs(clip.frames.astype(int) - frames).mean() < 2  # JPEG
    np.testing.assert_array_equal(clip.audio, audio)
    np.testing.assert_array_equal(clip.labels["pose"], labels["pose"])
    assert clip.labels["identity"] == 12345678901 and np.shape(clip.labels["identity"]) == ()
    assert clip.labels["phonemes"] == labels["phonemes"]
    assert (stored(data).count, stored(data).size) == (3, (32, 32))


@pytest.fixture
def parts(tmp_path):
    """A shard of two clips with everything in them; and what the second was made of."""
    frames, audio = smooth_frames(4), RNG.uniform(-1, 1, 640 * 4).astype(np.float32)
    labels = {
        "features": RNG.normal(size=(4, 7)).astype(np.float16),
        "portrait": smooth_frames(1, 48)[0],
        "gaze": np.zeros((4, 2), np.float32),
        "identity": np.int64(7),
    }
    about = {"source": "talks/ümlaut 1.mp4", "track": 2, "start": 1.5, "end": 3, "emotion_by": "blend shapes"}
    first = write_clip(frames[:2], None, {"features": labels["features"][:2]}, {"source": "other"})
    write_shard(tmp_path / "a.array_record", [first, write_clip(frames, audio, labels, about)])
    return tmp_path, frames, audio, labels, about


def test_every_part_of_a_stored_clip_comes_back_when_it_is_asked_for(parts):
    folder, frames, audio, labels, about = parts
    first, clip = open_shards(folder)[0], open_shards(folder)[1]
    assert (clip.count, clip.size, clip.about, set(clip.labels)) == (4, (32, 32), about, {"gaze", "identity"})
    assert (clip.has_sound, clip.has_features, clip.has_portrait) == (True, True, True)
    np.testing.assert_array_equal(clip.sound(), audio)
    np.testing.assert_array_equal(clip.features(), labels["features"])
    assert clip.features().dtype == np.float16 and clip.sound().flags.writeable
    assert np.abs(clip.portrait().astype(int) - labels["portrait"]).mean() < 2
    assert (first.has_sound, first.has_features, first.has_portrait, first.count) == (False, True, False, 2)
    assert first.sound() is None and first.portrait() is None and first.features().shape == (2, 7)
    np.testing.assert_array_equal(clip.frames()[:2], first.frames())
    whole = read_clip(clip)
    assert set(whole.labels) == {"gaze", "identity", "features", "portrait"}
    np.testing.assert_array_equal(whole.frames, clip.frames())


def test_a_sample_reads_the_head_and_its_own_frames_and_nothing_else(parts, monkeypatch):
    source, read = open_shards(parts[0]), []
    before = source._read
    monkeypatch.setattr(source, "_read", lambda shard, number: read.append(number) or before(shard, number))
    source[1].frames([3, 0])
    assert read == [4, 8, 5]  # behind the first clip's head, two frames and features


def test_pictures_are_stored_as_they_come(parts):
    folder, frames, *_ = parts
    pictures = open_shards(folder)[1].pictures()
    assert pictures == [encode_picture(frame) for frame in frames]
    again = write_clip(pictures[::-1], None, {"portrait": pictures[2]})
    np.testing.assert_array_equal(read_clip(again).frames, open_shards(folder)[1].frames()[::-1])
    np.testing.assert_array_equal(stored(again).portrait(), open_shards(folder)[1].frames([2])[0])
    assert write_clip(frames, None, {}) == write_clip(pictures, None, {})


def test_pictures_of_several_sizes_and_what_is_no_jpeg_are_refused():
    small, large = encode_picture(smooth_frames(1, 16)[0]), encode_picture(smooth_frames(1)[0])
    with pytest.raises(UserError, match="several sizes"):
        write_clip([small, large], None, {})
    buffer = io.BytesIO()
    Image.fromarray(smooth_frames(1)[0]).save(buffer, "PNG")
    for wrong in (buffer.getvalue(), b"", b"\xff\xd8\xff"):
        with pytest.raises(UserError, match="no JPEG picture"):
            write_clip([wrong], None, {})


@pytest.mark.parametrize(
    "about, match",
    [
        ({"source": 3}, "'source': 3 of int; write a name and str"),
        ({"track": 1.0}, "'track': 1.0 of float; write a name and int"),
        ({"start": "0:10"}, "'start': '0:10' of str; write a name and int or float"),
        ({"speech": np.float32(0.5)}, "'speech'.* of float32; write a name and str or int or float"),
        ({"speech": {"share": 0.5}}, "of dict"),
        ({"speech": True}, "of bool"),
        ({3: 1}, "3: 1 of int; write a name"),
        ({"words": "a" * 1025}, "'words' of more than 1024 characters"),
        ({"n": 2**70}, "64 bits"),
        ({str(i): i for i in range(65)}, "65 entries"),
    ],
)
def test_about_is_flat_and_short(about, match):
    with pytest.raises(UserError, match=match):
        write_clip(None, None, {}, about)


def test_a_picture_that_is_larger_than_any_frame_is_not_decoded():
    data = bytearray(encode_picture(np.zeros((16, 16, 3), np.uint8)))
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", 7000, 8000)
    with pytest.raises(UserError, match="a picture of 8000x7000 pixels is no frame; at most 40 million"):
        decode_picture(bytes(data))


def test_only_the_wanted_frames_are_decoded_in_the_order_asked():
    frames = smooth_frames(5)
    data = write_clip(frames, None, {})
    whole, some = read_clip(data).frames, read_clip(data, [4, 1]).frames
    np.testing.assert_array_equal(some, whole[[4, 1]])
    assert read_clip(data).audio is None


def test_frames_are_read_at_a_side_that_divides_their_own():
    frames = np.random.default_rng(0).integers(0, 256, (2, 24, 24, 3)).astype(np.uint8)
    clip = stored(write_clip(frames, None, {}))
    whole = clip.frames().astype(np.float64)
    for size in (24, 12, 8, 1):
        small = clip.frames([1, 0], size)
        means = whole.reshape(2, size, 24 // size, size, 24 // size, 3).mean((2, 4))[::-1]
        assert clip.fits(size) and small.dtype == np.uint8 and np.abs(small - means).max() <= 0.5
    for size in (16, 48):
        assert not clip.fits(size)
        with pytest.raises(CorruptRecordError, match=f"of 24x24 pixels, not of {size}x{size} or a multiple"):
            clip.frames(size=size)
    oblong = stored(write_clip(frames[:, :12], None, {}))
    with pytest.raises(CorruptRecordError, match="frames of 24x12 pixels"):
        oblong.frames(size=12)


def test_a_clip_without_pictures():
    clip = read_clip(write_clip(None, np.zeros(640, np.float32), {}))
    assert clip.audio is not None and len(clip.audio) == 640 and len(clip.frames) == 0


def test_wrong_input_is_refused():
    with pytest.raises(ValueError, match="uint8"):
        write_clip(np.zeros((1, 4, 4, 3), np.float32), None, {})
    with pytest.raises(ValueError, match="finite float32"):
        write_clip(None, np.full(3, np.nan, np.float32), {})
    with pytest.raises(ValueError, match="'portrait' is float32; it must be uint8"):
        write_clip(None, None, {"portrait": np.full((4, 4, 3), 0.5, np.float32)})
    with pytest.raises(ValueError, match="12 bytes are no head of a clip"):
        read_clip(Record(b"not a record"))


def with_value(shape, place, value):
    array = np.zeros(shape, np.float32)
    array[place] = value
    return array


UNITS = [
    ("pose", with_value((3, 6), (1, 1), 30), r"label 'pose' has yaw 30 in frame 1; .* \(radians\)"),
    ("pose", with_value((3, 6), (2, 0), -1e30), r"label 'pose' has pitch -1e\+30 in frame 2"),
    ("pose", with_value((3, 6), (0, 3), 128), r"label 'pose' has tx 128 in frame 0; .* \(crop units"),
    ("pose", with_value((3, 6), (0, 5), 60), r"label 'pose' has log distance 60"),
    ("pose", with_value((3, 6), (0, 2), np.inf), r"label 'pose' has roll inf"),
    ("gaze", with_value((3, 2), (0, 1), 20), r"label 'gaze' has phi 20 .* \(radians\)"),
    ("mouth", with_value((3, 1), (2, 0), 100), r"label 'mouth' has a value 100 in frame 2; .*0 closed to 1 wide open"),
    ("mouth", np.full((3, 1), 255, np.uint8), r"label 'mouth' has a value 255"),
    ("lids", with_value((3, 2), (0, 0), 7), r"label 'lids' has a value 7"),
    ("regions", with_value((3, 3, 4), (1, 2, 0), 256), r"label 'regions' has cx 256 in frame 1"),
    ("regions", with_value((3, 3, 4), (1, 2, 3), -0.1), r"label 'regions' has ry -0.1"),
    ("emotion", with_value((8,), 4, 80), r"label 'emotion' has a value 80; it must lie in .* \(coefficients"),
    ("emotion", with_value((8,), 4, np.nan), r"label 'emotion' has a value nan"),
    ("dynamics", with_value((3, 5), (0, 0), np.nan), r"label 'dynamics' has a value nan"),
    ("dynamics", with_value((3, 5), (0, 0), 1e30), r"label 'dynamics' has a value 1e\+30"),
    ("identity", np.array(3.5, np.float32), r"'identity' is float32; it must be an integer"),
    ("phonemes", [("AA", 0.0, 80_000.0)], r"'phonemes' has .*in seconds"),
    ("phonemes", ["AA"], r"'phonemes' has 'AA'"),
]


@pytest.mark.parametrize("name, value, match", UNITS)
def test_labels_in_another_unit_are_refused_and_corrupt_to_the_reader(name, value, match):
    with pytest.raises(UserError, match=match):
        write_clip(smooth_frames(3), None, {name: value})
    record = write_clip(smooth_frames(3), None, {})
    head = msgpack.unpackb(record.head)
    head["labels"][name] = value if name == "phonemes" else records.pack_array(value)
    with pytest.raises(CorruptRecordError, match=name):
        read_clip(record._replace(head=msgpack.packb(head)), [])


@pytest.mark.parametrize(
    "value, match",
    [
        (np.zeros((3, 4), np.float32), "float32; it must be float16"),
        (np.zeros((2, 4), np.float16), r"\(2, 4\); it must be numbers of shape \(3, c\)"),
        (np.full((3, 4), np.inf, np.float16), "a value inf in frame 0"),
    ],
)
def test_features_fit_the_frames_and_are_finite(value, match):
    with pytest.raises(UserError, match=match):
        write_clip(smooth_frames(3), None, {"features": value})


def test_sound_in_another_unit_is_refused_and_clipping_is_not():
    sound = np.linspace(-1.4, 1.4, 1920, dtype=np.float32)
    data = write_clip(smooth_frames(3), sound, {})
    assert np.abs(read_clip(data).audio).max() == np.float32(1.4)
    with pytest.raises(UserError, match=r"audio reaches 9000; .*-1..1: divide integers of 16 bits by 32768"):
        write_clip(smooth_frames(3), sound / np.float32(1.4) * 9000, {})
    loud = data._replace(parts=(*data.parts[:3], (9000 * sound).tobytes()))
    with pytest.raises(CorruptRecordError, match="audio reaches"):
        read_clip(loud)


def test_pictures_in_0_to_1_are_refused():
    with pytest.raises(UserError, match="multiply pictures in 0..1 by 255"):
        write_clip((smooth_frames(3) > 100).astype(np.uint8), None, {})


def test_what_is_within_the_range_or_unknown_is_taken_as_it_is():
    labels = {
        name: np.zeros(shape, np.float32) for name, shape in (("pose", (3, 6)), ("lids", (3, 2)), ("gaze", (3, 2)))
    }
    labels["pose"][1], labels["lids"][2] = np.nan, (1.05, -0.02)
    labels["gaze"][:] = 0.5, -np.pi
    clip = read_clip(write_clip(smooth_frames(3), None, labels | {"portrait": smooth_frames(1)[0]}))
    for name, value in labels.items():
        np.testing.assert_array_equal(clip.labels[name], value)


def test_shards_are_one_sequence_and_appear_complete(tmp_path):
    records = [write_clip(None, None, {"identity": np.int64(i)}) for i in range(5)]

    def interrupted():
        yield records[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_shard(tmp_path / "clips-0.array_record", interrupted())
    with pytest.raises(ValueError, match="no .*shards"):
        open_shards(tmp_path)
    assert write_shard(tmp_path / "clips-0.array_record", records[:3]) == 3
    write_shard(tmp_path / "clips-1.array_record", records[3:])
    source = open_shards(tmp_path)
    assert [int(read_clip(source[i]).labels["identity"]) for i in range(len(source))] == [0, 1, 2, 3, 4]


@pytest.fixture
def little_room():
    """Files of this process may grow to 1000 bytes, as on a disk that is nearly full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_shard_that_a_disk_has_no_room_for_is_refused_and_leaves_nothing(tmp_path, little_room):
    with pytest.raises(UserError, match="cannot write .*a.array_record: .*File too large"):
        write_shard(tmp_path / "a.array_record", [Record(bytes(200_000))] * 3)
    assert not any(tmp_path.iterdir())


def test_a_mistake_of_who_makes_the_records_stays_what_it_is(tmp_path):
    def make():
        yield Record(b"one")
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        write_shard(tmp_path / "a.array_record", make())
    assert not any(tmp_path.iterdir())
