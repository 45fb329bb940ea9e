"""The server around `tests.serve.talker.Talker`, on a port of this machine."""

import threading

import httpx
import numpy as np
from starlette.testclient import TestClient
from websockets.sync.client import connect

from tests.serve.talker import Talker
from vasa_jax.doors.serve import listen, web_server
from vasa_jax.serve.app import Settings, make_app
from vasa_jax.serve.portraits import Portraits

OWN = "person"
FACE = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)


class Server:
    """The application, around an engine that a test ticks unless there is another."""

    def __init__(self, most: int = 4, engine=None, face=FACE, **settings):
        self.engine = engine or Talker(most)
        self.clock = 0.0
        self.portraits = Portraits(self.engine.sit, {OWN: face}, clock=lambda: self.clock)
        self.box = self.portraits.find(OWN, "").wishes["box"]
        self.app = make_app(self.engine, self.portraits, Settings(**settings))

    def client(self):
        return TestClient(self.app, base_url="http://localhost")

    def __enter__(self):
        """On a port of this machine; gives itself."""
        listener = listen("127.0.0.1", 0)
        self.address = f"127.0.0.1:{listener.getsockname()[1]}"
        self.web = web_server(self.app)
        self.thread = threading.Thread(target=self.web.run, args=([listener],))
        self.thread.start()
        return self

    def __exit__(self, *error):
        self.web.should_exit = True
        self.thread.join()

    def socket(self, query="", **headers):
        return connect(
            f"ws://{self.address}/live{query}", additional_headers=headers, proxy=None, close_timeout=1, max_size=None
        )

    def state(self):
        return httpx.get(f"http://{self.address}/state", trust_env=False).json()
