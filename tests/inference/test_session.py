import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.audio.tiny import WAV2VEC2, compiled, speech_params
from tests.inference.tiny import MOTION
from vasa_jax.audio.front_end import front_end
from vasa_jax.audio.front_end import slice_samples as slice_samples_of
from vasa_jax.audio.log_mel import LEAD, hear, slice_samples
from vasa_jax.audio.loudness import unheard
from vasa_jax.inference.controls import make_controls
from vasa_jax.inference.offline import Model, windows
from vasa_jax.inference.pair import Options, Sound
from vasa_jax.inference.session import session_start
from vasa_jax.inference.vasa import MotionModel
from vasa_jax.motion.denoiser import initialise
from vasa_jax.motion.statistics import Statistics, normalise

W, K = MOTION.window, MOTION.context
NEEDS = Sound(LEAD, slice_samples(1) - LEAD - 640, W)
NOISE = np.random.default_rng(0).uniform(-0.3, 0.3, 640 * 3 * W).astype(np.float32)


def run(model: Model, sound: np.ndarray, seed: int = 0, steps: int = 2):
    carry = session_start(MOTION, jax.random.key(seed))
    for samples, _ in windows([sound], NEEDS):
        carry, motion = model.motion.step(carry, jnp.asarray(samples), W, W, make_controls(), Options(steps))
        yield carry, motion


def test_the_carry_holds_the_last_frames_and_their_sound(model):
    whole = np.pad(NOISE, (LEAD, slice_samples(1)))
    _, expected = hear(unheard(1), jnp.asarray(whole[None, : slice_samples(3 * W)]))
    for number, (carry, motion) in enumerate(run(model, NOISE), 1):
        assert carry.window == number
        assert carry.known.all()
        np.testing.assert_allclose(carry.audio, expected[:, number * W - K : number * W], atol=1e-4)
        normal = normalise(model.motion.statistics, motion)
        np.testing.assert_allclose(carry.motion[0], normal[-K:], atol=1e-4)
        assert motion.pose.shape == (W, 6) and motion.dynamics.shape == (W, 5)


def test_the_first_window_has_no_context(model):
    start = session_start(MOTION, jax.random.key(0))
    poisoned = start._replace(motion=start.motion + jnp.nan, audio=start.audio + jnp.nan)
    samples = jnp.asarray(next(windows([NOISE], NEEDS))[0])
    asked = make_controls(), Options(2)
    clean, other = (model.motion.step(carry, samples, W, W, *asked)[1] for carry in (start, poisoned))
    jax.tree.map(np.testing.assert_array_equal, clean, other)


def test_a_window_depends_on_the_one_before(model):
    first, second, _ = (motion for _, motion in run(model, NOISE))
    changed = NOISE.copy()
    changed[: 640 * W - 1000] *= 0.1
    other_first, other_second, _ = (motion for _, motion in run(model, changed))
    assert np.abs(first.pose - other_first.pose).max() > 1e-3
    assert np.abs(second.pose - other_second.pose).max() > 1e-5


def test_a_window_hears_96_samples_past_its_end_and_no_more(model):
    changed = NOISE.copy()
    changed[640 * W + 96 :] = 0
    (
        (_, first),
        (_, other),
    ) = next(run(model, NOISE)), next(run(model, changed))
    jax.tree.map(np.testing.assert_array_equal, first, other)


def test_a_session_remembers_what_it_emitted_at_any_hop(model):
    """Hops of 3 frames: the context of 4 reaches over two steps, with the sound and the level that belong to them."""
    hop, carry = 3, session_start(MOTION, jax.random.key(0))
    whole = np.pad(NOISE, (LEAD, slice_samples(W)))
    emitted = []
    for number in range(4):
        samples = jnp.asarray(whole[number * hop * 640 :][: slice_samples(W)])
        carry, motion = model.motion.step(carry, samples, W, hop, make_controls(), Options(2))
        emitted.append(normalise(model.motion.statistics, motion))
        assert motion.pose.shape == (hop, 6)
    state, heard = hear(unheard(1), jnp.asarray(whole[None, : slice_samples(4 * hop)]))
    np.testing.assert_allclose(carry.audio, heard[:, -K:], atol=1e-4)
    np.testing.assert_allclose(carry.motion[0], np.concatenate(emitted)[-K:], atol=1e-4)
    for now, then in zip(carry.loudness, state, strict=True):
        np.testing.assert_allclose(now, then, rtol=1e-4)
    assert carry.known.all() and carry.window == 4


def test_sound_that_is_not_heard_yet_counts_for_nothing(model):
    carry = session_start(MOTION, jax.random.key(0))
    samples = np.array(next(windows([NOISE], NEEDS))[0])
    later = np.where(np.arange(len(samples)) < LEAD + 5 * 640 + 96, samples, 0.0).astype(np.float32)

    def step(sound, heard):
        return model.motion.step(carry, jnp.asarray(sound), heard, 2, make_controls(), Options(2))[1].pose

    np.testing.assert_array_equal(step(samples, 5), step(later, 5))
    assert np.abs(step(samples, W) - step(later, W)).max() > 1e-5


def test_windows_draw_their_own_noise(model):
    silence = np.zeros(640 * 2 * W, np.float32)
    start = session_start(MOTION, jax.random.key(0))
    samples = jnp.asarray(next(windows([silence], NEEDS))[0])
    draws = [
        model.motion.step(start._replace(window=jnp.int32(number)), samples, W, W, make_controls(), Options(2))[1].pose
        for number in (0, 1, 0)
    ]
    assert np.abs(draws[0] - draws[1]).max() > 1e-3
    np.testing.assert_array_equal(draws[0], draws[2])


def test_distance_is_a_factor_of_the_training_mean(model, monkeypatch):
    """Where distances lie 1 higher, a factor e^-1 of their mean sends the network what 1 sends it elsewhere."""
    samples = jnp.asarray(next(windows([NOISE], NEEDS))[0])

    def drawn(factor):
        carry, controls = session_start(MOTION, jax.random.key(0)), make_controls(distance=factor)
        return np.asarray(model.motion.step(carry, samples, W, W, controls, Options(2))[0].motion)

    here = drawn(1.0)
    statistics = model.motion.statistics
    farther = statistics._replace(pose_mean=statistics.pose_mean.at[5].add(1.0))
    monkeypatch.setattr(model.motion, "statistics", farther)
    np.testing.assert_allclose(drawn(np.exp(-1.0)), here, atol=1e-5)
    assert np.abs(drawn(1.0) - here).max() > 1e-3


@pytest.fixture(scope="module")
def listener():
    """A motion model that hears through the small wav2vec 2.0, in blocks of two frames."""
    config = dataclasses.replace(MOTION, audio=WAV2VEC2)
    z, random = MOTION.dynamics_dim, np.random.default_rng(0)
    shapes = jax.eval_shape(lambda key: initialise(config, key), jax.random.key(0))
    params = jax.tree.map(lambda leaf: (0.3 * random.normal(size=leaf.shape)).astype(np.float32), shapes)
    statistics = Statistics(jnp.zeros(6), jnp.ones(6), jnp.zeros(z), jnp.eye(z), jnp.ones(z))
    return MotionModel(config, params, statistics, speech_params())


def test_a_speech_network_hears_alike_at_any_hop(listener):
    """Four steps of two frames remember the features that one step of eight does, which are those of the recording."""
    needs, front = listener.needs, front_end(WAV2VEC2)
    assert needs == Sound(front.lead, front.ahead, W, 2)
    whole = np.pad(NOISE, (needs.lead, needs.ahead))
    _, expected = compiled(WAV2VEC2)[1](front.start(1), whole[None, : slice_samples_of(front, 3 * W)])
    for hop in (2, W):
        carry = listener.start(jax.random.key(0))
        for first in range(0, W, hop):
            samples = jnp.asarray(whole[640 * first :][: slice_samples_of(front, W)])
            carry, motion = listener.step(carry, samples, W, hop, make_controls(), Options(2))
            assert motion.pose.shape == (hop, 6)
        np.testing.assert_allclose(carry.audio, expected[:, W - K : W], atol=1e-4)


def test_half_a_block_of_sound_is_unheard_and_half_a_block_of_motion_refused(listener):
    carry = listener.start(jax.random.key(0))
    samples = jnp.asarray(next(windows([NOISE], listener.needs))[0])

    def pose(heard):
        return listener.step(carry, samples, heard, 2, make_controls(), Options(2))[1].pose

    np.testing.assert_array_equal(pose(5), pose(4))
    assert np.abs(pose(6) - pose(4)).max() > 1e-5
    with pytest.raises(ValueError, match="hop 3 cannot be done: this model hears sound in blocks of 2 frames"):
        listener.step(carry, samples, W, 3, make_controls(), Options(2))
    with pytest.raises(ValueError, match="hears through wav2vec2, whose weights it does not carry"):
        MotionModel(listener.config, listener.params, listener.statistics)


@pytest.mark.parametrize("length", [1, 639, 640, 641, 640 * W, 640 * W + 96, 640 * W + 97, 1920 * W - 1, 1920 * W])
@pytest.mark.parametrize("chunk", [100, 640, 100_000])
def test_windows_tile_the_sound(length, chunk):
    sound = np.arange(1, length + 1, dtype=np.float32)
    slices = list(windows([sound[i : i + chunk] for i in range(0, length, chunk)], NEEDS))
    padded = np.pad(sound, (LEAD, slice_samples(2 * W)))
    assert sum(count for _, count in slices) == -(-length // 640)
    assert all(count == W for _, count in slices[:-1])
    for number, (samples, _) in enumerate(slices):
        start = number * 640 * W
        np.testing.assert_array_equal(samples, padded[start : start + slice_samples(W)])
