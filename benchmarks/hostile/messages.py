"""What clients send to the live server: messages and sound of a WebSocket, pictures, offers of WebRTC, addresses.

After whatever was sent, a session must answer a ping or end with a reason, and a request must have an answer that is
not the server's fault.
"""

import contextlib
import json
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.hostile import pictures, sounds
from benchmarks.hostile.case import Box, Case, damaged, door, number, pick, text
from vasa_jax.errors import UserError
from vasa_jax.serve.protocol import CONTROLS, SCHEMAS

ODD: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    1,
    1e300,
    "",
    "x",
    [],
    [1, 2],
    [1, 2, 3],
    {},
    {"a": 1},
    2**63,
    0.5,
    "nan",
    [[]],
)
RAW = (
    *(
        "",
        " ",
        "{",
        "[]",
        "null",
        "1",
        '"start"',
        "NaN",
        '{"type": NaN}',
        '{"type": "ping", "id": 1e999}',
        "\ud800",
        "\0",
    ),
    *(
        "[" * 15_000,
        '{"type":' * 2000,
        '{"type": "ping", "id": ' + "9" * 5000 + "}",
        '{"type": "start", "type": "ping"}',
    ),
    *(
        '{"type": "ping", "id": -Infinity}',
        '{"type": "change", "ease": ' + "9" * 400 + ', "controls": {}}',
        "x" * 20_000,
        '{"type": "change", "controls": {"distance": 1e-400}}',
        "\ufeff{}",
    ),
)
SDP = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\n"
SDP += "m=video 9 UDP/TLS/RTP/SAVPF 96\r\nc=IN IP4 0.0.0.0\r\n"
SDP += "a=rtpmap:96 VP8/90000\r\na=ice-ufrag:abcd\r\na=ice-pwd:abcdefghijklmnopqrstuv\r\na=mid:0\r\na=recvonly\r\n"
SDP += "a=fingerprint:sha-256 " + ":".join(["AB"] * 32) + "\r\na=setup:actpass\r\n"


def message(rng: np.random.Generator) -> str:
    """A message of the protocol with some values that are not."""
    if rng.random() < 0.3:
        return pick(rng, RAW)
    kind = pick(rng, tuple(SCHEMAS))
    fields: dict[str, Any] = {"type": kind}
    for name in SCHEMAS[kind][1]:
        if rng.random() < 0.7:
            fields[name] = pick(rng, (*ODD, number(rng), text(rng)))
    if "controls" in fields and rng.random() < 0.8:
        names = rng.choice(tuple(CONTROLS), int(rng.integers(1, 4)))
        good = {"gaze": [1, 2], "position": [0.1, 0.2], "emotion": "happy:0.5"}
        fields["controls"] = {
            str(name): good.get(str(name), 1) if rng.random() < 0.5 else pick(rng, (*ODD, text(rng))) for name in names
        }
    if rng.random() < 0.1:
        fields[text(rng)] = 1
    return json.dumps(fields)


def sound(rng: np.random.Generator) -> bytes:
    """A piece of sound."""
    files = (
        b"RIFF" + bytes(40),
        b"OggS" + bytes(40),
        bytes(2**20),
        bytes(2**20 + 2),
        b"",
        b"\0",
        rng.bytes(641),
        rng.bytes(640),
    )
    return pick(rng, files)


def client() -> Any:
    """A server without a model, and who speaks to it."""
    from starlette.testclient import TestClient

    from tests.serve.fake import FakeEngine, FakeSession
    from vasa_jax.serve.app import make_app
    from vasa_jax.serve.portraits import Portraits

    class Talking(FakeSession):
        """A session that counts."""

        waiting = property(lambda self: len(self.queue))

    class Engine(FakeEngine):
        """An engine without a model."""

        def open(self, sitting: Any, deliver: Any, *, microphone: bool = True, **wishes: Any) -> Any:
            self.all.append(Talking(deliver, microphone, wishes))
            return self.all[-1]

    engine = Engine()
    grey = np.full((32, 32, 3), 128, np.uint8)
    return TestClient(make_app(engine, Portraits(engine.sit, {"grey": grey})), "http://localhost")


def speak(pieces: list[str | bytes], begin: bool) -> None:
    """Say things in a session, and look whether it still answers. Raises UserError with its complaint."""
    complaint = ""
    # leaving cancels the server's side, which may show
    leave = contextlib.suppress(CancelledError)
    with leave, client() as http, http.websocket_connect("ws://localhost/live") as socket:
        if begin:
            socket.send_json({"type": "start", "portrait": "grey", "container": "jpeg"})
        for piece in pieces:
            socket.send_text(piece) if isinstance(piece, str) else socket.send_bytes(piece)
        socket.send_json({"type": "ping", "id": 77})
        while True:
            told = socket.receive()
            if told["type"] == "websocket.close":
                assert told["code"] in (1003, 1008, 1009, 1013), told
                break
            said = json.loads(told["text"]) if told.get("text") else {}
            if said.get("type") == "error":
                complaint = said["message"]
            if said.get("type") == "pong" and said.get("id") == 77:
                break
    if complaint:
        raise UserError(complaint)


def ask(method: str, path: str, body: bytes, headers: dict[str, str]) -> None:
    """Send a request. Raises UserError with the server's complaint."""
    with client() as http:
        answer = http.request(method, path, content=body, headers=headers)
        assert answer.status_code < 500, (answer.status_code, answer.text)
        if answer.status_code >= 400:
            raise UserError(answer.json()["message"] if path != "/page/" else "refused")


def case(rng: np.random.Generator, seeds: Path, box: Box) -> Case:
    """Something that a client sends."""
    del seeds, box
    way = pick(rng, ("session", "session", "session", "picture", "offer", "offer", "request"))
    if way == "session":
        pieces = [sound(rng) if rng.random() < 0.3 else message(rng) for _ in range(int(rng.integers(1, 6)))]
        pieces = [piece.encode("utf-8", "replace").decode() if isinstance(piece, str) else piece for piece in pieces]
        begin = rng.random() < 0.7
        return Case(
            f"a session: {str([piece[:40] for piece in pieces])[:200]}", door("serve", lambda: speak(pieces, begin))
        )
    if way == "picture":
        data, what = pictures.made(rng) if rng.random() < 0.5 else sounds.made(rng)
        return Case(f"a picture: {what}", door("serve", lambda: ask("POST", "/portraits", data, {})))
    if way == "offer":
        sdp = SDP
        if rng.random() < 0.7:
            sdp = damaged(rng, SDP.encode(), 8)[0].decode("utf-8", "replace")
        offer: Any = {"sdp": sdp, "type": "offer", "portrait": "grey"}
        if rng.random() < 0.4:
            offer[pick(rng, ("sdp", "type", "portrait", "controls", "x"))] = pick(
                rng, (*ODD, "m=audio 9 x 0\r\n" * 2000)
            )
        body = json.dumps(offer).encode() if rng.random() < 0.9 else pick(rng, RAW).encode("utf-8", "replace")
        return Case("an offer", door("serve", lambda: ask("POST", "/offer", body, {})))
    paths = (
        "/portraits/x",
        "/portraits/%2e%2e%2fetc",
        "/page/../../../etc/passwd",
        "/page/%2e%2e/%2e%2e/app.py",
        "/state",
        "/",
    )
    path, method = pick(rng, paths), pick(rng, ("GET", "POST", "DELETE", "PUT", "OPTIONS", "TRACE"))
    odd = {
        "Host": ("localhost", "evil.example", "[::1", "127.0.0.1:99999", ""),
        "Origin": ("http://evil.example", "null", "http://["),
    }
    headers = {name: pick(rng, values) for name, values in odd.items() if rng.random() < 0.4}
    headers |= {"Cookie": pick(rng, ("vasa_visitor=x", "=;=;", "a" * 5000, 'vasa_visitor="\\777"'))}
    body = rng.bytes(100)
    return Case(f"{method} {path} {headers}"[:150], door("serve", lambda: ask(method, path, body, headers)))
