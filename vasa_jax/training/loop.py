"""The loop: batches in, steps, logs, checkpoints; and the exact way back after an interruption.

A run starts from its own last bundle if there is one, else from scratch. A bundle holds the state and the config; the
order of the data and every random key come from the step's number, so an interrupted run ends where an
uninterrupted one does, bit for bit on a CPU. Losses are fetched every `log_every` steps, one number a step, so that a
non-finite one is named exactly and never saved.
"""

import json
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from tensorboardX import SummaryWriter
from tqdm import tqdm

from vasa_jax import config as configs
from vasa_jax.checkpoint import Bundles
from vasa_jax.training.config import Experiment
from vasa_jax.training.optimiser import learning_rate, make_optimiser
from vasa_jax.training.parallel import Strategy, make_strategy
from vasa_jax.training.state import TrainState, create, digest
from vasa_jax.training.step import make_train_step
from vasa_jax.training.task import Task

AHEAD = 2
"""Steps that may be queued on the device before the loop waits."""


class Result(NamedTuple):
    """How a run ended.

    step: steps done, over all starts.
    seconds: duration of this start, from the first step (compilation included) to the last.
    samples_per_second: samples of this start over that time.
    digest: SHA-256 of the parameters, see `state.digest`.
    stopped: why it ended before its last step ("signal", "time limit"), or "" where it did not.
    """

    step: int
    seconds: float
    samples_per_second: float
    digest: str
    stopped: str


class NonFiniteError(ArithmeticError):
    """A loss or gradient is NaN or infinite; the message names the step."""


def train(
    experiment: Experiment,
    task: Task,
    workdir: str | Path,
    time_limit: float = float("inf"),
    stop: Callable[[int], str] = lambda step: "",
    progress: bool = True,
) -> Result:
    """Train a task to `experiment.steps`, or until asked to stop, and save.

    Args:
        experiment: the config; its own copy goes into every bundle and `WORKDIR/config.json`.
        task: what is trained, as from `tasks.make_task`.
        workdir: gets `checkpoints/`, `log.jsonl`, TensorBoard events, `config.json` and, unless shared, `data/`.
        time_limit: seconds after which the run stops cleanly, with a bundle.
        stop: asked with the number of steps done; anything but "" stops cleanly and is the reason reported.
        progress: show a progress bar on stderr.

    Raises:
        NonFiniteError: at the first non-finite loss or gradient; nothing is saved after the last good bundle.
        ValueError: for a batch that the devices cannot share, or a workdir of another model.
    """
    started = time.monotonic()
    workdir = Path(workdir)
    workdir.mkdir(parents=True, exist_ok=True)
    strategy = make_strategy(experiment.parallel, experiment.batch_size, experiment.fsdp, experiment.accumulate)
    constants = task.prepare(workdir)
    optimiser = make_optimiser(experiment.optimiser, experiment.steps)
    step = make_train_step(
        task.loss, optimiser, experiment.ema, strategy.axis_name, experiment.accumulate, experiment.remat
    )
    key = strategy.place(jax.random.key_data(jax.random.key(experiment.seed)))

    def fresh() -> TrainState:
        params, _ = jax.jit(task.init)(jax.random.key(experiment.seed))
        return create(params, jax.tree.map(jnp.asarray, constants), optimiser)

    shapes = jax.eval_shape(fresh)
    compiled = strategy.compile(step, shapes)
    with (
        _catch_signals() as caught,
        Bundles(workdir, experiment.keep) as bundles,
        _Logs(workdir) as logs,
    ):
        state, first = _start(experiment, strategy, bundles, fresh, shapes, logs)
        (workdir / "config.json").write_text(configs.to_json(experiment))
        done = first
        watch = _Watch(experiment, strategy, logs)
        keeper = _Keeper(experiment, task, strategy, bundles, logs, task.held_out(workdir))
        iterator = task.dataset(workdir, experiment.batch_size, experiment.seed, first, 0, 1)
        stopped, begun = "", time.monotonic()
        with closing(iterator), _bar(experiment.steps, first, progress) as bar:
            while done < experiment.steps and not stopped:
                batch = strategy.place_batch(next(iterator))
                with jax.transfer_guard("disallow"):
                    state, metrics = compiled(state, batch, key)
                done += 1
                watch.add(done, metrics)
                bar.update()
                stopped = _reason(caught, done, stop, time.monotonic() - started > time_limit)
                last = bool(stopped) or done == experiment.steps
                if last or done % experiment.log_every == 0 or done % experiment.save_every == 0:
                    bar.set_postfix_str(watch.flush(done))
                keeper.after(done, state, last)
                watch.skip_pause()
        seconds = time.monotonic() - begun
        samples = (done - first) * experiment.batch_size
        return Result(done, seconds, samples / seconds, digest(strategy.collect(state.params)), stopped)


def _start(
    experiment: Experiment,
    strategy: Strategy,
    bundles: Bundles,
    fresh: Callable[[], TrainState],
    shapes: TrainState,
    logs: "_Logs",
) -> tuple[TrainState, int]:
    """The state to go on from, placed, and its step: the run's own last bundle, else a fresh one."""
    step = bundles.latest()
    if step is None:
        return strategy.create(fresh), 0
    before = configs.from_json(json.dumps(bundles.config(step)), type(experiment))
    changed = configs.difference(before, experiment)
    if changed:
        logs.note(step, {name: f"{old!r} -> {new!r}" for name, (old, new) in changed.items()})
    for name, (old, new) in changed.items():
        if name == "model" or name.startswith("model."):
            raise ValueError(f"{name}={new!r}, but the run in this workdir has {old!r}; choose another --workdir")
    return strategy.adopt(bundles.restore(step, strategy.target(shapes))), step


def _reason(caught: list[int], done: int, stop: Callable[[int], str], late: bool) -> str:
    if caught:
        return signal.Signals(caught[0]).name
    return "time limit" if late else stop(done)


@contextmanager
def _catch_signals() -> Iterator[list[int]]:
    """Collect SIGTERM and SIGINT instead of dying from the first; a second SIGINT interrupts as usual."""
    caught: list[int] = []

    def remember(number: int, frame: object) -> None:
        if caught and number == signal.SIGINT:
            raise KeyboardInterrupt
        caught.append(number)

    try:
        old = {number: signal.signal(number, remember) for number in (signal.SIGTERM, signal.SIGINT)}
    except ValueError:  # not the main thread: signals are not ours to catch
        old = {}
    try:
        yield caught
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


def _bar(steps: int, first: int, shown: bool) -> tqdm:
    return tqdm(total=steps, initial=first, unit="step", disable=not shown, smoothing=0.05, mininterval=1.0)


class _Keeper(NamedTuple):
    """What is due now and then: evaluation, pictures, a bundle."""

    experiment: Experiment
    task: Task
    strategy: Strategy
    bundles: Bundles
    logs: "_Logs"
    held_out: Any

    def after(self, done: int, state: Any, last: bool) -> None:
        """Do what is due after `done` steps; `last` says that the run ends here, complete or not."""
        experiment, finished = self.experiment, done == self.experiment.steps
        save = (last or done % experiment.save_every == 0) and self.bundles.latest() != done
        score = finished or done % experiment.eval_every == 0
        draw = finished or done % experiment.pictures_every == 0
        if not (save or score or draw):
            return
        if save:
            stored = self.strategy.stored(state)
            self.bundles.save(done, stored, json.loads(configs.to_json(experiment)))
        if not (score or draw):
            return
        ema, constants = self.strategy.collect((state.ema, state.constants))
        if score:
            scores = self.task.evaluate(ema, constants, self.held_out)
            self.logs.scalars(done, {f"eval/{name}": value for name, value in scores.items()})
        if draw:
            self.logs.pictures(done, self.task.pictures(ema, constants, self.held_out))


class _Watch:
    """Metrics of the steps since the last flush, on the device until then."""

    def __init__(self, experiment: Experiment, strategy: Strategy, logs: "_Logs"):
        self._experiment, self._strategy, self._logs = experiment, strategy, logs
        self._pending: deque[tuple[int, Any]] = deque()
        self._since = time.monotonic()

    def add(self, done: int, metrics: Any) -> None:
        """Note the metrics of the step that made it `done` steps, and wait for the step `AHEAD` before it."""
        self._pending.append((done, metrics))
        if len(self._pending) > AHEAD:
            jax.block_until_ready(self._pending[-1 - AHEAD][1])

    def skip_pause(self) -> None:
        """Start the clock of steps/s anew where nothing is pending: logging, evaluation and saving are no steps."""
        if not self._pending:
            self._since = time.monotonic()

    def flush(self, done: int) -> str:
        """Log the means and return a short text; raises NonFiniteError naming the first bad step."""
        rows = [(step, jax.device_get(self._strategy.collect(metrics))) for step, metrics in self._pending]
        for step, row in rows:
            bad = [name for name in ("loss", "gradient_norm") if not np.isfinite(row[name])]
            if bad:
                values = ", ".join(f"{name}={float(value):.4g}" for name, value in sorted(row.items()))
                raise NonFiniteError(
                    f"not finite at step {step}: {', '.join(bad)} ({values}); the last checkpoint is from before it: "
                    "lower optimiser.learning_rate or mend the data"
                )
        if not rows:
            return ""
        elapsed = max(time.monotonic() - self._since, 1e-9)
        means = {name: float(np.mean([row[name] for _, row in rows])) for name in rows[0][1]}
        rate = float(learning_rate(self._experiment.optimiser, self._experiment.steps, done - 1))
        speed = {"learning_rate": rate, "steps_per_second": len(rows) / elapsed}
        speed["samples_per_second"] = speed["steps_per_second"] * self._experiment.batch_size
        self._logs.scalars(done, {f"train/{name}": value for name, value in (means | speed).items()})
        self._pending.clear()
        self._since = time.monotonic()
        return f"loss={means['loss']:.4f}"


class _Logs:
    """TensorBoard events under `WORKDIR/events` and the same scalars, one JSON object a line, in
    `WORKDIR/log.jsonl`."""

    def __init__(self, workdir: Path):
        self._writer = SummaryWriter(str(workdir / "events"))
        self._lines = (workdir / "log.jsonl").open("a")

    def __enter__(self) -> "_Logs":
        return self

    def __exit__(self, *exception: object) -> None:
        self._writer.close()
        self._lines.close()

    def scalars(self, step: int, values: dict[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, float(value), step)
        self.note(step, {name: float(f"{float(value):.6g}") for name, value in values.items()})

    def pictures(self, step: int, pictures: dict[str, Any]) -> None:
        for name, picture in pictures.items():
            self._writer.add_image(name, np.asarray(picture, np.float32), step, dataformats="HWC")
        self._writer.flush()

    def note(self, step: int, values: dict[str, Any]) -> None:
        self._lines.write(json.dumps({"step": step, "time": round(time.time(), 1)} | values) + "\n")
        self._lines.flush()
