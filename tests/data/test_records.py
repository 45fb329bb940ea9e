import numpy as np
import pytest

from vasa_jax.data import read_clip, write_clip
from vasa_jax.data.pipeline import open_shards
from vasa_jax.data.records import count_frames, write_shard

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
    assert count_frames(data) == 3


def test_only_the_wanted_frames_are_decoded_in_the_order_asked():
    frames = smooth_frames(5)
    data = write_clip(frames, None, {})
    whole, some = read_clip(data).frames, read_clip(data, [4, 1]).frames
    np.testing.assert_array_equal(some, whole[[4, 1]])
    assert read_clip(data).audio is None


def test_a_clip_without_pictures():
    clip = read_clip(write_clip(None, np.zeros(640, np.float32), {}))
    assert clip.audio is not None and len(clip.audio) == 640 and len(clip.frames) == 0


def test_wrong_input_is_refused():
    with pytest.raises(ValueError, match="uint8"):
        write_clip(np.zeros((1, 4, 4, 3), np.float32), None, {})
    with pytest.raises(ValueError, match="finite float32"):
        write_clip(None, np.full(3, np.nan, np.float32), {})
    with pytest.raises(ValueError, match="record"):
        read_clip(b"not a record")


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
