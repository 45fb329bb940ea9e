import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from vasa_jax.doors.flags import read_flags
from vasa_jax.doors.serve import SHORTEST, Options, check, is_local, listen, main, url
from vasa_jax.errors import UserError

ROOT = Path(__file__).parents[2]


def test_other_machines_need_a_token_that_is_made_where_none_is_given():
    assert check(Options()).token is None and check(Options(host="localhost")).token is None
    made = {check(Options(host="0.0.0.0")).token for _ in range(2)}
    assert len(made) == 2 and all(token is not None and len(token) >= 32 for token in made)
    own = "x" * SHORTEST
    assert check(Options(host="0.0.0.0", token=own)).token == check(Options(token=own)).token == own


@pytest.mark.parametrize(
    "options, complaint",
    [
        (Options(port=65536), "--port 65536 is out of range"),
        (Options(token="secret"), "--token has 6 letters"),
        (Options(idle=0.0), "--idle 0 must be above 0"),
        (Options(host="no such host"), "--host 'no such host' is no address"),
    ],
)
def test_what_cannot_be_served_is_refused(options, complaint):
    with pytest.raises(UserError, match=complaint):
        check(options)


def test_viewers_are_told_unless_it_is_declined():
    assert read_flags(Options, "serve", [], description="").badge
    assert not read_flags(Options, "serve", ["--no-badge"], description="").badge


def test_loopback_is_known():
    assert is_local("127.0.0.1") and is_local("::1") and is_local("127.8.9.1")
    assert not is_local("0.0.0.0") and not is_local("192.168.1.7") and not is_local("::")


def test_a_port_that_is_taken_ends_in_one_line(capsys):
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        assert main(["--port", str(port)]) == 2
    out, err = capsys.readouterr()
    assert not out and err == f"serve: error: port {port} of 127.0.0.1 is taken; choose another, as --port {port + 1}\n"
    with pytest.raises(UserError, match="cannot listen on 192.0.2.1"):
        listen("192.0.2.1", 0)


def test_an_extra_that_is_missing_is_named(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "uvicorn", None)  # as if it were not installed
    monkeypatch.setattr("vasa_jax.doors.infer.prepare_jax", lambda platform: None)
    monkeypatch.setattr("vasa_jax.load", lambda *wanted: pytest.fail("it would serve"))
    assert main(["--port", "0"]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and err.endswith("install the extra: pip install 'vasa-jax[serve]'\n")


def test_the_address_that_is_printed_opens_the_page():
    assert url(Options(), 8000) == "http://127.0.0.1:8000/"
    assert url(Options(host="::1", token="t"), 80) == "http://[::1]:80/?token=t"
    assert url(Options(host="0.0.0.0", token="t"), 80) == "http://localhost:80/?token=t"


@pytest.mark.long
@pytest.mark.parametrize("number, sessions", [(signal.SIGINT, "1"), (signal.SIGTERM, "4")])
def test_the_demo_model_is_served_until_a_signal_comes(number, sessions):
    """The command itself: the page, a session with its first fragment, and a quiet end with the session open.

    Of four sessions the programs for two and more are still being compiled then.
    """
    connect = pytest.importorskip("websockets.sync.client", reason="needs vasa-jax[serve]").connect
    command = [sys.executable, "-m", "vasa_jax.serve", "--port", "0", "--sessions", sessions]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    environment = os.environ | {"XLA_FLAGS": ""}
    with subprocess.Popen(command, cwd=ROOT, env=environment, **pipes) as server:
        assert server.stdout.readline().startswith("preparing demo")
        address = re.fullmatch(r"open (http://127\.0\.0\.1:\d+/) .*\n", server.stdout.readline())[1]
        with urllib.request.urlopen(address + "portraits") as answer:
            portrait = json.load(answer)["portraits"][0]["id"]
        with connect(address.replace("http", "ws") + "live", proxy=None, max_size=None, close_timeout=1) as client:
            client.send(json.dumps({"type": "start", "portrait": portrait, "controls": {"emotion": "happiness:0.5"}}))
            assert json.loads(client.recv(timeout=60))["type"] == "ready"
            client.send(bytes(6400))
            while isinstance(data := client.recv(timeout=60), str):
                pass
            assert data[4:8] == b"ftyp"
            server.send_signal(number)
            out, err = server.communicate(timeout=60)
    assert server.returncode == 0 and out == "stopped\n" and not err, err


def test_no_port_is_left_open():
    with listen("127.0.0.1", 0) as listener:
        address = listener.getsockname()
    with pytest.raises(OSError):
        socket.create_connection(address, timeout=1)
