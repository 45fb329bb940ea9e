"""LiveKit's own classes of an avatar worker with ours between them; the room and its tracks stand for a server."""

import asyncio

import numpy as np
import pytest

pytest.importorskip("livekit.agents", reason="needs vasa-jax[livekit]")

from livekit import rtc  # noqa: E402
from livekit.agents.voice.avatar import AudioSegmentEnd, QueueAudioOutput, VideoGenerator  # noqa: E402

from examples import livekit_worker  # noqa: E402
from examples.livekit_worker import FaceGenerator, attach  # noqa: E402
from tests.serve.fake import HOP, SIDE  # noqa: E402
from tests.serve.test_avatar import Stage  # noqa: E402

PATIENCE = 30.0
SPEECH = np.round(np.random.default_rng(0).uniform(-9000, 9000, 640 * 8)).astype(np.int16)


def sound(samples, rate=16_000, channels=1):
    return rtc.AudioFrame(samples.tobytes(), rate, channels, len(samples) // channels)


class Publication:
    async def wait_for_subscription(self):
        pass


class Participant:
    def __init__(self):
        self.published = []

    async def publish_track(self, track, options):
        self.published.append((track.kind, options.source))
        return Publication()


class Room:
    """As much of a room as `AvatarRunner` asks for."""

    def __init__(self):
        self.local_participant = Participant()

    def isconnected(self):
        return True

    def on(self, event, handle):
        pass

    def off(self, event, handle):
        pass


async def taken(generator, count):
    items = []
    async with asyncio.timeout(PATIENCE):
        async for item in generator:
            items.append(item)
            if sum(isinstance(item, rtc.VideoFrame) for item in items) > count:
                return items[:-1]
    return items


def test_the_generator_gives_pictures_always_sound_with_speech_and_the_end_of_an_utterance():
    async def run():
        stage = Stage()
        async with stage.avatar:
            generator = FaceGenerator(stage.avatar)
            assert isinstance(generator, VideoGenerator)
            await generator.push_audio(sound(SPEECH[: 640 * 3]))
            await generator.push_audio(AudioSegmentEnd())
            await stage.play(3)
            items = await taken(generator, 2 * HOP)
            pictures = [item for item in items if isinstance(item, rtc.VideoFrame)]
            assert len(pictures) == 2 * HOP and (pictures[0].width, pictures[0].height) == (SIDE, SIDE)
            assert [np.frombuffer(picture.data, np.uint8).mean() for picture in pictures] == list(range(2 * HOP))
            spoken = [np.frombuffer(item.data, np.int16) for item in items if isinstance(item, rtc.AudioFrame)]
            np.testing.assert_allclose(np.concatenate(spoken), SPEECH[: 640 * 3], atol=1)
            (end,) = [i for i, item in enumerate(items) if isinstance(item, AudioSegmentEnd)]
            assert end == 6 and isinstance(items[7], rtc.VideoFrame)

    asyncio.run(run())


def test_stereo_of_another_rate_is_mixed_and_resampled():
    async def run():
        stage = Stage()
        async with stage.avatar:
            generator = FaceGenerator(stage.avatar)
            tone = np.round(8000 * np.sin(2 * np.pi * 300 * np.arange(12_000) / 24_000))
            both = np.stack([1.5 * tone, 0.5 * tone], 1).astype(np.int16).ravel()
            await generator.push_audio(sound(both, 24_000, 2))
            await generator.push_audio(AudioSegmentEnd())
            heard = np.concatenate(stage.session.pushed)[400:7600]
            expected = 8000 / 32768 * np.sin(2 * np.pi * 300 * np.arange(400, 7600) / 16_000)
            np.testing.assert_allclose(heard, expected, atol=0.01)

    asyncio.run(run())


async def until(condition):
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.01)


def test_the_runner_of_livekit_publishes_the_face_and_tells_the_agent_when_it_has_spoken_or_was_cut_off():
    async def run():
        stage, room, speech = Stage(), Room(), QueueAudioOutput(sample_rate=16_000)
        told = []
        speech.on("playback_finished", lambda event: told.append((event.playback_position, event.interrupted)))
        async with stage.avatar:
            runner = await attach(room, speech, stage.avatar)
            await stage.play()
            await until(lambda: len(room.local_participant.published) == 2)
            # An agent speaks, and is heard to its end.
            for piece in np.split(SPEECH, 4):
                await speech.capture_frame(sound(piece))
            speech.flush()
            await until(lambda: len(stage.session.said) == 1)
            await stage.play(2)
            await asyncio.wait_for(speech.wait_for_playout(), PATIENCE)
            assert told == [(pytest.approx(8 / 25), False)]
            # It speaks again, and a person interrupts.
            await speech.capture_frame(sound(SPEECH))
            await until(lambda: stage.avatar.speaking)
            await stage.play()
            await until(lambda: runner._playback_position > 0)
            speech.clear_buffer()
            await until(lambda: len(told) == 2)
            position, interrupted = told[1]
            assert interrupted and 0 < position <= 5 / 25 and not stage.avatar.speaking
            assert stage.session.said[-1] == "interrupt"
            await runner.aclose()
        sources = [source for _, source in room.local_participant.published]
        assert sources == [rtc.TrackSource.SOURCE_MICROPHONE, rtc.TrackSource.SOURCE_CAMERA]

    asyncio.run(run())


def test_the_command_says_what_it_needs(monkeypatch):
    monkeypatch.delenv("LIVEKIT_URL", raising=False)
    monkeypatch.setattr("sys.argv", ["livekit_worker", "--image", "face.png"])
    with pytest.raises(SystemExit, match="LIVEKIT_URL"):
        livekit_worker.main()
