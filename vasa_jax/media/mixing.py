"""Streams of samples: regrouped, resampled, and mixed to one channel in which no voice is lost.

The mean of the channels is silent where one is the other's negative (a miswired microphone), and faint where the voice
is in one of many. `mono` weighs instead, by half seconds on the sound's own clock: each channel by how loud it is there
(so silent ones do not count) and by its place (in surround sound the voice is in the centre), and with a negative sign
where it runs against those before it. The power of the mix is then at least about the sum of the powers of the weighted
channels; of two equal or opposite channels it is the first, bit for bit. The weights of a half second follow from
it and the one before, so nothing depends on the size of blocks, and half a second is all that is held.
"""

from collections.abc import Iterable, Iterator

import av
import numpy as np
import soxr

LAYOUTS = {1: "mono", 2: "stereo", 3: "3.0", 4: "quad", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}
"""What FFmpeg calls so many channels where a file does not say which they are."""
BLOCK = 1 << 15
"""Samples that a block holds at most."""
STRETCH = 0.5
"""Seconds that are weighed together."""
FADE = 0.01
"""Seconds in which one stretch's weights become the next one's."""
LEAN = 0.2
"""How clearly a channel must run against the others to change its sign."""
SILENT = 1e-6
"""Deviation below which a stretch is silent and keeps the weights before it."""
FRONT = ("FL", "FR", "FC", "DL", "DR")


def regrouped(blocks: Iterable[np.ndarray], size: int) -> Iterator[np.ndarray]:
    """The same samples, (n, c) or (n,), in blocks of `size`, the last one shorter."""
    waiting: list[np.ndarray] = []
    count = 0
    for block in blocks:
        while count + len(block) >= size:
            head, block = block[: size - count], block[size - count :]
            yield np.concatenate([*waiting, head]) if waiting else head
            waiting, count = [], 0
        if len(block):
            waiting.append(block)
            count += len(block)
    if waiting:
        yield np.concatenate(waiting)


def resampled(blocks: Iterable[np.ndarray], rate: int, target: int, channels: int) -> Iterator[np.ndarray]:
    """Samples, (n, channels) or (n,) for one, at another rate: n become n target / rate, rounded."""
    if rate == target:
        yield from blocks
        return
    resampler = soxr.ResampleStream(rate, target, channels, dtype="float32", quality="HQ")
    shape = (0, channels)
    for block in blocks:
        shape = (0, *block.shape[1:])
        if len(ready := resampler.resample_chunk(np.ascontiguousarray(block))):
            yield ready
    if len(rest := resampler.resample_chunk(np.zeros(shape, np.float32), last=True)):
        yield rest


def remixed(blocks: Iterable[np.ndarray], rate: int, layout: str, channels: int) -> Iterator[np.ndarray]:
    """Samples (n, c) with another number of channels: one is copied to all, all are mixed to one, others keep place."""
    if channels == 1:
        yield from (block[:, None] for block in mono(blocks, rate, layout))
        return
    for block in blocks:
        if block.shape[1] == 1:
            yield np.repeat(block, channels, axis=1)
        else:
            yield np.pad(block[:, :channels], ((0, 0), (0, max(0, channels - block.shape[1]))))


def mono(blocks: Iterable[np.ndarray], rate: int, layout: str) -> Iterator[np.ndarray]:
    """One channel of a sound.

    Args:
        blocks: float32 (n, c), of any lengths.
        rate: samples a second.
        layout: of the channels, as FFmpeg calls it.

    Yields:
        float32 (n,), n >= 1.
    """
    places, weights = _places(layout), None
    for stretch in regrouped(blocks, max(1, round(STRETCH * rate))):
        if stretch.shape[1] == 1:
            yield stretch[:, 0]
            continue
        before, weights = weights, _weights(stretch, places, weights)
        mixed = _mix(stretch, weights)
        if before is not None and not np.array_equal(before, weights):
            fade = min(len(stretch), max(1, round(FADE * rate)))
            share = (np.arange(fade, dtype=np.float32) + 1) / (fade + 1)
            mixed[:fade] = share * mixed[:fade] + (1 - share) * _mix(stretch[:fade], before)
        yield mixed


def _places(layout: str) -> np.ndarray:
    """How much the place of each channel counts, (c,)."""
    names = [channel.name for channel in av.AudioLayout(layout).channels]
    if "FC" in names:
        return np.array([{"FC": 1.0, "LFE": 0.0}.get(name, 0.25 if name in FRONT else 0.125) for name in names])
    return np.array([0.0 if name == "LFE" else 1.0 if name in FRONT else 0.5 for name in names])


def _weights(stretch: np.ndarray, places: np.ndarray, before: np.ndarray | None) -> np.ndarray:
    """Weights (c,) whose sizes sum to 1."""
    centred = stretch.astype(np.float64)
    centred -= centred.mean(axis=0)
    power = np.mean(centred**2, axis=0)
    if power.max() < SILENT**2:
        return places / places.sum() if before is None else before
    amounts = places * np.sqrt(power) if (places * power).any() else np.sqrt(power)
    leaning = np.ones(len(amounts)) if before is None else np.where(before < 0, -1.0, 1.0)
    covariance = centred.T @ centred / len(centred)
    signed = np.zeros(len(amounts))
    for channel in np.argsort(-amounts, kind="stable"):
        with_others = signed @ covariance[channel]
        loudness = np.sqrt(max(0.0, signed @ covariance @ signed) * power[channel])
        sign = np.sign(with_others + LEAN * loudness * leaning[channel]) or leaning[channel]
        signed[channel] = sign * amounts[channel]
    if before is None:
        signed *= np.sign(signed[np.flatnonzero(signed)[0]])
    return signed / amounts.sum()


def _mix(samples: np.ndarray, weights: np.ndarray) -> np.ndarray:
    mixed = np.zeros(len(samples), np.float32)
    for channel, weight in enumerate(weights.astype(np.float32)):
        mixed += weight * samples[:, channel]
    return mixed
