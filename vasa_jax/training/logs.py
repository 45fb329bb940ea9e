"""What a run tells: scalars, pictures and videos, to TensorBoard, to `log.jsonl`, and to Weights & Biases if asked."""

import hashlib
import importlib
import json
import logging
import math
import resource
import socket
import struct
import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from tensorboardX import summary
from tensorboardX.proto.event_pb2 import Event, SessionLog  # pyright: ignore[reportAttributeAccessIssue]
from tensorboardX.record_writer import masked_crc32c

from vasa_jax.arrays import FPS, Average
from vasa_jax.errors import UserError, refusals
from vasa_jax.files import Growing, write_text
from vasa_jax.media.video import VideoWriter
from vasa_jax.training.config import Experiment
from vasa_jax.training.optimiser import learning_rate
from vasa_jax.training.parallel import Strategy
from vasa_jax.training.topology import PEAK_FLOPS

AHEAD = 2
"""Steps that may be queued on the device before the loop waits."""
WATCHED = ("loss", "gradient_norm")
"""Metrics of every player that must stay finite."""
LOGGER = logging.getLogger(__name__)


class NonFiniteError(ArithmeticError):
    """A loss or gradient is NaN or infinite; the message names the step."""


class Video(NamedTuple):
    """A sample video.

    frames: uint8 (t, h, w, 3), 25 a second.
    audio: float32 (n,) at 16 kHz in -1..1, or None.
    """

    frames: np.ndarray
    audio: np.ndarray | None


class Logs:
    """TensorBoard events under `WORKDIR/events`, the same scalars, one JSON object a line, in `WORKDIR/log.jsonl`,
    videos in `WORKDIR/samples`; a context manager.

    What an earlier start logged after `first`, the step that this one goes on from, is dropped: those steps are done
    again; `earlier` keeps all its lines. A silent log (of any process but the first) writes nothing.
    """

    def __init__(
        self, workdir: Path, first: int, config: dict[str, Any], wandb: str = "", silent: bool = False
    ) -> None:
        """Open the files; `wandb` is a project of Weights & Biases, or "". Raises UserError where it is not
        installed."""
        self._workdir, self._silent, self._wandb = workdir, silent, None
        self.earlier: list[str] = []
        if silent:
            return
        if wandb:
            self._library = _import_wandb()
            identity = hashlib.sha256(str(workdir.absolute()).encode()).hexdigest()[:16]
            self._wandb = self._library.init(
                project=wandb, name=workdir.name, id=identity, resume="allow", dir=str(workdir), config=config
            )
        path = workdir / "log.jsonl"
        with refusals("read", path):
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
        write_text(path, "".join(f"{line}\n" for line in lines if _step_of(line) <= first))
        self.earlier = lines
        self._lines = Growing(path)
        self._events = _Events(workdir / "events", first)

    def __enter__(self) -> "Logs":
        return self

    def __exit__(self, *exception: object) -> None:
        if self._silent:
            return
        self._events.close()
        self._lines.close()
        if self._wandb:
            self._wandb.finish(exit_code=0 if exception[0] is None else 1)

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """Log named numbers of a step."""
        if self._silent:
            return
        numbers = {name: float(value) for name, value in values.items()}
        self._events.add(step, *(summary.scalar(name, value) for name, value in numbers.items()))
        if self._wandb:
            self._wandb.log(numbers, step=step)
        self.note(step, {name: float(f"{value:.6g}") for name, value in numbers.items()})

    def pictures(self, step: int, pictures: dict[str, Any]) -> None:
        """Log named pictures (h, w, 3), 0..1."""
        if self._silent:
            return
        for name, picture in pictures.items():
            picture = np.asarray(picture, np.float32)
            self._events.add(step, summary.image(name, picture, dataformats="HWC"))
            if self._wandb:
                self._wandb.log({name: self._library.Image(picture)}, step=step)

    def videos(self, step: int, videos: dict[str, Video]) -> None:
        """Write named videos to `WORKDIR/samples/NAME-STEP.mp4`."""
        if self._silent:
            return
        for name, video in videos.items():
            path = self._workdir / "samples" / f"{name}-{step:08d}.mp4"
            with refusals("make", path.parent):
                path.parent.mkdir(exist_ok=True)
            with VideoWriter(path, FPS, video.frames.shape[1:3], audio=video.audio) as writer:
                for frame in video.frames:
                    writer.write(frame)
            if self._wandb:
                self._wandb.log({name: self._library.Video(str(path))}, step=step)

    def note(self, step: int, values: dict[str, Any]) -> None:
        """Write one line of JSON values, to `log.jsonl` alone; numbers that are not finite become null."""
        if self._silent:
            return
        told = {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in values.items()
        }
        line = json.dumps({"step": step, "time": round(time.time(), 1)} | told, allow_nan=False)
        self._lines.append(f"{line}\n".encode())


class _Events:
    """TensorBoard's file of events: records of length, checksum, bytes, checksum (TensorFlow's TFRecord).

    Written at once and not behind the run's back, so that a disk that takes no more is known where it can be told.
    """

    def __init__(self, folder: Path, first: int):
        """Open a file of this start; what earlier files say of steps after `first` is hidden."""
        with refusals("make", folder):
            folder.mkdir(exist_ok=True)
        self._file = Growing(folder / f"events.out.tfevents.{time.time_ns()}.{socket.gethostname()}")
        self._append(Event(wall_time=time.time(), file_version="brain.Event:2"))
        if first:
            restart = SessionLog(status=SessionLog.START)
            self._append(Event(wall_time=time.time(), step=first + 1, session_log=restart))

    def add(self, step: int, *summaries: Any) -> None:
        """Add summaries of a step."""
        self._append(*(Event(wall_time=time.time(), step=step, summary=one) for one in summaries))

    def _append(self, *events: Any) -> None:
        records = []
        for event in events:
            content = event.SerializeToString()
            length = struct.pack("<Q", len(content))
            records += [length, struct.pack("<I", masked_crc32c(length))]
            records += [content, struct.pack("<I", masked_crc32c(content))]
        self._file.append(b"".join(records))

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _step_of(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):  # half a line, where a run was killed
        return float("inf")


def _import_wandb() -> Any:
    try:
        return importlib.import_module("wandb")
    except ImportError as error:
        raise UserError("wandb is not installed: pip install '.[wandb]' in a checkout, or leave --wandb out") from error


class Watch:
    """Metrics of the steps since the last flush, on the device until then."""

    def __init__(
        self,
        experiment: Experiment,
        strategy: Strategy,
        logs: Logs,
        flops: float,
        warn: Callable[[dict[str, float]], str] = lambda means: "",
    ):
        """`flops`: of one step over all devices, forward and backward, without recomputation; `warn`: see `Task.warn`,
        said once as long as it stays the same."""
        self._experiment, self._strategy, self._logs, self._flops = experiment, strategy, logs, flops
        self._warn, self._warned = warn, ""
        self._pending: deque[tuple[int, Any]] = deque()
        self._since = time.monotonic()
        self._waited = 0.0

    def add(self, done: int, metrics: Any) -> None:
        """Note the metrics of the step that made it `done` steps, and wait for the step `AHEAD` before it."""
        self._pending.append((done, metrics))
        if len(self._pending) > AHEAD:
            jax.block_until_ready(self._pending[-1 - AHEAD][1])

    def skip_pause(self) -> None:
        """Start the clock of steps/s anew where nothing is pending: logging, evaluation and saving are no steps."""
        if not self._pending:
            self._since = time.monotonic()

    def flush(self, done: int, waited: float, skipped: int, goodput: dict[str, float]) -> str:
        """Log the means and return a short text; raises NonFiniteError naming the first bad step.

        Args:
            done: steps done.
            waited: seconds spent waiting for data since the run's start.
            skipped: corrupt records replaced since the run's start.
            goodput: seconds by kind, see `goodput`.
        """
        rows = [(step, jax.device_get(self._strategy.collect(metrics))) for step, metrics in self._pending]
        for step, row in rows:
            means = _means([row])
            watched = [name for end in WATCHED for name in means if name.split("/")[-1] == end]
            bad = [name for name in watched if not np.isfinite(means[name])]
            if bad:
                values = ", ".join(f"{name}={value:.4g}" for name, value in sorted(means.items()))
                raise NonFiniteError(
                    f"not finite at step {step}: {', '.join(bad)} ({values}); the last checkpoint is from before it: "
                    "lower optimiser.learning_rate or mend the data"
                )
        if not rows:
            return ""
        elapsed = max(time.monotonic() - self._since, 1e-9)
        means = _means([row for _, row in rows])
        speed = len(rows) / elapsed
        values = means | {
            "learning_rate": float(learning_rate(self._experiment.optimiser, self._experiment.steps, done - 1)),
            "steps_per_second": speed,
            "samples_per_second": speed * self._experiment.batch_size,
            "data_wait": min((waited - self._waited) / elapsed, 1.0),
            "data_skipped": skipped,
            "teraflops_per_second": speed * self._flops / 1e12,
            **_utilisation(speed * self._flops),
            **_memory(),
        }
        spent = {f"goodput/{kind}": seconds for kind, seconds in goodput.items()}
        self._logs.scalars(done, {f"train/{name}": value for name, value in values.items()} | spent)
        warning = self._warn(means)
        if warning and warning != self._warned:
            LOGGER.warning("step %d: %s", done, warning)
            self._logs.note(done, {"warning": warning})
        self._warned = warning
        self._pending.clear()
        self._since, self._waited = time.monotonic(), waited
        return f"loss={means['loss']:.4f}"


def _means(rows: list[dict[str, Any]]) -> dict[str, float]:
    """The means of the metrics of some steps; what none of their samples has is left out."""
    means = {}
    for name, first in rows[0].items():
        values = [row[name] for row in rows]
        if not isinstance(first, Average):
            means[name] = float(np.mean(values))
        elif count := sum(float(value.count) for value in values):
            means[name] = sum(float(value.total) for value in values) / count
    return means


def _utilisation(flops: float) -> dict[str, float]:
    """Share of the devices' bfloat16 peak, where it is known, at this many FLOP/s over all."""
    peak = PEAK_FLOPS.get(jax.devices()[0].device_kind)
    return {"model_flop_utilisation": flops / (peak * jax.device_count())} if peak else {}


def _memory() -> dict[str, float]:
    """Largest memory in use so far, GiB: of this process, and of its first device where it tells."""
    unit = 1024 if sys.platform != "darwin" else 1
    memory = {"host_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30}
    statistics = jax.local_devices()[0].memory_stats() or {}
    if "peak_bytes_in_use" in statistics:
        memory["device_gib"] = statistics["peak_bytes_in_use"] / 2**30
    return memory
