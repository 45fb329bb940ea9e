"""Does the input starve? Stage 1 samples/s of shards of 512x512 clips, and the share of a train step spent waiting.

    python -m benchmarks.input [--size 512] [--clip-seconds 10] [--seconds 10] [--video FILE ...] [--steps 20]

The first table reads stage 1 samples (3 frames of a clip: index, head, JPEG, labels) alone and in batches of 8, with
one and more threads and with Grain's worker processes. The pictures are the world's, or the middles of those of video
files. The bars: a sample alone takes at most 10 ms, and batches give 150 samples/s a core: samples per second of
processor time, which other work on the machine changes less than the clock's, though two hardware threads of one core
share what it can do. The second table runs the compiled step of a config, on its own few clips, as the training loop
does, without and with batches placed on the device ahead, and prints how long `next` took.
"""

import argparse
import dataclasses
import itertools
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import grain
import jax
import numpy as np
from absl import flags as absl_flags
from PIL import Image

from benchmarks import timing
from vasa_jax import config as configs
from vasa_jax.arrays import FPS, SAMPLES_PER_FRAME
from vasa_jax.autoencoder.config import demo_model
from vasa_jax.data import encode_picture, write_clip, write_shard
from vasa_jax.data.pipeline import Prefetch
from vasa_jax.data.shards import open_shards
from vasa_jax.media.video import read_video
from vasa_jax.synthetic.clip import make_clip
from vasa_jax.synthetic.splits import seeds
from vasa_jax.training.config import AutoencoderExperiment, Records
from vasa_jax.training.face_task import PORTRAIT_LABELS, portrait_sample
from vasa_jax.training.logs import AHEAD
from vasa_jax.training.parallel import make_strategy
from vasa_jax.training.program import make_program
from vasa_jax.training.tasks import make_task

FRAMES_PER_SAMPLE = 3
BATCH = 8
BAR = 150
"""Samples/s a core."""
BAR_ALONE = 10.0
"""Milliseconds of a sample alone."""
CLIPS = 8
LINKS = 63
"""More names of a shard: orders of a handful of clips are slow to draw (65536 / n tries each)."""
FILMED = 50
"""Different pictures of a clip; longer ones go to and fro through them."""
WARM_UP = 3
"""Steps before the clock starts."""


class Rate(NamedTuple):
    """Samples per second of the clock, and of this process's processor time."""

    clock: float
    core: float


def film(seed: int, size: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Pictures of a performance of the world, and their labels."""
    clip = make_clip(seed, FILMED / FPS, size)
    return clip.frames, {name: clip.labels[name] for name in PORTRAIT_LABELS if name in clip.labels}


def cut_out(path: str, size: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The middle squares of the first pictures of a video file, and labels of nothing."""
    frames = [fitted(frame, size) for frame in itertools.islice(read_video(path), FILMED)]
    return np.stack(frames), {name: np.zeros((len(frames), *shape)) for name, shape in PORTRAIT_LABELS.items()}


def fitted(frame: np.ndarray, size: int) -> np.ndarray:
    """The middle square of a picture, at another size."""
    side = min(frame.shape[:2])
    top, left = ((length - side) // 2 for length in frame.shape[:2])
    square = Image.fromarray(frame[top : top + side, left : left + side])
    return np.asarray(square.resize((size, size), Image.Resampling.LANCZOS))


def write_clips(folder: Path, size: int, seconds: float, videos: Sequence[str] = ()) -> None:
    """One shard of clips for each split, with sound and the labels of stage 1."""
    count = int(seconds * FPS)
    for split, clips in (("train", CLIPS), ("validation", 1)):
        (folder / split).mkdir(parents=True)
        made = [cut_out(videos[i % len(videos)], size) if videos else film(seeds(split)[i], size) for i in range(clips)]
        records = []
        for frames, labels in made:
            there = np.arange(len(frames))
            chosen = np.resize(np.concatenate([there, there[::-1]]), count)
            pictures = [encode_picture(frame) for frame in frames]
            sound = np.zeros(SAMPLES_PER_FRAME * count, np.float32)
            known = {name: np.float32(value[chosen]) for name, value in labels.items()}
            records.append(write_clip([pictures[i] for i in chosen], sound, known))
        shard = folder / split / "clips.array_record"
        write_shard(shard, records)
        for number in range(LINKS):
            shard.with_name(f"link-{number}.array_record").symlink_to(shard)


def sample_task(folder: Path, size: int, threads: int) -> Any:
    """The stage 1 task that reads the clips; its network is never built."""
    model = dataclasses.replace(demo_model(), image_size=size, identity_image_size=32, pose_size=32)
    data = Records(path=str(folder), threads=threads)
    return make_task(AutoencoderExperiment(model=model, data=data, frames_per_sample=FRAMES_PER_SAMPLE))


def measure_rate(batches: Any, seconds: float) -> Rate:
    """Take batches for some seconds, after a first one."""
    next(batches)
    samples, begun, spent = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - begun < seconds:
        samples += len(next(batches)["frames"])
    clock, core = time.perf_counter() - begun, time.process_time() - spent
    batches.close()
    time.sleep(1.0)  # until the threads have read what they were at, since the folder is going to be removed
    return Rate(samples / clock, samples / core)


def measure_alone(folder: Path, size: int, count: int = 50) -> tuple[float, float]:
    """Median milliseconds of a sample, one after the other: of the clock, and of processor time."""
    read, taken = Reader(open_shards(folder / "train"), size), []
    for number in range(count):
        begun, spent = time.perf_counter(), time.process_time()
        read(number % CLIPS)
        taken.append((1e3 * (time.perf_counter() - begun), 1e3 * (time.process_time() - spent)))
    clock, core = np.median(taken, 0)
    return float(clock), float(core)


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
    parser.add_argument("--size", type=timing.positive, default=512, help="side of the pictures in pixels")
    parser.add_argument("--clip-seconds", type=float, default=10.0, help="length of a clip")
    parser.add_argument("--video", nargs="*", default=(), help="video files whose pictures are read, not the world's")
    parser.add_argument("--seconds", type=float, default=10.0, help="duration of each reading")
    parser.add_argument("--threads", nargs="+", type=timing.positive, default=[1, 2], help="reading threads")
    parser.add_argument("--workers", nargs="*", type=timing.positive, default=[1, 2], help="Grain worker processes")
    parser.add_argument("--config", default="demo_autoencoder", help="stage 1 experiment of table two")
    parser.add_argument("--steps", type=int, default=20, help="timed steps of the second table; 0 leaves it out")
    flags = parser.parse_args(arguments)
    timing.start(flags)
    with tempfile.TemporaryDirectory() as folder:
        clips, workdir = Path(folder) / "clips", Path(folder) / "run"
        write_clips(clips, flags.size, flags.clip_seconds, flags.video)
        print(f"\nsamples of {FRAMES_PER_SAMPLE} frames of {flags.size} x {flags.size}, batches of {BATCH}")
        clock, core = measure_alone(clips, flags.size)
        verdict = "pass" if clock <= BAR_ALONE else "MISS"
        print(f"one sample alone: {clock:.1f} ms, {core:.1f} of them computing ({verdict})\n")
        print("| reading | samples/s | samples/s a core | bar |\n|---|---|---|---|")
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
