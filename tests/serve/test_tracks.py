import asyncio

import numpy as np
import pytest

pytest.importorskip("aiortc", reason="needs vasa-jax[serve]")

from aiortc.mediastreams import MediaStreamError  # noqa: E402

from tests.serve.fake import HOP, chunk  # noqa: E402
from vasa_jax.serve.clock import Clock  # noqa: E402
from vasa_jax.serve.tracks import BACKLOG, BLOCK, MOST, RATE, Pictures, Sound  # noqa: E402


class Hands:
    """A clock that goes on when one sleeps, and never else."""

    def __init__(self):
        self.time = 100.0
        self.clock = Clock(lambda: self.time, self.sleep)

    async def sleep(self, seconds):
        self.time += seconds
        await asyncio.sleep(0)


def test_pictures_wait_until_they_are_due():
    async def run():
        hands = Hands()
        track = Pictures(hands.clock)
        track.put(10, chunk(10).frames, 101.0)
        seen = []
        for _ in range(HOP):
            picture = await track.recv()
            seen.append((picture.pts, round(hands.time, 3), picture.to_ndarray(format="rgb24").mean()))
        assert seen == [((10 + i) * 3600, round(101 + 0.04 * i, 3), 10 + i) for i in range(HOP)]
        assert track.sent == HOP and track.skipped == 0

    asyncio.run(run())


def test_pictures_that_are_behind_are_skipped_and_delay_nothing():
    async def run():
        hands = Hands()
        track = Pictures(hands.clock)
        for first in range(0, 100, HOP):  # a consumer that takes 130 ms for each
            track.put(first, chunk(first).frames, 100.0 + first / 25)
            while hands.time < 100.0 + (first + HOP) / 25:
                picture = await track.recv()
                assert 0 <= hands.time - (100.0 + picture.pts / 90_000) < 0.04
                hands.time += 0.13
        assert track.skipped > 50

    asyncio.run(run())


def test_nobody_takes_pictures_and_few_are_kept():
    track = Pictures(Hands().clock)
    for first in range(0, 100, HOP):
        track.put(first, chunk(first).frames, 100.0)
    assert len(track._queue) == 2 * HOP and track.skipped == 90


def test_a_congested_way_gets_every_other_picture():
    async def run():
        track = Pictures(Hands().clock)
        track.every = 2
        track.put(0, chunk(0).frames, 100.0)
        track.put(5, chunk(5).frames, 100.2)
        assert [(await track.recv()).pts // 3600 for _ in range(5)] == [0, 2, 4, 6, 8]

    asyncio.run(run())


def test_sound_is_that_of_the_frames_a_millisecond_later():
    async def run():
        hands = Hands()
        track = Sound(hands.clock)
        time = np.arange(640 * 10) / 16_000
        tone = (0.5 * np.sin(2 * np.pi * 440 * time)).astype(np.float32)
        for hop in range(2):
            track.put(5 * hop, tone[3200 * hop :][:3200], 100.0 + 0.2 * hop)
        blocks = []
        for i in range(20):
            block = await track.recv()
            assert block.pts == BLOCK * i and block.samples == BLOCK and block.sample_rate == RATE
            assert hands.time == pytest.approx(100 + 0.02 * i)
            blocks.append(block.to_ndarray()[0] / 32767)
        later = (np.arange(BLOCK * 20) / RATE) - 0.001
        found, expected = np.concatenate(blocks), 0.5 * np.sin(2 * np.pi * 440 * later)
        np.testing.assert_allclose(found[500:], expected[500:], atol=0.02)

    asyncio.run(run())


def test_sound_is_kept_until_too_much_waits_and_then_its_silences_go():
    track = Sound(Hands().clock)
    tone = np.full(3200, 0.5, np.float32)
    hops = (BACKLOG + 9) // 10
    for hop in range(hops):
        track.put(5 * hop, np.zeros(3200, np.float32) if hop == 1 else tone, 100.0)
    assert track.skipped == 0
    track.put(5 * hops, tone, 100.0)
    assert track.skipped in (9, 10) and BACKLOG <= len(track._queue) <= BACKLOG + 1
    for hop in range(40):
        track.put(5 * (hops + hop), tone, 100.0)
    assert len(track._queue) == MOST


@pytest.mark.parametrize("kind", [Pictures, Sound])
def test_a_track_that_is_stopped_ends_for_who_waits(kind):
    async def run():
        track = kind(Hands().clock)
        waiting = asyncio.ensure_future(track.recv())
        await asyncio.sleep(0)
        track.stop()
        with pytest.raises(MediaStreamError):
            await waiting

    asyncio.run(run())
