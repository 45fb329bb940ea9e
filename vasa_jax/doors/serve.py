"""The live server's door: `python -m vasa_jax.serve [--model demo] [--port 8000]`.

It listens on this machine alone; for others (`--host 0.0.0.0`) it asks for a token, which it makes and prints where
none was given. Ctrl-C or SIGTERM ends it, and the sessions that are open.
"""

import contextlib
import dataclasses
import errno
import importlib.util
import ipaddress
import secrets
import socket
import sys
import threading
import webbrowser
from collections.abc import Iterator, Sequence
from typing import Any, Literal

from vasa_jax.command import run
from vasa_jax.doors.flags import read_flags
from vasa_jax.errors import UserError, check_devices, reason

NEEDS = ("starlette", "uvicorn", "websockets", "aiortc")
"""Packages of the extra."""
SHORTEST = 16
"""Letters of a token that cannot be guessed."""
UNSENT = 1 << 17
"""Bytes that the system keeps for a reader: little, so that a slow one is noticed soon."""
SILENT = 30_000
"""Milliseconds after which a reader who takes nothing is cut off by the system."""
LONGEST = 2 << 20
"""Bytes of a WebSocket's message that are read at all."""
GRACE = 3
"""Seconds that open connections have at the end."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """Serve talking faces live: a page for a browser, WebSocket and WebRTC for programs."""

    host: str = "127.0.0.1"  # address to listen on; 0.0.0.0 is for other machines too, which need the token
    port: int = 8000  # to listen on; 0 takes any that is free
    model: str = "demo"  # a bundled model, joyvasa (the public weights), a release folder, or NAME/REPO on the Hub
    sessions: int = 4  # at once; who comes later is told to come back
    hop: int = 5  # frames that are made together: fewer answer sooner and cost more
    look_ahead: int = 0  # frames of sound that are waited for: more make lips surer and later
    idle: float = 300.0  # seconds without sound or a change after which a session ends
    badge: bool = True  # a notice that viewers see: words in a session's first two seconds, then a sign
    token: str | None = None  # that everyone must show, 16 letters or more; default: none here, made for other machines
    names: tuple[str, ...] = ()  # host names by which the server is reached, beside addresses and localhost
    open: bool = False  # open the page in this machine's browser
    platform: Literal["auto", "cpu", "gpu", "tpu"] = "auto"  # where to compute
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"  # auto is bfloat16 on accelerators, float32 on a CPU


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code: 0 after Ctrl-C, 2 after one line on stderr."""
    return run("serve", lambda: work(sys.argv[1:] if arguments is None else arguments))


def work(arguments: Sequence[str]) -> Iterator[str]:
    """Serves until a signal ends it.

    Raises:
        UserError: an option that cannot be used, a port that is taken, an extra that is not installed.
    """
    options = check(read_flags(Options, "python -m vasa_jax.serve", arguments, description=Options.__doc__))
    listener = listen(options.host, options.port)
    with listener, contextlib.suppress(KeyboardInterrupt):
        yield from _serve(options, listener)
    yield "stopped"


def check(options: Options) -> Options:
    """The options, with a token where they need one. Raises UserError for what cannot be."""
    if not 0 <= options.port < 65536:
        raise UserError(f"--port {options.port} is out of range; give 0 to 65535")
    if options.idle <= 0:
        raise UserError(f"--idle {options.idle:g} must be above 0 seconds")
    if options.token is not None and len(options.token) < SHORTEST:
        raise UserError(
            f"--token has {len(options.token)} letters and could be guessed; give {SHORTEST} or more, or none"
        )
    if options.token is None and not is_local(options.host):
        return dataclasses.replace(options, token=secrets.token_urlsafe(24))
    return options


def is_local(host: str) -> bool:
    """Whether only this machine can reach what listens there."""
    return all(ipaddress.ip_address(address).is_loopback for _, address in _addresses(host))


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens. Raises UserError where the port is taken, or the address is not this machine's."""
    family, address = _addresses(host)[0]
    try:
        listener = socket.create_server((address, port), family=family, backlog=128)
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        raise UserError(
            f"port {port} of {host} is taken; choose another, as --port {port + 1}"
            if taken
            else f"cannot listen on {host}, port {port}: {reason(error)}; choose others with --host and --port"
        ) from None
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, UNSENT)  # connections inherit both
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SILENT)
    return listener


def _addresses(host: str) -> list[tuple[int, str]]:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise UserError(f"--host {host!r} is no address: {reason(error)}; try 127.0.0.1 or 0.0.0.0") from None
    return [(family, str(address[0]).partition("%")[0]) for family, _, _, _, address in found]


def _serve(options: Options, listener: socket.socket) -> Iterator[str]:
    from vasa_jax.doors.infer import prepare_jax

    prepare_jax(options.platform)
    for name in NEEDS:
        if importlib.util.find_spec(name) is None:
            raise UserError(
                f"{name} is not installed, which the server needs; install the extra: pip install 'vasa-jax[serve]'"
            )
    import vasa_jax
    from vasa_jax.serve.app import Settings, make_app
    from vasa_jax.serve.engine import Engine
    from vasa_jax.serve.portraits import Portraits, people

    check_devices("" if options.platform == "auto" else f"--platform {options.platform}")
    yield f"preparing {options.model}, up to a minute the first time ..."
    model = vasa_jax.load(options.model, None if options.dtype == "auto" else options.dtype)
    rhythm = {"hop": options.hop, "look_ahead": options.look_ahead}
    engine = Engine(model, **rhythm, most=options.sessions, idle=options.idle, badge=options.badge)
    with engine:
        portraits = Portraits(engine.sit, people())
        first = portraits.sitting(portraits.seen_by("")[0])
        engine.open(first, lambda delivery: None).close()  # compiles what the first visitor would wait for
        names = (*options.names, options.host)
        app = make_app(engine, portraits, Settings(token=options.token, names=names))
        address = url(options, listener.getsockname()[1])
        yield f"open {address} (Ctrl-C ends it)"
        if options.token is not None and options.host in ("0.0.0.0", "::"):
            yield "other machines take this machine's address instead, and the same token"
        if options.open:
            threading.Timer(1.0, webbrowser.open, [address]).start()
        web_server(app).run([listener])


def web_server(app: Any) -> Any:
    """What runs the application: a `uvicorn.Server`."""
    import uvicorn

    settings: dict[str, Any] = {
        "lifespan": "on",
        "log_level": "warning",
        "server_header": False,
        "proxy_headers": False,
    }
    settings |= {"access_log": False}  # addresses may hold the token
    settings |= {"ws_max_size": LONGEST, "ws_per_message_deflate": False}  # pictures and sound are compressed already
    return uvicorn.Server(uvicorn.Config(app, **settings, timeout_graceful_shutdown=GRACE))


def url(options: Options, port: int) -> str:
    """The page's address, with the token."""
    host = {"0.0.0.0": "localhost", "::": "localhost"}.get(options.host, options.host)
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{port}/" + (f"?token={options.token}" if options.token else "")
