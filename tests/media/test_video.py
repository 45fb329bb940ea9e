import io
import itertools
import os
import struct
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from vasa_jax.errors import UserError
from vasa_jax.media.audio import open_sound
from vasa_jax.media.tags import COMMENT, TITLE
from vasa_jax.media.video import FrameWriter, VideoWriter, is_frame_folder, read_rate, read_video

ROOT = Path(__file__).parents[2]
BLACK, WHITE = (np.full((64, 64, 3), level, np.uint8) for level in (0, 255))


def flash_and_click(rate: int, channels: int) -> np.ndarray:
    """2 s of silence with a 20 ms burst at 1 s, the instant at which frame 25 starts."""
    sound = np.zeros((2 * rate, channels), np.float32)
    sound[rate : rate + rate // 50] = 0.9 * np.sin(2 * np.pi * 1000 * np.arange(rate // 50) / rate)[:, None]
    return sound


@pytest.mark.parametrize("rate, channels", [(16000, 1), (44100, 2), (48000, 8), (11111, 1), (96000, 2)])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm"])
def test_picture_and_sound_are_in_sync(tmp_path, rate, channels, suffix):
    path = tmp_path / f"a{suffix}"
    with VideoWriter(path, 25, 64, audio=(flash_and_click(rate, channels), rate)) as writer:
        for index in range(50):
            writer.write(WHITE if index == 25 else BLACK)
    frames = list(read_video(path))
    bright = [index for index, frame in enumerate(frames) if frame.mean() > 128]
    sound = open_sound(path)
    heard = np.concatenate(list(sound.blocks()))
    onset = np.argmax(np.abs(heard[:, 0]) > 0.2) / sound.rate
    assert len(frames) == 50
    assert bright == [25]
    assert abs(onset - 1.0) < 0.003
    assert 2.0 <= len(heard) / sound.rate < 2.0 + 1100 / sound.rate  # AAC fills its last block of 1024
    assert sound.channels == min(channels, 2)
    assert sound.rate == (rate if rate in (16000, 44100, 96000, 48000) and suffix != ".webm" else 48000)


def test_the_streams_are_what_players_expect(tmp_path):
    path = tmp_path / "a.mp4"
    with VideoWriter(path, 25, (48, 64), audio=np.zeros(32000, np.float32)) as writer:
        for _ in range(50):
            writer.write(np.zeros((48, 64, 3), np.uint8))
    with av.open(str(path)) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        assert (video.codec_context.name, audio.codec_context.name) == ("h264", "aac")
        assert (video.codec_context.pix_fmt, video.width, video.height) == ("yuv420p", 64, 48)
        assert video.average_rate == 25
        assert video.time_base and video.duration and video.duration * video.time_base == 2
        assert audio.time_base and audio.duration and abs(audio.duration * audio.time_base - 2) < 0.01
        assert (container.metadata["title"], container.metadata["comment"]) == (TITLE, COMMENT)
        times = [frame.time for frame in container.decode(video)]
    np.testing.assert_allclose(times, np.arange(50) / 25)
    assert path.read_bytes().find(b"moov") < path.read_bytes().find(b"mdat")  # a browser may start before the end


def test_colours_survive(tmp_path):
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (200, 150, 120), (128, 128, 128)]
    with VideoWriter(tmp_path / "a.mp4", 25, 64) as writer:
        for colour in colours:
            writer.write(np.full((64, 64, 3), colour, np.uint8))
    for colour, frame in zip(colours, read_video(tmp_path / "a.mp4"), strict=True):
        np.testing.assert_allclose(frame[32, 32], colour, atol=3)


def decode_alpha(path: Path) -> list[np.ndarray]:
    """RGBA frames; FFmpeg's own decoder of VP9 leaves the second picture out."""
    decoder = av.CodecContext.create("libvpx-vp9", "r")
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        assert container.streams.video[0].metadata["ALPHA_MODE"] == "1"
        frames = [frame for packet in packets for frame in decoder.decode(packet)] + decoder.decode(None)
    assert {frame.format.name for frame in frames} == {"yuva420p"}
    return [frame.to_ndarray(format="rgba", src_colorspace="ITU709") for frame in frames]


def test_transparency_comes_back(tmp_path):
    """A half-transparent bar that wanders over a transparent left and an opaque right half."""
    frames = np.zeros((20, 48, 64, 4), np.uint8)
    frames[..., :3], frames[:, :, 32:, 3] = (200, 150, 120), 255
    for i, frame in enumerate(frames):
        frame[:, 2 * i : 2 * i + 8] = (30, 90, 160, 128)
    with VideoWriter(tmp_path / "a.webm", 25, (48, 64), np.zeros(12800, np.float32), alpha=True) as writer:
        for frame in frames:
            writer.write(frame)
    back = np.stack(decode_alpha(tmp_path / "a.webm")).astype(int)
    assert back.shape == frames.shape
    assert np.abs(back[..., 3] - frames[..., 3]).mean() < 1 and np.abs(back[..., :3] - frames[..., :3]).mean() < 3
    for i in range(20):
        np.testing.assert_allclose(back[i, 24, 2 * i + 4], (30, 90, 160, 128), atol=8)
    heard = sum(map(len, open_sound(tmp_path / "a.webm").blocks())) / 48000
    assert abs(heard - 20 / 25) <= 1 / 25


def test_the_same_frames_give_the_same_video(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (6, 128, 128, 4), np.uint8)
    for name in ("a.webm", "b.webm"):
        with VideoWriter(tmp_path / name, 25, 128, alpha=True) as writer:
            for frame in noise:
                writer.write(frame)
    np.testing.assert_array_equal(*(np.stack(decode_alpha(tmp_path / name)) for name in ("a.webm", "b.webm")))


def test_transparency_needs_a_file_that_keeps_it(tmp_path):
    for name in ("a.mp4", "a.mkv", "a.mov"):
        with pytest.raises(ValueError, match="cannot keep transparency.*name a .webm file or a folder"):
            VideoWriter(tmp_path / name, 25, 64, alpha=True)
    with pytest.raises(ValueError, match=r"opened for uint8 \(64, 64, 4\)"):
        with VideoWriter(tmp_path / "a.webm", 25, 64, alpha=True) as writer:
            writer.write(BLACK)


@pytest.mark.parametrize("name", ["a.mp4", "a.webm"])
def test_the_last_row_and_column_of_odd_sizes_are_left_out(tmp_path, name):
    picture = np.zeros((51, 65, 3), np.uint8)
    picture[:, 32:] = 200
    with VideoWriter(tmp_path / name, 25, (51, 65)) as writer:
        for _ in range(3):
            writer.write(picture)
    assert (writer.height, writer.width) == (50, 64)
    for frame in read_video(tmp_path / name):
        assert np.abs(frame.astype(int) - picture[:50, :64]).mean() < 3


def test_the_sound_ends_with_the_frames(tmp_path):
    with VideoWriter(tmp_path / "a.mp4", 25, 64, audio=np.zeros(160000, np.float32)) as writer:
        for _ in range(10):
            writer.write(BLACK)
    assert abs(sum(map(len, open_sound(tmp_path / "a.mp4").blocks())) - 6400) <= 1024


def test_a_sound_file_is_copied_at_its_own_rate(assets: Path, tmp_path):
    source = open_sound(assets / "speech" / "french.wav")
    with VideoWriter(tmp_path / "a.mp4", 25, 64, audio=source) as writer:
        for _ in range(169):
            writer.write(BLACK)
    copy = open_sound(tmp_path / "a.mp4")
    assert (copy.rate, copy.channels) == (source.rate, source.channels) == (48000, 2)
    first, second = (np.concatenate(list(sound.blocks()))[:320000, 0] for sound in (source, copy))
    assert np.corrcoef(first, second)[0, 1] > 0.98


def test_nothing_is_left_after_an_error(tmp_path):
    with pytest.raises(RuntimeError), VideoWriter(tmp_path / "a.mp4", 25, 64) as writer:
        writer.write(BLACK)
        assert len(list(tmp_path.iterdir())) == 1
        raise RuntimeError
    with pytest.raises(RuntimeError), FrameWriter(tmp_path / "frames", 64) as pictures:
        pictures.write(BLACK)
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_an_old_file_stays_until_the_new_one_is_complete(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"old")
    with pytest.raises(ValueError, match="shape|opened for"), VideoWriter(path, 25, 64) as writer:
        writer.write(np.zeros((32, 32, 3), np.uint8))
    assert path.read_bytes() == b"old"
    with VideoWriter(path, 25, 64) as writer:
        writer.write(BLACK)
    assert len(list(read_video(path))) == 1


def test_no_frames_no_file(tmp_path):
    with pytest.raises(ValueError, match="no frame"), VideoWriter(tmp_path / "a.mp4", 25, 64):
        pass
    with pytest.raises(ValueError, match="no frame"), FrameWriter(tmp_path / "frames", 64):
        pass
    assert list(tmp_path.iterdir()) == []


def test_nan_in_a_sound_removes_the_file(tmp_path):
    sound = np.zeros(64000, np.float32)
    sound[40000] = np.nan
    with pytest.raises(ValueError, match="NaN"), VideoWriter(tmp_path / "a.mp4", 25, 64, audio=sound) as writer:
        for _ in range(100):
            writer.write(BLACK)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "name, size, message",
    [
        ("a.gif", 64, "must end in"),
        ("none/a.mp4", 64, "no folder"),
        ("a.mp4", 0, "too small"),
        ("a.mp4", 4098, "at most 4096"),
    ],
)
def test_targets_that_cannot_be_written(tmp_path, name, size, message):
    with pytest.raises(ValueError, match=message):
        VideoWriter(tmp_path / name, 25, size)


@pytest.mark.parametrize("kind, name", [("VideoWriter", "a.mp4"), ("VideoWriter", "a.mkv"), ("FrameWriter", "frames")])
def test_a_full_disk_is_named_and_nothing_is_left(tmp_path, kind, name):
    """A limit on the size of files stands for the end of the disk; the file itself is too large in the end."""
    script = (
        "import resource, signal, sys\nimport numpy as np\n"
        f"from vasa_jax.media.video import {kind}\nfrom vasa_jax.errors import UserError\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "try:\n"
        f"    with {kind}({name!r}, size=128) as writer:\n"
        "        for _ in range(60):\n"
        "            writer.write(np.random.randint(0, 256, (128, 128, 3), np.uint8))\n"
        "except UserError as error:\n"
        "    sys.exit(str(error))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1 and done.stderr == f"cannot write {name}: File too large\n"
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_pictures(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), np.uint8)
    (tmp_path / "frames").mkdir()
    with FrameWriter(tmp_path / "frames", 64) as writer:
        for frame in noise:
            writer.write(frame)
        assert not list((tmp_path / "frames").iterdir())
    files = sorted((tmp_path / "frames").iterdir())
    assert [file.name for file in files] == ["000000.png", "000001.png", "000002.png"]
    for file, frame in zip(files, noise, strict=True):
        with Image.open(file) as picture:
            np.testing.assert_array_equal(np.asarray(picture), frame)
            assert picture.info["Comment"] == COMMENT
            assert "AIGC>{&quot;Label&quot;: &quot;1&quot;" in picture.info["XML:com.adobe.xmp"]
    with pytest.raises(ValueError, match="not an empty folder"):
        FrameWriter(tmp_path / "frames", 64)
    transparent = np.random.default_rng(1).integers(0, 256, (33, 47, 4), np.uint8)
    with FrameWriter(tmp_path / "more", (33, 47), alpha=True) as writer:
        writer.write(transparent)
    with Image.open(tmp_path / "more" / "000000.png") as picture:
        np.testing.assert_array_equal(np.asarray(picture), transparent)


def test_what_is_a_folder(tmp_path):
    assert is_frame_folder(f"frames{os.sep}") and is_frame_folder("frames") and is_frame_folder(tmp_path)
    assert not is_frame_folder("talk.mp4")


def test_reading_what_is_no_video(tmp_path):
    with pytest.raises(ValueError, match="no such video"):
        next(read_video(tmp_path / "none.mp4"))
    (tmp_path / "a.mp4").write_bytes(b"letter" * 100)
    with pytest.raises(ValueError, match="not a video"):
        next(read_video(tmp_path / "a.mp4"))


@pytest.mark.parametrize("form", ["flv", "mpegts"])
def test_wrappings_whose_head_names_no_streams_are_read(tmp_path, form):
    with av.open(str(tmp_path / "a.video"), "w", format=form) as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 32, 24, "yuv420p"
        container.mux(stream.encode(av.VideoFrame(32, 24, "yuv420p")))
        container.mux(stream.encode(None))
    assert next(read_video(tmp_path / "a.video")).shape == (24, 32, 3)


@pytest.mark.parametrize("declared", [7000, 32])
def test_frames_that_are_too_large_are_refused_before_they_are_decoded(tmp_path, declared):
    """Whether the header says so, or the pictures alone."""
    picture, path = io.BytesIO(), tmp_path / "large.mov"
    Image.new("1", (7000, 7000)).save(picture, "PNG")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("png", rate=25)
        stream.width, stream.height, stream.pix_fmt = declared, declared, "rgb24"
        container.start_encoding()
        packet = av.Packet(picture.getvalue())
        packet.stream, packet.pts, packet.dts, packet.time_base = stream, 0, 0, Fraction(1, 25)
        container.mux(packet)
    with pytest.raises(UserError, match=r"large\.mov (has frames of 7000x7000|is not a video)"):
        next(read_video(path))


@pytest.mark.parametrize("matrix, turns", [((0, 1, -1, 0), 3), ((0, -1, 1, 0), 1), ((-1, 0, 0, -1), 2)])
def test_a_video_is_read_upright(tmp_path, matrix, turns):
    """As telephones store it: the matrix of the track's header maps x and y to a x + c y and b x + d y."""
    picture = np.zeros((48, 64, 3), np.uint8)
    picture[:16, :16], picture[:16, 48:] = 255, 128
    with VideoWriter(tmp_path / "a.mp4", 25, (48, 64)) as writer:
        writer.write(picture)
    data = bytearray((tmp_path / "a.mp4").read_bytes())
    at = data.find(b"tkhd") + 44
    a, b, c, d = (number << 16 for number in matrix)
    data[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    (tmp_path / "a.mp4").write_bytes(data)
    (frame,) = read_video(tmp_path / "a.mp4")
    np.testing.assert_allclose(frame, np.rot90(picture, turns), atol=30)
    y, x = np.mgrid[:48, :64]
    places = np.stack([matrix[0] * x + matrix[2] * y, matrix[1] * x + matrix[3] * y], -1)
    x, y = np.moveaxis(places - places.min((0, 1)), -1, 0)
    assert np.abs(frame[y, x].astype(int) - picture).mean() < 3


def test_the_rate_of_a_video(tmp_path, assets: Path):
    with VideoWriter(tmp_path / "a.mp4", Fraction(30000, 1001), 64) as writer:
        for _ in range(30):
            writer.write(BLACK)
    assert read_rate(tmp_path / "a.mp4") == Fraction(30000, 1001)
    assert read_rate(assets / "video" / "talk_d20.mp4") == 25 and read_rate(assets / "video" / "talk_d10.mp4") == 30
    with pytest.raises(ValueError, match="no such video"):
        read_rate(tmp_path / "none.mp4")


def test_real_videos(assets: Path):
    for path in sorted((assets / "video").iterdir())[:3]:
        frames = list(itertools.islice(read_video(path), 3))
        assert len(frames) == 3 and frames[0].ndim == 3, path


def test_a_name_is_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("12:30.mp4", "http:a.mkv"):
        with VideoWriter(name, 25, 64, audio=np.zeros(640, np.float32)) as writer:
            writer.write(WHITE)
        assert len(list(read_video(name))) == 1
        assert open_sound(name).rate == 16000
