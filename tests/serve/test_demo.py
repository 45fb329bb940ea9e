"""The demo model behind the server: what comes over the WebSocket is the offline driver's video of the same sound.

A session begins before its sound does, in silence; so the offline driver hears the sound that came with the pictures.
"""

import io
import json
import struct

import numpy as np
import pytest

for name in ("starlette", "uvicorn", "websockets", "aiortc"):
    pytest.importorskip(name, reason="needs vasa-jax[serve]")

from PIL import Image  # noqa: E402

import vasa_jax  # noqa: E402
from tests.serve.server import OWN, Server  # noqa: E402
from vasa_jax.autoencoder.config import LABEL_MEAN, LABEL_UNIT  # noqa: E402
from vasa_jax.media.audio import load_audio  # noqa: E402
from vasa_jax.provenance.watermark import marking  # noqa: E402
from vasa_jax.serve.containers import PICTURE, SOUND  # noqa: E402
from vasa_jax.serve.engine import Engine  # noqa: E402
from vasa_jax.serve.portraits import people  # noqa: E402

SECONDS = 5
FILES = (
    *("chinese_news", "english_20s", "english_60s", "english_radio_1"),
    *("english_radio_2", "french", "japanese", "song_japanese"),
)

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def face():
    return next(iter(people((4000000,)).values()))


@pytest.fixture(scope="module")
def server(face):
    with Engine(vasa_jax.load("demo"), most=1) as engine, Server(engine=engine, face=face) as server:
        yield server


def recorded(server, sound):
    """Mark, pictures and samples of a session that hears this sound and is left a second later."""
    mark, pictures, samples, left = 0, {}, [], None
    with server.socket() as socket:
        start = {"type": "start", "portrait": OWN, "container": "jpeg", "source": "speech", "seed": 7}
        socket.send(json.dumps(start))
        while left is None or left > 0:
            message = socket.recv(timeout=300)
            if isinstance(message, str):
                if (told := json.loads(message))["type"] == "ready":
                    mark = int(told["mark"], 16)
                    for piece in np.split(sound, range(16_000, len(sound), 16_000)):
                        socket.send(piece.tobytes())
                    socket.send(json.dumps({"type": "end"}))
                continue
            kind, begins = struct.unpack(">BQ", message[:9])
            if kind == PICTURE:
                pictures[begins // 40_000] = np.asarray(Image.open(io.BytesIO(message[9:])))
            elif kind == SOUND:
                samples.append(np.frombuffer(message[9:], "<i2"))
                spoken = np.concatenate(samples)
                begun = np.flatnonzero(spoken)
                if left is None and len(begun) and len(spoken) > begun[0] + len(sound):
                    left = 5
                left = None if left is None else left - 1
    return mark, pictures, np.concatenate(samples)


@pytest.mark.parametrize("name", FILES)
def test_a_recording_is_the_offline_video(server, face, assets, name):
    sound = np.round(32767 * load_audio(assets / "speech" / f"{name}.wav")[: SECONDS * 16_000]).astype("<i2")
    mark, pictures, spoken = recorded(server, sound)
    begins = int(np.flatnonzero(spoken)[0] - np.flatnonzero(sound)[0])
    np.testing.assert_array_equal(spoken[begins : begins + len(sound)], sound)
    wishes = {"hop": 5, "look_ahead": 0, "sampler": "dpm++", "steps": 5, "seed": 7, "square": True}
    kept = []
    sent = spoken.astype(np.float32) / np.float32(2**15)
    offline = server.engine.model.perform(face, sent, kept, box=server.box, **wishes)
    first, last = begins // 640 + 3, (begins + len(sound)) // 640
    frames = {i: frame for i, frame in enumerate(marking(offline.frames, mark)) if first <= i < last and i in pictures}
    assert len(frames) > 0.5 * (last - first)  # a busy machine drops some
    apart = [np.abs(pictures[i].astype(int) - frame).mean() for i, frame in frames.items()]
    assert max(apart) < 2.5  # JPEG

    mouth = LABEL_MEAN[0] + LABEL_UNIT[0] * np.concatenate([np.asarray(motion.dynamics)[:, 0] for motion in kept])
    loud = np.sqrt(np.mean(sent[: len(mouth) * 640].reshape(-1, 640) ** 2, axis=1))
    pauses, speech = (
        loud[first:last] < np.quantile(loud[first:last], 0.2),
        loud[first:last] > np.median(loud[first:last]),
    )
    assert mouth[first:last][speech].mean() > mouth[first:last][pauses].mean() + 0.05
