"""The speech encoder's padding, lengths and invariances; `tests/parity` compares whole networks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from tests.joyvasa.tiny import SPEECH
from vasa_jax.audio.speech import SpeechConfig, SpeechEncoder, pad_audio, resize


def test_padding_reflects_twice():
    """Of one window: 20 samples of reflection, then what reflecting those gives, the sound itself again."""
    audio = np.random.default_rng(0).normal(size=(2, 64_000)).astype(np.float32)
    padded = np.asarray(pad_audio(audio))
    assert padded.shape == (2, 64_080)
    np.testing.assert_array_equal(padded[:, 40:-40], audio)
    np.testing.assert_array_equal(padded[:, 20:40], audio[:, 20:0:-1])
    np.testing.assert_array_equal(padded[:, :20], audio[:, :20])
    np.testing.assert_array_equal(padded[:, -20:], audio[:, -20:])


@pytest.mark.parametrize(
    "samples, padded", [(640, 720), (641, 721), (642, 720), (643, 721), (718, 720), (719, 721), (720, 720), (900, 900)]
)
def test_padding_gives_a_frame_for_every_320_samples(samples, padded):
    audio = np.arange(float(samples), dtype=np.float32)[None]
    found = np.asarray(pad_audio(audio))
    assert found.shape == (1, padded) and (padded - 400) // 320 + 1 == samples // 320
    side = (padded - samples) // 2
    np.testing.assert_array_equal(found[:, side : side + samples], audio)
    if side % 2:  # one sample is left over: a copy of the outermost
        assert found[0, 0] == found[0, 1] and found[0, -1] == found[0, -2]


def test_resize_puts_frames_at_half_pixel_centres():
    ramp = jnp.arange(8.0)[None, :, None]
    assert resize(ramp, 8) is ramp
    np.testing.assert_array_equal(resize(ramp, 4)[0, :, 0], [0.5, 2.5, 4.5, 6.5])
    assert_allclose(resize(ramp, 16)[0, :, 0], np.clip((np.arange(16) + 0.5) / 2 - 0.5, 0, 7))
    assert_allclose(resize(ramp, 5)[0, :, 0], (np.arange(5) + 0.5) * 1.6 - 0.5, rtol=1e-6)


@pytest.fixture(scope="module")
def tiny():
    network = SpeechEncoder(SPEECH)
    audio = jnp.asarray(0.3 * np.random.default_rng(0).normal(size=(2, 2000)), jnp.float32)
    return jax.jit(network.apply, static_argnums=2), jax.jit(network.init)(jax.random.key(1), audio), audio


def test_every_layer_is_there_at_the_asked_length(tiny):
    apply, variables, audio = tiny
    assert apply(variables, audio).shape == (SPEECH.layers + 1, 2, 1 + (2000 - 400) // 320, SPEECH.width)
    assert apply(variables, audio, 12).shape == (SPEECH.layers + 1, 2, 12, SPEECH.width)
    first = apply(variables, audio)[0]  # behind a layer norm with scale 1 and shift 0
    assert_allclose(first.mean(-1), 0.0, atol=1e-5)
    assert_allclose(first.std(-1), 1.0, atol=1e-3)


def test_loudness_is_normalised_away_and_samples_do_not_mix(tiny):
    apply, variables, audio = tiny
    together = apply(variables, audio)
    assert_allclose(apply(variables, 4.0 * audio), together, atol=2e-2)
    assert_allclose(apply(variables, audio[1:]), together[:, 1:], atol=1e-5)


def test_nonsense_is_refused(tiny):
    apply, variables, audio = tiny
    with pytest.raises(ValueError, match="399 samples are too short"):
        apply(variables, audio[:, :399])
    with pytest.raises(ValueError, match="multiple of heads=5"):
        SpeechConfig(heads=5)
