"""`infer.py --stream` with a tiny model, in this process and as people type it."""

import io
import os
import queue
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from types import SimpleNamespace

import av
import numpy as np
import pytest
import soundfile
from PIL import Image

import infer
import vasa_jax
from vasa_jax.doors import infer as door
from vasa_jax.doors import live
from vasa_jax.faces.box import Box, parse_box
from vasa_jax.inference.stream import Stream
from vasa_jax.media.live import LiveWriter

SOUND = np.round(np.random.default_rng(1).uniform(-0.3, 0.3, 640 * 22 - 100) * 2**15).astype("<i2")  # 22 frames
QUICK = {"box": "5,5,40", "steps": "2", "seed": "3"}


@pytest.fixture
def portrait(tmp_path):
    path = tmp_path / "face.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 50, 3), np.uint8)).save(path)
    return path


@pytest.fixture
def command(tmp_path, portrait, model, monkeypatch, capsys):
    """Streams bytes through infer.py in this process; returns exit code, what came out and stderr."""
    monkeypatch.setattr(vasa_jax, "load", lambda *wanted: model)

    def run(data: bytes, into=None, **flags) -> tuple[int, bytes, str]:
        (tmp_path / "sound").write_bytes(data)
        flags = {"image": portrait, "out": "-"} | QUICK | flags
        named = [part for name, value in flags.items() if value is not None for part in (f"--{name}", str(value))]
        with (
            open(tmp_path / "sound", "rb") as source,
            open(tmp_path / "video", "wb") if into is None else into as video,
        ):
            monkeypatch.setattr(sys, "stdin", source)
            monkeypatch.setattr(sys, "stdout", video)
            code = door.main([*named, "--stream"])
        err = capsys.readouterr().err
        return code, (tmp_path / "video").read_bytes() if into is None else b"", err

    return run


def read(data: bytes) -> tuple[np.ndarray, float]:
    """Frames, and seconds of sound."""
    with av.open(io.BytesIO(data), "r") as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    with av.open(io.BytesIO(data), "r") as container:
        return np.stack(frames), sum(frame.samples for frame in container.decode(audio=0)) / 48000


@pytest.mark.parametrize("container", ["mp4", "mpegts"])
def test_raw_samples_become_a_video_with_sound(command, portrait, model, container):
    code, out, err = command(SOUND.tobytes(), container=container)
    assert code == 0 and err.splitlines()[-1] == "infer: 22 frames of 32x32"
    mark = re.search(r"infer: the frames carry the mark ([0-9a-f]{8})\n", err)[1]
    assert mark.encode() in out  # in the stream's tags, too
    frames, seconds = read(out)
    assert frames.shape == (22, 32, 32, 3) and 0 <= seconds - 22 / 25 < 0.022
    wishes = {"box": parse_box("5,5,40"), "steps": 2, "seed": 3, "hop": 5, "look_ahead": 0}
    offline = np.stack(list(model.animate(str(portrait), SOUND / np.float32(2**15), **wishes)))
    assert np.abs(frames.astype(int) - offline).mean() < 8  # noise after H.264


def test_a_wav_of_any_kind_and_other_hops(command):
    file = io.BytesIO()
    soundfile.write(file, np.zeros((22050, 2)), 22050, "PCM_24", format="WAV")
    code, out, _ = command(file.getvalue(), hop=2, **{"look-ahead": 1}, size=48)
    assert code == 0 and read(out)[0].shape == (25, 48, 48, 3)


BAD = {
    "nothing": (b"", {}, "there is no sound on standard input"),
    "text": (b"This is a text.", {}, "standard input holds text; send a WAV, or s16le"),
    "an unneeded sound": (b"", {"audio": "a.wav"}, "--audio does nothing with --stream"),
    "a file": (b"", {"out": "a.mp4"}, "--out -: the video goes to standard output"),
    "no portrait": (b"", {"image": None}, "--stream needs --image"),
    "a gaze": (b"", {"gaze": "round"}, "gaze"),
    "a size": (b"", {"size": 4}, "--size 4 cannot be written"),
    "a hop": (SOUND.tobytes(), {"hop": 9}, "hop 9 is out of range"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_is_one_line(command, name):
    data, flags, said = BAD[name]
    code, out, err = command(data, **flags)
    lines = err.splitlines()
    assert code == 2 and out == b"" and len(lines) == 1 and said in lines[0]


@pytest.mark.parametrize("flags", [["--paced"], ["--container", "mpegts"], ["--out", "-"]])
def test_options_of_streams_alone(flags, capsys):
    assert door.main(["--image", "a.png", "--audio", "a.wav", *flags]) == 2
    assert f"{' '.join(flags[:2]) if flags[0] == '--out' else flags[0]} is of --stream" in capsys.readouterr().err


def test_a_video_into_a_terminal(command):
    master, terminal = os.openpty()
    code, _, err = command(b"", into=open(terminal, "wb", buffering=0))  # noqa: SIM115
    os.close(master)
    assert code == 2 and "standard output is a terminal" in err


def test_a_stream_that_is_missing(monkeypatch, capsys, portrait):
    monkeypatch.setattr(sys, "stdin", None)
    assert door.main(["--stream", "--image", str(portrait), "--out", "-"]) == 2
    assert "start it with both" in capsys.readouterr().err


def test_a_reader_who_leaves_ends_it_quietly(command):
    reading, writing = os.pipe()
    os.close(reading)
    code, _, err = command(SOUND.tobytes(), into=open(writing, "wb", buffering=0))  # noqa: SIM115
    assert code == 0 and err.splitlines()[-1] == "infer: 0 frames of 32x32"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_quietly_and_what_was_written_is_whole(command, monkeypatch, number):
    write = LiveWriter.write

    def interrupted(self, frames, sound):
        if self.frames == 10:
            signal.raise_signal(number)
        write(self, frames, sound)

    monkeypatch.setattr(LiveWriter, "write", interrupted)
    code, out, err = command(SOUND.tobytes())
    assert code == 0 and err.splitlines()[-1] == "infer: 10 frames of 32x32"
    assert len(read(out)[0]) == 10


class Clock:
    """A clock that sleeping moves; before the n-th time one sleeps, what `script` says of n comes into the pipe."""

    def __init__(self, script: dict[int, bytes]):
        self.now, self.slept, self._script = 100.0, 0, script
        self._pieces: queue.Queue[bytes] = queue.Queue()
        self._asked = threading.Semaphore(0)

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        if self.slept in self._script:
            assert self._asked.acquire(timeout=60)  # the reader has passed on what came before
            self._pieces.put(data := self._script[self.slept])
            if data:
                assert self._asked.acquire(timeout=60)
                self._asked.release()
            else:
                (reader,) = (thread for thread in threading.enumerate() if thread.name == "sound")
                reader.join(60)
        self.now, self.slept = self.now + seconds, self.slept + 1

    def read(self, count: int) -> bytes:
        self._asked.release()
        return self._pieces.get()


def test_paced_a_hop_is_made_at_each_tick_whatever_has_come(model, monkeypatch):
    data = SOUND.tobytes()
    clock = Clock({0: data[:24], 2: data[24:12000], 3: data[12000:18000], 6: data[18000:], 7: b""})
    monkeypatch.setattr(live, "time", SimpleNamespace(monotonic=clock.monotonic, sleep=clock.sleep))
    face = np.zeros((40, 40, 3), np.uint8)
    stream = Stream(model, face, box=Box(20, 20, 40), steps=2, hop=2, look_ahead=1)
    chunks = list(live.paced(stream, clock))
    assert clock.now == pytest.approx(100 + 0.08 * (clock.slept - 1)) and clock.slept == len(chunks) + 1
    assert [chunk.first for chunk in chunks] == list(range(0, 2 * len(chunks), 2))
    assert all(len(chunk.frames) == 2 for chunk in chunks[:-1])
    sound = np.concatenate([chunk.sound for chunk in chunks]) * 2**15
    said = sound[sound != 0]
    np.testing.assert_array_equal(said, SOUND[SOUND != 0])  # all of it, in order
    assert chunks[0].lacking.all() and chunks[1].lacking.all() and not chunks[-1].lacking.any()


@pytest.mark.long
def test_the_command_of_the_manual(portrait, release):
    """As it is written, but for the model's size and a player without a screen."""
    if not (shutil.which("espeak-ng") and shutil.which("ffplay")):
        pytest.skip("needs espeak-ng and ffplay: apt-get install espeak-ng ffmpeg")
    python = f"{sys.executable} infer.py --image {shlex.quote(str(portrait))} --model {shlex.quote(str(release))}"
    line = f'espeak-ng --stdout "hello" | {python} --stream --out - | ffplay -autoexit -'
    dummies = {"SDL_VIDEODRIVER": "dummy", "SDL_AUDIODRIVER": "dummy"}
    root = os.path.dirname(infer.__file__)
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", line], cwd=root, env=os.environ | dummies, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "frames of 32x32" in done.stderr and "Audio: aac" in done.stderr and "Video: h264" in done.stderr
    assert "AI-generated talking face (vasa-jax)" in done.stderr
