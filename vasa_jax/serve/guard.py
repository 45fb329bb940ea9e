"""Who may speak to the server, and how much: what is checked before any request is looked at.

* The host that a request names must be an address, `localhost`, or a name that the server was given: a page elsewhere
  cannot reach a server on this machine by letting its own name lead here (DNS rebinding).
* A page elsewhere may not use it either: where a browser says from where a request comes (`Origin`), it must be the
  server's own page.
* With a token, every request must show it: as `Authorization: Bearer`, as a cookie, or once in the address, from where
  it moves into the cookie. It is compared in constant time.
* A client's requests, messages and bytes have a rate.

Every answer forbids the page to load anything from elsewhere, and others to frame it.
"""

import dataclasses
import hmac
import ipaddress
import re
import time
from collections import OrderedDict
from collections.abc import Callable
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, urlencode, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE = "vasa_token"
HOST = re.compile(r"[A-Za-z0-9.:\[\]-]+")
CLIENTS = 1024
"""Clients whose rates are remembered."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limits:
    """How much a client may ask for."""

    requests: float = 20.0  # a second, by address
    burst: float = 200.0  # requests at once
    messages: float = 250.0  # a second, of one WebSocket
    bytes: float = 2_000_000.0  # of sound and messages a second, of one WebSocket
    sound: float = 120.0  # seconds that may wait in a session
    upload: int = 10_000_000  # bytes of a picture
    uploads: int = 4  # at once, of all
    offer: int = 65_536  # bytes of a WebRTC offer
    mistakes: int = 20  # messages of a session that cannot be used, before it ends
    idle_start: float = 60.0  # seconds that a WebSocket may wait before its session starts
    sockets: int = 64  # open WebSockets


class Bucket:
    """Lets so much pass a second, and twice that at once, or `burst`."""

    def __init__(self, rate: float, burst: float | None = None, clock: Callable[[], float] = time.monotonic):
        """Full at the beginning."""
        self._rate, self._most, self._clock = rate, 2 * rate if burst is None else burst, clock
        self._left, self._then = self._most, clock()

    def take(self, amount: int | float = 1) -> bool:
        """Whether so much more may pass."""
        now = self._clock()
        self._left, self._then = min(self._most, self._left + self._rate * (now - self._then)), now
        if amount > self._left:
            return False
        self._left -= amount
        return True


class Guard:
    """Middleware around the whole application."""

    def __init__(self, app: ASGIApp, token: str | None, names: tuple[str, ...], limits: Limits):
        """`names`: hosts by which the server is known, beside addresses and localhost."""
        self._app, self._token, self._limits = app, token, limits
        self._names = {name.lower() for name in names}
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers what is refused, and hands on the rest."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        host = headers.get("host", "")

        async def guarded(message: Message) -> None:
            if message["type"] in ("http.response.start", "websocket.http.response.start"):
                message.setdefault("headers", [])
                _secure(MutableHeaders(scope=message), host)
            await send(message)

        refusal = self._refusal(scope, headers)
        await (refusal or self._app)(scope, receive, guarded)

    def _refusal(self, scope: Scope, headers: Headers) -> Response | None:
        if not self._named(headers.getlist("host")):
            return refused(421, "this server is not known by that name; start it with --names NAME")
        if not self._bucket(scope).take():
            return refused(429, "too many requests; wait a second", {"Retry-After": "1"})
        origin = headers.get("origin")
        active = scope["type"] == "websocket" or scope["method"] not in ("GET", "HEAD", "OPTIONS")
        if active and origin is not None and not _same(origin, headers["host"]):
            return refused(403, "only the server's own page may do this")
        return self._without_token(scope, headers)

    def _named(self, hosts: list[str]) -> bool:
        name = _host(hosts[0]) if len(hosts) == 1 else None
        return name is not None and (_is_address(name) or name == "localhost" or name in self._names)

    def _bucket(self, scope: Scope) -> Bucket:
        client = (scope.get("client") or ("",))[0]
        bucket = self._buckets.pop(client, None) or Bucket(self._limits.requests, self._limits.burst)
        self._buckets[client] = bucket
        while len(self._buckets) > CLIENTS:
            self._buckets.popitem(last=False)
        return bucket

    def _without_token(self, scope: Scope, headers: Headers) -> Response | None:
        if self._token is None:
            return None
        asked = parse_qs(scope["query_string"].decode("latin-1"))
        shown = asked.pop("token", [""])[-1]
        if shown and self._right(shown):
            if scope["type"] != "http" or scope["path"] != "/" or scope["method"] != "GET":
                return None
            response = RedirectResponse(f"/?{urlencode(asked, doseq=True)}" if asked else "/", 303)
            secure = scope.get("scheme") == "https"
            response.set_cookie(COOKIE, self._token, httponly=True, samesite="strict", secure=secure)
            return response
        kind, _, value = headers.get("authorization", "").partition(" ")
        if (kind.lower() == "bearer" and self._right(value)) or self._right(cookie(headers, COOKIE)):
            return None
        return refused(
            401, "a token is needed; open the address that the server printed", {"WWW-Authenticate": "Bearer"}
        )

    def _right(self, token: str) -> bool:
        return self._token is not None and hmac.compare_digest(token.encode(), self._token.encode())


def cookie(headers: Headers, name: str) -> str:
    """A cookie's value, empty where there is none."""
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(name)
    except CookieError:
        return ""
    return found.value if found else ""


def refused(status: int, message: str, headers: dict[str, str] | None = None) -> Response:
    """An answer that says what is wrong, in the form of all of them."""
    return JSONResponse({"type": "error", "message": message}, status, headers)


def _host(header: str) -> str | None:
    try:
        return urlsplit(f"//{header}").hostname
    except ValueError:
        return None


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _same(origin: str, host: str) -> bool:
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and parts.netloc.lower() == host.lower()


def _secure(headers: MutableHeaders, host: str) -> None:
    sockets = f"ws://{host} wss://{host}" if HOST.fullmatch(host) else ""
    headers["Content-Security-Policy"] = (
        "default-src 'none'; script-src 'self'; worker-src 'self'; style-src 'self'; img-src 'self' blob:; "
        f"media-src 'self' blob:; connect-src 'self' {sockets}; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )
    headers["X-Content-Type-Options"] = "nosniff"
    headers["Referrer-Policy"] = "no-referrer"
    headers["Permissions-Policy"] = "microphone=(self), camera=(), geolocation=()"
    headers["Cross-Origin-Opener-Policy"] = "same-origin"
    headers["Cross-Origin-Resource-Policy"] = "same-origin"
    headers.setdefault("Cache-Control", "no-store")
