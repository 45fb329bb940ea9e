import os
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.media.sounds import encode, loudest, patched, plain, tone
from vasa_jax.errors import UserError
from vasa_jax.media import audio, sound_file
from vasa_jax.media.audio import AudioReader, load_audio, open_sound


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


@pytest.mark.parametrize("rate", [16000, 44100])
def test_block_size_changes_no_bit(tmp_path, monkeypatch, rate):
    path = tmp_path / "noise.wav"
    soundfile.write(path, np.random.default_rng(0).uniform(-1, 1, (rate, 2)), rate)
    whole = load_audio(path)
    monkeypatch.setattr(sound_file, "BLOCK", 1000)
    np.testing.assert_array_equal(load_audio(path), whole)


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg", "a.mp3", "a.m4a", "a.webm", "a.mka"])
def test_formats(tmp_path, name):
    path, sound = tmp_path / name, tone(1.0, 48000)
    if path.suffix in (".wav", ".flac", ".ogg", ".mp3"):
        soundfile.write(path, sound, 48000)
    else:
        codec, form = {".m4a": ("aac", "ipod"), ".webm": ("libopus", "webm"), ".mka": ("ac3", "matroska")}[path.suffix]
        path.write_bytes(encode(sound, 48000, codec, form))
    reader = AudioReader(path)
    heard = load_audio(path)
    assert abs(len(heard) - 16000) < 1000  # compressed formats pad their last block
    assert reader.frames is None or reader.frames in (25, 26, 27)
    assert abs(loudest(heard) - 440) <= 2


@pytest.mark.parametrize(
    "form, subtype, rate",
    [("WAV", subtype, 8000) for subtype in ("GSM610", "ULAW", "ALAW", "IMA_ADPCM", "MS_ADPCM", "G721_32", "PCM_U8")]
    + [("WAV", subtype, 16000) for subtype in ("PCM_24", "PCM_32", "FLOAT", "DOUBLE", "NMS_ADPCM_32")]
    + [("AU", "G723_24", 8000), ("AIFF", "GSM610", 8000), ("CAF", "ALAC_24", 16000), ("WAVEX", "PCM_24", 16000)]
    + [("NIST", "PCM_16", 16000), ("VOC", "ULAW", 8000), ("PAF", "PCM_24", 16000), ("SVX", "PCM_16", 16000)]
    + [("HTK", "PCM_16", 16000), ("MAT5", "FLOAT", 16000), ("WVE", "ALAW", 8000)],
)
def test_what_libsndfile_writes(tmp_path, form, subtype, rate):
    path = tmp_path / f"a.{form.lower()}"
    soundfile.write(path, tone(1.0, rate, 300), rate, format=form, subtype=subtype)
    heard = load_audio(path)
    assert 16000 <= len(heard) <= 16700  # telephone codecs fill up their last blocks
    assert abs(loudest(heard) - 300) <= 2
    assert np.abs(heard[2000:-2000]).max() == pytest.approx(0.5, abs=0.15)


@pytest.mark.parametrize(
    "codec, form, rate, layout",
    [("g722", "g722", 16000, "mono"), ("g726", "wav", 8000, "mono")]
    + [("mp2", "mp2", 48000, "mono"), ("alac", "ipod", 16000, "mono"), ("wavpack", "wv", 16000, "mono")]
    + [("pcm_mulaw", "mov", 8000, "mono"), ("flac", "ogg", 16000, "mono"), ("tta", "tta", 16000, "mono")]
    + [("libopus", "mpegts", 48000, "mono"), ("pcm_s64le", "nut", 16000, "mono"), ("eac3", "eac3", 48000, "5.1")]
    + [
        ("aac", "adts", 44100, "5.1"),
        ("aac", "mov", 44100, "7.1"),
        ("flac", "flac", 48000, "5.1"),
        ("pcm_s24le", "wav", 48000, "quad"),
    ],
)
def test_what_ffmpeg_writes(tmp_path, codec, form, rate, layout):
    channels = {"mono": 1, "5.1": 6, "7.1": 8, "quad": 4}[layout]
    path = tmp_path / f"a.{form}"
    sound = np.stack([tone(1.0, rate, 300)] * channels)
    path.write_bytes(encode(sound, rate, codec, form, layout=layout))
    assert open_sound(path).channels == channels
    check_tone(path)


def test_what_phones_record():
    """tone.amr is a second of 300 Hz, written by an encoder that PyAV has up to 18 only."""
    check_tone(Path(__file__).with_name("tone.amr"))


def check_tone(path: Path) -> None:
    heard = load_audio(path)
    assert 15900 <= len(heard) <= 18200
    assert abs(loudest(heard) - 300) <= 3
    assert np.abs(heard[3000:-3000]).max() == pytest.approx(0.5, abs=0.2)


def test_metadata_in_any_encoding(tmp_path):
    path = tmp_path / "a.mkv"
    data = encode(tone(1.0, 16000, 300), 16000, "libopus", "matroska")
    assert b"Lavf" in data
    path.write_bytes(data.replace(b"Lavf", b"\xe9\xff\xfe\xc3"))  # the name of the writer
    assert abs(loudest(load_audio(path)) - 300) <= 3


def test_integer_arrays_are_scaled():
    levels = np.array([-1.0, 0.0, 0.5])
    for kind in (np.int8, np.int16, np.int32, np.int64, ">i2", "<i4"):
        full = -float(np.iinfo(kind).min)
        np.testing.assert_allclose(load_audio((levels * full).astype(kind)), levels)
    for kind in (np.uint8, np.uint16, np.uint32):
        middle = float(np.iinfo(kind).max // 2 + 1)
        np.testing.assert_allclose(load_audio((levels * middle + middle).astype(kind)), levels)
    for kind in (np.float16, np.float64, np.longdouble):
        np.testing.assert_allclose(load_audio(levels.astype(kind)), levels)


def test_another_scale_is_refused(tmp_path):
    sound = 32767 * tone(1.0, 16000)
    for samples in (sound, sound.astype(np.int32), sound.astype(np.int64)):
        with pytest.raises(UserError, match="int16|16-bit"):
            load_audio(samples)
    soundfile.write(tmp_path / "a.wav", np.concatenate([np.zeros(40_000), sound]), 16000, subtype="FLOAT")
    with pytest.raises(UserError, match=r"a.wav holds samples as large as 16384 near 2.05 s.*divide"):
        load_audio(tmp_path / "a.wav")
    assert np.abs(load_audio(3 * tone(0.1, 16000))).max() > 1.4  # loud, but no other scale


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
        ((np.zeros(10, np.float32), float("nan")), "rate"),
        ((np.zeros(10, np.float32), 1e9), "rate"),
        (np.zeros(10, bool), "dtype"),
    ],
)
def test_arrays_that_are_no_sound(array, message):
    with pytest.raises(ValueError, match=message):
        open_sound(array)


def test_a_codec_that_nobody_knows(tmp_path):
    data = wav_header(64000)[:20] + b"\3\0" + wav_header(64000)[22:] + bytes(64000)  # floats of 16 bits
    (tmp_path / "a.wav").write_bytes(data)
    with pytest.raises(UserError, match="a.wav has its sound in a codec that cannot be decoded; convert it"):
        open_sound(tmp_path / "a.wav")


def test_the_stream_that_players_choose(tmp_path):
    data = encode(tone(1.0, 48000, 300), 48000, "aac", "matroska", beside=("libopus", tone(1.0, 48000, 600)))
    (tmp_path / "a.mka").write_bytes(data)
    assert abs(loudest(load_audio(tmp_path / "a.mka")) - 600) < 3  # which is marked as the default
    (tmp_path / "a.mka").write_bytes(data.replace(b"A_OPUS", b"A_NONE"))
    assert abs(loudest(load_audio(tmp_path / "a.mka")) - 300) < 3  # the other one has no decoder
    (tmp_path / "a.mka").write_bytes(data.replace(b"A_OPUS", b"A_NONE").replace(b"A_AAC", b"A_XXX"))
    with pytest.raises(UserError, match="codec that cannot be decoded"):
        open_sound(tmp_path / "a.mka")


def test_surround_sound_in_the_clothes_of_samples(tmp_path):
    burst = encode(np.stack([tone(1.0, 48000, 300)] * 2), 48000, "ac3", "spdif")
    (tmp_path / "a.wav").write_bytes(plain(np.frombuffer(burst, "<i2").reshape(-1, 2), 48000))
    assert abs(loudest(load_audio(tmp_path / "a.wav")) - 300) < 3


def test_rates_at_which_nobody_speaks(tmp_path):
    for rate in (1, 999, 2_000_000, 2**31 - 1):
        (tmp_path / "a.wav").write_bytes(patched(plain(tone(0.1, 16000), 16000), 24, "<I", rate))
        with pytest.raises(UserError, match=f"a.wav has a rate of {rate} samples a second"):
            open_sound(tmp_path / "a.wav")
    with pytest.raises(UserError, match="shorter than a single sample"):
        load_audio((np.ones(1, np.float32), 48000))


def test_samples_without_a_header_are_refused(tmp_path):
    for subtype in ("PCM_16", "PCM_U8", "FLOAT", "ULAW", "ALAW", "VOX_ADPCM"):
        for name in ("a.raw", "a.pcm", "a.sw", "a.wav"):
            data = plain(tone(1.0, 16000), 16000, "RAW", subtype)
            (tmp_path / name).write_bytes(data)
            with pytest.raises(UserError, match="is not a sound") as error:
                open_sound(tmp_path / name)
            assert name == "a.wav" or "need one: ffmpeg -f s16le" in str(error.value)


@pytest.mark.parametrize(
    "name", ["12:30.m4a", "http:a.m4a", "file:a.m4a", "-", "#1 50%d?.m4a", "\udcff.m4a", "名前.m4a"]
)
def test_names_are_names(tmp_path, monkeypatch, name):
    folder = tmp_path / "re: sound"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for data in (encode(tone(0.5, 16000), 16000, "aac", "ipod"), plain(tone(0.5, 16000), 16000)):
        Path(name).write_bytes(data)
        for path in (name, os.path.join(".", name), folder / name):
            assert abs(len(load_audio(path)) - 8000) < 1100


def test_a_playlist_fetches_nothing(tmp_path):
    (tmp_path / "a.wav").write_bytes(plain(tone(1.0, 16000), 16000))
    listed = f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{tmp_path}/a.wav\n#EXT-X-ENDLIST\n"
    (tmp_path / "a.m3u8").write_text(listed)
    (tmp_path / "b.txt").write_text("ffconcat version 1.0\nfile a.wav\n")
    for name in ("a.m3u8", "b.txt"):
        with pytest.raises(UserError, match="is not a sound"):
            open_sound(tmp_path / name)


def test_more_channels_than_can_be_mixed(tmp_path):
    for form in ("WAV", "CAF"):
        (tmp_path / "a.wav").write_bytes(plain(np.zeros((100, 12)), 16000, form))
        with pytest.raises(UserError, match="a.wav has 12 channels"):
            open_sound(tmp_path / "a.wav")


def test_time_stamps_are_kept(tmp_path):
    sound = tone(2.0, 48000)
    late, gap = ((1.0, 0, 96000),), ((0.0, 0, 48000), (3.0, 48000, 96000))
    for name, codec, form in (("a.mp4", "aac", "mp4"), ("a.mkv", "libopus", "matroska"), ("a.ts", "aac", "mpegts")):
        path = tmp_path / name
        path.write_bytes(encode(sound, 48000, codec, form, starts=late, picture=True))
        heard = load_audio(path)
        assert abs(len(heard) - 48000) < 1000, name
        assert np.abs(heard[:15500]).max() < 0.01 and np.abs(heard[16500:47000]).max() > 0.4, name
        path.write_bytes(encode(sound, 48000, codec, form, starts=gap))
        heard = load_audio(path)
        assert abs(len(heard) - 64000) < 1000, name
        assert np.abs(heard[17000:46000]).max() < 0.01 and np.abs(heard[49000:63000]).max() > 0.4, name
        path.write_bytes(encode(sound, 48000, codec, form, starts=late))
        assert abs(len(load_audio(path)) - 32000) < 1000, name  # sound alone starts when it starts


def test_damage_is_passed_over_or_told(tmp_path):
    noise = np.random.default_rng(0).normal(0, 0.2, 4 * 48000).astype(np.float32)
    lengths = []
    for name, codec, form in (("a.flac", "flac", "flac"), ("a.m4a", "aac", "ipod"), ("a.opus", "libopus", "ogg")):
        data = bytearray(encode(noise, 48000, codec, form))
        data[len(data) // 2 : len(data) // 2 + 3000] = bytes(3000)
        (tmp_path / name).write_bytes(data)
        lengths.append(len(load_audio(tmp_path / name)))
    assert max(abs(length - 64000) for length in lengths) < 2000  # what is lost is silent
    data = bytearray(encode(noise, 48000, "libopus", "webm"))  # a single cluster, in which FFmpeg loses its way
    data[len(data) // 2 : len(data) // 2 + 3000] = bytes(3000)
    (tmp_path / "a.webm").write_bytes(data)
    with pytest.raises(UserError, match="a.webm is damaged near"):
        load_audio(tmp_path / "a.webm")
    data = bytearray(encode(noise, 48000, "aac", "ipod"))
    start = data.index(b"mdat") + 400
    data[start:-3000] = np.random.default_rng(1).bytes(len(data) - 3000 - start)
    (tmp_path / "a.m4a").write_bytes(data)
    with pytest.raises(UserError, match="a.m4a (is damaged|holds)"):
        load_audio(tmp_path / "a.m4a")


def test_memory_is_bounded(tmp_path):
    path = tmp_path / "long.wav"
    soundfile.write(path, np.zeros(16000 * 60, np.int16), 16000)
    assert max(len(block) for block in AudioReader(path)) <= audio.BLOCK


def test_real_speech(assets: Path):
    files = sorted((assets / "speech").iterdir()) + sorted((assets / "video").glob("talk_*.mp4"))
    for path in files:
        reader, heard = AudioReader(path), load_audio(path)
        assert path.suffix == ".mp4" or reader.frames == -(-len(heard) // 640), path
        assert path.suffix == ".mp4" or 0.01 < np.abs(heard).max() < 1.5, path  # one video has a silent track
