import io
import struct
from typing import Literal, NamedTuple

import av
import numpy as np
import pytest
import soundfile

from tests.media.test_video import BLACK, WHITE
from vasa_jax.arrays import SAMPLES_PER_FRAME
from vasa_jax.errors import UserError
from vasa_jax.media.audio import load_audio
from vasa_jax.media.live import RATE, LiveWriter, read_sound
from vasa_jax.media.tags import Tags, identity_of

SOUND = np.random.default_rng(0).uniform(-0.5, 0.5, (5000, 2))


class Trickle:
    """A pipe that gives a few bytes at a time."""

    def __init__(self, data: bytes, most: int = 5000):
        self._file, self._most, self._random = io.BytesIO(data), most, np.random.default_rng(1)

    def read(self, count: int) -> bytes:
        return self._file.read(min(count, int(self._random.integers(1, self._most))))


class Pieces(list):
    """Keeps what is written, call by call."""

    def write(self, data: bytes) -> int:
        self.append(bytes(data))
        return len(data)


def heard(data: bytes, most: int = 5000) -> np.ndarray:
    return np.concatenate(list(read_sound(Trickle(data, most))))


def wav(subtype: str = "PCM_16", rate: int = 16000, channels: int = 1, form: str = "WAV") -> bytes:
    file = io.BytesIO()
    soundfile.write(file, SOUND[:, :channels], rate, subtype, format=form)
    return file.getvalue()


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
@pytest.mark.parametrize("form", ["WAV", "WAVEX"])
def test_a_wav_is_heard_as_from_a_file(tmp_path, subtype, form):
    data = wav(subtype, 22050, form=form)
    (tmp_path / "a.wav").write_bytes(data)
    expected = load_audio(tmp_path / "a.wav")
    np.testing.assert_array_equal(heard(data), expected)
    assert len(expected) == round(5000 * 16000 / 22050)


def test_channels_are_mixed_as_from_a_file(tmp_path):
    data = wav(rate=8000, channels=2)
    (tmp_path / "a.wav").write_bytes(data)
    np.testing.assert_array_equal(heard(data), load_audio(tmp_path / "a.wav"))


def test_raw_samples_come_in_any_pieces():
    samples = np.round(SOUND[:, 0] * 2**15).astype("<i2")
    for most in (2, 5, 5000):
        np.testing.assert_array_equal(heard(samples.tobytes() + b"\0", most), samples / np.float32(2**15))


@pytest.mark.parametrize("size", [0, 0x7FFFF000, 0xFFFFFFFF])
def test_a_header_that_was_written_before_the_sound_was_known(size):
    data = wav()
    at = data.index(b"data") + 4
    np.testing.assert_array_equal(heard(data[:at] + struct.pack("<I", size) + data[at + 4 :]), heard(data))


def test_a_wav_that_breaks_off_is_heard_up_to_there_and_what_follows_samples_is_not():
    data = wav("PCM_24")
    np.testing.assert_array_equal(heard(data[:-1000]), heard(data)[: 5000 - 334])
    np.testing.assert_array_equal(heard(data + b"LIST" + bytes(100)), heard(data))


def test_chunks_before_the_samples_are_passed_over():
    data, long = wav(), b"LIST" + struct.pack("<I", 100_001) + bytes(100_002)
    np.testing.assert_array_equal(heard(data[:12] + long + data[12:]), heard(data))


def header(tag: int = 1, channels: int = 1, rate: int = 16000, bits: int = 16) -> bytes:
    form = struct.pack("<HHIIHH", tag, channels, rate, 0, 0, bits)
    return b"RIFF\0\0\0\0WAVEfmt " + struct.pack("<I", 16) + form + b"data" + struct.pack("<I", 100) + bytes(100)


BAD = {
    "nothing": (b"", "there is no sound on standard input; send a WAV, or s16le at 16 kHz"),
    "one byte": (b"\1", "there is no sound"),
    "an empty wav": (wav()[:44], "there is no sound"),
    "half a header": (wav()[:30], "ends before its samples"),
    "another RIFF": (b"RIFF\0\0\0\0AVI " + bytes(100), "ends before its samples"),
    "text": (b"Hello, this is a text.", "standard input holds text; send a WAV"),
    "flac": (wav(form="FLAC"), "standard input holds FLAC"),
    "mp4": (b"\0\0\0\x1cftypisom" + bytes(100), "standard input holds MP4"),
    "adpcm": (header(tag=2, bits=4), "format 2 with 4 bits; send s16le"),
    "no channels": (header(channels=0), "0 channels at 16000 Hz"),
    "a rate of nothing": (header(rate=0), "1 channels at 0 Hz"),
    "a cut extension": (header(tag=0xFFFE), "format 65534 with 16 bits"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_sound_is_said(name):
    with pytest.raises(UserError, match=BAD[name][1]):
        heard(BAD[name][0])


def written(container: Literal["mp4", "mpegts"], seconds: int, hop: int = 5, every: int = 25, side: int = 16) -> Pieces:
    """A video that is black and silent but for a white frame and a click at its beginning, `every` so many frames."""
    pieces, click = Pieces(), np.zeros(SAMPLES_PER_FRAME, np.float32)
    click[:16] = 0.9
    with LiveWriter(pieces, (side, side), container) as writer:
        for at in range(0, 25 * seconds, hop):
            flashes = [frame % every == every // 2 for frame in range(at, at + hop)]
            frames = np.stack([(WHITE if flash else BLACK)[:side, :side] for flash in flashes])
            writer.write(frames, np.concatenate([click if flash else 0 * click for flash in flashes]))
    return pieces


class Read(NamedTuple):
    """levels: how bright each frame is. times: of frames, in frames. starts: of blocks of sound, in samples. samples:
    how many there are. clicks: numbers of those at which it becomes loud."""

    levels: np.ndarray
    times: np.ndarray
    starts: np.ndarray
    samples: int
    clicks: np.ndarray


def read(data: bytes) -> Read:
    levels, times, starts, loud, samples = [], [], [], [np.zeros(0, int)], 0
    with av.open(io.BytesIO(data), "r") as container:
        for frame in container.decode():
            assert frame.pts is not None and frame.time_base is not None
            if isinstance(frame, av.VideoFrame):
                levels.append(frame.to_ndarray(format="gray").mean())
                times.append(frame.pts * frame.time_base * 25)
            else:
                starts.append(frame.pts * frame.time_base * RATE)
                loud.append(samples + np.flatnonzero(np.abs(frame.to_ndarray()[0]) > 0.4))
                samples += frame.samples
    places = np.concatenate(loud)
    clicks = places[np.diff(places, prepend=-RATE) > RATE // 10]
    return Read(np.array(levels), np.array(times), np.array(starts), samples, clicks)


def check_together(data: bytes, seconds: int, every: int) -> None:
    """Each flash has its click; times are whole numbers of frames and blocks, and sound and picture begin together."""
    found = read(data)
    assert len(found.levels) == 25 * seconds and 0 <= found.samples / RATE - seconds < 0.05
    start, tick = found.times[0], RATE / 90_000  # MPEG-TS counts time in 90,000 ths of a second
    assert abs(found.times - start - np.arange(len(found.times))).max() < 1e-9
    assert abs(found.starts - start * RATE / 25 - 1024 * np.arange(len(found.starts))).max() <= tick
    flashes = np.flatnonzero(found.levels > 128)
    np.testing.assert_array_equal(flashes, np.arange(every // 2, len(found.levels), every))
    np.testing.assert_allclose(found.clicks, flashes * RATE // 25, atol=48)  # a millisecond


@pytest.mark.parametrize("container", ["mp4", "mpegts"])
def test_sound_and_picture_are_together_after_a_minute(container):
    check_together(b"".join(written(container, 60, every=122)), 60, 122)


@pytest.mark.long
def test_sound_and_picture_are_together_after_an_hour():
    check_together(b"".join(written("mp4", 3600, every=6122)), 3600, 6122)


@pytest.mark.parametrize("hop", [1, 5])
def test_every_hop_leaves_at_once_as_one_fragment(hop):
    pieces = written("mp4", 2, hop)
    assert len(pieces) == 50 // hop + 1  # the last one has the rest of the sound
    for i, piece in enumerate(pieces):
        assert [name for name, _ in boxes(piece)] == [b"ftyp", b"moov", b"uuid"] * (i == 0) + [b"moof", b"mdat"]
    for count in (1, 2, 50 // hop):
        found = read(b"".join(pieces[:count]))
        np.testing.assert_array_equal(found.times, np.arange(hop * count))
        assert hop * count * RATE / 25 - found.samples < 3 * 1024 + 48  # 65 ms


def boxes(data: bytes) -> list[tuple[bytes, bytes]]:
    """Names and contents."""
    found, at = [], 0
    while at < len(data):
        size, name = struct.unpack(">I4s", data[at : at + 8])
        found.append((name, data[at + 8 : at + size]))
        at += size
    return found


def test_a_transport_stream_holds_one_frame_back():
    pieces = written("mpegts", 2)
    for count in (1, 2, 10):
        assert len(read(b"".join(pieces[:count])).times) == 5 * count - 1
    assert len(read(b"".join(pieces)).times) == 50


def test_a_transport_stream_can_be_entered_late():
    times = read(b"".join(written("mpegts", 6)[7:])).times
    assert 35 <= times[0] <= 50  # a key frame comes every two seconds at least
    np.testing.assert_array_equal(times, np.arange(times[0], 150))


def test_what_players_are_told():
    pieces = Pieces()
    with LiveWriter(pieces, (33, 47), tags=Tags(identity="c0ffee42")) as writer:
        writer.write(np.zeros((5, 33, 47, 3), np.uint8), np.zeros(3200, np.float32))
    with av.open(io.BytesIO(b"".join(pieces)), "r") as container:
        video = container.streams.video[0].codec_context
        assert (video.height, video.width, video.colorspace, video.color_range) == (32, 46, 1, 1)
        assert "vasa-jax" in container.metadata["comment"]
        assert identity_of(container.metadata["AIGC"]) == "c0ffee42"


def test_nothing_is_written_without_a_frame_or_after_a_failure():
    pieces = Pieces()
    with LiveWriter(pieces, (16, 16)):
        pass
    with pytest.raises(BrokenPipeError), LiveWriter(pieces, (16, 16)) as writer:
        writer.write(np.zeros((5, 16, 16, 3), np.uint8), np.zeros(3200, np.float32))
        pieces.clear()
        raise BrokenPipeError
    assert not pieces
