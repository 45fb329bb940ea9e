import io
import struct

import av
import numpy as np
import pytest
from PIL import Image

from vasa_jax.errors import UserError
from vasa_jax.inference.controls import make_controls
from vasa_jax.inference.pair import ADJUSTMENTS
from vasa_jax.media.tags import COMMENT, Tags
from vasa_jax.serve.containers import PICTURE, SOUND, Hop, Jpeg, Mp4
from vasa_jax.serve.protocol import CONTROLS, SCHEMAS, Change, End, Interrupt, Microphone, Ping, Start, parse, read


def hop(first: int, shown: bool = True) -> Hop:
    frames = np.full((5, 32, 32, 3), 20 * (first // 5) + 10, np.uint8)
    return Hop(first, 5, frames if shown else None, np.full(3200, 0.1, np.float32))


@pytest.mark.parametrize(
    "text, message",
    [
        ('{"type": "start", "portrait": "p"}', Start(portrait="p")),
        (
            '{"type": "start", "portrait": "p", "rate": 48000, "container": "jpeg", "controls": {"gaze": [10, -5.5]}}',
            Start(portrait="p", rate=48000, container="jpeg", controls={"gaze": (10, -5.5)}),
        ),
        (
            '{"type": "change", "ease": 0, "controls": {"emotion": null, "amplitude": 1}}',
            Change(ease=0.0, controls={"emotion": None, "amplitude": 1}),
        ),
        ('{"type": "interrupt"}', Interrupt()),
        ('{"type": "end"}', End()),
        ('{"type": "ping", "id": 7}', Ping(id=7)),
    ],
)
def test_messages_are_read(text, message):
    assert parse(text) == message


@pytest.mark.parametrize(
    "text, complaint",
    [
        ("hello", "is not JSON"),
        ("", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("[1]", "give an object with a type"),
        ('{"type": 3}', "give an object with a type"),
        ('{"type": "dance"}', 'message type "dance" is unknown; choose start'),
        ('{"type": "start"}', "start needs 'portrait'"),
        ('{"type": "start", "portrait": "p", "file": "/etc/passwd"}', 'start has no "file"; it knows portrait'),
        ('{"type": "interrupt", "now": 1}', "nothing but its type"),
        ('{"type": "start", "portrait": "p", "rate": 7999}', "rate is 7999; give a whole number from 8000 to 48000"),
        ('{"type": "start", "portrait": "p", "rate": 16000.5}', "a whole number"),
        ('{"type": "start", "portrait": "p", "rate": true}', "a whole number"),
        ('{"type": "start", "portrait": "p", "container": "webm"}', "give mp4 or jpeg"),
        ('{"type": "change", "controls": {"zoom": NaN}}', "NaN is not a number of JSON"),
        ('{"type": "change", "controls": {"zoom": 1e999}}', "zoom is Infinity; give a number from 0.25 to 4"),
        ('{"type": "change", "controls": {"zoom": "2"}}', "zoom is .*; give a number"),
        ('{"type": "change", "controls": {"gaze": [1]}}', "gaze is .*; give 2 numbers from -60 to 60"),
        ('{"type": "change", "controls": {"gaze": [1, null]}}', "gaze is null"),
        ('{"type": "change", "controls": {"emotion": "%s"}}' % ("x" * 41), "at most 40 letters"),
        ('{"type": "change", "controls": {"driving": "/etc/passwd"}}', "controls has no"),
        ('{"type": "change", "controls": {}, "ease": -1}', "ease is -1"),
        ('{"type": "change", "controls": {}, "ease": ' + "9" * 400 + "}", "ease is 999.*; give a number"),
    ],
)
def test_what_is_no_message_is_told_in_one_line(text, complaint):
    with pytest.raises(UserError, match=complaint) as caught:
        parse(text)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


def test_controls_are_those_of_the_models():
    steered = set(make_controls.__annotations__) - {"return"}
    assert CONTROLS.keys() == steered | set(ADJUSTMENTS)
    for name, schema in CONTROLS.items():
        if "minimum" in schema:
            assert read(schema["minimum"], schema, name) == schema["minimum"]
    assert all(set(required) <= properties.keys() for _, properties, required in SCHEMAS.values())


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 48000])
def test_sound_of_any_rate_becomes_16_khz_in_whatever_pieces(rate):
    tone = np.round(12_000 * np.sin(2 * np.pi * 440 * np.arange(rate) / rate)).astype("<i2").tobytes()
    ears = Microphone(rate)
    heard = [ears.hear(tone[at : at + 642]) for at in range(0, len(tone), 642)]
    heard = np.concatenate([*heard, ears.rest()])
    assert len(heard) == 16_000 and heard.dtype == np.float32
    ideal = 12_000 / 2**15 * np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000)
    assert np.abs(heard - ideal)[500:-500].max() < 0.002
    assert len(ears.rest()) == 0


@pytest.mark.parametrize(
    "data, complaint",
    [
        (b"abc", "an even number"),
        (bytes(1024 * 1024 + 2), "at most 1048576 at a time"),
        (b"RIFF....WAVEfmt ", "is a WAV file"),
        (b"OggS" + bytes(20), "is an Ogg file"),
        (b"\x1a\x45\xdf\xa3" + bytes(20), "is a WebM file"),
    ],
)
def test_what_is_no_samples_is_refused(data, complaint):
    with pytest.raises(UserError, match=complaint):
        Microphone(16_000).hear(data)


def test_jpeg_pieces_have_the_streams_clock_and_say_that_they_are_generated():
    made = Jpeg(Tags(identity="c0ffee42"))
    first, second = made.encode(hop(0)), made.encode(hop(5, shown=False))
    heads = [struct.unpack(">BQ", piece[:9]) for piece in first]
    assert heads == [(SOUND, 0)] + [(PICTURE, 40_000 * i) for i in range(5)]
    assert struct.unpack(">BQ", second[0][:9]) == (SOUND, 200_000) and len(second) == 1
    samples = np.frombuffer(first[0][9:], "<i2")
    assert len(samples) == 3200 and np.abs(samples - 3277).max() <= 1
    picture = Image.open(io.BytesIO(first[1][9:]))
    assert picture.size == (32, 32) and picture.info["comment"].decode() == f"{COMMENT} c0ffee42"


def test_an_mp4_without_the_pictures_of_a_hop_has_no_hole():
    made = Mp4(32, 32)
    assert made.mime == 'video/mp4; codecs="avc1.64001f,mp4a.40.2"'
    pieces = [piece for i in range(12) for piece in made.encode(hop(5 * i, shown=i % 3 != 2))]
    with av.open(io.BytesIO(b"".join(pieces))) as film:
        assert COMMENT in film.metadata["comment"]
        frames = list(film.decode(video=0))
        levels = [int(frame.to_ndarray(format="gray").mean()) for frame in frames]
    times = [float(frame.pts * frame.time_base) for frame in frames]
    np.testing.assert_allclose(np.diff(times), 0.04, atol=1e-6)
    assert len(frames) >= 50
    assert abs(levels[12] - levels[8]) < 3 and levels[17] > levels[12] + 30
