"""The server as a Starlette application: the page, portraits, the WebSocket of a session and the offer of WebRTC.

Everything is answered in one process by one event loop, which never computes: the engine has a thread of its own, and
pictures are decoded and encoded in a few others. What guards it stands in `vasa_jax.serve.guard`, what is said over the
WebSocket in `vasa_jax.serve.protocol`.
"""

import asyncio
import contextlib
import dataclasses
import json
import os
import secrets
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.websockets import WebSocket

from vasa_jax.errors import UserError, reason
from vasa_jax.serve.channel import control, tell
from vasa_jax.serve.describe import asyncapi, openapi
from vasa_jax.serve.engine import Busy
from vasa_jax.serve.guard import Guard, Limits, cookie, refused
from vasa_jax.serve.portraits import Portrait, Portraits
from vasa_jax.serve.protocol import CONTROLS, read
from vasa_jax.serve.visit import Visit

PAGE = Path(__file__).parent / "page"
VISITOR = "vasa_visitor"
"""The cookie by which uploads are known to be one's own."""
SLOWEST = 60.0
"""Seconds in which the body of a request must have come."""
OFFER = {
    "type": "object",
    "properties": {
        "sdp": {"type": "string", "maxLength": 65_536},
        "type": {"type": "string", "enum": ["offer"]},
        "portrait": {"type": "string", "maxLength": 64},
        "controls": {"type": "object", "properties": CONTROLS, "additionalProperties": False},
    },
    "required": ["sdp", "type", "portrait"],
}
"""What POST /offer takes."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """How a server is guarded. names: hosts by which it is known, beside addresses and localhost."""

    token: str | None = None
    names: tuple[str, ...] = ()
    limits: Limits = Limits()


def make_app(engine: Any, portraits: Portraits, settings: Settings = Settings()) -> Starlette:  # noqa: B008, a frozen value
    """The application. The engine is the caller's, who starts and stops it."""
    server = _Server(engine, portraits, settings)
    routes = [
        Route("/", server.page),
        Route("/portraits", server.portraits),
        Route("/portraits", server.upload, methods=["POST"]),
        Route("/portraits/{id}", server.thumbnail),
        Route("/portraits/{id}", server.remove, methods=["DELETE"]),
        Route("/state", server.state),
        Route("/openapi.json", lambda request: JSONResponse(openapi(settings.limits))),
        Route("/asyncapi.json", lambda request: JSONResponse(asyncapi())),
        Route("/offer", server.offer, methods=["POST"]),
        WebSocketRoute("/live", server.live),
        Mount("/page", StaticFiles(directory=PAGE)),
    ]
    guard = Middleware(Guard, token=settings.token, names=settings.names, limits=settings.limits)
    complaints: dict[Any, Any] = {
        HTTPException: lambda request, error: refused(error.status_code, error.detail, error.headers),
        Busy: lambda request, error: refused(
            503, reason(error), {"Retry-After": str(max(1, round(error.retry_after)))}
        ),
        UserError: lambda request, error: refused(422, reason(error)),
    }
    return Starlette(routes=routes, middleware=[guard], exception_handlers=complaints, lifespan=server.lifespan)


class _Server:
    """The endpoints and what they share."""

    def __init__(self, engine: Any, portraits: Portraits, settings: Settings):
        self._engine, self._portraits, self._settings = engine, portraits, settings
        self._encoders = ThreadPoolExecutor(max(2, os.cpu_count() or 2), "serve-encoder")
        self._openers = ThreadPoolExecutor(2, "serve-opener")  # apart, so that pictures that come delay no frames
        self._uploads = 0
        self._sockets = 0
        self._peers: dict[asyncio.Task, Any] = {}

    @contextlib.asynccontextmanager
    async def lifespan(self, app: Starlette) -> AsyncIterator[None]:
        """Ends with the server what it has begun."""
        yield
        for peer in list(self._peers.values()):
            await peer.close("the server stops")
        for threads in (self._encoders, self._openers):
            threads.shutdown(wait=False, cancel_futures=True)

    async def page(self, request: Request) -> Response:
        return _known(request, FileResponse(PAGE / "index.html"))

    async def portraits(self, request: Request) -> Response:
        seen = self._portraits.seen_by(_visitor(request))
        return JSONResponse({"portraits": [_described(one) for one in seen]})

    async def upload(self, request: Request) -> Response:
        limits, visitor = self._settings.limits, _visitor(request) or secrets.token_urlsafe(16)
        if self._uploads >= limits.uploads:
            raise HTTPException(503, "others upload pictures; wait a moment", {"Retry-After": "5"})
        self._uploads += 1
        try:
            data = await _body(request, limits.upload, "a picture")
            whole = request.query_params.get("whole") == "1"
            portrait = await self._aside(self._portraits.add, data, visitor, whole)
        finally:
            self._uploads -= 1
        return _known(request, JSONResponse(_described(portrait), 201), visitor)

    async def thumbnail(self, request: Request) -> Response:
        portrait = self._found(request)
        data = await self._aside(portrait.thumbnail)
        return Response(data, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=600"})

    async def remove(self, request: Request) -> Response:
        self._found(request)
        self._portraits.remove(request.path_params["id"], _visitor(request))
        return Response(status_code=204)

    async def state(self, request: Request) -> Response:
        return JSONResponse({"sessions": self._engine.sessions, "most": self._engine.most, "sockets": self._sockets})

    async def offer(self, request: Request) -> Response:
        data = await _body(request, self._settings.limits.offer, "an offer")
        try:
            asked = json.loads(data)
        except (ValueError, RecursionError):
            raise UserError("an offer is not JSON; send the description of createOffer and a portrait") from None
        asked = read(asked, OFFER, "an offer")
        portrait = self._portraits.find(asked["portrait"], _visitor(request))
        sitting = await self._aside(self._portraits.sitting, portrait)
        from vasa_jax.serve import webrtc  # aiortc takes a second to import

        description = {"sdp": asked["sdp"], "type": asked["type"]}
        answer, peer = await webrtc.answer(
            self._engine, sitting, description, control=control, wishes=asked.get("controls")
        )
        telling = asyncio.create_task(tell(peer))
        self._peers[telling] = peer
        telling.add_done_callback(self._peers.pop)
        about = {"width": sitting.width, "height": sitting.height, "remarks": list(sitting.remarks)}
        assert peer.session is not None  # an answer has one
        about["mark"] = peer.session.tags.identity
        return JSONResponse(answer | about)

    async def live(self, socket: WebSocket) -> None:
        limits = self._settings.limits
        if self._sockets >= limits.sockets:
            await socket.send_denial_response(refused(503, "too many connections", {"Retry-After": "10"}))
            return
        self._sockets += 1
        try:
            await socket.accept()
            await Visit(
                socket, self._engine, self._portraits, _visitor(socket), limits, self._encoders, self._openers
            ).run()
        finally:
            self._sockets -= 1

    def _found(self, request: Request) -> Portrait:
        try:
            return self._portraits.find(request.path_params["id"], _visitor(request))
        except UserError as error:
            raise HTTPException(404, reason(error)) from None

    async def _aside(self, work: Any, *given: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._openers, work, *given)


async def _body(request: Request, most: int, what: str) -> bytes:
    """What was sent, read no further than it may be."""
    parts, size = [], 0
    try:
        async with asyncio.timeout(SLOWEST):
            async for part in request.stream():
                size += len(part)
                if size > most:
                    raise HTTPException(413, f"{what} has more than {most} bytes; send a smaller one")
                parts.append(part)
    except TimeoutError:
        raise HTTPException(408, f"{what} did not come within {SLOWEST:g} s; send it faster") from None
    return b"".join(parts)


def _visitor(connection: HTTPConnection) -> str:
    return cookie(connection.headers, VISITOR)


def _known(request: Request, response: Response, visitor: str | None = None) -> Response:
    """The response, with a cookie for who has none."""
    if not _visitor(request):
        name = visitor or secrets.token_urlsafe(16)
        response.set_cookie(VISITOR, name, httponly=True, samesite="strict", secure=request.url.scheme == "https")
    return response


def _described(portrait: Portrait) -> dict[str, Any]:
    height, width = portrait.picture.shape[:2]
    about = {"id": portrait.id, "own": portrait.owner is not None, "width": width, "height": height}
    return about | {"url": f"/portraits/{portrait.id}"}
