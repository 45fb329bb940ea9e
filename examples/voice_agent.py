"""A voice agent's face with nothing but espeak-ng, or WAV files: what you type is said, and typing again cuts it off.

    python examples/voice_agent.py --image portrait.png --out talk.mp4
    python examples/voice_agent.py --image portrait.png | ffplay -
    (echo "Let me explain this at great length."; sleep 6; echo "Oh, sorry.") | python examples/voice_agent.py ...

Every line of standard input is an utterance: a text, which espeak-ng speaks, or the name of a WAV file. It is said at
once, and what was being said is cut off, as when a person interrupts. When the input has ended and all is said, the
video ends too. A real agent has a language model where this file has a keyboard; the rest stays the same.
"""

import argparse
import asyncio
import io
import subprocess
import sys
import threading
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile

import vasa_jax
from vasa_jax.arrays import FPS, SAMPLES_PER_FRAME
from vasa_jax.errors import UserError, refusals
from vasa_jax.media.live import LiveWriter
from vasa_jax.serve.avatar import Avatar

REST = FPS
"""Frames that follow the last word."""


def speech(line: str) -> tuple[np.ndarray, int]:
    """What a line says: samples (n,) and their rate. Raises UserError for what cannot be read, or without espeak-ng."""
    if line.lower().endswith(".wav"):
        with refusals("read", line, soundfile.LibsndfileError):
            samples, rate = soundfile.read(line, dtype="float32", always_2d=True)
        return samples.mean(1), rate
    with refusals("run", "espeak-ng", subprocess.CalledProcessError, advice="install it, or give the name of a WAV"):
        wav = subprocess.run(["espeak-ng", "--stdout", "--", line], check=True, capture_output=True).stdout
    samples, rate = soundfile.read(io.BytesIO(wav), dtype="float32")
    return samples, rate


def typed() -> asyncio.Queue[str | None]:
    """Lines of standard input as they are typed, and None at the end."""
    lines: asyncio.Queue[str | None] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def read() -> None:
        for line in sys.stdin:
            loop.call_soon_threadsafe(lines.put_nowait, line.strip())
        loop.call_soon_threadsafe(lines.put_nowait, None)

    threading.Thread(target=read, daemon=True).start()
    return lines


async def answer(avatar: Avatar, lines: asyncio.Queue[str | None]) -> None:
    """Says each line as it comes, whatever was being said."""
    while (line := await lines.get()) is not None:
        if line:
            samples, rate = await asyncio.to_thread(speech, line)
            if (heard := avatar.clear()) is not None:
                print(f"cut off after {heard:.2f} s", file=sys.stderr)
            await avatar.push_audio(samples, rate)
            avatar.end()


async def talk(avatar: Avatar, lines: asyncio.Queue[str | None], out: BinaryIO) -> None:
    """Shows the face, in rhythm, until everything is said."""
    answering, rest = asyncio.create_task(answer(avatar, lines)), REST
    with LiveWriter(out, (avatar.height, avatar.width), tags=avatar.tags) as writer:
        async for frame in avatar.frames():
            pictures = np.repeat(frame.picture[None], len(frame.sound) // SAMPLES_PER_FRAME, 0)
            await asyncio.to_thread(writer.write, pictures, frame.sound)
            if frame.finished is not None:
                print(f"said {frame.finished:.2f} s", file=sys.stderr)
            rest = rest - 1 if answering.done() and not avatar.speaking else REST
            if rest == 0:
                break
    await answering


async def run(options: argparse.Namespace) -> None:
    """Loads the model and talks."""
    out = sys.stdout.buffer if options.out is None else options.out.open("wb")
    model = vasa_jax.load(options.model)
    async with Avatar(model, options.image) as avatar:
        print("type, and it speaks; the end of the input (Ctrl-D) ends it", file=sys.stderr)
        with out:
            await talk(avatar, typed(), out)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image", type=Path, required=True, help="portrait")
    parser.add_argument("--model", default="demo", help='"demo", or a release folder')
    parser.add_argument("--out", type=Path, help="MP4 file; without it the MP4 goes to standard output")
    try:
        asyncio.run(run(parser.parse_args()))
    except UserError as error:
        sys.exit(f"voice_agent: {error}")
    except (BrokenPipeError, KeyboardInterrupt):
        return


if __name__ == "__main__":
    main()
