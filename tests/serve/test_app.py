import asyncio
import contextlib
import gc
import io
import json
import socket as socket_module
import struct
import threading
import time
from socket import SO_LINGER, SO_RCVBUF, SOL_SOCKET
from urllib.parse import quote

import numpy as np
import pytest

for name in ("starlette", "uvicorn", "websockets", "aiortc"):
    pytest.importorskip(name, reason="needs vasa-jax[serve]")

from aiortc import RTCConfiguration, RTCPeerConnection  # noqa: E402
from PIL import Image  # noqa: E402
from websockets.exceptions import ConnectionClosed, InvalidStatus  # noqa: E402
from websockets.sync.client import connect  # noqa: E402

from tests.serve.server import OWN, Server  # noqa: E402
from tests.serve.talker import HOP, Talker  # noqa: E402
from vasa_jax.serve.containers import SOUND  # noqa: E402
from vasa_jax.serve.guard import Bucket, Limits  # noqa: E402
from vasa_jax.serve.portraits import EACH, IDLE  # noqa: E402
from vasa_jax.serve.viewer import WAITING, Viewer  # noqa: E402

TOKEN = "a token that nobody guesses"
PATIENCE = 20.0
"""Seconds that a test waits at most for what takes a fraction of one."""
QUIET = np.zeros(3200, "<i2").tobytes()


def picture(width: int = 48, height: int = 40, kind: str = "PNG", seed: int = 0) -> bytes:
    file = io.BytesIO()
    levels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    Image.fromarray(levels).save(file, kind)
    return file.getvalue()


def begin(socket, **more):
    say(socket, type="start", portrait=OWN, **more)
    return told(socket, "ready")


def say(socket, **message):
    socket.send(json.dumps(message))


def told(socket, kind):
    """The next message of a kind; pictures and other messages before it are passed over."""
    while True:
        message = socket.recv(timeout=PATIENCE)
        if isinstance(message, str) and (said := json.loads(message))["type"] == kind:
            return said


def media(socket):
    """The next binary message."""
    while isinstance(message := socket.recv(timeout=PATIENCE), str):
        pass
    return message


def denied(server, query="", **headers):
    """The answer to a WebSocket that is not opened."""
    with pytest.raises(InvalidStatus) as caught:
        server.socket(query, **headers)
    return caught.value.response


def until_closed(socket):
    """What was said, and the code."""
    said = []
    with pytest.raises(ConnectionClosed):
        while True:
            message = socket.recv(timeout=PATIENCE)
            said += [json.loads(message)] if isinstance(message, str) else []
    return said, socket.close_code


def wait_for(condition):
    for _ in range(3000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it never happened")


# Sessions


def test_a_session_from_start_to_end():
    server = Server()
    with server, server.socket() as socket:
        ready = begin(socket, container="jpeg", rate=8000, source="speech", controls={"gaze": [3, 4]}, seed=5)
        assert (ready["width"], ready["height"], ready["fps"], ready["hop"]) == (64, 64, 25, HOP)
        assert ready["mark"] == "0badcafe"
        (session,) = server.engine.all
        assert session.wishes == {"gaze": (3, 4), "seed": 5} and not session.microphone
        socket.send(QUIET)
        socket.send(json.dumps({"type": "change", "ease": 100, "controls": {"amplitude": 1.5}}))
        socket.send(json.dumps({"type": "end"}))
        socket.send(json.dumps({"type": "interrupt"}))
        socket.send(json.dumps({"type": "ping", "id": 9}))
        assert told(socket, "pong")["id"] == 9
        assert session.said == [(100.0, {"amplitude": 1.5}), "no more", "interrupt"]
        server.engine.tick()
        pieces = []
        while len(pieces) < 1 + HOP:
            pieces.append(media(socket))
        assert [piece[0] for piece in pieces] == [2, 1, 1, 1, 1, 1]
        assert server.state() == {"sessions": 1, "most": 4, "sockets": 1}
    wait_for(lambda: session.closed)


def test_an_mp4_begins_with_the_first_hop():
    server = Server()
    with server, server.socket() as socket:
        assert begin(socket)["mime"].startswith("video/mp4")
        server.engine.tick()
        assert media(socket)[4:8] == b"ftyp"


def test_what_the_engine_ends_is_told():
    server = Server()
    with server, server.socket() as socket:
        begin(socket)
        server.engine.all[0].close("idle")
        with contextlib.suppress(ConnectionClosed):
            for _ in range(30):
                socket.send(QUIET)
        said, code = until_closed(socket)
        assert said[-1] == {"type": "closed", "reason": "idle"} and code == 1000


MISTAKES = [
    ("hello", "is not JSON"),
    ('{"type": "start", "portrait": "another"}', "the session has started"),
    ('{"type": "change", "controls": {"emotion": "joyless"}}', "emotion 'joyless' is unknown"),
    ('{"type": "change", "controls": {"zoom": NaN}}', "NaN is not a number"),
    (b"odd", "an even number"),
    (b"RIFFxxxxWAVE", "a WAV file"),
]


def test_mistakes_are_told_and_the_session_goes_on():
    server = Server()
    with server, server.socket() as socket:
        begin(socket)
        for sent, complaint in MISTAKES:
            socket.send(sent)
            error = told(socket, "error")
            assert complaint in error["message"] and not error["fatal"]
        assert not server.engine.all[0].closed


@pytest.mark.parametrize(
    "sent, complaint",
    [
        ({"type": "start", "portrait": "nobody"}, "no such portrait"),
        ({"type": "start", "portrait": "../../etc/passwd"}, "no such portrait"),
        ({"type": "start", "portrait": OWN, "controls": {"emotion": "joyless"}}, "joyless"),
        ({"type": "end"}, "no session has started"),
    ],
)
def test_mistakes_before_a_session_leave_the_socket_open(sent, complaint):
    server = Server()
    with server, server.socket() as socket:
        socket.send(json.dumps(sent))
        assert complaint in told(socket, "error")["message"]
        socket.send(QUIET)
        assert "send a start" in told(socket, "error")["message"]
        begin(socket)


@pytest.mark.parametrize(
    "attack, code, complaint",
    [
        (lambda socket: [socket.send("PCM") for _ in range(3)], 1003, "mistake 3, and the last"),
        (lambda socket: [socket.send(json.dumps({"type": "ping"})) for _ in range(50)], 1008, "too much at once"),
        (lambda socket: [socket.send(bytes(60_000)) for _ in range(8)], 1008, "too much at once"),
        (lambda socket: socket.send('{"type": "%s"}' % ("x" * 20_000)), 1009, "send at most"),
    ],
    ids=["text for sound", "many messages", "many bytes", "a long message"],
)
def test_who_goes_on_with_nonsense_is_shown_out_and_others_do_not_notice(attack, code, complaint):
    limits = Limits(mistakes=3, messages=20.0, bytes=100_000.0, sound=1000.0)
    server = Server(limits=limits)
    with server, server.socket() as other:
        begin(other, container="jpeg")
        with server.socket() as socket:
            begin(socket)
            attack(socket)
            said, closed = until_closed(socket)
            assert closed == code and said[-2]["fatal"] and complaint in said[-2]["message"]
        wait_for(lambda: server.engine.sessions == 1)
        server.engine.tick()
        assert media(other)


def test_sound_that_waits_has_a_limit():
    server = Server(limits=Limits(sound=0.3))
    with server, server.socket() as socket:
        begin(socket)
        socket.send(QUIET)
        socket.send(QUIET)
        assert "0.3 s of sound wait" in told(socket, "error")["message"]
        assert server.engine.all[0].waiting == 3200


def test_a_socket_that_never_starts_is_closed():
    server = Server(limits=Limits(idle_start=0.1))
    with server, server.socket() as socket:
        said, code = until_closed(socket)
        assert code == 1008 and "no session was started in 0.1 s" in said[0]["message"]


async def browsers_offer():
    connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    connection.addTransceiver("video", "recvonly")
    await connection.setLocalDescription(await connection.createOffer())
    offer = {"type": "offer", "sdp": connection.localDescription.sdp}
    await connection.close()
    return offer


def test_a_full_server_says_when_to_come_back():
    server = Server(most=1)
    with server, server.socket() as socket:
        begin(socket)
        with server.socket() as second:
            second.send(json.dumps({"type": "start", "portrait": OWN}))
            said, code = until_closed(second)
            assert code == 1013 and said[0]["retry_after"] == 10 and said[0]["fatal"]
        offer = asyncio.run(browsers_offer()) | {"portrait": OWN}
        busy = server.client().post("/offer", json=offer)
        assert busy.status_code == 503 and busy.headers["retry-after"] == "10"


def test_sockets_have_a_limit():
    server = Server(limits=Limits(sockets=1))
    with server, server.socket():
        response = denied(server)
        assert response.status_code == 503 and response.headers["retry-after"] == "10"


def test_200_abrupt_disconnects_leave_nothing():
    server = Server(limits=Limits(requests=1e6, burst=1e6))
    with server:

        def visits(count):
            for i in range(count):
                with server.socket() as socket:
                    begin(socket, container=("mp4", "jpeg")[i % 2])
                    socket.send(QUIET)
                    server.engine.tick()
                    socket.socket.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
                    socket.close_socket()  # a reset, without a word
            wait_for(lambda: server.engine.sessions == 0)
            gc.collect()
            return threading.active_count(), alive()

        def alive():
            names = {"Visit", "Viewer", "Mp4", "Jpeg", "WebSocket", "TalkerSession"}
            return sum(type(one).__name__ in names for one in gc.get_objects())

        before = visits(8)
        server.engine.all.clear()
        after = visits(200)
        assert after[0] <= before[0] + 2 and after[1] <= before[1] + 4  # the pool grows to two threads or more, once
        wait_for(lambda: server.state()["sockets"] == 0)


# A slow viewer


def test_a_slow_viewer_loses_its_oldest_pictures_and_no_sound():
    async def check():
        engine, viewer = Talker(), Viewer()
        session = engine.open(None, viewer.put)
        for _ in range(5):
            session.push(np.full(3200, 0.1, np.float32))
            engine.tick()
        hops = [(await viewer.take())[0] for _ in range(5)]
        assert [hop.first for hop in hops] == [0, 5, 10, 15, 20]
        assert [hop.frames is None for hop in hops] == [True] * (5 - WAITING) + [False] * WAITING
        assert all((hop.sound == np.float32(0.1)).all() for hop in hops)
        assert viewer.report()["dropped"] == 15 and not viewer.stalled
        for _ in range(51):
            engine.tick()
        assert viewer.stalled

    asyncio.run(check())


def test_who_reads_nothing_is_given_up_and_others_do_not_notice():
    server = Server()
    with server, server.socket() as other:
        begin(other, container="jpeg")
        small = socket_module.create_connection(server.address.split(":"))
        small.setsockopt(SOL_SOCKET, SO_RCVBUF, 4096)
        with connect(f"ws://{server.address}/live", sock=small, proxy=None, max_queue=1, close_timeout=0.1) as stalled:
            begin(stalled, container="jpeg")
            for _ in range(3000):
                server.engine.tick()
                while media(other)[0] != SOUND:
                    pass
                if server.engine.sessions == 1:
                    break
            assert server.engine.all[1].closed and not server.engine.all[0].closed
        wait_for(lambda: server.state()["sockets"] == 1)


# Who may speak to it


def test_a_name_of_elsewhere_is_not_answered():
    server = Server(names=("faces.example",))
    for host in (
        "localhost",
        "localhost:8000",
        "127.0.0.1:80",
        "[::1]",
        "192.168.1.7",
        "faces.example",
        "FACES.example:9",
    ):
        assert server.client().get("/state", headers={"Host": host}).status_code == 200, host
    for host in ("evil.example", "localhost.evil.example", "", "127.0.0.1.evil.example", "[::1", "faces.example.evil"):
        assert server.client().get("/state", headers={"Host": host}).status_code == 421, host


def test_a_page_of_elsewhere_may_do_nothing():
    server = Server()
    with server, server.client() as client:
        for origin in ("https://evil.example", "null", "http://localhost:9", "file://"):
            refused = client.post("/portraits", content=picture(), headers={"Origin": origin})
            assert refused.status_code == 403, origin
            assert denied(server, Origin=origin).status_code == 403
        assert client.post("/portraits", content=picture(), headers={"Origin": "http://localhost"}).status_code == 201
        with server.socket(Origin=f"http://{server.address}") as socket:
            begin(socket)


def test_a_token_is_needed_everywhere_and_moves_into_a_cookie():
    server = Server(token=TOKEN)
    with server, server.client() as client:
        for path in ("/", "/portraits", "/state", "/page/live.js", "/openapi.json", "/?token=wrong", "/nothing"):
            refused = client.get(path)
            assert refused.status_code == 401 and refused.headers["www-authenticate"] == "Bearer", path
            assert "vasa_token" not in client.cookies
        for query in ("", "?token=", "?token=%ff"):
            assert denied(server, query).status_code == 401
        assert client.get("/state", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200
        assert client.get("/state", headers={"Authorization": TOKEN}).status_code == 401
        with server.socket(f"?token={quote(TOKEN)}") as socket:
            begin(socket)
        moved = client.get(f"/?token={TOKEN}", follow_redirects=False)
        assert moved.status_code == 303 and moved.headers["location"] == "/"
        assert "HttpOnly" in moved.headers["set-cookie"] and "SameSite=strict" in moved.headers["set-cookie"]
        assert client.get("/").status_code == 200
        with server.socket(Cookie=moved.headers["set-cookie"].partition(";")[0]) as socket:
            begin(socket)


def test_requests_have_a_rate():
    server = Server(limits=Limits(requests=0.001, burst=3.0))
    answers = [server.client().get("/state") for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert answers[-1].headers["retry-after"] == "1"


def test_a_bucket_fills_again():
    now = [0.0]
    bucket = Bucket(2.0, clock=lambda: now[0])
    assert [bucket.take() for _ in range(5)] == [True] * 4 + [False]
    now[0] = 0.5
    assert [bucket.take() for _ in range(2)] == [True, False]


@pytest.mark.parametrize(
    "path", ["/", "/page/live.js", "/portraits", "/nothing", "/page/../app.py", "/page/%2e%2e/app.py"]
)
def test_every_answer_is_secured(path):
    answer = Server().client().get(path)
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy and "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff" and answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["permissions-policy"].startswith("microphone=(self)")
    assert answer.status_code == 404 if "app.py" in path or "nothing" in path else 200


def test_the_page_needs_nothing_from_elsewhere():
    with Server().client() as client:
        page = client.get("/").text
        assert "http://" not in page and "https://" not in page and "<style" not in page and "onclick" not in page
        for name in ("live.js", "player.js", "voice.js", "way.js", "microphone.js", "style.css", "icon.svg"):
            found = client.get(f"/page/{name}")
            assert found.status_code == 200 and "https://" not in found.text


def test_the_protocol_is_described():
    with Server().client() as client:
        spoken, http = client.get("/asyncapi.json").json(), client.get("/openapi.json").json()
    messages = spoken["channels"]["live"]["messages"]
    assert {
        "start",
        "change",
        "interrupt",
        "end",
        "ping",
        "sound",
        "ready",
        "state",
        "error",
        "closed",
    } <= messages.keys()
    assert messages["change"]["payload"]["properties"]["controls"]["properties"]["gaze"]["minItems"] == 2
    for operation in spoken["operations"].values():
        assert all(one["$ref"].rpartition("/")[2] in messages for one in operation["messages"])
    assert http["paths"].keys() == {"/portraits", "/portraits/{id}", "/state", "/offer"}


# Portraits


def test_an_upload_is_its_owners_alone():
    server = Server()
    with server, server.client() as client, server.client() as other:
        kept = client.post("/portraits", content=picture(), headers={"Content-Type": "image/png"})
        assert kept.status_code == 201 and kept.json()["own"]
        id, url = kept.json()["id"], kept.json()["url"]
        assert len(client.get("/portraits").json()["portraits"]) == 2
        assert client.get(url).headers["content-type"] == "image/jpeg"
        assert len(other.get("/portraits").json()["portraits"]) == 1
        assert other.get(url).status_code == 404 and other.delete(url).status_code == 404
        with server.socket() as socket:
            socket.send(json.dumps({"type": "start", "portrait": id}))
            assert "no such portrait" in told(socket, "error")["message"]
        with server.socket(Cookie=kept.headers["set-cookie"].partition(";")[0]) as socket:
            socket.send(json.dumps({"type": "start", "portrait": id}))
            told(socket, "ready")
        assert client.delete(f"/portraits/{OWN}").status_code == 422
        assert client.delete(url).status_code == 204 and client.get(url).status_code == 404


def test_uploads_expire_and_are_few():
    server = Server()
    with server.client() as client:
        client.get("/")
        ids = []
        for i in range(EACH + 1):
            server.clock += 1
            ids.append(client.post("/portraits", content=picture(seed=i)).json()["id"])
        seen = {one["id"] for one in client.get("/portraits").json()["portraits"]}
        assert seen == {OWN, *ids[1:]}
        server.clock += IDLE + 1
        assert [one["id"] for one in client.get("/portraits").json()["portraits"]] == [OWN]


def test_a_large_upload_becomes_small_and_a_drawing_needs_no_search():
    server = Server()
    with server.client() as client:
        kept = client.post("/portraits?whole=1", content=picture(2000, 1000, "JPEG")).json()
        assert (kept["width"], kept["height"]) == (1280, 640)
        assert server.engine.sat[-1]["box"].side == 640 and server.engine.sat[-1]["square"]
        client.post("/portraits", content=picture())
        assert "box" not in server.engine.sat[-1]


def bomb() -> bytes:
    file = io.BytesIO()
    Image.new("1", (10_000, 10_000)).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize(
    "data, status, complaint",
    [
        (b"", 422, "the picture is not a usable image"),
        (b"hello", 422, "the picture is not a usable image"),
        (b"%PDF-1.4", 422, "it is a PDF document"),
        (picture()[:200], 422, "the picture is not a usable image"),
        (bomb(), 422, "more than 40 million pixels"),
        (bytes(10_000_001), 413, "more than 10000000 bytes"),
        (lambda: Image.new("RGB", (40, 40)), 422, "no face"),
    ],
    ids=["nothing", "text", "pdf", "half", "bomb", "large", "no face"],
)
def test_what_is_no_portrait_is_refused(data, status, complaint):
    if callable(data):
        file = io.BytesIO()
        data().save(file, "PNG")
        data = file.getvalue()
    with Server().client() as client:
        answer = client.post("/portraits", content=data)
        assert answer.status_code == status and complaint in answer.json()["message"]
        assert "/tmp" not in answer.text and client.get("/state").status_code == 200


SDP = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n"


@pytest.mark.parametrize(
    "offer, complaint",
    [
        ("no json", "an offer is not JSON"),
        ([], "an offer is []"),
        ({"type": "offer", "portrait": OWN}, "an offer needs 'sdp'"),
        ({"type": "answer", "portrait": OWN, "sdp": SDP}, "type is"),
        ({"type": "offer", "portrait": "nobody", "sdp": SDP}, "no such portrait"),
        ({"type": "offer", "portrait": OWN, "sdp": "nonsense"}, "offer"),
        ({"type": "offer", "portrait": OWN, "sdp": SDP}, "offer"),
        ({"type": "offer", "portrait": OWN, "sdp": SDP, "controls": {"zoom": 9}}, "zoom is 9"),
    ],
)
def test_nonsense_is_no_offer(offer, complaint):
    server = Server()
    with server.client() as client:
        answer = client.post("/offer", content=offer if isinstance(offer, str) else json.dumps(offer))
        assert answer.status_code == 422 and complaint in answer.json()["message"]
        assert server.engine.sessions == 0
