"""WebRTC: a microphone's track in, the face's pictures and sound out, and a channel for control, through aiortc.

One offer makes one session of the engine. What the engine delivers goes to `tracks`, which send it when it is due and
leave out what is behind; congestion is answered by fewer pictures (see `thinning`), a lower bit rate (aiortc follows
what the receiver estimates), and never by waiting. A peer that fails, leaves, falls silent or never connects frees its
session; so does `Peer.close`. Without `ice_servers` nobody outside is asked for addresses: loopback and local networks.
"""

import asyncio
import contextlib
import dataclasses
import logging
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import av
from aiortc import RTCConfiguration, RTCIceServer, RTCPeerConnection, RTCRtpSender, RTCSessionDescription
from aiortc.exceptions import InternalError, InvalidAccessError, InvalidStateError, OperationError
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack
from aiortc.sdp import SessionDescription

from vasa_jax.arrays import SAMPLE_RATE
from vasa_jax.errors import UserError, reason
from vasa_jax.serve.clock import Clock, Latencies
from vasa_jax.serve.engine import Delivery, Engine, Session
from vasa_jax.serve.tracks import Pictures, Sound

CHANNEL = "control"
"""Name of the data channel that is listened to."""
CODEC = "video/VP8"
"""Preferred, for its encoder takes half the time of H.264's; the client's others follow."""
LOSSES = ((0.25, 4), (0.08, 2))
"""Where the receiver lost such a share of packets lately, one picture of so many is sent."""
MAIL = 10
"""Hops that may wait for the event loop."""
REFUSED = (
    *(InternalError, InvalidAccessError, InvalidStateError, OperationError),
    *(AssertionError, AttributeError, KeyError, IndexError, RuntimeError, StopIteration, TypeError, ValueError),
)
"""What aiortc raises for descriptions that are nonsense."""

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Limits:
    """What a peer may do."""

    connect: float = 15.0  # seconds until it must be connected
    silence: float = 10.0  # seconds without a packet of it
    offer: int = 1 << 16  # characters of an offer
    message: int = 1 << 14  # characters of a control message
    messages: int = 50  # control messages a second
    ice_servers: tuple[str, ...] = ()  # "stun:..." or "turn:..." addresses, asked for ways through networks

    def __post_init__(self):
        if self.connect <= 0 or self.silence <= 0:
            raise UserError(f"connect {self.connect:g} and silence {self.silence:g} must be seconds above 0")


Control = Callable[[str], list[str]]
"""Takes a JSON message of the client's, gives those that answer it."""


class Peer:
    """One client: its connection, its session, what it was sent.

    Attributes:
        session: of the engine. connection: aiortc's. reason: why it is closed, empty before.
    """

    def __init__(self, limits: Limits, clock: Clock = Clock()):  # noqa: B008
        servers = [RTCIceServer(urls=[url]) for url in limits.ice_servers]
        self.connection = RTCPeerConnection(RTCConfiguration(iceServers=servers))
        self.session: Session | None = None
        self.reason = ""
        self.closed = asyncio.Event()
        self._limits, self._clock = limits, clock
        self._pictures, self._sound = Pictures(clock), Sound(clock)
        self._loop = asyncio.get_running_loop()
        self._mail: deque[Delivery] = deque(maxlen=MAIL)
        self._tasks: set[asyncio.Task] = set()
        self._channel: Any = None
        self._recent: deque[float] = deque()
        self._late = 0
        self._latencies = Latencies()

    @property
    def latency(self) -> dict[str, float] | None:
        """Milliseconds from the last sample that a frame shows to when it is sent, lately; None before any speech."""
        return self._latencies.report()

    @property
    def counts(self) -> dict[str, int]:
        """Frames sent, left out because they were behind or the way congested, and made too late; blocks of sound."""
        pictures = self._pictures
        return {
            "sent": pictures.sent,
            "skipped": pictures.skipped,
            "late": self._late,
            "sound_skipped": self._sound.skipped,
        }

    def send(self, text: str) -> None:
        """Sends a message, where the client has opened the channel."""
        if self._channel is not None and self._channel.readyState == "open":
            self._channel.send(text)

    def deliver(self, delivery: Delivery) -> None:
        """Takes a hop from the engine's thread."""
        self._mail.append(delivery)
        with contextlib.suppress(RuntimeError):  # the loop has ended, and with it who would see this
            self._loop.call_soon_threadsafe(self._show)

    async def close(self, why: str = "closed") -> None:
        """Frees the session, the tracks and the connection; more than once is no harm."""
        if self.reason:
            await self.closed.wait()
            return
        self.reason = why
        if self.session is not None:
            self.session.close()
        self._pictures.stop()
        self._sound.stop()
        for task in self._tasks - {asyncio.current_task()}:
            task.cancel()
        self._mail.clear()
        try:
            await self.connection.close()
        except REFUSED as error:  # aiortc stumbles over parts that a nonsensical offer left half made
            log.debug("closing a connection: %s", reason(error))
        finally:
            self.closed.set()

    async def begin(self, engine: Engine, sitting: Any, offer: str, control: Any, wishes: Mapping[str, Any]) -> str:
        """Opens the session and answers the offer; what fails leaves nothing behind."""
        connection = self.connection
        preferred = RTCRtpSender.getCapabilities("video").codecs
        preferred = sorted(preferred, key=lambda codec: codec.mimeType != CODEC)
        video = connection.addTransceiver(self._pictures, "sendonly")
        video.setCodecPreferences(preferred)
        connection.addTransceiver(self._sound, "sendrecv")
        connection.on("track", self._hear)
        connection.on("datachannel", lambda channel: self._open_channel(channel, control))
        connection.on("connectionstatechange", self._changed)
        try:
            with _refusals():
                await connection.setRemoteDescription(RTCSessionDescription(offer, "offer"))
            await self._sit_down(engine, sitting, wishes)
            with _refusals():
                await connection.setLocalDescription(await connection.createAnswer())
        except BaseException:
            await self.close("refused")
            raise
        self._start(self._watch())
        return connection.localDescription.sdp

    async def _sit_down(self, engine: Engine, sitting: Any, wishes: Mapping[str, Any]) -> None:
        """Opens the session, in a thread, since that takes a moment; who has left meanwhile leaves none behind."""
        opening = asyncio.ensure_future(asyncio.to_thread(lambda: engine.open(sitting, self.deliver, **wishes)))
        try:
            self.session = await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(lambda done: done.exception() or done.result().close())
            raise

    def _start(self, work: Any) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _show(self) -> None:
        while self._mail and not self.reason:
            delivery = self._mail.popleft()
            chunk, self._late = delivery.chunk, delivery.late
            self._pictures.put(chunk.first, chunk.frames, delivery.due)
            self._sound.put(chunk.first, chunk.sound, delivery.due)
            if delivery.arrived is not None:
                self._latencies.add(max(self._clock.now(), delivery.due) - delivery.arrived)

    def _hear(self, track: MediaStreamTrack) -> None:
        if track.kind == "audio":
            self._start(self._listen(track))

    async def _listen(self, track: MediaStreamTrack) -> None:
        """Pushes the microphone's sound, as it comes, at 16 kHz and mixed to one channel."""
        resampler, form = None, None
        try:
            while True:
                frame: Any = await track.recv()
                if resampler is None or form != (frame.format.name, frame.layout.name, frame.sample_rate):
                    form = frame.format.name, frame.layout.name, frame.sample_rate
                    resampler = av.AudioResampler(format="s16", layout="mono", rate=SAMPLE_RATE)
                for part in resampler.resample(frame):
                    if self.session is not None:
                        self.session.push(part.to_ndarray()[0])
        except MediaStreamError:
            return
        except UserError as error:
            await self.close(reason(error))

    def _open_channel(self, channel: Any, control: Any) -> None:
        if channel.label != CHANNEL or self._channel is not None or self.session is None:
            channel.close()
            return
        self._channel = channel
        handle: Control = control(self)
        channel.on("message", lambda message: self._answer(handle, message))

    def _answer(self, handle: Control, message: str | bytes) -> None:
        now, most = self._clock.now(), self._limits.messages
        self._recent.append(now)
        if len(self._recent) > most and now - self._recent.popleft() < 1:
            self._start(self.close(f"more than {most} messages a second came"))
        elif isinstance(message, str) and len(message) <= self._limits.message:
            for reply in handle(message):
                self.send(reply)

    async def _changed(self) -> None:
        if self.connection.connectionState in ("failed", "closed"):
            await self.close("the connection has ended")

    async def _watch(self) -> None:
        """Closes peers that never connect or fall silent, and sends fewer pictures where packets are lost."""
        begun = since = self._clock.now()
        packets = -1
        while not self.reason:
            await self._clock.sleep(min(1.0, self._limits.connect / 4, self._limits.silence / 4))
            now, reports = self._clock.now(), list((await self.connection.getStats()).values())
            heard = sum(report.packetsReceived for report in reports if report.type == "transport")
            if heard != packets:
                packets, since = heard, now
            if self.session is not None and self.session.closed:
                await self.close(self.session.reason)
            elif self.connection.connectionState != "connected":
                if now - begun > self._limits.connect:
                    await self.close(f"no connection within {self._limits.connect:g} s")
            elif now - since > self._limits.silence:
                await self.close(f"nothing came for {self._limits.silence:g} s")
            lost = [one.fractionLost for one in reports if one.type == "remote-inbound-rtp" and one.kind == "video"]
            self._pictures.every = thinning(max(lost, default=0) / 256)


def thinning(lost: float) -> int:
    """One picture of how many to send where the receiver lost such a share of packets."""
    return next((every for share, every in LOSSES if lost > share), 1)


@contextlib.contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except REFUSED as error:
        raise UserError(f"the offer cannot be answered: {reason(error)[:200]}; send a browser's own") from error


def check_offer(offer: Mapping[str, Any], limits: Limits) -> str:
    """The description in an offer. Raises UserError where it is none, or asks for no video."""
    kind, text = offer.get("type"), offer.get("sdp")
    if kind != "offer" or not isinstance(text, str):
        raise UserError('an offer is {"type": "offer", "sdp": "v=0 ..."}; send that of RTCPeerConnection')
    if len(text) > limits.offer:
        raise UserError(f"the offer has {len(text)} characters, more than {limits.offer}; send a browser's own")
    with _refusals():
        media = SessionDescription.parse(text).media
    kinds = [one.kind for one in media]
    if not text.startswith("v=0") or kinds.count("video") != 1 or kinds.count("audio") > 1:
        raise UserError(f"the offer has media {kinds}; send one video and at most one audio")
    if next(one for one in media if one.kind == "video").direction not in ("recvonly", "sendrecv"):
        raise UserError("the offer receives no video; make its video transceiver recvonly")
    return text


async def answer(
    engine: Engine,
    sitting: Any,
    offer: Mapping[str, Any],
    *,
    control: Callable[[Peer], Control],
    wishes: Mapping[str, Any] | None = None,
    limits: Limits = Limits(),  # noqa: B008
    clock: Clock = Clock(),  # noqa: B008
) -> tuple[dict[str, str], Peer]:
    """Answers a browser's offer and starts a session.

    Args:
        engine: that makes the frames. sitting: the picture that speaks.
        offer: {"type": "offer", "sdp": ...}: one video to receive, at most one audio (the microphone, and the sound), a
            data channel "control".
        control: makes, for a peer, what its control messages are given to.
        wishes: controls and adjustments of the session, as of `Session.change`.
        limits: of the peer. clock: for tests.

    Returns:
        The answer, {"type": "answer", "sdp": ...}, and the peer, whose `close` frees everything.

    Raises:
        UserError: an offer or a wish that cannot be used; Busy where the engine has no room.
    """
    text = check_offer(offer, limits)
    peer = Peer(limits, clock)
    return {"type": "answer", "sdp": await peer.begin(engine, sitting, text, control, wishes or {})}, peer
