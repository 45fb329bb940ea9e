"""How many faces can one machine serve at once? The live server, and clients that speak to it over loopback.

    python -m benchmarks.sessions [--model demo] [--seconds 20] [--most 8] [--container jpeg|mp4] [--hop 5]
    python -m benchmarks.sessions --slope 30 [--speaking]

A server is started as its own process, and 1, 2, 3, ... clients connect, each of which sends speech as it would be
spoken (a burst of 20 ms, fifty times a second) and reads what comes. That number is served in real time where at most
one frame in a thousand is late; the first one that is not ends the search. Printed for each: late frames, the latency
that the server reports, frames that came, CPU (in cores) and memory of the server, and of its GPU where `nvidia-smi`
shows one. With `--slope`, one session is held for so many minutes, silent or speaking, and the slope of the server's
memory is printed with its standard error.
"""

import argparse
import asyncio
import contextlib
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from benchmarks.timing import machine, positive
from vasa_jax.arrays import FPS, SAMPLE_RATE

BURST = SAMPLE_RATE // 50
"""Samples of a client's message."""
ALLOWED = 1e-3
"""Share of frames that may be late."""
SETTLE = 4.0
"""Seconds that are not counted after the last client has come."""


class Heard(NamedTuple):
    """What a client saw. frames: that came. late: of them. p50, p95: the last latency that was reported, ms."""

    frames: int
    late: int
    p50: float
    p95: float


def main(arguments: Sequence[str] | None = None) -> None:
    """Parses flags and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="demo", help="as of the server")
    parser.add_argument("--seconds", type=positive, default=20, help="that each number of sessions is held")
    parser.add_argument("--most", type=positive, default=8, help="sessions that are tried at most")
    parser.add_argument("--container", choices=("jpeg", "mp4"), default="jpeg", help="what the clients ask for")
    parser.add_argument("--hop", type=positive, default=5, help="frames that are made together")
    parser.add_argument("--slope", type=positive, help="minutes of one session whose memory is watched")
    parser.add_argument("--speaking", action="store_true", help="whether it speaks meanwhile")
    flags = parser.parse_args(arguments)
    print(machine())
    with server(flags) as (process, address):
        if flags.slope:
            slope(process, address, flags)
        else:
            search(process, address, flags)


@contextlib.contextmanager
def server(flags: argparse.Namespace) -> Iterator[tuple[Any, str]]:
    """The server as a process of its own (as `psutil` sees it), and its address."""
    import psutil

    command = [sys.executable, "-m", "vasa_jax.serve", "--model", flags.model, "--port", "0", "--hop", str(flags.hop)]
    most = 1 if flags.slope else flags.most
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen([*command, "--sessions", str(most)], stdout=subprocess.PIPE, stderr=log, text=True)
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if "http://" in line:
                    yield psutil.Process(process.pid), line[line.index("http://") :].split()[0].rstrip("/")
                    break
            else:
                log.seek(0)
                raise SystemExit(f"the server did not start: {log.read().decode()[-2000:]}")
        finally:
            process.terminate()
            process.wait(60)


def search(process: Any, address: str, flags: argparse.Namespace) -> None:
    """Prints a row a number of sessions, until one is not in real time."""
    print(f"model {flags.model}, hop {flags.hop}, {flags.container}, {flags.seconds} s each")
    print("sessions  late of 1000  p50 ms  p95 ms  frames/s each  CPU cores  memory MB  GPU")
    wait_until_idle(process)
    best = 0
    for count in range(1, flags.most + 1):
        used = process.cpu_times()
        began = time.perf_counter()
        heard = asyncio.run(clients(address, count, flags.seconds, flags.container))
        seconds = time.perf_counter() - began
        after = process.cpu_times()
        cores = (after.user + after.system - used.user - used.system) / seconds
        late = sum(one.late for one in heard) / max(1, sum(one.frames for one in heard))
        rate = np.mean([one.frames for one in heard]) / flags.seconds
        p50, p95 = (max(getattr(one, name) for one in heard) for name in ("p50", "p95"))
        memory = process.memory_info().rss / 1e6
        row = f"{count:8d}  {1000 * late:12.1f}  {p50:6.0f}  {p95:6.0f}  {rate:13.1f}  {cores:9.2f}  {memory:9.0f}  "
        print(row + gpu(), flush=True)
        if late > ALLOWED or rate < 0.99 * FPS:
            break
        best = count
    print(f"in real time: {best} sessions")


def wait_until_idle(process: Any) -> None:
    """Returns when the server has compiled what makes several sessions together."""
    while process.cpu_percent(5.0) > 30:
        pass


async def clients(address: str, count: int, seconds: float, container: str, speaking: bool = True) -> list[Heard]:
    """So many sessions, held beside each other; they count from the moment on at which the last one has settled."""
    ready, go = asyncio.Semaphore(0), asyncio.Event()
    tasks = [asyncio.create_task(client(address, n, seconds, container, speaking, ready, go)) for n in range(count)]
    for _ in range(count):
        await ready.acquire()
    await asyncio.sleep(SETTLE)
    go.set()
    return await asyncio.gather(*tasks)


async def client(
    address: str, seed: int, seconds: float, container: str, speaking: bool, ready: asyncio.Semaphore, go: asyncio.Event
) -> Heard:
    """One session; `ready` is told when it has started, and from `go` on it counts."""
    import httpx
    import websockets

    async with httpx.AsyncClient() as http:
        portraits = (await http.get(f"{address}/portraits")).json()["portraits"]
    sound = voice(seed, 10.0)
    async with websockets.connect(f"ws{address.removeprefix('http')}/live", max_size=None) as socket:
        asked = {"type": "start", "portrait": portraits[seed % len(portraits)]["id"], "container": container}
        await socket.send(json.dumps(asked))
        seen: dict[str, Any] = {"frames": 0, "state": {}}

        async def speak() -> None:
            began, at = time.perf_counter(), 0
            while True:
                if speaking:
                    await socket.send(np.roll(sound, -BURST * at)[:BURST].tobytes())
                elif at % 1000 == 0:  # so that it is not idle
                    await socket.send(json.dumps({"type": "change", "controls": {}}))
                at += 1
                await asyncio.sleep(max(0.0, began + at * BURST / SAMPLE_RATE - time.perf_counter()))

        async def watch() -> None:
            async for message in socket:
                if isinstance(message, str):
                    said = json.loads(message)
                    if said["type"] == "ready":
                        ready.release()
                        seen["hop"] = said["hop"]
                        seen["speaking"] = asyncio.create_task(speak())
                    elif said["type"] == "state":
                        seen["state"] = said
                    elif said["type"] == "error":
                        raise SystemExit(f"the server says: {said['message']}")
                elif container == "mp4":
                    seen["frames"] += seen["hop"]
                elif message[0] == 1:
                    seen["frames"] += 1

        watching = asyncio.create_task(watch())
        waiting = asyncio.create_task(go.wait())
        await asyncio.wait([watching, waiting], return_when=asyncio.FIRST_COMPLETED)
        if watching.done():
            watching.result()
        frames, late = seen["frames"], seen["state"].get("late", 0)
        await asyncio.sleep(seconds)
        state = seen["state"]
        seen["speaking"].cancel()
        watching.cancel()
        latency = state.get("latency") or {}
        p50, p95 = (float(latency.get(name, np.nan)) for name in ("p50", "p95"))
        return Heard(seen["frames"] - frames, state.get("late", 0) - late, p50, p95)


def slope(process: Any, address: str, flags: argparse.Namespace) -> None:
    """Prints how fast the server's memory grows while one session is open."""
    times, sizes = [], []

    async def held() -> None:
        session = asyncio.create_task(clients(address, 1, 60.0 * flags.slope, flags.container, flags.speaking))
        began = time.perf_counter()
        while not session.done():
            await asyncio.wait([session], timeout=5.0)
            times.append((time.perf_counter() - began) / 60)
            sizes.append(process.memory_info().rss / 1e6)
        print(f"frames that were late: {session.result()[0].late} of {session.result()[0].frames}")

    asyncio.run(held())
    rest = np.array(times) > flags.slope / 6  # caches fill first
    minutes, megabytes = np.array(times)[rest], np.array(sizes)[rest]
    (growth, _), covariance = np.polyfit(minutes, megabytes, 1, cov=True)
    kind = "speaking" if flags.speaking else "silent"
    print(
        f"one {kind} session, {flags.slope} minutes, the last five sixths of them: {megabytes[0]:.0f} MB at first, "
        f"{megabytes[-1]:.0f} MB at last, slope {growth:+.3f} MB a minute (standard error "
        f"{covariance[0, 0] ** 0.5:.3f})"
    )


def voice(seed: int, seconds: float) -> np.ndarray:
    """Something like speech: int16, bursts of a harmonic sound, four syllables a second."""
    time_ = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    tone = sum(np.sin(2 * np.pi * (110 + 17 * seed) * k * time_) / k for k in range(1, 12))
    loud = np.clip(np.sin(2 * np.pi * 4 * time_), 0, 1) * (np.sin(2 * np.pi * 0.25 * time_ + seed) > -0.3)
    return np.round(6000 * tone * loud).astype(np.int16)


def gpu() -> str:
    """Use and memory of the first GPU, "-" where there is none."""
    if shutil.which("nvidia-smi") is None:
        return "-"
    query = ["nvidia-smi", "--query-gpu=utilization.gpu,memory.used", "--format=csv,noheader"]
    return subprocess.run(query, capture_output=True, text=True, check=False).stdout.splitlines()[0]


if __name__ == "__main__":
    main()
