"""Does the input starve? Frames/s of a 256x256 clip pipeline, and the share of a train step spent waiting for data.

    python -m benchmarks.input [--size 256] [--seconds 10] [--steps 20] [--config demo_autoencoder]

The first table reads stage 1 samples (4 frames of a clip of the world: shard, MessagePack, JPEG, labels) with one and
more threads, and with Grain's worker processes. The bar is 150 frames/s a core: frames per second of processor time,
which other work on the machine does not change. The second table runs the compiled step of a config, on its own few
clips, as the training loop does, without and with batches placed on the device ahead, and prints how long `next` took.
"""

import argparse
import dataclasses
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import grain
import jax
import numpy as np
from absl import flags as absl_flags

from benchmarks import timing
from vasa_jax import config as configs
from vasa_jax.autoencoder.config import demo_model
from vasa_jax.data import write_clip, write_shard
from vasa_jax.data.pipeline import Prefetch
from vasa_jax.data.shards import open_shards
from vasa_jax.synthetic.clip import make_clip
from vasa_jax.synthetic.splits import seeds
from vasa_jax.training.config import AutoencoderExperiment, Records
from vasa_jax.training.logs import AHEAD
from vasa_jax.training.parallel import make_strategy
from vasa_jax.training.program import make_program
from vasa_jax.training.tasks import make_task, portrait_sample

FRAMES_PER_SAMPLE = 4
BATCH = 8
BAR = 150
"""Frames/s a core."""
CLIPS = 8
WARM_UP = 3
"""Steps before the clock starts."""


class Rate(NamedTuple):
    """Frames per second of the clock, and of this process's processor time."""

    clock: float
    core: float


def write_clips(folder: Path, size: int, seconds: float) -> None:
    """One shard of videos of the world for each split, with sound and all labels."""
    for split, count in (("train", CLIPS), ("validation", 1)):
        (folder / split).mkdir(parents=True)
        clips = (make_clip(seed, seconds, size) for seed in seeds(split)[:count])
        records = (write_clip(clip.frames, np.asarray(clip.audio, np.float32), clip.labels) for clip in clips)
        write_shard(folder / split / "clips.array_record", records)


def sample_task(folder: Path, size: int, threads: int) -> Any:
    """The stage 1 task that reads the clips; its network is never built."""
    model = dataclasses.replace(demo_model(), image_size=size, identity_image_size=32, pose_size=32)
    data = Records(path=str(folder), threads=threads)
    return make_task(AutoencoderExperiment(model=model, data=data, frames_per_sample=FRAMES_PER_SAMPLE))


def measure_rate(batches: Any, seconds: float) -> Rate:
    """Take batches for some seconds, after a first one."""
    next(batches)
    frames, begun, spent = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - begun < seconds:
        frames += next(batches)["frames"].shape[0] * FRAMES_PER_SAMPLE
    clock, core = time.perf_counter() - begun, time.process_time() - spent
    batches.close()
    return Rate(frames / clock, frames / core)


def with_workers(folder: Path, size: int, workers: int) -> Any:
    """The same samples, in another order, from Grain's worker processes."""
    if not absl_flags.FLAGS.is_parsed():
        absl_flags.FLAGS(["benchmarks.input"])
    source = open_shards(folder / "train")
    read = Reader(source, size)
    stream = grain.MapDataset.range(len(source)).shuffle(seed=0).repeat().map(read).batch(BATCH)
    batches = stream.to_iter_dataset(grain.ReadOptions(num_threads=1, prefetch_buffer_size=4))
    return iter(batches.mp_prefetch(grain.multiprocessing.MultiprocessingOptions(num_workers=workers)))


class Reader(NamedTuple):
    """A stage 1 sample of a record, as a value that another process can be sent."""

    source: Any
    size: int

    def __call__(self, index: int) -> dict[str, Any]:
        """Read, decode, and choose frames at random."""
        return portrait_sample(self.source[index], FRAMES_PER_SAMPLE, self.size, np.random.default_rng(index))


def measure_wait(config: str, steps: int, depth: int, workdir: Path) -> tuple[float, float]:
    """Seconds a step, and seconds of it spent in `next`, of a config's compiled step on a few clips of its own.

    Args:
        config: file of an experiment that makes its own data (stage 1).
        steps: timed, after `WARM_UP`.
        depth: batches placed ahead, the one in hand included; 1 is none.
        workdir: of the clips.
    """
    experiment = configs.load(config)
    experiment = dataclasses.replace(experiment, data=dataclasses.replace(experiment.data, clips=24))
    task = make_task(experiment)
    task.prepare(workdir)
    constants, _ = task.measure(workdir, None)
    strategy = make_strategy(experiment.parallel, experiment.batch_size, experiment.fsdp, experiment.accumulate)
    program = make_program(experiment, task, strategy)
    state = strategy.create(program.fresh, {}, constants)
    key = strategy.place(jax.device_get(jax.random.key_data(jax.random.key(0))))
    host = task.dataset(workdir, experiment.batch_size, 0, 0, 0, 1)
    batches = Prefetch(host, strategy.place_batch, depth)
    queued, begun, waited = [], 0.0, 0.0
    for number in range(WARM_UP + steps):
        if number == WARM_UP:
            jax.block_until_ready(queued)
            begun, waited = time.perf_counter(), 0.0
        before = time.perf_counter()
        batch = next(batches)
        waited += time.perf_counter() - before
        state, metrics = program.step(state, batch, key, {})
        queued = [*queued[-AHEAD:], metrics]
        jax.block_until_ready(queued[0])
    jax.block_until_ready(state)
    total = time.perf_counter() - begun
    batches.close()
    return total / steps, waited / steps


def main(arguments: Sequence[str] | None = None) -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    timing.add_platform_flag(parser)
    parser.add_argument("--size", type=timing.positive, default=256, help="side of the pictures in pixels")
    parser.add_argument("--clip-seconds", type=float, default=2.0, help="length of a clip")
    parser.add_argument("--seconds", type=float, default=10.0, help="duration of each reading")
    parser.add_argument("--threads", nargs="+", type=timing.positive, default=[1, 2], help="reading threads")
    parser.add_argument("--workers", nargs="*", type=timing.positive, default=[1, 2], help="Grain worker processes")
    parser.add_argument("--config", default="demo_autoencoder", help="stage 1 experiment of table two")
    parser.add_argument("--steps", type=int, default=20, help="timed steps of the second table; 0 leaves it out")
    flags = parser.parse_args(arguments)
    timing.start(flags)
    with tempfile.TemporaryDirectory() as folder:
        clips, workdir = Path(folder) / "clips", Path(folder) / "run"
        write_clips(clips, flags.size, flags.clip_seconds)
        print(f"\nsamples of {FRAMES_PER_SAMPLE} frames of {flags.size} x {flags.size}, batches of {BATCH}")
        print("| reading | frames/s | frames/s a core | bar |\n|---|---|---|---|")
        for threads in flags.threads:
            batches = sample_task(clips, flags.size, threads).dataset(workdir, BATCH, 0, 0, 0, 1)
            rate = measure_rate(batches, flags.seconds)
            verdict = "pass" if rate.core >= BAR else "MISS"
            print(f"| {threads} threads | {rate.clock:.0f} | {rate.core:.0f} | {verdict} |", flush=True)
        for workers in flags.workers:
            rate = measure_rate(with_workers(clips, flags.size, workers), flags.seconds)
            print(f"| {workers} worker processes | {rate.clock:.0f} | | |", flush=True)
        if not flags.steps:
            return
        print(f"\n{flags.config}, {flags.steps} steps")
        print("| batches placed ahead | ms a step | ms waiting for data | share |\n|---|---|---|---|")
        for depth in (1, 2):
            step, waited = measure_wait(flags.config, flags.steps, depth, workdir)
            print(f"| {depth - 1} | {1e3 * step:.1f} | {1e3 * waited:.2f} | {waited / step:.2%} |", flush=True)


if __name__ == "__main__":
    main()
