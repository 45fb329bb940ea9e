"""Joined files, and headers that misstate how much sound there is: the sound is read whole, and its length counted."""

from pathlib import Path

import numpy as np
import pytest

from tests.media.sounds import encode, loudest, patched, plain, tone
from vasa_jax.errors import UserError
from vasa_jax.media.audio import load_audio, open_sound
from vasa_jax.media.parts import parts

RATE = 16000
LOW, HIGH = tone(1.0, RATE, 300), tone(1.0, RATE, 600)
AGAIN = np.stack([tone(1.0, 48000, 600)] * 2)
"""The second sound at another rate, in stereo."""


def heard(folder: Path, name: str, data: bytes) -> np.ndarray:
    path = folder / name
    path.write_bytes(data)
    return load_audio(path)


def as_libsndfile(form: str, subtype: str | None = None):
    return lambda samples, rate: plain(samples.T, rate, form, subtype)


def as_ffmpeg(codec: str, form: str, **options):
    return lambda samples, rate: encode(samples, rate, codec, form, **options)


WRITERS = {
    "a.wav": as_libsndfile("WAV"),
    "double.wav": as_libsndfile("WAV", "DOUBLE"),
    "rf64.wav": as_libsndfile("RF64"),
    "a.w64": as_libsndfile("W64"),
    "a.aiff": as_libsndfile("AIFF"),
    "a.caf": as_libsndfile("CAF", "PCM_16"),
    "a.au": as_libsndfile("AU"),
    "a.flac": as_libsndfile("FLAC"),
    "vorbis.ogg": as_libsndfile("OGG", "VORBIS"),
    "a.opus": as_libsndfile("OGG", "OPUS"),
    "xing.mp3": as_libsndfile("MP3"),
    "bare.mp3": as_ffmpeg("libmp3lame", "mp3", options={"write_xing": "0"}),
    "adts.aac": as_ffmpeg("aac", "adts"),
    "a.m4a": as_ffmpeg("aac", "ipod"),
    "a.mka": as_ffmpeg("aac", "matroska"),
    "a.ts": as_ffmpeg("aac", "mpegts"),
}


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("second, rate", [(HIGH, RATE), (AGAIN, 48000)], ids=["alike", "other rate and channels"])
def test_joined_files_are_read_to_the_end(tmp_path, name, second, rate):
    write = WRITERS[name]
    sound = heard(tmp_path, name, write(LOW, RATE) + write(second, rate))
    assert abs(len(sound) - 2 * RATE) < 0.2 * RATE  # compressed formats fill up their blocks
    half = len(sound) // 2
    assert abs(loudest(sound[:half]) - 300) < 4
    assert abs(loudest(sound[half:]) - 600) < 8
    assert 0.3 < np.abs(sound[half + 2000 : -4000]).max() < 0.6


def test_the_parts_of_a_file_are_files(tmp_path):
    files = [plain(LOW, RATE), plain(HIGH, RATE, subtype="FLOAT"), plain(LOW, RATE)]
    (tmp_path / "a.wav").write_bytes(b"".join(files))
    found = parts(tmp_path / "a.wav")
    assert [part.end - part.start for part in found] == [len(data) for data in files]
    for part, data in zip(found, files, strict=True):
        with part.open() as file:
            assert file.read() == data
    files = [encode(tone(0.5, 48000), 48000, "libopus", "ogg")] * 2
    (tmp_path / "a.ogg").write_bytes(b"".join(files))
    assert [part.end - part.start for part in parts(tmp_path / "a.ogg")] == [len(files[0])] * 2


def test_a_sound_of_parts_has_the_best_rate_and_all_channels(tmp_path):
    (tmp_path / "a.wav").write_bytes(plain(LOW, RATE) + plain(AGAIN.T, 48000))
    sound = open_sound(tmp_path / "a.wav")
    blocks = np.concatenate(list(sound.blocks()))
    assert (sound.rate, sound.channels, blocks.shape) == (48000, 2, (96000, 2))
    np.testing.assert_array_equal(blocks[:, 0], blocks[:, 1])
    assert sound.duration == 2.0


def test_what_is_joined_by_the_thousand_or_leaps_from_rate_to_rate_is_refused(tmp_path):
    (tmp_path / "a.wav").write_bytes(plain(LOW[:10], RATE) * 501)
    with pytest.raises(UserError, match=r"a\.wav was joined of 501 files; at most 500"):
        open_sound(tmp_path / "a.wav")
    (tmp_path / "b.wav").write_bytes(plain(LOW, 1000) + plain(LOW, 96000))
    with pytest.raises(UserError, match=r"b\.wav goes on with 1000 samples a second after 96000"):
        open_sound(tmp_path / "b.wav")


def test_metadata_between_joined_mp3_files(tmp_path):
    tag = b"ID3\x03\0\0\0\0\x4e\x10" + b"APIC\0\0\x27\x06\0\0\0image/jpeg\0\3\0" + bytes(range(256)) * 40
    data = (tag[: 10 + 0x4E * 128 + 0x10] + WRITERS["xing.mp3"](LOW, RATE) + b"TAG" + bytes(125)) * 2
    assert abs(len(heard(tmp_path, "a.mp3", data)) - 2 * RATE) < 0.15 * RATE


# Where the number of bytes of samples is, and how it is written, in files of LOW as 16-bit integers.
LENGTHS = {
    "wav": ("WAV", b"data", 4, "<I"),
    "rf64": ("RF64", b"ds64", 16, "<Q"),
    "w64": ("W64", b"data\xf3\xac", 16, "<Q"),
    "aiff": ("AIFF", b"SSND", 4, ">I"),
    "caf": ("CAF", b"data", 4, ">Q"),
    "au": ("AU", b".snd", 8, ">I"),
}


@pytest.mark.parametrize("length", [0, 2, 9_999, 10_000_000, 0x7FFFFFFF, 0xFFFFFFFF])
@pytest.mark.parametrize("name", LENGTHS)
def test_a_wrong_length_loses_nothing(tmp_path, name, length):
    form, mark, offset, kind = LENGTHS[name]
    data = plain(LOW, RATE, form, "PCM_16")
    sound = heard(tmp_path, f"a.{name}", patched(data, data.index(mark) + offset, kind, length))
    np.testing.assert_allclose(sound, LOW, atol=1e-4)


@pytest.mark.parametrize("length", [0, 9_999, 10_000_000, 0xFFFFFFFF])
def test_other_wrong_lengths(tmp_path, length):
    wav, flac, mp3 = (plain(LOW, RATE, form) for form in ("WAV", "FLAC", "MP3"))
    np.testing.assert_allclose(heard(tmp_path, "a.wav", patched(wav, 4, "<I", length)), LOW, atol=1e-4)
    np.testing.assert_allclose(heard(tmp_path, "a.flac", patched(flac, 22, ">I", length)), LOW, atol=1e-4)
    frames = mp3.index(b"Xing" if b"Xing" in mp3 else b"Info") + 8
    assert abs(len(heard(tmp_path, "a.mp3", patched(mp3, frames, ">I", length))) - RATE) < 0.1 * RATE


@pytest.mark.parametrize(
    "name, codec, form",
    [("a.wav", "pcm_s16le", "wav"), ("a.caf", "pcm_s16be", "caf"), ("a.flac", "flac", "flac")]
    + [("a.mka", "aac", "matroska"), ("a.mp3", "libmp3lame", "mp3"), ("a.au", "pcm_s16be", "au")],
)
def test_files_written_to_a_pipe(tmp_path, name, codec, form):
    sound = heard(tmp_path, name, encode(LOW, RATE, codec, form, piped=True))
    assert RATE <= len(sound) < 1.15 * RATE
    assert abs(loudest(sound) - 300) < 4


def test_what_follows_the_samples_is_no_sound(tmp_path):
    data = plain(LOW, RATE)
    notes = b"LIST" + (26).to_bytes(4, "little") + b"INFOISFT" + (14).to_bytes(4, "little") + b"Lavf62.12.102\0"
    for tail in (notes, notes * 3, b"TAG" + bytes(125), b"id3 \xff\xff\0\0cut off"):
        np.testing.assert_allclose(heard(tmp_path, "a.wav", data + tail), LOW, atol=1e-4)
    with pytest.raises(UserError, match="zero length"):
        heard(tmp_path, "a.wav", patched(data, 40, "<I", 0)[:44] + notes)


def test_files_that_were_cut_off_end_there(tmp_path):
    half = plain(LOW, RATE)[: 44 + RATE]
    np.testing.assert_allclose(heard(tmp_path, "a.wav", half), LOW[: RATE // 2], atol=1e-4)
    mp3 = encode(LOW, RATE, "libmp3lame", "mp3")
    assert abs(len(heard(tmp_path, "a.mp3", mp3[: len(mp3) // 2])) - RATE / 2) < 0.1 * RATE
    m4a = encode(LOW, RATE, "aac", "ipod")
    with pytest.raises(UserError, match="a.m4a.*is not a sound.*convert it"):  # what it holds is listed at its end
        heard(tmp_path, "a.m4a", m4a[: len(m4a) // 2])


def test_a_transport_stream_that_goes_on_elsewhere_is_refused(tmp_path):
    first, second = (
        encode(tone(1.0, 48000), 48000, "aac", "mpegts", options={"mpegts_start_pid": pid}) for pid in ("256", "512")
    )
    for data in (first + second, first * 40 + second):
        with pytest.raises(UserError, match="a.ts goes on with another stream"):
            heard(tmp_path, "a.ts", data)
    assert abs(len(heard(tmp_path, "a.ts", first * 2)) - 2 * RATE) < 0.1 * RATE
