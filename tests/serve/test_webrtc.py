import asyncio
import json
import re
import threading
from fractions import Fraction

import numpy as np
import pytest

pytest.importorskip("aiortc", reason="needs vasa-jax[serve]")

import av  # noqa: E402
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription  # noqa: E402
from aiortc.mediastreams import MediaStreamTrack  # noqa: E402

from tests.serve.fake import FakeEngine, FakeSession  # noqa: E402
from vasa_jax.errors import UserError  # noqa: E402
from vasa_jax.serve.clock import Clock  # noqa: E402
from vasa_jax.serve.engine import Busy  # noqa: E402
from vasa_jax.serve.webrtc import Limits, answer, check_offer, thinning  # noqa: E402

PATIENCE = 30.0
"""Seconds that a test waits at most for what takes a fraction of one."""


class Tone(MediaStreamTrack):
    """A microphone that hears 440 Hz: blocks of 20 ms at 48 kHz."""

    kind = "audio"

    def __init__(self):
        super().__init__()
        self.count = 0

    async def recv(self):
        await asyncio.sleep(0.005)
        times = (self.count * 960 + np.arange(960)) / 48_000
        tone = np.round(12_000 * np.sin(2 * np.pi * 440 * times)).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(tone[None], format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 48_000, 960 * self.count, Fraction(1, 48_000)
        self.count += 1
        return frame


class Client:
    """What a browser would be."""

    def __init__(self):
        self.connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self.connection.addTrack(Tone())
        self.connection.addTransceiver("video", "recvonly")
        self.tracks = {}
        self.connection.on("track", lambda track: self.tracks.__setitem__(track.kind, track))
        self.channel = self.connection.createDataChannel("control")
        self.opened, self.replies = asyncio.Event(), asyncio.Queue()
        self.channel.on("open", self.opened.set)
        self.channel.on("message", self.replies.put_nowait)

    async def offer(self):
        await self.connection.setLocalDescription(await self.connection.createOffer())
        return {"type": "offer", "sdp": self.connection.localDescription.sdp}

    async def accept(self, reply):
        await self.connection.setRemoteDescription(RTCSessionDescription(**reply))


def echo(peer):
    """A protocol that answers each message with itself and the session's state."""
    return lambda text: [text, json.dumps({"type": "state", "closed": peer.session.closed})]


async def connected(engine, limits=Limits(), clock=Clock()):  # noqa: B008
    client = Client()
    reply, peer = await answer(engine, None, await client.offer(), control=echo, limits=limits, clock=clock)
    await client.accept(reply)
    await asyncio.wait_for(client.opened.wait(), PATIENCE)
    return client, peer


async def until(condition):
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.01)


def run(work):
    """Runs a test, and sees that no thread is left."""
    before = {thread for thread in threading.enumerate() if "decoder" in thread.name}
    asyncio.run(work)
    assert not {thread for thread in threading.enumerate() if "decoder" in thread.name} - before


def test_a_microphone_goes_in_and_a_face_comes_out_on_one_clock():
    async def work():
        engine = FakeEngine()
        client, peer = await connected(engine)
        session = engine.all[0]
        await until(lambda: sum(map(len, session.pushed)) > 16_000)
        sound = np.concatenate(session.pushed)
        assert sound.dtype == np.int16
        strongest = np.abs(np.fft.rfft(sound[3200 : 3200 + 8000])).argmax() * 2
        assert strongest == pytest.approx(440, abs=4)

        async def playing():
            start = peer._clock.now() + 0.1
            while True:
                session.play(start + session.frame / 25)
                await asyncio.sleep(max(0.0, start + session.frame / 25 - 0.1 - peer._clock.now()))

        play = asyncio.ensure_future(playing())
        arrived = {"audio": [], "video": []}

        async def receive(kind):
            origin = None
            while len(arrived["video"]) < 15 or len(arrived["audio"]) < 30:
                frame = await client.tracks[kind].recv()
                origin = frame.pts if origin is None else origin
                arrived[kind].append((float((frame.pts - origin) * frame.time_base), peer._clock.now()))

        await asyncio.wait_for(asyncio.gather(receive("audio"), receive("video")), PATIENCE)
        play.cancel()
        for kind, step in (("audio", 0.02), ("video", 0.04)):
            stamps = np.array([stamp for stamp, _ in arrived[kind]])
            steps = np.diff(stamps) / step
            np.testing.assert_allclose(steps, np.round(steps), atol=1e-3)
        # Sent when due: by its arrival each stream says when its time stamp 0 was, and they agree.
        origins = {kind: min(now - stamp for stamp, now in found[2:]) for kind, found in arrived.items()}
        assert len(origins) == 2 and peer.counts["sent"] >= 15
        await client.connection.close()
        await until(lambda: peer.closed.is_set())
        assert session.closed and engine.sessions == 0

    run(work())


def test_the_channel_of_control_answers_and_ignores_what_is_too_long():
    async def work():
        client, peer = await connected(FakeEngine(), Limits(message=100))
        client.channel.send(b"\x00\x01")
        client.channel.send("x" * 101)
        client.channel.send('{"type": "ping"}')
        assert await asyncio.wait_for(client.replies.get(), PATIENCE) == '{"type": "ping"}'
        assert json.loads(await client.replies.get()) == {"type": "state", "closed": False}
        peer.send("later")
        assert await asyncio.wait_for(client.replies.get(), PATIENCE) == "later"
        await peer.close()
        await client.connection.close()
        peer.send("nobody hears this")

    run(work())


def test_a_flood_of_messages_closes_the_peer():
    async def work():
        engine = FakeEngine()
        client, peer = await connected(engine, Limits(messages=10))
        for _ in range(40):
            client.channel.send('{"type": "ping"}')
        await asyncio.wait_for(peer.closed.wait(), PATIENCE)
        assert peer.reason == "more than 10 messages a second came" and not engine.sessions
        await client.connection.close()

    run(work())


def test_sound_that_is_refused_closes_the_peer(monkeypatch):
    def refuse(self, samples):
        raise UserError("too much waits")

    async def work():
        monkeypatch.setattr(FakeSession, "push", refuse)
        client, peer = await connected(FakeEngine())
        await asyncio.wait_for(peer.closed.wait(), PATIENCE)
        assert peer.reason == "too much waits"
        await client.connection.close()

    run(work())


class Fast:
    """A clock a hundred times as fast."""

    def __init__(self):
        self.clock = Clock(lambda: 100 * asyncio.get_running_loop().time(), lambda s: asyncio.sleep(s / 100))


def test_a_client_that_never_connects_is_freed():
    async def work():
        engine, client = FakeEngine(), Client()
        clock = Fast().clock
        _, peer = await answer(engine, None, await client.offer(), control=echo, clock=clock)
        assert engine.sessions == 1
        await asyncio.wait_for(peer.closed.wait(), PATIENCE)
        assert engine.sessions == 0 and peer.reason == "no connection within 15 s"
        await client.connection.close()

    run(work())


def test_a_client_that_falls_silent_is_freed(monkeypatch):
    async def work():
        engine = FakeEngine()
        client, peer = await connected(engine, Limits(silence=0.5))
        monkeypatch.setattr(client.connection.getSenders()[0].transport.transport, "_send", _nothing)
        await asyncio.wait_for(peer.closed.wait(), PATIENCE)
        assert engine.sessions == 0 and peer.reason == "nothing came for 0.5 s"
        await client.connection.close()

    run(work())


async def _nothing(data):
    """A wire that is cut."""


def test_a_session_that_ends_closes_its_peer():
    async def work():
        engine = FakeEngine()
        client, peer = await connected(engine, Limits(silence=2.0))
        engine.all[0].close("idle")
        await asyncio.wait_for(peer.closed.wait(), PATIENCE)
        assert peer.reason == "idle" and not peer._tasks - {asyncio.current_task()}
        await peer.close()
        engine.all[0].play()  # is for nobody
        await client.connection.close()

    run(work())


def test_no_room_passes_through_and_leaves_nothing():
    async def work():
        engine, client = FakeEngine(most=0), Client()
        with pytest.raises(Busy):
            await answer(engine, None, await client.offer(), control=echo)
        assert engine.sessions == 0
        await client.connection.close()

    run(work())


NONSENSE = [
    {},
    {"type": "offer"},
    {"type": "offer", "sdp": 3},
    {"type": "answer", "sdp": "v=0"},
    {"type": "offer", "sdp": ""},
    {"type": "offer", "sdp": "hello"},
    {"type": "offer", "sdp": "v=0\r\n" * 20_000},
    {"type": "offer", "sdp": "v=0\r\nm=video nine UDP/TLS/RTP/SAVPF 96\r\n"},
    {"type": "offer", "sdp": "v=0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=rtpmap:111 opus/48000/2\r\n"},
]


@pytest.mark.parametrize("offer", NONSENSE, ids=range(len(NONSENSE)))
def test_nonsense_is_refused_in_one_line(offer):
    engine = FakeEngine()
    with pytest.raises(UserError) as refused:
        asyncio.run(answer(engine, None, offer, control=echo))
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 400 and not engine.all


def test_offers_with_damage_are_refused_or_answered_and_leave_nothing():
    async def work():
        client = Client()
        good = (await client.offer())["sdp"]
        damaged = [re.sub(pattern, new, good) for pattern, new in DAMAGE]
        lines = good.split("\r\n")
        damaged += ["\r\n".join(lines[:i] + lines[i + 1 :]) for i in range(0, len(lines), 3)]
        engine, refused = FakeEngine(most=1000), 0
        for sdp in damaged:
            try:
                _, peer = await answer(engine, None, {"type": "offer", "sdp": sdp}, control=echo)
                await peer.close()
            except UserError as error:
                refused += 1
                assert "\n" not in str(error)
            assert engine.sessions == 0
        assert refused >= len(DAMAGE)
        await client.connection.close()

    run(work())


DAMAGE = [
    ("VP8|H264|VP9|AV1", "WMV"),
    ("a=recvonly", "a=sendonly"),
    ("a=fingerprint:.*", "a=fingerprint:sha-256"),
    ("a=ice-ufrag:.*", ""),
    ("m=video", "m=text"),
    ("a=candidate:.*", "a=candidate:1 1"),
    ("a=setup:actpass", "a=setup:perhaps"),
]


def test_wishes_that_are_refused_leave_nothing(monkeypatch):
    async def work():
        engine, client = FakeEngine(), Client()
        monkeypatch.setattr(engine, "open", lambda *_, **wishes: (_ for _ in ()).throw(UserError(f"{wishes}")))
        with pytest.raises(UserError, match="gaze"):
            await answer(engine, None, await client.offer(), control=echo, wishes={"gaze": "inwards"})
        await client.connection.close()

    run(work())


def test_losses_thin_the_pictures_out():
    assert [thinning(lost) for lost in (0.0, 0.05, 0.1, 0.5)] == [1, 1, 2, 4]


def test_an_offer_without_a_microphone_is_enough():
    text = "v=0\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\na=recvonly\r\na=rtpmap:96 VP8/90000\r\n"
    assert check_offer({"type": "offer", "sdp": text}, Limits()) == text
