"""The watermark: what it changes, that it is found, and that nothing else is."""

import functools
import itertools

import av
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import watermark as benchmark
from vasa_jax.errors import UserError
from vasa_jax.media.video import VideoWriter, read_video
from vasa_jax.provenance import watermark

MARK = 0xC0FFEE42


@functools.cache
def picture(side: int, seed: int = 0) -> np.ndarray:
    """Frames (3, side, side, 3) with the spectrum of pictures: waves whose amplitude falls with their number."""
    generator = np.random.default_rng(seed)
    number = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None]) * side
    spectrum = np.exp(2j * np.pi * generator.random(number.shape)) / np.maximum(number, 1) ** 1.5
    shade = np.fft.irfft2(spectrum, (side, side))
    frame = np.clip(128 + 45 * shade / shade.std(), 0, 255).astype(np.uint8)
    return np.broadcast_to(frame[None, :, :, None], (3, side, side, 3)).copy()


@functools.cache
def marked(side: int, mark: int = MARK) -> np.ndarray:
    return np.asarray(watermark.embed(jnp.asarray(picture(side)), jnp.asarray(watermark.pattern(mark, (side, side)))))


def test_the_checksum_is_that_of_the_polynomial():
    """The remainder of a product with the polynomial is nothing; of 1 it is the polynomial's lower part."""
    assert watermark.checksum(0) == 0
    assert watermark.checksum(1) == watermark.POLYNOMIAL
    assert watermark.checksum(3) == watermark.checksum(1) ^ watermark.checksum(2)


def test_a_message_survives_wrong_bits():
    """One coded bit in eight is turned; the code of free distance 24 (Larsen 1973) and Viterbi's decoder repair it."""
    generator = np.random.default_rng(0)
    for mark in (0, MARK, 2**32 - 1):
        signs = 1.0 - 2.0 * watermark.encode(mark)
        signs[generator.choice(len(signs), len(signs) // 8, replace=False)] *= -1
        bits, metric = watermark.decode(jnp.asarray(signs, jnp.float32))
        sent = (mark >> watermark.INDEX_BITS) << watermark.CHECK_BITS | watermark.checksum(mark)
        assert int("".join(map(str, np.asarray(bits)[: -watermark.MEMORY].tolist())), 2) == sent
        assert float(metric) == len(signs) - 2 * (len(signs) // 8)


def test_the_pattern_is_paved_with_tiles_of_half_the_shorter_side():
    pattern = watermark.pattern(MARK, (128, 192))
    np.testing.assert_allclose(pattern[:64], pattern[64:], atol=1e-4)
    np.testing.assert_allclose(pattern[:, :128], pattern[:, 64:], atol=1e-4)
    assert abs(pattern.mean()) < 1e-4
    assert pattern.std() == pytest.approx(1, abs=1e-3)


def test_patterns_of_files_have_nothing_in_common():
    """The mean of patterns of many marks is as small as that of as many independent ones."""
    generator = np.random.default_rng(1)
    marks = generator.integers(2**32, size=64).tolist()
    mean = np.mean([watermark.pattern(mark, (64, 64)) for mark in marks], axis=0)
    assert mean.std() < 1.5 / np.sqrt(len(marks))


@pytest.mark.parametrize("side", [64, 512])
def test_what_is_changed_is_small(side):
    """In flat places the amplitude is FLAT, anywhere at most MOST, times what small frames get more."""
    more = 1.0 if side >= watermark.FULL else watermark.SMALL
    change = marked(side).astype(float) - picture(side)
    inside = (picture(side) > 25) & (picture(side) < 230)
    pattern = watermark.pattern(MARK, (side, side))
    assert np.all(np.abs(change) <= more * watermark.MOST * np.abs(pattern)[None, :, :, None] + 0.51)
    flat = np.full((1, side, side, 3), 128, np.uint8)
    change = np.asarray(watermark.embed(jnp.asarray(flat), jnp.asarray(pattern))).astype(float) - 128
    np.testing.assert_allclose(change[0, :, :, 1], more * watermark.FLAT * pattern, atol=0.51)
    assert inside.any()


def test_opacity_stays():
    frames = np.concatenate([picture(64), picture(64, 1)[..., :1]], axis=-1)
    pattern = jnp.asarray(watermark.pattern(MARK, (64, 64)))
    result = np.asarray(watermark.embed(jnp.asarray(frames), pattern))
    np.testing.assert_array_equal(result[..., :3], marked(64))
    np.testing.assert_array_equal(result[..., 3], frames[..., 3])


@pytest.mark.parametrize("side", [64, 128, 512])
def test_a_mark_is_found_in_one_frame(side):
    found = watermark.detect(jnp.asarray(marked(side)[:1]))
    assert (found.found, found.mark, found.bits) == (True, MARK, MARK)
    assert found.score > watermark.threshold()
    assert found.p_value < watermark.FALSE_ALARMS
    assert found.scale == pytest.approx(1, abs=0.01)


def test_a_mark_is_found_in_a_part_of_another_brightness():
    part = (marked(512)[:, 30:491, 12:473].astype(float) * 0.9 + 20).astype(np.uint8)
    found = watermark.detect(jnp.asarray(part))
    assert found.mark == MARK
    assert found.scale == pytest.approx(512 / 461, abs=0.01)


def test_nothing_is_found_where_nothing_is():
    """Scores of pictures without a mark stay below the threshold, and p-values say so."""
    for seed, side in itertools.product(range(6), (64, 256)):
        found = watermark.detect(jnp.asarray(picture(side, seed)))
        assert not found.found
        assert found.mark is None
        assert found.score < watermark.threshold()
        assert found.p_value > watermark.FALSE_ALARMS
    assert not watermark.detect(jnp.zeros((2, 64, 64, 3), jnp.uint8)).found


def test_another_key_finds_nothing():
    assert not watermark.detect(jnp.asarray(marked(128)), b"another").found


def test_the_same_mark_gives_the_same_frames():
    again = watermark.embed(jnp.asarray(picture(64)), jnp.asarray(watermark.pattern(MARK, (64, 64))))
    np.testing.assert_array_equal(np.asarray(again), marked(64))


def test_p_values_follow_the_fitted_tail():
    begin, share, excess = watermark.TAIL
    assert watermark.p_value(begin - 1, right=False) == 1
    assert watermark.p_value(begin, right=False) == share
    assert watermark.p_value(begin + excess, right=False) == pytest.approx(share / np.e)
    assert watermark.p_value(watermark.threshold(), right=True) == pytest.approx(watermark.FALSE_ALARMS)


def test_a_mark_survives_the_writer(tmp_path):
    """H.264 as the package writes it, and back."""
    with VideoWriter(tmp_path / "marked.mp4", 25, 256) as writer:
        for frame in marked(256):
            writer.write(frame)
    with av.open(tmp_path / "marked.mp4") as container:
        assert container.streams.video[0].codec_context.name == "h264"
    frames = np.stack(list(read_video(tmp_path / "marked.mp4")))
    assert watermark.detect(jnp.asarray(frames)).mark == MARK


@pytest.mark.parametrize("mark", [-1, 2**32])
def test_a_mark_has_32_bits(mark):
    with pytest.raises(UserError, match=f"mark is {mark}; give a whole number"):
        watermark.pattern(mark, (64, 64))


def test_frames_that_show_no_wave_stay():
    assert not watermark.pattern(MARK, (16, 16)).any()


def test_frames_are_marked_as_they_come():
    frames = list(watermark.marking(iter(picture(64)), MARK))
    np.testing.assert_array_equal(np.stack(frames), marked(64))
    assert list(watermark.marking(iter(()), MARK)) == []


def test_the_benchmark_counts_windows(capsys):
    """52 frames are ten blocks of five: one window of 2 s, which is found, and costs what its PSNR says."""
    clip = np.concatenate([picture(64)] * 18)[:52]
    result = benchmark.attacked([clip], ["none"])
    assert (result["none"]["found"], result["none"]["windows"]) == (1.0, 1)
    assert result["none"]["errors"] < 0.3
    error = np.mean((marked(64).astype(float) - picture(64)) ** 2)
    assert result["psnr"] == pytest.approx(10 * np.log10(255**2 / error), abs=0.3)
    assert "a frame that was true to 22 dB" in capsys.readouterr().out


def test_an_interval_and_a_tail_are_those_of_known_samples():
    """Wilson's interval of 0 of n ends at z^2 / (n + z^2); an exponential's mean excess is its mean."""
    assert benchmark.wilson(0, 10) == pytest.approx((0, 1.96**2 / (10 + 1.96**2)))
    scores = 5 - 0.25 * np.log1p(-(np.arange(20_000) + 0.5) / 20_000)
    begin, excess = benchmark.tail(scores)
    assert begin == pytest.approx(5 + 0.25 * np.log(100), abs=0.01)
    assert excess == pytest.approx(0.25, rel=0.02)
