"""The example that needs no account: lines of text, or names of WAVs, become a video."""

import asyncio
import io
import shutil
import sys

import av
import numpy as np
import pytest
import soundfile

from examples import voice_agent
from tests.serve.fake import HOP
from tests.serve.test_avatar import PATIENCE, SPEECH, Stage
from vasa_jax.errors import UserError


class File(io.BytesIO):
    """Keeps what was written when it is closed."""

    def close(self):
        pass


def test_a_line_is_said_and_the_next_one_cuts_it_off(tmp_path, capsys):
    """Of two WAVs the second comes when two frames of the first were heard."""
    wavs = [tmp_path / "long.wav", tmp_path / "short.wav"]
    soundfile.write(wavs[0], np.tile(SPEECH, 4), 16_000, "FLOAT")
    soundfile.write(wavs[1], np.full(1280, 0.25, np.float32), 16_000, "FLOAT")

    async def run():
        stage, lines, out = Stage(), asyncio.Queue(), File()
        async with stage.avatar:
            talking = asyncio.create_task(voice_agent.talk(stage.avatar, lines, out))
            lines.put_nowait(str(wavs[0]))
            lines.put_nowait("")
            await reach(lambda: stage.session.said)
            await stage.play()
            await reach(lambda: stage.avatar._utterances[0].shown == HOP)
            lines.put_nowait(str(wavs[1]))
            lines.put_nowait(None)
            await reach(lambda: len(stage.session.said) == 3)
            while not talking.done():
                if not stage.avatar._frames:  # more than MOST that wait would be gone, with their sound
                    await stage.play()
                await asyncio.sleep(0.001)
            await talking
        return out

    out = asyncio.run(asyncio.wait_for(run(), PATIENCE))
    assert capsys.readouterr().err == "cut off after 0.20 s\nsaid 0.08 s\n"
    out.seek(0)
    with av.open(out) as video:
        frames = sum(1 for _ in video.decode(video=0))
    out.seek(0)
    with av.open(out) as video:
        spoken = np.concatenate([block.to_ndarray()[0] for block in video.decode(audio=0)])
        size = video.streams.audio[0].rate // 25
    loud = np.abs(spoken[: len(spoken) // size * size].reshape(-1, size)).max(1) > 0.1
    assert frames > HOP + voice_agent.REST and 7 <= loud.sum() <= 9


async def reach(condition):
    while not condition():
        await asyncio.sleep(0.001)


def test_espeak_speaks_texts():
    if shutil.which("espeak-ng") is None:
        pytest.skip("needs espeak-ng")
    samples, rate = voice_agent.speech("--hello")
    assert rate >= 16_000 and len(samples) > rate / 4 and 0.05 < np.abs(samples).max() <= 1


def test_what_cannot_be_said_is_one_line(monkeypatch):
    with pytest.raises(UserError, match="cannot read nowhere.wav"):
        voice_agent.speech("nowhere.wav")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UserError, match="cannot run espeak-ng.*install it"):
        voice_agent.speech("hello")


def test_lines_are_read_to_their_end(monkeypatch):
    async def run():
        lines = voice_agent.typed()
        return [await asyncio.wait_for(lines.get(), PATIENCE) for _ in range(3)]

    monkeypatch.setattr(sys, "stdin", io.StringIO("one\n two \n"))
    assert asyncio.run(run()) == ["one", "two", None]
