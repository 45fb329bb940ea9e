"""A Hub on loopback: what huggingface_hub asks for, answered from a dictionary of files, with faults on request."""

import dataclasses
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from huggingface_hub import constants

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclasses.dataclass
class Hub:
    """What the server has, and what it was asked.

    repositories: name to files: path to content, bytes or a file on disk.
    moved: names that lead to others. cut: paths of which the first answer ends half-way.
    broken: paths whose remainder is refused. lies: path to the SHA-256 that listing and headers give instead.
    asked: method, path and Range of every request.
    """

    url: str
    repositories: dict[str, dict[str, bytes | Path]] = dataclasses.field(default_factory=dict)
    moved: dict[str, str] = dataclasses.field(default_factory=dict)
    cut: set[str] = dataclasses.field(default_factory=set)
    broken: set[str] = dataclasses.field(default_factory=set)
    lies: dict[str, str] = dataclasses.field(default_factory=dict)
    asked: list[tuple[str, str, str | None]] = dataclasses.field(default_factory=list)

    def fetched(self) -> list[str]:
        """Paths of the files whose content was asked for."""
        given = f"/resolve/{COMMIT}/"
        return [path.partition(given)[2] for method, path, _ in self.asked if method == "GET" and given in path]

    def entry(self, repository: str, path: str) -> dict:
        """A file as the Hub lists it."""
        size, digest = _measured(self.repositories[repository][path])
        digest = self.lies.get(path, digest)
        lfs = {"sha256": digest, "oid": digest, "size": size, "pointerSize": 134}
        return {"type": "file", "path": path, "rfilename": path, "size": size, "oid": digest[:40], "lfs": lfs}


@contextmanager
def serve() -> Iterator[Hub]:
    """A Hub that answers while the block runs."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self.answer()

        def do_GET(self) -> None:
            self.answer()

        def answer(self) -> None:
            where = self.path.partition("?")[0]
            hub.asked.append((self.command, where, self.headers.get("Range")))
            found = re.fullmatch(r"(/api/models)?/([^/]+/[^/]+)/(revision|tree|resolve)/([^/]+)/?(.*)", where)
            if not found:
                return self.fail(404, "EntryNotFound")
            api, repository, what, revision, path = found.groups()
            if repository in hub.moved:
                return self.lead(where.replace(repository, hub.moved[repository]))
            if repository not in hub.repositories:
                return self.fail(404, "RepoNotFound")
            if revision not in ("main", COMMIT):
                return self.fail(404, "RevisionNotFound")
            files = hub.repositories[repository]
            if api:
                entries = [hub.entry(repository, name) for name in files]
                return self.tell(
                    {"id": repository, "sha": COMMIT, "siblings": entries} if what == "revision" else entries
                )
            if path not in files:
                return self.fail(404, "EntryNotFound")
            return self.give(path, files[path], hub.entry(repository, path)["lfs"])

        def head(self, status: int, headers: dict[str, str | int]) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, str(value))
            self.end_headers()

        def fail(self, status: int, code: str) -> None:
            self.head(status, {"X-Error-Code": code, "Content-Length": 0})

        def lead(self, where: str) -> None:
            query = self.path.partition("?")[2]
            self.head(307, {"Location": f"{where}?{query}", "Content-Length": 0})

        def tell(self, value: object) -> None:
            content = json.dumps(value).encode()
            self.head(200, {"Content-Type": "application/json", "Content-Length": len(content)})
            if self.command == "GET":
                self.wfile.write(content)

        def give(self, path: str, content: bytes | Path, lfs: dict) -> None:
            start = int((re.findall(r"bytes=(\d+)-", self.headers.get("Range") or "") or [0])[0])
            if start and path in hub.broken:
                return self.fail(503, "Unavailable")
            headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{lfs["sha256"]}"', "Content-Length": lfs["size"] - start}
            if start:
                headers["Content-Range"] = f"bytes {start}-{lfs['size'] - 1}/{lfs['size']}"
            self.head(206 if start else 200, headers)
            if self.command == "HEAD":
                return
            data = content if isinstance(content, bytes) else content.read_bytes()
            if path in hub.cut and not start:
                self.wfile.write(data[: len(data) // 2])
                self.close_connection = True
            else:
                self.wfile.write(data[start:])

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub = Hub(f"http://127.0.0.1:{server.server_address[1]}")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


def use(hub: Hub, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lead huggingface_hub, which read its environment when it was imported, to a Hub and a cache."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)


_SEEN: dict[Path, tuple[int, str]] = {}


def _measured(content: bytes | Path) -> tuple[int, str]:
    """Size and SHA-256; of a file on disk, once."""
    if isinstance(content, bytes):
        return len(content), hashlib.sha256(content).hexdigest()
    if content not in _SEEN:
        data = content.read_bytes()
        _SEEN[content] = len(data), hashlib.sha256(data).hexdigest()
    return _SEEN[content]
