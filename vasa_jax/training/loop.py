"""The loop: batches in, steps, logs, checkpoints; and the exact way back after an interruption.

Where a run starts from is said in `start`. A checkpoint holds the state and the config; its position in the data is the
number of its step, and every random key comes from that number too, so an interrupted run ends where an uninterrupted
one does, bit for bit on a CPU. Losses are fetched every `log_every` steps, one number a step, so that a non-finite one
is named exactly and never saved. On many hosts all processes run this loop side by side; the first alone makes data and
writes logs, and all stop at the same step.
"""

import json
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import jax
from tqdm import tqdm

from vasa_jax.checkpoint import digest
from vasa_jax.command import STOPPED
from vasa_jax.data.pipeline import Prefetch
from vasa_jax.errors import UserError, device_memory
from vasa_jax.files import make_folder, write_text
from vasa_jax.training import cluster
from vasa_jax.training.bundles import Bundles, newest_bundle
from vasa_jax.training.config import Experiment, to_saved
from vasa_jax.training.export import write
from vasa_jax.training.goodput import Goodput
from vasa_jax.training.lock import locked
from vasa_jax.training.logs import Logs, Watch
from vasa_jax.training.parallel import Strategy, make_strategy
from vasa_jax.training.program import TrainProgram, make_program
from vasa_jax.training.start import Initial, Start, check_config, check_sources, checkpoint_of, initial, step_to_resume
from vasa_jax.training.state import TrainState
from vasa_jax.training.task import Task

TAKING = 3600.0
"""Seconds that processes wait for the first to read a checkpoint through, which may be a terabyte."""
MAKING = 7 * 24 * 3600.0
"""Seconds that they wait for it to make the data, of which 100,000 clips of 512 pixels take a day or two, or to
evaluate."""


class Result(NamedTuple):
    """How a run ended.

    step: steps done, over all starts.
    seconds: duration of this start, from the first step (compilation included) to the last.
    samples_per_second: samples of this start over that time.
    digest: SHA-256 of the parameters, see `checkpoint.digest`.
    stopped: why it ended before its last step ("SIGTERM", "time limit"), or "" where it did not.
    goodput: seconds by kind over all starts, see `goodput`.
    """

    step: int
    seconds: float
    samples_per_second: float
    digest: str
    stopped: str
    goodput: dict[str, float]


def train(
    experiment: Experiment,
    task: Task,
    workdir: str | Path,
    start: Start = Start(),  # noqa: B008 (frozen)
    time_limit: float = float("inf"),
    stop: Callable[[int], str] = lambda step: "",
    progress: bool = True,
    wandb: str = "",
    profile: tuple[int, ...] = (),
) -> Result:
    """Train a task to `experiment.steps`, or until asked to stop, and save.

    Args:
        experiment: the config; its own copy goes into every checkpoint and `WORKDIR/config.json`.
        task: what is trained, as from `tasks.make_task`.
        workdir: gets `checkpoints/`, `samples/`, `log.jsonl`, TensorBoard events, `config.json` and, unless shared,
            `data/`. On many hosts it is the same folder for all.
        start: what to start from where the workdir has no checkpoint.
        time_limit: seconds after which the run stops cleanly, with a checkpoint.
        stop: asked with the number of steps done; anything but "" stops cleanly and is the reason reported.
        progress: show a progress bar on stderr.
        wandb: project of Weights & Biases to log to as well; "" is none.
        profile: steps, counted from 1, whose computation is traced to `WORKDIR/profile`, for TensorBoard or Perfetto.

    Raises:
        NonFiniteError: at the first non-finite loss or gradient; nothing is saved after the last good checkpoint.
        UserError: for a batch that the devices cannot share, a workdir in use, a config that is not the checkpoint's,
            a source in `start` that does not fit, what the system refuses to write, and a device without the memory
            for a step.
    """
    started = time.monotonic()
    workdir = make_folder("workdir", workdir)
    _check_profile(profile, experiment.steps)
    first_process = cluster.is_first()
    with ExitStack() as stack:

        def take() -> str:
            stack.enter_context(locked(workdir))
            step, remarks = newest_bundle(workdir, put_aside=True)
            if step is None:
                check_sources(start)
            return "; ".join(remarks)

        def make() -> str:
            task.prepare(workdir)
            return ""

        passed_over = cluster.told_by_first("take the workdir", take, TAKING)
        stack.enter_context(device_memory(_less_memory(experiment)))
        strategy = make_strategy(experiment.parallel, experiment.batch_size, experiment.fsdp, experiment.accumulate)
        cluster.told_by_first("make the data", make, MAKING)
        if not first_process:
            task.prepare(workdir)
        program = make_program(experiment, task, strategy)
        config = to_saved(experiment)
        bundles = stack.enter_context(Bundles(workdir, experiment.keep, experiment.keep_every))
        state, first, remark = _begin(experiment, task, strategy, program, workdir, start, bundles)
        logs = stack.enter_context(Logs(workdir, first, config, wandb, silent=not first_process))
        if passed_over:
            remark["damaged"] = passed_over
        if remark:
            logs.note(first, remark)
        if first_process:
            write_text(workdir / "config.json", json.dumps(config, indent=2) + "\n")
        batches = task.dataset(
            workdir, experiment.batch_size, experiment.seed, first, jax.process_index(), jax.process_count()
        )
        placed = stack.enter_context(closing(Prefetch(batches, strategy.place_batch)))
        caught = stack.enter_context(_catch_signals())
        goodput = Goodput(logs.earlier, first)
        watch = Watch(experiment, strategy, logs, program.flops(), task.warn)
        held_out = task.held_out(workdir) if first_process else {}
        keeper = _Keeper(experiment, task, strategy, bundles, logs, goodput, workdir, config, held_out)
        key = strategy.place(jax.device_get(jax.random.key_data(jax.random.key(experiment.seed))))
        helpers = strategy.place(task.helpers())
        goodput.add("starting", time.monotonic() - started)
        done, stopped, begun = first, "", time.monotonic()
        bar = stack.enter_context(_bar(experiment.steps, first, progress and first_process))
        stack.enter_context(_last_good_named(bundles))
        while done < experiment.steps and not stopped:
            batch = next(placed)
            with ExitStack() as around:
                if done == first:
                    around.enter_context(goodput.spent("compiling"))
                if done + 1 in profile:
                    around.enter_context(_traced(workdir, state))
                around.enter_context(jax.transfer_guard("disallow"))
                state, metrics = program.step(state, batch, key, helpers)
                if done + 1 in profile:
                    jax.block_until_ready(metrics)
            done += 1
            watch.add(done, metrics)
            bar.update()
            logged = done % experiment.log_every == 0
            stopped = _reason(caught, done, stop, time.monotonic() - started > time_limit, logged)
            last = bool(stopped) or done == experiment.steps
            if last or logged or done % experiment.save_every == 0:
                bar.set_postfix_str(watch.flush(done, placed.waited, placed.skipped, goodput.totals(placed.waited)))
                bundles.check()
            keeper.after(done, state, last)
            watch.skip_pause()
        with goodput.spent("saving"):
            bundles.finish()
        seconds = time.monotonic() - begun
        samples = (done - first) * experiment.batch_size
        totals = goodput.totals(placed.waited)
        logs.note(done, {f"goodput/{kind}": round(spent, 3) for kind, spent in totals.items()})
        return Result(done, seconds, samples / seconds, digest(strategy.collect(state.params)), stopped, totals)


def _begin(
    experiment: Experiment,
    task: Task,
    strategy: Strategy,
    program: TrainProgram,
    workdir: Path,
    start: Start,
    bundles: Bundles,
) -> tuple[TrainState, int, dict[str, str]]:
    """The state to go on from, its step, and remarks for the log; the order is that of `start`."""

    def restored(there: Bundles, step: int) -> tuple[TrainState, int, dict[str, str]]:
        changed = check_config(there.config(step), experiment, start.allow_config_change)
        return strategy.adopt(there.restore(step, strategy.target(program.shapes))), step, changed

    step = bundles.newest()
    if step is not None:
        return restored(bundles, step)
    if start.resume:
        source = start.resume
        step = int(cluster.told_by_first("read the checkpoint", lambda: str(step_to_resume(source)), TAKING))
        with Bundles(checkpoint_of(source)[0], read_only=True) as others:
            state, step, changed = restored(others, step)
        return state, step, changed | {"resumed": start.resume}
    source, remark = Initial({}, None), {}
    if start.init_from:
        params = program.shapes.params
        source = initial(start, experiment, params, task.blocks(params), program.shapes.constants)
        remark = {"init_from": f"{start.init_from}: {len(source.parameters)} arrays"}
    constants, measured = task.measure(workdir, source.constants) if cluster.is_first() else (None, {})
    constants = cluster.from_first(jax.device_get(constants), program.shapes.constants)
    return strategy.create(program.fresh, source.parameters, constants), 0, remark | measured


def _check_profile(profile: tuple[int, ...], steps: int) -> None:
    """Raise UserError for a step to trace that the run does not do."""
    for step in profile:
        if not 1 <= step <= steps:
            raise UserError(f"profile_steps={step} must lie between 1 and {steps}, the steps of the run")


@contextmanager
def _traced(workdir: Path, state: Any) -> Iterator[None]:
    """Trace what the devices do inside, after what they were still doing before."""
    jax.block_until_ready(state)
    with jax.profiler.trace(str(workdir / "profile")):
        yield


def _less_memory(experiment: Experiment) -> str:
    """What to do where a device has too little memory."""
    ways = [
        "--accumulate N" if experiment.accumulate == 1 else f"a larger --accumulate than {experiment.accumulate}",
        "" if experiment.remat else "--remat",
        "" if experiment.dtype == "bfloat16" else "--dtype bfloat16",
        "" if experiment.parallel == "sharded" else "--parallel sharded",
    ]
    listed = ", ".join(way for way in ways if way)
    return (
        f"a step of batch_size={experiment.batch_size} needs more than it has: lower it, or save memory with {listed}"
    )


@contextmanager
def _last_good_named(bundles: Bundles) -> Iterator[None]:
    """Let what ends a run say where the same command will go on."""
    try:
        yield
    except UserError as error:
        with suppress(UserError):
            bundles.finish()
        step = bundles.newest()
        there = "there is no checkpoint yet"
        if step is not None:
            there = f"the last good checkpoint is of step {step}, from where the same command goes on"
        raise type(error)(f"{error}; {there}") from error


def _reason(caught: list[int], done: int, stop: Callable[[int], str], late: bool, logged: bool) -> str:
    """Why to stop now, or "". Processes agree: on SIGTERM at every step, on the rest where all of them log."""
    if cluster.asked_to_stop(done):
        return "SIGTERM"
    reason = signal.Signals(caught[0]).name if caught else "time limit" if late else stop(done)
    if jax.process_count() == 1:
        return reason
    return (reason or "asked by process 0") if logged and cluster.agree(bool(reason)) else ""


@contextmanager
def _catch_signals() -> Iterator[list[int]]:
    """Collect SIGTERM and SIGINT instead of dying from the first; a second SIGINT interrupts as usual. In a cluster JAX
    itself listens for SIGTERM."""
    caught = list(STOPPED)

    def remember(number: int, frame: object) -> None:
        if caught and number == signal.SIGINT:
            raise KeyboardInterrupt
        caught.append(number)

    mine = (signal.SIGINT,) if jax.process_count() > 1 else (signal.SIGTERM, signal.SIGINT)
    try:
        old = {number: signal.signal(number, remember) for number in mine}
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
    """What is due now and then: evaluation, judges, pictures and videos, a checkpoint, a release."""

    experiment: Experiment
    task: Task
    strategy: Strategy
    bundles: Bundles
    logs: Logs
    goodput: Goodput
    workdir: Path
    config: dict[str, Any]
    held_out: Any

    def after(self, done: int, state: Any, last: bool) -> None:
        """Do what is due after `done` steps; `last` says that the run ends here, complete or not."""
        experiment, finished = self.experiment, done == self.experiment.steps
        score = finished or done % experiment.eval_every == 0
        judge = experiment.judge_every > 0 and (finished or done % experiment.judge_every == 0)
        draw = finished or done % experiment.pictures_every == 0
        if (last or done % experiment.save_every == 0) and self.bundles.newest() != done:
            with self.goodput.spent("saving"):
                self.bundles.save(done, self.strategy.stored(state), self.config)
        if experiment.export_every and done % experiment.export_every == 0:
            with self.goodput.spent("saving"):
                self.bundles.finish()
                cluster.told_by_first("write a release", lambda: self._export(done), TAKING)
        if not (score or judge or draw):
            return
        with self.goodput.spent("evaluating"):
            averages = self.strategy.collect((state.ema, state.constants), cluster.is_first())

            def look() -> str:
                ema, constants = jax.device_put(averages)
                if score:
                    scores = self.task.evaluate(ema, constants, self.held_out)
                    self.logs.scalars(done, {f"eval/{name}": value for name, value in scores.items()})
                if judge:
                    scores = self.task.judge(ema, constants, self.workdir)
                    self.logs.scalars(done, {f"judge/{name}": value for name, value in scores.items()})
                if draw:
                    self.logs.pictures(done, self.task.pictures(ema, constants, self.held_out))
                    self.logs.videos(done, self.task.videos(ema, constants, self.workdir))
                return ""

            cluster.told_by_first("evaluate", look, MAKING)

    def _export(self, done: int) -> str:
        write([self.workdir], self.workdir / "releases" / f"{done:08d}")
        return ""
