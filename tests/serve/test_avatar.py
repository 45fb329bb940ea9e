import asyncio

import numpy as np
import pytest

from tests.serve.fake import HOP, SIDE, FakeEngine
from vasa_jax.errors import UserError
from vasa_jax.serve.avatar import Avatar
from vasa_jax.serve.clock import Clock
from vasa_jax.serve.engine import Busy, Engine

SPEECH = np.random.default_rng(0).uniform(-0.5, 0.5, 640 * 12 + 100).astype(np.float32)
PATIENCE = 30.0


class Stage:
    """An avatar on an engine whose hops a test plays, and a clock that sleeping moves on."""

    def __init__(self, most=4, **wishes):
        self.engine, self.time = FakeEngine(most), 50.0
        clock = Clock(self.now, self.sleep)
        self.avatar = Avatar(self.engine, np.zeros((SIDE, SIDE, 3), np.uint8), clock=clock, **wishes)

    def now(self):
        return self.time

    async def sleep(self, seconds):
        self.time += seconds
        await asyncio.sleep(0)

    @property
    def session(self):
        return self.engine.all[-1]

    async def play(self, hops=1):
        for _ in range(hops):
            self.session.play(due=50.0 + self.session.frame / 25)
        await asyncio.sleep(0)

    async def take(self, count):
        frames = []
        async with asyncio.timeout(PATIENCE):
            async for frame in self.avatar.frames():
                frames.append(frame)
                if len(frames) == count:
                    return frames
        return frames


def perform(work, **wishes):
    async def run():
        stage = Stage(**wishes)
        async with stage.avatar:
            await work(stage)
        assert not stage.engine.sessions

    asyncio.run(run())


def test_speech_comes_back_in_frames_on_one_clock_and_says_when_it_is_finished():
    async def work(stage):
        await stage.play()
        for piece in np.split(SPEECH, [10, 700, 5000]):
            await stage.avatar.push_audio(piece)
        stage.avatar.end()
        assert stage.session.said == ["no more"] and stage.avatar.speaking
        await stage.play(4)
        frames = await stage.take(5 * HOP)
        assert [frame.time for frame in frames] == [i / 25 for i in range(25)]
        assert [frame.picture.mean() for frame in frames] == list(range(25))
        spoken = np.concatenate([frame.sound for frame in frames])
        np.testing.assert_array_equal(spoken[3200 : 3200 + len(SPEECH)], SPEECH)
        assert not spoken[:3200].any() and not spoken[3200 + len(SPEECH) :].any()
        assert [frame.speaking for frame in frames] == [5 <= i < 18 for i in range(25)]
        assert {i: frame.finished for i, frame in enumerate(frames) if frame.finished} == {17: len(SPEECH) / 16_000}
        assert not stage.avatar.speaking and stage.avatar.skipped == 0

    perform(work)


def test_two_utterances_finish_one_after_the_other():
    async def work(stage):
        for count in (1000, 2000):
            await stage.avatar.push_audio(SPEECH[:count])
            stage.avatar.end()
        stage.avatar.end()  # of nothing
        await stage.play(2)
        frames = await stage.take(10)
        finished = [(i, frame.finished) for i, frame in enumerate(frames) if frame.finished is not None]
        assert finished == [(1, 1000 / 16_000), (5, 2000 / 16_000)]

    perform(work)


def test_an_end_that_is_said_after_all_was_spoken_still_finishes():
    async def work(stage):
        await stage.avatar.push_audio(SPEECH[:1280])
        await stage.play()
        assert not any(frame.finished for frame in await stage.take(5))
        stage.avatar.end()
        await stage.play()
        assert (await stage.take(1))[0].finished == 0.08

    perform(work)


def test_clearing_cuts_off_what_waits_and_what_is_under_way_and_tells_what_was_heard():
    async def work(stage):
        assert stage.avatar.clear() is None
        await stage.avatar.push_audio(SPEECH)
        await stage.play()
        await stage.take(2)
        stage.session.interrupt, kept = lambda: stage.session.said.append("interrupt"), stage.session.queue
        assert stage.avatar.clear() == 2 / 25 and not stage.avatar.speaking
        rest = await stage.take(3)
        assert rest[0].sound[:160].any() and not rest[0].sound[160:].any()
        assert not any(frame.sound.any() or frame.speaking for frame in rest[1:])
        other = -SPEECH[:1280]
        await stage.avatar.push_audio(other)
        stage.avatar.end()
        stage.session.queue = kept[:3200]  # a hop that was under way
        await stage.play()
        assert not any(frame.sound.any() for frame in await stage.take(5))
        stage.session.queue = other
        await stage.play()
        frames = await stage.take(5)
        np.testing.assert_array_equal(np.concatenate([frame.sound for frame in frames])[:1280], other)
        assert frames[1].finished == 0.08

    perform(work)


def test_who_takes_frames_slowly_gets_fewer_pictures_and_all_the_sound():
    async def work(stage):
        await stage.avatar.push_audio(SPEECH[: 640 * 10])
        stage.avatar.end()
        await stage.play(2)
        spoken, times = [], []
        async for frame in stage.avatar.frames():
            spoken.append(frame.sound)
            times.append((frame.time, round(stage.time - 50, 2), frame.picture.mean()))
            stage.time += 0.1
            if frame.finished is not None:
                break
        np.testing.assert_array_equal(np.concatenate(spoken), SPEECH[: 640 * 10])
        assert all(-0.001 < shown - picture / 25 < 0.05 for _, shown, picture in times)
        assert stage.avatar.skipped == 10 - len(spoken)

    perform(work)


def test_who_takes_nothing_costs_no_memory():
    async def work(stage):
        await stage.avatar.push_audio(SPEECH)
        stage.avatar.end()
        await stage.play(40)
        assert len(stage.avatar._frames) == 50
        assert (await stage.take(1))[0].finished == len(SPEECH) / 16_000

    perform(work)


@pytest.mark.parametrize("rate", [8_000, 24_000, 44_100, 48_000])
def test_speech_of_other_rates_is_resampled(rate):
    async def work(stage):
        times = np.arange(rate // 2) / rate
        tone = np.round(8000 * np.sin(2 * np.pi * 300 * times)).astype(np.int16)
        for piece in np.array_split(tone, 7):
            await stage.avatar.push_audio(piece, rate=rate)
        stage.avatar.end()
        assert sum(map(len, stage.session.pushed)) == 640 * 13
        sound = np.concatenate(stage.session.pushed)[400:7600]
        expected = 8000 / 32768 * np.sin(2 * np.pi * 300 * np.arange(400, 7600) / 16_000)
        np.testing.assert_allclose(sound, expected, atol=0.01)

    perform(work)


@pytest.mark.parametrize(
    "samples, rate, message",
    [
        (np.array([np.nan], np.float32), 16_000, "NaN"),
        (np.zeros((2, 2), np.float32), 16_000, "mono"),
        (np.array([300.0]), 16_000, "32768"),
        (np.zeros(3, np.float32), 100, "rate 100"),
    ],
)
def test_what_is_no_speech_is_refused(samples, rate, message):
    async def work(stage):
        with pytest.raises(UserError, match=message):
            await stage.avatar.push_audio(samples, rate)
        assert not stage.session.pushed

    perform(work)


def test_wishes_and_changes_reach_the_session():
    async def work(stage):
        stage.avatar.change(ease=100.0, gaze="left")
        assert not stage.session.microphone and stage.session.wishes == {"seed": 3}
        assert stage.session.said == [(100.0, {"gaze": "left"})]

    perform(work, seed=3)


def test_no_room_and_a_session_that_fails_are_told():
    async def run():
        full = Stage(most=0)
        with pytest.raises(Busy):
            async with full.avatar:
                pass
        stage = Stage()
        with pytest.raises(UserError, match="not open"):
            stage.avatar.change(gaze="left")
        async with stage.avatar:
            stage.session.close("weights make NaN")
            with pytest.raises(UserError, match="weights make NaN"):
                await stage.take(1)

    asyncio.run(run())


def test_frames_end_when_the_avatar_closes():
    async def work(stage):
        await stage.play()
        stage.session.close()
        assert len(await stage.take(100)) == 5

    perform(work)


def test_a_real_engine_gives_back_what_was_said(model, sitting):
    """Two utterances with nothing between, the second of which is cut off while a hop of it is under way."""
    engine = Engine(model, hop=2, most=1)
    other = -SPEECH[: 640 * 6]

    async def run():
        time, shown = [0.0], []

        async def sleep(seconds):
            time[0] += seconds
            await asyncio.sleep(0)

        async def tick(count):
            for _ in range(count):
                await asyncio.to_thread(engine._tick, engine_time[0])
                engine_time[0] += 0.08
            await asyncio.sleep(0)
            async for frame in avatar.frames():
                shown.append(frame)
                if not avatar._frames:
                    break

        engine_time = [0.0]
        async with Avatar(engine, sitting, clock=Clock(lambda: time[0], sleep), steps=2) as avatar:
            assert (avatar.height, avatar.width) == (sitting.height, sitting.width)
            await avatar.push_audio(SPEECH[:3000])
            avatar.end()
            await avatar.push_audio(other)
            await tick(3)
            await avatar.push_audio(other)
            assert avatar.clear() == pytest.approx(1 / 25)
            await tick(2)
            await avatar.push_audio(other)
            avatar.end()
            await tick(5)
        spoken = np.concatenate([frame.sound for frame in shown])
        said = np.concatenate([np.pad(SPEECH[:3000], (0, 200)), other[:640], np.zeros(640 * 4), other])
        np.testing.assert_array_equal(spoken[: len(said)], said.astype(np.float32))
        assert {i: frame.finished for i, frame in enumerate(shown) if frame.finished} == {4: 3000 / 16_000, 15: 0.24}
        assert [i for i, frame in enumerate(shown) if frame.speaking] == [*range(6), *range(10, 16)]
        assert not spoken[len(said) :].any() and avatar.skipped == 0

    asyncio.run(run())
    assert engine.sessions == 0
