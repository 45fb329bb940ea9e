import struct
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from vasa_jax.media import audio
from vasa_jax.media.audio import AudioReader, load_audio, open_sound


def tone(seconds: float, rate: int, hertz: float = 440.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


@pytest.mark.parametrize("rate", [8000, 11111, 16000, 22050, 44100, 48000])
def test_every_rate_becomes_the_same_tone_at_16_khz(rate):
    heard = load_audio((tone(1.0, rate), rate))
    assert heard.dtype == np.float32
    assert len(heard) == 16000
    inner = slice(800, -800)  # the filter rings at both ends
    np.testing.assert_allclose(heard[inner], tone(1.0, 16000)[inner], atol=2e-3)


def test_the_end_is_flushed():
    sound = np.zeros(48000, np.float32)
    sound[-300] = 1.0
    heard = load_audio((sound, 48000))
    assert len(heard) == 16000
    assert np.argmax(np.abs(heard)) == 15900


def test_channels_are_averaged():
    stereo = np.stack([tone(0.1, 16000), -0.5 * tone(0.1, 16000)], 1)
    np.testing.assert_allclose(load_audio(stereo), 0.25 * tone(0.1, 16000), atol=1e-6)


@pytest.mark.parametrize("rate", [16000, 44100])
def test_block_size_changes_no_bit(tmp_path, monkeypatch, rate):
    path = tmp_path / "noise.wav"
    soundfile.write(path, np.random.default_rng(0).uniform(-1, 1, (rate, 2)), rate)
    whole = load_audio(path)
    monkeypatch.setattr(audio, "BLOCK", 1000)
    np.testing.assert_array_equal(load_audio(path), whole)


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg", "a.mp3", "a.m4a", "a.webm", "a.mka"])
def test_formats(tmp_path, name):
    path = tmp_path / name
    sound = tone(1.0, 48000)
    if path.suffix in (".wav", ".flac", ".ogg", ".mp3"):
        soundfile.write(path, sound, 48000)
    else:
        codec = {".m4a": "aac", ".webm": "libopus", ".mka": "ac3"}[path.suffix]
        with av.open(str(path), "w") as container:
            stream = container.add_stream(codec, rate=48000, layout="mono")
            assert isinstance(stream, av.AudioStream)
            frame = av.AudioFrame.from_ndarray(sound[None], format="fltp", layout="mono")
            frame.sample_rate = 48000
            container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    reader = AudioReader(path)
    heard = load_audio(path)
    assert abs(len(heard) - 16000) < 1000  # compressed formats pad their last block
    assert reader.frames is None or reader.frames in (25, 26, 27)
    spectrum = np.abs(np.fft.rfft(heard[:16000], 16000))
    assert abs(int(np.argmax(spectrum)) - 440) <= 1


def test_integer_arrays_are_scaled():
    np.testing.assert_allclose(load_audio(np.array([-32768, 0, 16384], np.int16)), [-1, 0, 0.5])


def test_a_reader_can_be_read_twice():
    reader = AudioReader((tone(0.5, 44100), 44100))
    np.testing.assert_array_equal(np.concatenate(list(reader)), np.concatenate(list(reader)))
    assert reader.frames == 13


def test_the_number_of_frames_rounds_up():
    assert AudioReader(np.zeros(640 * 3, np.float32)).frames == 3
    assert AudioReader(np.zeros(640 * 3 + 1, np.float32)).frames == 4
    assert AudioReader(np.zeros(1, np.float32)).frames == 1


def wav_header(data_bytes: int) -> bytes:
    riff = b"RIFF" + struct.pack("<I", 36 + data_bytes) + b"WAVEfmt "
    return riff + struct.pack("<IHHIIHH", 16, 1, 1, 16000, 32000, 2, 16) + b"data" + struct.pack("<I", data_bytes)


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "is empty"),
        (wav_header(0), "zero length"),
        (b"this is a letter, not a sound\n" * 30, "is not a sound"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 200, "is not a sound"),
        (b"\0" * 4096, "is not a sound"),
    ],
    ids=["empty", "no samples", "text", "png", "zeros"],
)
def test_files_that_hold_no_sound(tmp_path, content, message):
    path = tmp_path / "bad.wav"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        open_sound(path)
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)


def test_files_that_are_not_there(tmp_path):
    with pytest.raises(ValueError, match="no such sound file"):
        AudioReader(tmp_path / "none.wav")
    with pytest.raises(ValueError, match="not a file"):
        AudioReader(tmp_path)


def test_nan_is_refused_wherever_it_is(tmp_path):
    sound = np.zeros(100_000, np.float32)
    sound[70_000] = np.nan
    path = tmp_path / "nan.wav"
    soundfile.write(path, sound, 16000, subtype="FLOAT")
    with pytest.raises(ValueError, match="NaN"):
        load_audio(path)
    with pytest.raises(ValueError, match="NaN"):
        open_sound(np.full(100, np.inf, np.float32))


@pytest.mark.parametrize(
    "array, message",
    [
        (np.zeros(0, np.float32), "zero length"),
        (np.zeros((2, 2, 2), np.float32), "shape"),
        (np.zeros((2, 16000), np.float32), "channels"),
        (np.zeros(10, complex), "dtype"),
        ((np.zeros(10, np.float32), 0), "rate"),
    ],
)
def test_arrays_that_are_no_sound(array, message):
    with pytest.raises(ValueError, match=message):
        open_sound(array)


def test_memory_is_bounded(tmp_path):
    path = tmp_path / "long.wav"
    soundfile.write(path, np.zeros(16000 * 60, np.int16), 16000)
    assert max(len(block) for block in AudioReader(path)) <= audio.BLOCK


def test_real_speech(assets: Path):
    files = sorted((assets / "speech").iterdir()) + sorted((assets / "video").glob("talk_*.mp4"))
    for path in files:
        reader, heard = AudioReader(path), load_audio(path)
        assert reader.frames == -(-len(heard) // 640), path
        assert path.suffix == ".mp4" or 0.01 < np.abs(heard).max() < 1.5, path  # one video has a silent track
