"""A mark in the pixels of every frame: 32 bits that survive what happens to videos, and are found without the original.

Spread spectrum (Cox, Kilian, Leighton, Shamoon, "Secure spread spectrum watermarking for multimedia", 1997) in a
periodic pattern, so that a crop is only a shift (Kutter, "Watermarking resistant to translation, rotation, and
scaling", 1998). A frame is paved with square tiles of half its shorter side. The pattern of a tile is a sum of waves of
4 to 18 periods a tile: the same share of the picture at any size, so that scaling leaves it as it is. A third of the
waves say where a tile begins: their phases are one of 8 keyed sets, taken with either sign, so that the mark of a file
chooses one of 16. The others carry the mark, a checksum and what an error-correcting code adds to them.

The pattern is the same in all frames of a file and another in each file: nothing is left of it where files are
averaged, a video may be cut or resampled in time, a codec that repeats what stands still keeps it, and one frame is
enough where it is large. It is added to all three colours alike, stronger where the picture is busy.

The detector is public, and with it how to remove the mark: it tells where a video comes from to those who want to
know, and stops nobody who wants to hide it. What it survives, and what not: `benchmarks/watermark.py` and
docs/provenance.md.
"""

import functools
import hashlib
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float, Int, UInt8

from vasa_jax.errors import UserError

BITS = 32
"""Of a mark: whole numbers below 2**32."""
KEY = b"vasa-jax watermark 1"
"""Of the carriers; another key is another system, that finds nothing of this one's."""
TILES = 2
"""Along the shorter side of a frame."""
LOWEST, HIGHEST = 4.0, 18.0
"""Periods a tile of the waves."""
FALL = 0.5
"""The amplitude of waves falls with this power of their periods."""
GRID = 48
"""Places along a tile where the detector looks for its corner; twice `HIGHEST` and more."""
SETS = 8
"""Sets of phases of the waves that say where a tile begins."""
FULL = 512
"""Pixels of the shorter side from which on the amplitudes below hold; smaller frames get more, up to `SMALL` times."""
SMALL = 1.5
FLAT, BUSY, MOST = 1.2, 0.12, 3.2
"""Amplitude (standard deviation, in levels of 255): of flat places, its growth with the standard deviation of the
picture nearby, and the end of that growth."""
CELLS = 32
"""Along the shorter side: how finely "nearby" is told."""
FINE = 64
"""Along the shorter side of what is analysed: the radius of a neighbourhood."""
SOFT = 2.0
"""Levels of 255: spread below which a place counts less."""
LONGEST = 1.5
"""Of a wave that is found, in typical lengths; longer ones are the picture's."""
SAMPLED = 128
"""Pixels of the shorter side that tell how busy a place is, at least."""
ANALYSED = 256
"""Pixels of the shorter side that the detector looks at, at most."""
SCALES = tuple(float(x) for x in np.geomspace(1.0, 1.27, 19))
"""Of the tiles that the detector tries: half the shorter side of what it sees, times these (a crop is smaller)."""
CANDIDATES = 2
"""Scales whose message is read, best first, each also a third of a step up and down."""
STEP = SCALES[1] / SCALES[0]
READINGS = 3 * CANDIDATES
"""Messages that are read, of which one with a right checksum is preferred."""
FALSE_ALARMS = 1e-6
"""Rate a call, at most."""
TAIL = (9.1, 0.01, 0.2)
"""Of the scores of unmarked cuts: at most the second share of them is above the first, and falls off by an exponential
of a mean excess below the third: an upper bound of the tails that `benchmarks/watermark.py` fits."""
CHECK_BITS = 12
POLYNOMIAL = 0x80F
"""CRC-12 (x^12 + x^11 + x^3 + x^2 + x + 1)."""
GENERATORS = (0o463, 0o535, 0o733, 0o745)
"""Of the convolutional code of rate 1/4 and constraint length 9 with the largest free distance (Larsen 1973)."""
MEMORY = 8
INDEX_BITS = 4
"""Of the mark that choose the set and its sign; the others are sent."""
STEPS = BITS - INDEX_BITS + CHECK_BITS + MEMORY
CODED = STEPS * len(GENERATORS)


class Detection(NamedTuple):
    """What `detect` found.

    found: whether the frames are marked, at a rate of false alarms below 1e-6 a call.
    mark: the 32 bits; None where nothing was found.
    score: the correlation with the best mark that could be there, in standard deviations.
    p_value: how often frames without a mark score as high, by `TAIL`: a fit, not a count.
    bits: the same bits, where they could be read at all, found or not; None where the checksum is wrong.
    scale: the side of a tile in halves of the frames' shorter side: 1 for a whole frame, more for a part of one.
    soft: (coded,) the coded bits as they came, positive for 0.
    """

    found: bool
    mark: int | None
    score: float
    p_value: float
    bits: int | None
    scale: float
    soft: Float[np.ndarray, " coded"]


class Carriers(NamedTuple):
    """The waves: those of a half plane, each with its opposite.

    u, v: (waves,) periods a tile, across and down.
    owner: (waves,) index of the coded bit that a wave carries; -1 for waves that say where a tile begins.
    phases: (SETS, waves) of unit length; the first row serves waves that carry bits.
    gain: (waves,) relative amplitude.
    """

    u: Int[np.ndarray, " k"]
    v: Int[np.ndarray, " k"]
    owner: Int[np.ndarray, " k"]
    phases: Complex[np.ndarray, "s k"]
    gain: Float[np.ndarray, " k"]


@functools.cache
def carriers(key: bytes = KEY) -> Carriers:
    """The waves of a key."""
    span = np.arange(-int(HIGHEST), int(HIGHEST) + 1)
    v, u = (axis.ravel() for axis in np.meshgrid(span, span, indexing="ij"))
    radius = np.hypot(u, v)
    # Waves along an axis are left out: edges of pictures, letterboxes and the codec's blocks live there.
    chosen = (radius >= LOWEST) & (radius <= HIGHEST) & (v > 0) & (u != 0)
    u, v, radius = u[chosen], v[chosen], radius[chosen]
    count = len(u)
    noise = np.frombuffer(hashlib.shake_256(key).digest(8 * (SETS + 1) * count), "<u8").reshape(SETS + 1, count)
    noise = noise / 2.0**64
    # Rings of similar radius are dealt out in turn, so that each bit has waves of all lengths.
    order = np.lexsort((noise[0], np.floor(radius / 1.0)))
    owner = np.full(count, -1)
    carrying = np.arange(count) % 3 != 0
    deal = np.arange(carrying.sum())
    shuffled = np.argsort(np.frombuffer(hashlib.shake_256(key + b" bits").digest(8 * CODED), "<u8"), kind="stable")
    owner[order[carrying]] = shuffled[deal % CODED]
    phases = np.exp(2j * np.pi * noise[1:])
    return Carriers(u, v, owner, phases, radius**-FALL)


def checksum(mark: int) -> int:
    """CRC-12 of a mark's 32 bits."""
    rest = mark << CHECK_BITS
    for place in range(BITS - 1, -1, -1):
        if rest >> (place + CHECK_BITS) & 1:
            rest ^= (1 << CHECK_BITS | POLYNOMIAL) << place
    return rest


def encode(mark: int) -> Int[np.ndarray, " coded"]:
    """The coded bits (0 or 1) of what a mark sends: its upper 28 bits, its checksum, and zeros that end the code.

    Raises:
        UserError: the mark is no whole number from 0 to 2**32 - 1.
    """
    if not 0 <= mark < 1 << BITS:
        raise UserError(f"mark is {mark}; give a whole number from 0 to 2**32 - 1")
    message = (mark >> INDEX_BITS) << CHECK_BITS | checksum(mark)
    length = STEPS - MEMORY
    bits = [message >> (length - 1 - i) & 1 for i in range(length)] + [0] * MEMORY
    register, coded = 0, []
    for bit in bits:
        register = (register >> 1) | bit << MEMORY
        coded += [(register & generator).bit_count() & 1 for generator in GENERATORS]
    return np.array(coded)


@functools.cache
def _trellis() -> tuple[np.ndarray, np.ndarray]:
    """For each state after a step and each of the two before it: that state, and the signs (+1 for 0) it sends."""
    states = 1 << MEMORY
    after = np.arange(states)
    # A register holds the new bit on top of the state; the state after is its upper MEMORY bits.
    registers = after[:, None] << 1 | np.arange(2)
    before = registers & (states - 1)
    parity = [[[(int(r) & g).bit_count() & 1 for g in GENERATORS] for r in row] for row in registers]
    return before, 1.0 - 2.0 * np.array(parity, np.float32)


@jax.jit
def decode(soft: Float[Array, " coded"]) -> tuple[Int[Array, " steps"], Float[Array, ""]]:
    """The likeliest message (Viterbi 1967) of noisy coded bits, positive for 0, and its correlation with them."""
    before, signs = (jnp.asarray(part) for part in _trellis())
    received = soft.reshape(STEPS, len(GENERATORS))
    start = jnp.where(jnp.arange(1 << MEMORY) == 0, 0.0, -jnp.inf)

    def forward(metric: Array, step: Array) -> tuple[Array, Array]:
        paths = metric[before] + signs @ step
        return jnp.max(paths, axis=1), jnp.argmax(paths, axis=1)

    metric, choices = jax.lax.scan(forward, start, received)

    def backward(state: Array, choice: Array) -> tuple[Array, Array]:
        return before[state, choice[state]], state >> (MEMORY - 1)

    _, bits = jax.lax.scan(backward, jnp.zeros((), jnp.int32), choices, reverse=True)
    return bits, metric[0]


def _mark(bits: np.ndarray, index: int) -> int | None:
    """The mark that a set and a message tell; None where the checksum is wrong."""
    number = int("".join(map(str, bits[: STEPS - MEMORY].tolist())), 2)
    mark = (number >> CHECK_BITS) << INDEX_BITS | index
    return mark if checksum(mark) == number & ((1 << CHECK_BITS) - 1) else None


def pattern(mark: int, shape: tuple[int, int], key: bytes = KEY) -> Float[np.ndarray, "h w"]:
    """The pattern of a file's frames of `shape` (height, width): mean 0, standard deviation 1.

    Waves that the pixels cannot show are left out: below a shorter side of about 48 too few are left to be read, below
    18 none.

    Raises:
        UserError: the mark is no whole number from 0 to 2**32 - 1.
    """
    signs = 1 - 2 * encode(mark)
    waves = carriers(key)
    index = mark & ((1 << INDEX_BITS) - 1)
    beginning = waves.phases[index >> 1] * (1 - 2 * (index & 1))
    coefficient = np.where(waves.owner < 0, beginning, waves.phases[0] * signs[waves.owner]) * waves.gain
    side = min(shape) / TILES
    # Waves that the frame's pixels cannot show are left out.
    coefficient = np.where(np.hypot(waves.u, waves.v) <= 0.45 * side, coefficient, 0)
    span = int(HIGHEST)
    spectrum = np.zeros((span + 1, 2 * span + 1), complex)
    spectrum[waves.v, waves.u + span] = coefficient
    down = np.exp(2j * np.pi * np.outer((np.arange(shape[0]) + 0.5) / side, np.arange(span + 1)))
    across = np.exp(2j * np.pi * np.outer(np.arange(-span, span + 1), (np.arange(shape[1]) + 0.5) / side))
    power = np.sum(np.abs(coefficient) ** 2) / 2
    return (np.real(down @ spectrum @ across) / np.sqrt(power + 1e-20)).astype(np.float32)


Marker = Callable[[UInt8[np.ndarray, "h w c"]], UInt8[np.ndarray, "h w c"]]
"""Marks a frame."""


def marker(mark: int, shape: tuple[int, int], key: bytes = KEY) -> Marker:
    """What marks frames of `shape` (height, width), one at a time. Raises UserError as `pattern`."""
    shown = jnp.asarray(pattern(mark, shape, key))
    return lambda frame: np.asarray(embed(jnp.asarray(frame)[None], shown))[0]


def marking(
    frames: Iterable[UInt8[np.ndarray, "h w c"]], mark: int, key: bytes = KEY
) -> Iterator[UInt8[np.ndarray, "h w c"]]:
    """Frames of one size as they come, marked. Raises UserError as `pattern`."""
    marked: Marker | None = None
    for frame in frames:
        if marked is None:
            height, width = frame.shape[:2]
            marked = marker(mark, (height, width), key)
        yield marked(frame)


def _triangles(length: int, cells: int) -> Float[np.ndarray, "cells length"]:
    """Overlapping weights of pixels around the middle of each of `cells` places, up to the next places'."""
    place = (np.arange(length) + 0.5) / length * cells - 0.5
    distance = np.abs(np.clip(place, 0, cells - 1)[None] - np.arange(cells)[:, None])
    return np.maximum(0, 1 - distance).astype(np.float32)


LUMA = (0.2126, 0.7152, 0.0722)


def _luma(frames: UInt8[Array, "t h w c"]) -> Float[Array, "t h w"]:
    """BT.709 luma, 0 to 255."""
    return jnp.einsum("thwc,c->thw", frames[..., :3].astype(jnp.float32), jnp.asarray(LUMA, jnp.float32))


@jax.jit
def embed(frames: UInt8[Array, "t h w c"], pattern: Float[Array, "h w"]) -> UInt8[Array, "t h w c"]:
    """Frames with a pattern (of `pattern`) added to their first three channels; a fourth, opacity, stays."""
    h, w = frames.shape[1:3]
    short = min(h, w)
    # How busy a place is needs no more than some of its pixels.
    skip = max(1, short // SAMPLED)
    shade = _luma(frames[:, ::skip, ::skip])
    cells = [round(n * CELLS / short) for n in (h, w)]
    down, across = (jnp.asarray(_triangles(n, k)) for n, k in zip(shade.shape[1:], cells, strict=True))
    norm = (jnp.sum(down, 1)[:, None] * jnp.sum(across, 1)[None])[None]
    mean = jnp.einsum("ih,thw,jw->tij", down, shade, across) / norm
    square = jnp.einsum("ih,thw,jw->tij", down, jnp.square(shade), across) / norm
    busy = jnp.sqrt(jax.nn.relu(square - jnp.square(mean)))
    amplitude = jnp.clip(FLAT + BUSY * busy, FLAT, MOST)
    down, across = (jnp.asarray(_triangles(n, k)) for n, k in zip((h, w), cells, strict=True))
    amplitude = jnp.einsum("ih,tij,jw->thw", down, amplitude, across)
    change = min(SMALL, max(1.0, math.sqrt(FULL / short))) * amplitude * pattern[None]
    marked = jnp.clip(jnp.round(frames[..., :3] + change[..., None]), 0, 255).astype(jnp.uint8)
    return jnp.concatenate([marked, frames[..., 3:]], axis=-1)


@functools.partial(jax.jit, static_argnames="shape")
def residual(frames: UInt8[Array, "t h w c"], shape: tuple[int, int]) -> Float[Array, "y x"]:
    """The mean over frames of what their neighbourhood does not foretell, in units of its own spread, at `shape`."""
    shade = _luma(frames)
    if shade.shape[1:] != shape:
        shade = jax.image.resize(shade, (len(shade), *shape), "linear")
    fine = max(1, round(min(shape) / FINE))
    rest = shade - _box(shade, fine)
    spread = jnp.sqrt(_box(jnp.square(rest), 2 * fine))
    return jnp.mean(rest / (spread + SOFT), axis=0)


def _box(image: Float[Array, "t h w"], radius: int) -> Float[Array, "t h w"]:
    """Means over squares, edges repeated."""
    for axis in (1, 2):
        padding = [(0, 0)] * 3
        padding[axis] = (radius, radius)
        padded = jnp.pad(image, padding, mode="edge")
        length = image.shape[axis]
        parts = [jax.lax.slice_in_dim(padded, i, i + length, axis=axis) for i in range(2 * radius + 1)]
        image = functools.reduce(jnp.add, parts) / len(parts)
    return image


def analysed(shape: tuple[int, int]) -> tuple[int, int]:
    """Height and width at which the detector looks at frames of `shape`."""
    share = min(1.0, ANALYSED / min(shape))
    return round(shape[0] * share), round(shape[1] * share)


def framed(image: Float[Array, "y x"]) -> tuple[Float[Array, "h w"], Float[Array, ""]]:
    """A residual without hard edges, in a frame of few sizes (multiples of 128 pixels), so that few programs are
    compiled; and half its shorter side."""
    taper = [np.minimum(1, (0.5 + np.minimum(np.arange(n), np.arange(n)[::-1])) / (0.03 * n)) for n in image.shape]
    edged = np.asarray(image) * np.outer(*taper).astype(np.float32)
    edged = np.pad(edged, [(0, -n % 128) for n in image.shape])
    return jnp.asarray(edged), jnp.asarray(min(image.shape) / TILES, jnp.float32)


class Places(NamedTuple):
    """The best place of tiles at each of `SCALES`.

    score: the correlation of the waves that say where a tile begins, in standard deviations.
    index: the lower bits of the mark. row, column: the corner, in steps of a tile / GRID.
    """

    score: Float[Array, " s"]
    index: Int[Array, " s"]
    row: Int[Array, " s"]
    column: Int[Array, " s"]


def _spectra(image: Float[Array, "h w"], sides: Float[Array, " s"], key: bytes) -> Complex[Array, "s k"]:
    """The waves in an image paved with tiles of `sides` pixels, each divided by the typical length in its ring;
    0 where pixels cannot show them."""
    waves = carriers(key)
    span = int(HIGHEST)

    def basis(length: int, periods: np.ndarray) -> Array:
        place = (jnp.arange(length) + 0.5)[None, None] / sides[:, None, None]
        turns = place * jnp.asarray(periods, jnp.float32)[None, :, None]
        turns = 2 * jnp.pi * (turns - jnp.round(turns))
        return jnp.stack([jnp.cos(turns), -jnp.sin(turns)])

    # Across, 0 and up: the others follow, since the image is real.
    across = jnp.einsum("csux,yx->csuy", basis(image.shape[1], np.arange(span + 1)), image)
    plane = jnp.einsum("csuy,dsvy->cdsvu", across, basis(image.shape[0], np.arange(span + 1)))
    real, imaginary = plane[0, 0], plane[1, 0]
    mixed, negative = plane[0, 1], plane[1, 1]
    up = real - negative + 1j * (imaginary + mixed)
    back = real + negative + 1j * (mixed - imaginary)
    right = jnp.asarray(waves.u > 0)[None]
    found = jnp.where(right, up[:, waves.v, abs(waves.u)], back[:, waves.v, abs(waves.u)])
    radius = np.hypot(waves.u, waves.v)
    ring = np.floor(radius).astype(int)
    same = (ring[:, None] == np.arange(ring.max() + 1)[None]).astype(np.float32)
    power = (jnp.square(jnp.abs(found)) @ (same / same.sum(0).clip(1)[None]))[:, ring]
    scaled = found / jnp.sqrt(power + 1e-20)
    length = jnp.abs(scaled)
    scaled = jnp.where(length > LONGEST, scaled * LONGEST / (length + 1e-20), scaled)
    return jnp.where(jnp.asarray(radius, jnp.float32)[None] <= 0.45 * sides[:, None], scaled, 0.0)


@functools.partial(jax.jit, static_argnames="key")
def search(image: Float[Array, "h w"], half: Float[Array, ""], key: bytes = KEY) -> Places:
    """The best place at each of `SCALES` of a residual (see `framed`)."""
    waves = carriers(key)
    spectra = _spectra(image, half * jnp.asarray(SCALES, jnp.float32), key)
    start = np.flatnonzero(waves.owner < 0)
    u, v = waves.u[start], waves.v[start]
    reference = jnp.asarray(np.conj(waves.phases[:, start]), jnp.complex64)
    aligned = spectra[:, None, start] * reference[None]
    # Two real correlations are the parts of one complex transform.
    even, odd = aligned[:, 0::2], aligned[:, 1::2]
    plane = jnp.zeros((len(SCALES), SETS // 2, GRID, GRID), jnp.complex64)
    plane = plane.at[:, :, v % GRID, u % GRID].set(even + 1j * odd)
    plane = plane.at[:, :, -v % GRID, -u % GRID].set(jnp.conj(even) + 1j * jnp.conj(odd))
    both = jnp.fft.ifft2(plane) * GRID**2
    maps = jnp.stack([both.real, both.imag], axis=2).reshape(len(SCALES), SETS * GRID * GRID)
    power = jnp.sum(jnp.square(jnp.abs(spectra[:, start])), axis=1)
    place = jnp.argmax(jnp.abs(maps), axis=1)
    best = jnp.take_along_axis(maps, place[:, None], axis=1)[:, 0]
    # Each wave counts twice, by its opposite.
    score = jnp.abs(best) / jnp.sqrt(2 * power + 1e-20)
    return Places(score, place // GRID**2 * 2 + (best < 0), place % GRID**2 // GRID, place % GRID)


@functools.partial(jax.jit, static_argnames="key")
def read(
    image: Float[Array, "h w"], half: Float[Array, ""], places: Places, key: bytes = KEY
) -> tuple[Float[Array, " c"], Int[Array, " c"], Int[Array, "c steps"], Float[Array, " c"], Float[Array, "c coded"]]:
    """The messages at the best places: scales, lower bits of the mark, the message, the correlation with all that the
    mark would add there in standard deviations, and the coded bits as they came."""
    _, best = jax.lax.top_k(places.score, CANDIDATES)
    best = jnp.repeat(best, 3)
    third = jnp.tile(jnp.asarray([STEP ** (i / 3) for i in (-1, 0, 1)], jnp.float32), CANDIDATES)
    scales = jnp.asarray(SCALES, jnp.float32)[best] * third
    spectra = _spectra(image, half * scales, key)
    # The corner moves with the scale, less than the search below covers: the middle of the frame stays.
    one = functools.partial(_read, key=key)
    return (
        scales,
        places.index[best],
        *jax.vmap(one)(spectra, places.index[best], places.row[best], places.column[best]),
    )


def _read(
    spectrum: Complex[Array, " k"], index: Int[Array, ""], row: Int[Array, ""], column: Int[Array, ""], key: bytes
) -> tuple[Int[Array, " steps"], Float[Array, ""], Float[Array, " coded"]]:
    """The message at one place, its correlation, and the coded bits."""
    waves = carriers(key)
    u, v = (jnp.asarray(part, jnp.float32) for part in (waves.u, waves.v))
    start = jnp.asarray(waves.owner < 0)
    phases = jnp.asarray(waves.phases, jnp.complex64)
    # Quarters of a step around the place: the grid is coarse for the shortest waves.
    fine = (jnp.arange(-6, 7) / 4)[:, None]
    turn_u = jnp.exp(2j * jnp.pi * (column + fine) / GRID * u[None])
    turn_v = jnp.exp(2j * jnp.pi * (row + fine) / GRID * v[None])
    aligned = spectrum * jnp.conj(jnp.where(start, phases[index // 2], phases[0]))
    begun = jnp.where(start, aligned, 0.0)
    sums = ((turn_v * begun[None]) @ turn_u.T).real * jnp.where(index % 2 == 0, 1, -1)
    best = jnp.argmax(sums)
    soft = (aligned * turn_v[best // 13] * turn_u[best % 13]).real
    coded = jnp.zeros(CODED).at[np.where(waves.owner < 0, 0, waves.owner)].add(jnp.where(start, 0.0, soft))
    bits, metric = decode(coded)
    power = jnp.sum(jnp.square(jnp.abs(spectrum))) / 2
    return bits, (metric + jnp.max(sums)) / jnp.sqrt(power + 1e-20), coded


def detect(frames: UInt8[Any, "t h w c"], key: bytes = KEY) -> Detection:
    """Looks for a mark in frames, 2 seconds or a single one; the original is not needed."""
    return detect_residual(residual(jnp.asarray(frames), analysed(frames.shape[1:3])), key)


def detect_residual(image: Float[Array, "y x"], key: bytes = KEY) -> Detection:
    """As `detect`, of what `residual` gave."""
    image, half = framed(image)
    scales, indices, messages, scores, softs = map(np.asarray, read(image, half, search(image, half, key), key))
    marks = [_mark(message, int(index)) for message, index in zip(messages, indices, strict=True)]
    best = max(range(READINGS), key=lambda at: (marks[at] is not None, scores[at]))
    score, bits = float(scores[best]), marks[best]
    chance = p_value(score, bits is not None)
    mark = bits if chance < FALSE_ALARMS else None
    return Detection(mark is not None, mark, score, chance, bits, float(scales[best]), softs[best])


def p_value(score: float, right: bool) -> float:
    """How often frames without a mark score so high, with a right checksum where this one is `right`."""
    begin, share, excess = TAIL
    above = 1.0 if score < begin else share * math.exp((begin - score) / excess)
    return min(1.0, above * READINGS * 2.0**-CHECK_BITS) if right else above


def threshold() -> float:
    """The score from which on a mark with a right checksum is found."""
    begin, share, excess = TAIL
    return begin + excess * math.log(share * READINGS * 2.0**-CHECK_BITS / FALSE_ALARMS)
