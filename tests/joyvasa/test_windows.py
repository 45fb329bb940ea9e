"""How sound is cut, and how windows are chained."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from tests.joyvasa.tiny import SAMPLE, SAMPLES, TINY, method, normal, variables
from vasa_jax.joyvasa import Noise, gaussian_noise, generate, next_window, split_audio, start


@pytest.mark.parametrize(
    "samples, count, frames",
    [
        (1, 1, 3),
        (62_080, 1, 100),  # with its margins, a window to the sample
        (62_700, 1, 100),  # 620 samples more are no frame yet, and are dropped
        (62_720, 2, 101),
        (126_080, 2, 200),
        (126_720, 2, 200),  # 201 frames, which JoyVASA's floating point counts as 200
        (200_000, 4, 315),
    ],
)
def test_windows_are_counted_as_joyvasa_counts(samples, count, frames):
    audio = np.random.default_rng(0).normal(size=samples).astype(np.float32)
    windows, found = split_audio(audio)
    assert windows.shape == (count, 64_000) and found == frames
    flat = windows.reshape(-1)
    assert not flat[:1280].any() and not flat[1280 + samples :].any()
    np.testing.assert_array_equal(flat[1280:][:samples], audio[: len(flat) - 1280])


def test_what_fills_the_last_window():
    audio = np.linspace(1.0, 2.0, 700, dtype=np.float32)
    for fill, last in (("zero", 0.0), ("replicate", 2.0)):
        windows, frames = split_audio(audio, window=2, margins=(0, 0), fill=fill)
        assert windows.shape == (1, 1280) and frames == 1 and (windows[0, 700:] == last).all()
    np.testing.assert_array_equal(*(split_audio(audio, fill=fill)[0] for fill in ("zero", "replicate")))
    with pytest.raises(ValueError, match="unknown fill='edge'; choose one of zero, replicate"):
        split_audio(audio, fill="edge")
    with pytest.raises(ValueError, match="no sound"):
        split_audio(audio[:0], margins=(0, 0))


def test_windows_are_chained_and_a_live_caller_gets_the_same_bits():
    """Three windows by hand: sound encoded alone, p frames carried, x_T shared, fresh noise in every step."""
    tree = variables()
    audio = np.asarray(0.3 * normal(0, 2 * SAMPLES), np.float32)
    noise = gaussian_noise(jax.random.key(5), TINY)
    found = generate(tree, audio, noise, position_mode="per_position", config=TINY)
    windows, frames = split_audio(audio, TINY.window)
    assert frames == 15 and found.shape == (frames, TINY.motion) and len(windows) == 3
    previous, carry, byhand, live = None, start(tree), [], []
    for i, window in enumerate(jnp.asarray(windows)[:, None]):
        features = method("audio_features")(tree, window)
        motion = SAMPLE(tree, features, noise.start, noise.steps(i), previous, 2.8, position_mode="per_position")
        previous = motion[:, -TINY.previous :], features[:, -TINY.previous :]
        byhand.append(motion[0])
        carry, motion = next_window(tree, carry, window, noise.start, noise.steps(i), 2.8, "per_position", TINY)
        live.append(motion[0])
    assert_allclose(found, np.concatenate(byhand)[:frames], atol=1e-4)
    np.testing.assert_array_equal(found, np.concatenate(live)[:frames])


def test_noise_is_drawn_by_window_and_may_be_given():
    noise = gaussian_noise(jax.random.key(0), TINY)
    shape = (1, TINY.window, TINY.motion)
    assert noise.start.shape == shape and noise.steps(0).shape == (TINY.steps, *shape)
    np.testing.assert_array_equal(noise.steps(3), gaussian_noise(jax.random.key(0), TINY).steps(3))
    assert (noise.steps(0) != noise.steps(1)).all() and (noise.steps(0)[0] != noise.start).all()
    given = Noise(np.asarray(noise.start), lambda window: np.asarray(noise.steps(window)))
    audio = np.asarray(0.3 * normal(0, 1000), np.float32)
    expected = generate(variables(), audio, noise, config=TINY)
    np.testing.assert_array_equal(generate(variables(), audio, given, config=TINY), expected)
