"""The mix to one channel in which no voice is lost."""

import numpy as np
import pytest

from tests.media.sounds import encode, plain, tone
from vasa_jax.media.audio import load_audio
from vasa_jax.media.mixing import mono, regrouped

RATE = 16000
VOICE = np.random.default_rng(0).normal(0, 0.1, 2 * RATE).astype(np.float32) * np.repeat([1, 0.1, 2, 0], RATE // 2)
VOICE = VOICE.astype(np.float32)
OTHER = np.random.default_rng(1).normal(0, 0.1, 2 * RATE).astype(np.float32)
NONE = np.zeros_like(VOICE)


def mix(*channels: np.ndarray, layout: str | None = None) -> np.ndarray:
    layout = layout or {1: "mono", 2: "stereo", 4: "quad", 6: "5.1"}[len(channels)]
    return np.concatenate(list(mono([np.stack(channels, 1)], RATE, layout)))


@pytest.mark.parametrize(
    "channels",
    [(VOICE,), (VOICE, VOICE), (VOICE, -VOICE), (VOICE, NONE), (NONE, VOICE), (VOICE, NONE + np.float32(0.3))]
    + [(NONE, NONE, VOICE, NONE, NONE, NONE), (VOICE, VOICE, NONE, NONE, NONE, NONE)],
    ids=["mono", "twice", "inverted", "left", "right", "a constant beside", "centre", "stereo in 5.1"],
)
def test_the_voice_comes_through_bit_for_bit(channels):
    np.testing.assert_array_equal(mix(*channels), VOICE)


def test_all_but_the_sign_of_opposites():
    sound = np.stack([0.3 * VOICE, -VOICE], 1)
    mixed = mix(*sound.T)
    assert abs(np.corrcoef(mixed, VOICE)[0, 1]) > 0.9999
    assert np.std(mixed) > 0.7 * np.std(VOICE)
    np.testing.assert_allclose(mix(VOICE, -VOICE, VOICE, -VOICE), VOICE, atol=1e-6)


def test_channels_that_have_nothing_in_common_keep_their_power():
    mixed = mix(OTHER, np.roll(OTHER, 400))
    assert np.var(mixed) == pytest.approx(np.var(OTHER) / 2, rel=0.1)
    wide = mix(OTHER + 0.9 * VOICE, OTHER - 0.9 * VOICE)  # a middle and a louder or softer side
    assert np.var(wide) > 0.4 * np.var(OTHER)


def test_the_centre_outweighs_louder_music():
    mixed = mix(OTHER, np.roll(OTHER, 99), VOICE[::-1], 3 * OTHER, OTHER, OTHER)
    music = mix(OTHER, np.roll(OTHER, 99), NONE, 3 * OTHER, OTHER, OTHER)
    loud = slice(RATE // 2, RATE)  # where the reversed voice is loud
    assert np.corrcoef(mixed[loud], VOICE[::-1][loud])[0, 1] > 0.9
    assert np.std(music) > 0.2 * np.std(OTHER)  # where nobody speaks, the rest is heard
    np.testing.assert_array_equal(mix(NONE, NONE, NONE, VOICE, NONE, NONE), VOICE)


def test_a_cable_that_is_turned_on_the_way():
    turned = np.concatenate([VOICE[:RATE], -VOICE[RATE:]])
    mixed = mix(VOICE, turned)
    fade = slice(RATE, RATE + RATE // 100)
    kept = np.delete(np.arange(len(VOICE)), fade)
    np.testing.assert_array_equal(np.abs(mixed[kept]), np.abs(VOICE[kept]))
    assert np.isfinite(mixed).all() and np.abs(mixed).max() <= np.abs(VOICE).max()


def test_blocks_change_no_bit():
    sound = np.stack([VOICE, 0.5 * np.roll(VOICE, 7) + 0.1 * OTHER], 1)
    whole = mix(*sound.T)
    for size in (1, 777, 8000, 8001):
        blocks = list(regrouped(iter([sound[:5], sound[5:]]), size))
        assert {len(block) for block in blocks[:-1]} <= {size}
        np.testing.assert_array_equal(np.concatenate(list(mono(blocks, RATE, "stereo"))), whole)


def test_files_with_a_voice_in_one_of_many_channels(tmp_path):
    voice = tone(1.0, 48000)
    channels = np.stack([0 * voice, 0 * voice, voice, 0 * voice, 0 * voice, 0 * voice])
    expected = load_audio((voice, 48000))
    for name, data in (("a.wav", plain(channels.T, 48000)), ("a.flac", encode(channels, 48000, "flac", "flac"))):
        (tmp_path / name).write_bytes(data)
        np.testing.assert_allclose(load_audio(tmp_path / name), expected, atol=1e-4)
    (tmp_path / "a.m4a").write_bytes(encode(channels, 48000, "aac", "ipod"))
    assert np.abs(load_audio(tmp_path / "a.m4a")).max() > 0.4
    (tmp_path / "a.wav").write_bytes(plain(np.stack([voice, -voice], 1), 48000))
    np.testing.assert_allclose(load_audio(tmp_path / "a.wav"), expected, atol=1e-4)
