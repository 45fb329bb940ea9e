"""A LiveKit avatar worker: an agent's speech comes in, the face's picture and sound go into the agent's room.

    LIVEKIT_URL=wss://... LIVEKIT_TOKEN=... python examples/livekit_worker.py --image portrait.png

The token is one that the agent makes for the avatar's participant (identity "vasa-avatar", kind agent, attribute
lk.publish_on_behalf with the agent's own identity). The agent sends its speech here:

    session.output.audio = DataStreamAudioOutput(ctx.room, destination_identity="vasa-avatar", sample_rate=16000)

An agent may also have the face in its own process:

    speech = QueueAudioOutput(sample_rate=16000)
    async with Avatar(vasa_jax.load("demo"), "portrait.png") as avatar:
        runner = await attach(ctx.room, speech, avatar)
        session.output.audio = speech

`FaceGenerator` is all that LiveKit needs: speech in frame by frame, and `AudioSegmentEnd` where an utterance is whole;
pictures out always, sound where something is said, and `AudioSegmentEnd` where it has been heard to its end. When a
person interrupts, LiveKit calls `clear_buffer`.
"""

import argparse
import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np

import vasa_jax
from vasa_jax.arrays import FPS, SAMPLE_RATE
from vasa_jax.errors import UserError
from vasa_jax.serve.avatar import Avatar

try:
    from livekit import rtc
    from livekit.agents.voice.avatar import (
        AudioReceiver,
        AudioSegmentEnd,
        AvatarOptions,
        AvatarRunner,
        DataStreamAudioReceiver,
        VideoGenerator,
    )
except ImportError as error:
    raise ImportError("a LiveKit worker needs livekit-agents; install vasa-jax[livekit,serve]") from error


class FaceGenerator(VideoGenerator):
    """An avatar as LiveKit's `AvatarRunner` drives it."""

    def __init__(self, avatar: Avatar):
        """`avatar`: open."""
        self._avatar = avatar

    async def push_audio(self, frame: rtc.AudioFrame | AudioSegmentEnd) -> None:
        """Takes speech of any rate and number of channels, or the end of an utterance."""
        if isinstance(frame, AudioSegmentEnd):
            self._avatar.end()
            return
        samples = np.frombuffer(frame.data, np.int16).reshape(-1, frame.num_channels)
        await self._avatar.push_audio(samples.mean(1) / 32768, frame.sample_rate)

    def clear_buffer(self) -> None:
        """Cuts off what is said."""
        self._avatar.clear()

    def __aiter__(self) -> AsyncIterator[rtc.VideoFrame | rtc.AudioFrame | AudioSegmentEnd]:
        """Pictures in rhythm, each before its sound."""
        return self._stream()

    async def _stream(self) -> AsyncIterator[rtc.VideoFrame | rtc.AudioFrame | AudioSegmentEnd]:
        async for frame in self._avatar.frames():
            height, width, _ = frame.picture.shape
            yield rtc.VideoFrame(width, height, rtc.VideoBufferType.RGB24, frame.picture.tobytes())
            if frame.speaking:
                samples = np.round(frame.sound * 32767).astype(np.int16)
                yield rtc.AudioFrame(samples.tobytes(), SAMPLE_RATE, 1, len(samples))
            if frame.finished is not None:
                yield AudioSegmentEnd()


async def attach(room: rtc.Room, speech: AudioReceiver, avatar: Avatar) -> AvatarRunner:
    """Starts to publish an open avatar into a room, and to hear speech; `aclose` of what it returns ends that."""
    options = AvatarOptions(avatar.width, avatar.height, FPS, SAMPLE_RATE, audio_channels=1)
    runner = AvatarRunner(room, audio_recv=speech, video_gen=FaceGenerator(avatar), options=options)
    await runner.start()
    return runner


async def work(options: argparse.Namespace) -> None:
    """Joins the room and stays until it is left."""
    url, token = (os.environ.get(name) for name in ("LIVEKIT_URL", "LIVEKIT_TOKEN"))
    if not url or not token:
        raise UserError("set LIVEKIT_URL and LIVEKIT_TOKEN, as the agent hands them to its avatar")
    room, left = rtc.Room(), asyncio.Event()
    room.on("disconnected", lambda *_: left.set())
    async with Avatar(vasa_jax.load(options.model), options.image) as avatar:
        await room.connect(url, token)
        runner = await attach(room, DataStreamAudioReceiver(room), avatar)
        try:
            await left.wait()
        finally:
            await runner.aclose()
            await room.disconnect()


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image", type=Path, required=True, help="portrait")
    parser.add_argument("--model", default="demo", help='"demo", or a release folder')
    try:
        asyncio.run(work(parser.parse_args()))
    except (UserError, rtc.ConnectError) as error:
        sys.exit(f"livekit_worker: {error}")
    except KeyboardInterrupt:
        return


if __name__ == "__main__":
    main()
