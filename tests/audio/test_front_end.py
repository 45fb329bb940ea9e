"""Front ends stream: slices of a recording give the features of the whole, and no frame hears far ahead."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.audio.tiny import HUBERT, KINDS, MEL, WAV2VEC2, compiled, speech_params
from vasa_jax.audio.front_end import AudioEncoderConfig, Speech, front_end, known_frames, slice_samples
from vasa_jax.audio.speech import SpeechEncoder
from vasa_jax.audio.weights import check_speech, copy_speech, read_speech, save_speech
from vasa_jax.checkpoint import digest

RANDOM = np.random.default_rng(0)
each = pytest.mark.parametrize("config", KINDS, ids=lambda config: config.kind)


def speech(seconds):
    """Syllables of a buzz, four a second, that rest for half a second in every one and a half, over faint noise."""
    t = np.arange(int(seconds * 16_000)) / 16_000
    buzz = sum(np.sin(2 * np.pi * 130 * k * t + k) / k for k in range(2, 30))
    spoken = np.sin(np.pi * 4 * t) ** 2 * (t % 1.5 < 1.0)
    return (0.1 * buzz * spoken + 1e-4 * RANDOM.normal(size=t.size)).astype(np.float32)


def padded(front, sound, more=0):
    """A recording with zeros around, from which slices are cut at 640 samples a frame."""
    return np.pad(sound, (front.lead, front.ahead + more))


def cut(front, whole, first, frames):
    return jnp.asarray(whole[None, 640 * first :][:, : slice_samples(front, frames)])


@each
@pytest.mark.parametrize("step", [2, 4])
def test_slices_give_the_features_of_the_whole(config, step):
    """Wherever they begin at a block: a recording in slices of 4 frames that move on by 2 or 4."""
    front, hear = compiled(config)
    whole = padded(front, speech(12 * 0.04))
    _, expected = hear(front.start(1), cut(front, whole, 0, 12))
    assert expected.shape == (1, 12, *front.shape)
    state = front.start(1)
    for first in range(0, 9, step):
        state, part = hear(state, cut(front, whole, first, 4), hop=step)
        np.testing.assert_allclose(part, expected[:, first : first + 4], atol=1e-4, err_msg=str(first))
    np.testing.assert_allclose(expected, hear(front.start(1), cut(front, whole, 0, 12), hop=2)[1], atol=1e-5)


@each
def test_a_block_hears_nothing_further_ahead_than_it_says(config):
    front, hear = compiled(config)
    sound = RANDOM.normal(size=(1, slice_samples(front, 12))).astype(np.float32) * 0.1
    end = front.block * 2
    last = front.lead + 640 * end + front.ahead
    changed = sound.copy()
    changed[:, last:] = 0.7
    before, after = (np.asarray(hear(front.start(1), given)[1]) for given in (sound, changed))
    np.testing.assert_allclose(after[:, :end], before[:, :end], atol=1e-6)
    assert (after[:, end:] != before[:, end:]).any()


@pytest.mark.parametrize("config", [WAV2VEC2, HUBERT], ids=lambda config: config.kind)
def test_a_block_is_the_network_on_its_own_window(config):
    """By hand: one window cut out, brought to unit level, through the whole network, its own frames in pairs."""
    _, hear = compiled(config)
    front = Speech(config)
    whole = padded(front, speech(0.48))
    _, features = hear(front.start(1), cut(front, whole, 0, 12))
    block = 8 // config.block
    _, windows = front.windows(front.start(1), cut(front, whole, 0, 12))
    first = front.lead + 640 * (8 - config.past) - 40
    size = 640 * (config.past + config.block + config.ahead) + 80
    cut_out = whole[None, first:][:, :size]
    ratio = np.asarray(windows[block]) / np.where(cut_out == 0, 1, cut_out)
    assert windows[block].shape == cut_out.shape
    np.testing.assert_allclose(ratio[cut_out != 0], np.median(ratio), rtol=1e-4)
    layers = jnp.asarray(SpeechEncoder(config.speech).apply({"params": speech_params()}, windows[block]))
    chosen = layers.mean(0) if config.layer == "mean" else layers[config.layer]
    own = chosen[:, 2 * config.past :][:, : 2 * config.block]
    expected = own.reshape(1, config.block, 2, -1).mean(2)
    np.testing.assert_allclose(features[:, 8 : 8 + config.block], expected, atol=1e-4)


def test_speech_of_any_level_comes_at_unit_variance_and_pauses_stay_quiet():
    """Volumes 40 dB apart come within 5 dB of each other once the loudness has settled; pauses stay 30 dB below."""
    front = Speech(WAV2VEC2)
    windows = jax.jit(front.windows)
    sound, heard = speech(6.0), []
    for decibels in (-20, 0, 20):
        louder = 10 ** (decibels / 20) * sound
        _, found = windows(front.start(1), cut(front, padded(front, louder), 0, 150))
        heard.append(np.asarray(found)[:, 0])
    power = np.square(heard).mean(-1)  # (levels, windows), of 6 frames each
    late = slice(50, 75)
    loud = power[1] > 0.3 * power[1].max()
    assert 0.4 < power[:, late][:, loud[late]].mean() < 2.5
    np.testing.assert_allclose(10 * np.log10(power[:, late] / power[1, late]), 0, atol=5)
    assert 10 * np.log10(power[:, late].min() / power[:, late].max()) < -30


def test_a_pause_is_not_turned_up():
    """Noise 60 dB below the speech before it reaches the network as far below; digital silence as zeros."""
    front, (_, hear) = Speech(WAV2VEC2), compiled(WAV2VEC2)
    sound = np.concatenate([speech(1.0), np.zeros(16_000, np.float32)])
    _, silent = front.windows(front.start(1), cut(front, padded(front, sound), 0, 50))
    hiss = sound + 1e-4 * RANDOM.normal(size=sound.size).astype(np.float32) * (np.arange(sound.size) >= 16_000)
    _, noisy = front.windows(front.start(1), cut(front, padded(front, hiss), 0, 50))
    assert not np.asarray(silent[-1]).any() and 0 < np.asarray(noisy[-1]).std() < 3e-3
    assert np.isfinite(hear(front.start(1), cut(front, padded(front, sound), 0, 50))[1]).all()


def test_half_a_block_is_unknown():
    two, one = front_end(WAV2VEC2), front_end(MEL)
    assert [known_frames(two, heard) for heard in range(6)] == [0, 0, 2, 2, 4, 4]
    assert [known_frames(one, heard) for heard in range(3)] == [0, 1, 2]


@each
def test_silent_clips_are_unknown_and_samples_do_not_mix(config):
    front, hear = compiled(config)
    sound = RANDOM.normal(size=(2, slice_samples(front, 12))).astype(np.float32) * 0.1
    broken = np.stack([sound[0], np.full_like(sound[1], np.nan)])
    (_, both), (_, half) = hear(front.start(2), sound), hear(front.start(2), broken)
    np.testing.assert_allclose(half[0], both[0], atol=1e-5)
    assert np.isnan(half[1]).reshape(12, -1).any(1).all()


@each
@pytest.mark.parametrize("more", [1, 640 * 3])
def test_a_length_that_is_no_slice_is_refused(config, more):
    front = front_end(config)
    if more % 640 == 0 and front.block == 1:
        pytest.skip("every number of frames is a slice")
    with pytest.raises(ValueError, match="640 t"):
        front.hear({}, front.start(1), jnp.zeros((1, slice_samples(front, 2) + more)))


@pytest.mark.parametrize(
    "fields, match",
    [
        ({"kind": "mel", "block": 1}, "audio.block means nothing with audio.kind 'mel'"),
        ({"kind": "mel", "weights": "x"}, "audio.weights means nothing"),
        ({"block": 0}, "must be 1 or more"),
        ({"layer": 13}, "is none of the 12 layers"),
        ({"feature_dim": 8}, "must be the network's width, 768"),
    ],
)
def test_nonsense_is_refused(fields, match):
    with pytest.raises(ValueError, match=match):
        AudioEncoderConfig(**fields)


def test_weights_are_named_by_their_hash(tmp_path):
    params = speech_params()
    total = save_speech(tmp_path / "a", "wav2vec2", WAV2VEC2.speech, params)
    assert total == digest(params)
    config = dataclasses.replace(WAV2VEC2, sha256=total)
    jax.tree.map(np.testing.assert_array_equal, read_speech(tmp_path / "a", config), params)
    copy_speech(tmp_path / "a", tmp_path / "b")
    read_speech(tmp_path / "b", config)
    wider = dataclasses.replace(WAV2VEC2.speech, hidden=64)
    for other, match in (
        (dataclasses.replace(config, sha256="0" * 64), "was trained on that with 0000000000000000"),
        (dataclasses.replace(config, kind="hubert"), "holds wav2vec2; this model hears through hubert"),
        (dataclasses.replace(config, speech=wider), "hidden=32; audio.speech.hidden is 64"),
    ):
        with pytest.raises(ValueError, match=match):
            read_speech(tmp_path / "a", other)
    with pytest.raises(ValueError, match="whose weights it does not carry"):
        check_speech(WAV2VEC2, {})
    with pytest.raises(ValueError, match="hears log-mel and takes no speech network"):
        check_speech(MEL, params)
