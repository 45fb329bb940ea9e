"""One WebSocket from its opening to its end: what a client says becomes calls of its session, hops become its frames.

Whatever goes wrong is this client's: it gets an `error` in one line, and its connection ends where nothing else makes
sense. Encoding happens in threads, a hop at a time, and nothing in here waits for a slow reader but the task that
sends to it.
"""

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, NamedTuple

from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketDisconnected, WebSocketState

from vasa_jax.arrays import FPS, SAMPLE_RATE
from vasa_jax.errors import UserError, reason
from vasa_jax.serve.containers import Container, container
from vasa_jax.serve.engine import Busy
from vasa_jax.serve.guard import Bucket, Limits
from vasa_jax.serve.portraits import Portraits
from vasa_jax.serve.protocol import TEXT, Change, End, Interrupt, Microphone, Ping, Start, parse, say
from vasa_jax.serve.viewer import PATIENCE, Viewer

DONE, REFUSED, POLICY, TOO_BIG, BROKEN, LATER = 1000, 1003, 1008, 1009, 1011, 1013
"""Codes with which a WebSocket is closed."""
REPORTS = 1.0
"""Seconds between two messages of `state`."""


class Ended(Exception):
    """The connection ends for a reason. code: of the WebSocket's closing."""

    def __init__(self, code: int, message: str, **more: Any):
        super().__init__(message)
        self.code, self.message, self.more = code, message, more


class Playing(NamedTuple):
    """What there is from `start` on."""

    session: Any
    viewer: Viewer
    container: Container
    microphone: Microphone


class Visit:
    """A connection."""

    def __init__(
        self,
        socket: WebSocket,
        engine: Any,
        portraits: Portraits,
        visitor: str,
        limits: Limits,
        encoders: Executor,
        openers: Executor,
    ):
        """`socket`: accepted. `encoders`, `openers`: threads in which frames are encoded and portraits are opened."""
        self._socket, self._engine, self._portraits, self._visitor = socket, engine, portraits, visitor
        self._limits, self._encoders, self._openers = limits, encoders, openers
        self._playing: Playing | None = None
        self._sending = asyncio.Lock()
        self._mistakes = 0
        self._messages, self._bytes = Bucket(limits.messages), Bucket(limits.bytes, 4 * limits.bytes)

    async def run(self) -> None:
        """Serves until one side ends it."""
        ended: Ended | None = Ended(BROKEN, "the server stumbled over this session; start another")
        try:
            try:
                while self._playing is None:
                    async with asyncio.timeout(self._limits.idle_start):
                        message = await self._socket.receive()
                    await self._hearken(message)
                await self._play()
            except Ended as end:
                ended = end
            except TimeoutError:
                ended = Ended(POLICY, f"no session was started in {self._limits.idle_start:g} s")
            except (WebSocketDisconnect, WebSocketDisconnected):
                ended = Ended(DONE, "closed")
            except asyncio.CancelledError:
                ended = None  # there is no time for words
                raise
        finally:
            if self._playing:
                self._playing.session.close()
            if ended:
                await self._close(ended)

    async def _play(self) -> None:
        """Does all at once until one of them ends."""
        try:
            async with asyncio.TaskGroup() as group:
                for work in (self._listen, self._show, self._watch):
                    group.create_task(work())
        except ExceptionGroup as several:
            raise several.exceptions[0] from None

    async def _listen(self) -> None:
        while True:
            await self._hearken(await self._socket.receive())

    async def _hearken(self, message: Any) -> None:
        """Does what a message or a piece of sound asks for."""
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", DONE))
        text, data = message.get("text"), message.get("bytes")
        if not self._messages.take() or not self._bytes.take(len(text or data or b"")):
            raise Ended(
                POLICY,
                f"too much at once; send at most {self._limits.bytes / 1e6:g} MB a second in all, "
                f"in at most {self._limits.messages:g} pieces",
            )
        try:
            if text is not None:
                if len(text) > TEXT:
                    raise Ended(TOO_BIG, f"a message has {len(text)} letters; send at most {TEXT}")
                await self._do(parse(text))
            else:
                self._hear(data or b"")
        except Busy as error:
            raise Ended(LATER, reason(error), retry_after=error.retry_after) from None
        except UserError as error:
            if self._playing and self._playing.session.closed:
                raise _over(self._playing.session) from None
            self._mistakes += 1
            if self._mistakes >= self._limits.mistakes:
                raise Ended(REFUSED, f"{reason(error)}; that was mistake {self._mistakes}, and the last") from None
            await self._say("error", message=reason(error), fatal=False)

    async def _do(self, message: Any) -> None:
        if isinstance(message, Ping):
            await self._say("pong", id=message.id)
        elif isinstance(message, Start):
            await self._start(message)
        elif (playing := self._playing) is None:
            raise UserError("no session has started; send a start first")
        elif isinstance(message, Change):
            playing.session.change(ease=message.ease, **message.controls)
        elif isinstance(message, Interrupt):
            playing.microphone.clear()
            playing.session.interrupt()
        elif isinstance(message, End):
            self._push(playing, playing.microphone.rest())
            playing.session.say_no_more()

    async def _start(self, start: Start) -> None:
        if self._playing is not None:
            raise UserError("the session has started; open another WebSocket for another")
        portrait = self._portraits.find(start.portrait, self._visitor)
        sitting = await self._aside(self._openers, self._portraits.sitting, portrait)
        viewer, wishes = Viewer(), {"seed": start.seed} | dict(start.controls)
        spoken = start.source == "microphone"
        opening = asyncio.ensure_future(
            self._aside(self._openers, lambda: self._engine.open(sitting, viewer.put, microphone=spoken, **wishes))
        )
        try:
            session = await asyncio.shield(opening)
        except asyncio.CancelledError:  # a server that ends leaves no session behind
            opening.add_done_callback(_close_late)
            raise
        try:
            size = sitting.height, sitting.width
            made = await self._aside(self._encoders, container, start.container, *size, session.tags)
        except BaseException:
            session.close()
            raise
        self._playing = Playing(session, viewer, made, Microphone(start.rate))
        await self._say(
            "ready",
            width=sitting.width,
            height=sitting.height,
            fps=FPS,
            hop=self._engine.hop,
            mime=made.mime,
            mark=session.tags.identity,
            remarks=list(sitting.remarks),
        )

    def _hear(self, data: bytes) -> None:
        if self._playing is None:
            raise UserError("no session has started; send a start before sound")
        self._push(self._playing, self._playing.microphone.hear(data))

    def _push(self, playing: Playing, samples: Any) -> None:
        if (playing.session.waiting + len(samples)) / SAMPLE_RATE > self._limits.sound:
            raise UserError(f"{self._limits.sound:g} s of sound wait; send more when they have been spoken")
        if len(samples):
            playing.session.push(samples)

    async def _show(self) -> None:
        """Sends hops as they come."""
        assert self._playing
        viewer, made = self._playing.viewer, self._playing.container
        while True:
            hop, delivery = await viewer.take()
            for piece in await self._aside(self._encoders, made.encode, hop):
                async with self._sending:
                    await self._socket.send_bytes(piece)
            viewer.sent(delivery)

    async def _watch(self) -> None:
        """Tells how it goes, and ends what the engine has ended."""
        assert self._playing
        session, viewer = self._playing.session, self._playing.viewer
        while not session.closed and not viewer.stalled:
            await self._say("state", **viewer.report(), waiting=round(session.waiting / SAMPLE_RATE, 2))
            await asyncio.sleep(REPORTS)
        if viewer.stalled:
            raise Ended(POLICY, f"nothing was read for {PATIENCE:g} s")
        raise _over(session)

    async def _say(self, kind: str, **fields: Any) -> None:
        async with self._sending:
            await self._socket.send_json(say(kind, **fields))

    async def _aside(self, threads: Executor, work: Callable[..., Any], *given: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(threads, work, *given)

    async def _close(self, ended: Ended) -> None:
        """Says why, where anyone listens, and closes; a reader who takes nothing is left."""
        if self._socket.application_state is WebSocketState.DISCONNECTED:
            return
        with contextlib.suppress(TimeoutError, WebSocketDisconnect, WebSocketDisconnected):
            async with asyncio.timeout(2.0):
                if ended.code != DONE:
                    await self._say("error", message=ended.message, fatal=True, **ended.more)
                await self._say("closed", reason=ended.message)
                await self._socket.close(ended.code, ended.message[:100])


def _over(session: Any) -> Ended:
    return Ended(DONE if session.reason in ("closed", "idle") else BROKEN, session.reason)


def _close_late(opening: asyncio.Future) -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()
