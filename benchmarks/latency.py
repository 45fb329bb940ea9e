"""How late is a face that listens? Sound is played into a stream as it would be spoken, and its frames are encoded.

    python -m benchmarks.latency [--model demo] [--seconds 60] [--hop 5] [--look-ahead 0] [--figure latency.png]
    python -m benchmarks.latency --plan cuda:rtx4090 [--hop 5]

A person of the synthetic world whom no model has met speaks; packets of sound come by the clock, whatever the machine
does meanwhile. Of every frame, and in the words of docs/live.md, printed are p50, p95, p99 and the longest of

    look-ahead   from the last sample of its hop to the last one that is waited for
    hop wait     from the last sample that it shows to the last one of its hop
    queue        until the hop before was done
    features     of the sound; inside the step, so taken from a program of their own, where there is one
    sampler      the rest of the step
    retarget, render (with copying frames to the host), encode, and other work
    preceding    the sum: from the last sample that it shows to its encoded bytes
    chunk        the same without look-ahead and hop wait: from the last sample that the hop needs on

and how many frames in 1,000 were late: had a player begun one hop after the first hop's sound had come, they would not
have been there. With `--plan` nothing is played: the step and the rendering of one hop at paper size are compiled for a
machine that need not be here, and their times are estimated by roofline (`vasa_jax.training.plan`).
"""

import argparse
import contextlib
import dataclasses
import os
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from PIL import Image, ImageDraw, ImageFont

from benchmarks import timing
from vasa_jax.arrays import FPS, POSE_DIM, SAMPLE_RATE, SAMPLES_PER_FRAME, Motion, Portrait
from vasa_jax.audio.front_end import AudioEncoderConfig, front_end, slice_samples
from vasa_jax.autoencoder.config import paper_model
from vasa_jax.autoencoder.model import Autoencoder
from vasa_jax.diffusion.dpm_solver import DpmSolver
from vasa_jax.errors import UserError
from vasa_jax.inference.controls import Controls
from vasa_jax.inference.load import load
from vasa_jax.inference.offline import Model
from vasa_jax.inference.session import session_start, session_step
from vasa_jax.inference.stream import STEPS, Stream
from vasa_jax.inference.vasa import MotionModel
from vasa_jax.media.live import LiveWriter
from vasa_jax.motion.config import MotionConfig
from vasa_jax.motion.denoiser import initialise
from vasa_jax.motion.statistics import Statistics
from vasa_jax.synthetic.performance import perform
from vasa_jax.synthetic.splits import seeds

PERSON = seeds("test").start
"""Whose portrait and voice are played."""
WORKED = ("step", "retarget", "render", "encode")
"""Parts of a hop that are timed."""
PARTS = ("look-ahead", "hop wait", "queue", "features", "sampler", "retarget", "render", "encode", "other")
BARS = {"preceding": 400.0, "fps": 25.0, "late": 1.0}
"""On two cores with the demo model: p95 in ms, frames a second, late frames in 1,000."""


class Hop(NamedTuple):
    """One hop of frames; times in seconds since the first sample was spoken.

    first: number of its first frame. begun: when it was pulled. ready: when its bytes were out. parts: seconds of
    `WORKED`.
    """

    first: int
    begun: float
    ready: float
    parts: dict[str, float]


class Latency(NamedTuple):
    """Of every frame, in ms. parts: rows of `PARTS`. preceding, chunk: see above. late: whether it was."""

    parts: Float[np.ndarray, "p t"]
    preceding: Float[np.ndarray, " t"]
    chunk: Float[np.ndarray, " t"]
    late: Float[np.ndarray, " t"]


class Sink:
    """Counts bytes."""

    def __init__(self):
        """Of none yet."""
        self.bytes = 0

    def write(self, data: bytes) -> int:
        """Takes them all."""
        self.bytes += len(data)
        return len(data)


def main(arguments: Sequence[str] | None = None) -> None:
    """Play, measure and print the table; or plan."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    timing.add_platform_flag(parser)
    parser.add_argument("--model", default="demo", help="name of a bundled model, or a release folder")
    parser.add_argument("--seconds", type=float, default=60.0, help="of sound")
    parser.add_argument("--hop", type=timing.positive, default=5, help="frames that are made together")
    parser.add_argument("--look-ahead", type=int, default=0, help="frames of sound that are waited for behind them")
    parser.add_argument("--steps", type=timing.positive, help="of the sampler; the stream's own by default")
    parser.add_argument("--packet", type=timing.positive, default=10, help="ms of sound that come at once")
    parser.add_argument("--figure", help="PNG of the histogram")
    parser.add_argument("--plan", nargs="+", metavar="TOPOLOGY", help="cuda:rtx4090, cuda:h100: estimate, do not play")
    flags = parser.parse_args(arguments)
    if flags.plan:
        jax.config.update("jax_platforms", "cpu")  # whatever is here stays free
        for name in flags.plan:
            print(planned(name, flags.hop, flags.steps or STEPS), flush=True)
        return
    timing.start(flags)
    model = load(flags.model)
    sound, portrait = person(flags.seconds, model.size)
    wishes: dict[str, Any] = {} if flags.steps is None else {"steps": flags.steps}
    stream = Stream(model, portrait, square=True, hop=flags.hop, look_ahead=flags.look_ahead, **wishes)
    features = features_alone(model, flags.hop)
    packet = SAMPLE_RATE * flags.packet // 1000
    load_before = os.getloadavg()[0]
    hops = play(stream, sound, packet)
    found = latency(hops, stream, packet, features)
    sampling = f"{stream.options.sampler or model.motion.samplers[0]} {stream.options.steps or model.motion.steps[1]}"
    print(
        f"{flags.model}, {stream.width}x{stream.height}, hop {flags.hop}, look-ahead {flags.look_ahead}, {sampling} "
        f"steps; {flags.seconds:g} s of sound in packets of {flags.packet} ms; load average {load_before:.1f} before\n"
    )
    print(report(found, hops, stream, features is not None))
    if flags.figure:
        title = f"preceding latency, {flags.model}, hop {flags.hop}, look-ahead {flags.look_ahead}"
        histogram(title, found.preceding).save(Path(flags.figure), format="PNG", optimize=True)


def person(seconds: float, size: int) -> tuple[Float[np.ndarray, " n"], np.ndarray]:
    """Speech of so many seconds at 16 kHz, and a portrait, uint8 (size, size, 3), of the one who speaks."""
    from vasa_jax.synthetic.clip import make_clip

    return perform(PERSON, seconds, None).audio, make_clip(PERSON, 1 / FPS, size).frames[0]


def arrival(samples: Any, packet: int) -> Any:
    """Seconds until so many samples have come, in packets of `packet`."""
    return np.ceil(np.asarray(samples) / packet) * packet / SAMPLE_RATE


def needed(first: int, stream: Stream, packet: int) -> float:
    """Seconds until the sound of a hop has come, by equation (1) of `inference.stream`."""
    frames = first + stream.listening.heard
    return float(arrival(SAMPLES_PER_FRAME * frames + stream.model.motion.needs.ahead, packet))


def play(stream: Stream, sound: Float[np.ndarray, " n"], packet: int) -> list[Hop]:
    """Speak into a stream by the clock, encode what it makes, and return the hops that were whole."""
    pieces = [sound[i : i + packet] for i in range(0, len(sound) - packet + 1, packet)]
    hops, pushed = [], 0
    with LiveWriter(Sink(), (stream.height, stream.width)) as writer:
        start = time.perf_counter()
        while pushed < len(pieces) or stream.ready:
            come = min(len(pieces), int((time.perf_counter() - start) * SAMPLE_RATE / packet))
            for piece in pieces[pushed:come]:
                stream.push(piece)
            pushed = come
            if not stream.ready:
                if pushed < len(pieces):
                    time.sleep(max(0.0, start + (pushed + 1) * packet / SAMPLE_RATE - time.perf_counter()))
                continue
            first, begun = stream.frame, time.perf_counter()
            with timed(stream.model) as parts:
                chunk = stream.pull()
            assert chunk is not None
            encoding = time.perf_counter()
            writer.write(chunk.frames, chunk.sound)
            ready = time.perf_counter()
            hops.append(Hop(first, begun - start, ready - start, parts | {"encode": ready - encoding}))
    return hops


@contextlib.contextmanager
def timed(model: Model) -> Iterator[dict[str, float]]:
    """Seconds that a model's step, retarget and render (with the way to the host) take meanwhile."""
    spent: dict[str, float] = dict.fromkeys(WORKED, 0.0)

    def watched(function: Callable, part: str) -> Callable:
        def call(*arguments: Any, **named: Any) -> Any:
            begun = time.perf_counter()
            done = jax.block_until_ready(function(*arguments, **named))
            spent[part] += time.perf_counter() - begun
            return done

        return call

    doors = (
        (model.motion, "step", "step"),
        (model.pair, "retarget", "retarget"),
        (model.face, "render", "render"),
        (model, "read", "render"),
    )
    with contextlib.ExitStack() as stack:
        for owner, name, part in doors:
            kind = type(owner)
            stack.enter_context(mock.patch.object(kind, name, watched(getattr(kind, name), part)))
        yield spent


def features_alone(model: Model, hop: int) -> float | None:
    """Median seconds of the sound's features of one window, as a program of their own; None where a model has none."""
    if not isinstance(model.motion, MotionModel):
        return None
    front = front_end(model.motion.config.audio)
    samples = jnp.zeros((1, slice_samples(front, model.motion.config.window)))
    hear = jax.jit(lambda speech, state, samples: front.hear(speech, state, samples, hop))
    return timing.measure(partial(hear, model.motion.speech, front.start(1), samples), 20).median


def latency(hops: Sequence[Hop], stream: Stream, packet: int, features: float | None) -> Latency:
    """What hops say of their frames."""
    size, columns = stream.listening.hop, []
    start = needed(0, stream, packet) + size / FPS
    for hop in hops:
        last, come = float(arrival(SAMPLES_PER_FRAME * (hop.first + size), packet)), needed(hop.first, stream, packet)
        begun = max(hop.begun, come)
        heard = min(features or 0.0, hop.parts["step"])
        other = hop.ready - begun - sum(hop.parts.values())
        rest = (heard, hop.parts["step"] - heard, *(hop.parts[name] for name in WORKED[1:]), other)
        for i in range(hop.first, hop.first + size):
            wait = last - float(arrival(SAMPLES_PER_FRAME * (i + 1), packet))
            late = hop.ready > start + i / FPS
            columns.append((come - last, wait, begun - come, *rest, hop.ready - come, late))
    table = np.array(columns).T
    parts = 1e3 * table[: len(PARTS)]
    return Latency(parts, parts.sum(0), 1e3 * table[-2], table[-1])


def report(found: Latency, hops: Sequence[Hop], stream: Stream, split: bool) -> str:
    """The table and what it comes to."""
    count, size = len(found.preceding), stream.listening.hop
    names = {"features": "features (apart)" if split else "features", "sampler": "sampler" if split else "step, whole"}
    rows = [(names.get(name, name), row) for name, row in zip(PARTS, found.parts, strict=True)]
    rows = [row for row in rows if split or row[0] != "features"]
    rows += [("preceding latency", found.preceding), ("chunk latency", found.chunk)]
    lines = [f"{'ms':<20} {'p50':>7} {'p95':>7} {'p99':>7} {'longest':>8}"]
    for name, values in rows:
        p50, p95, p99, most = np.quantile(values, [0.5, 0.95, 0.99, 1.0])
        lines.append(f"{name:<20} {p50:>7.1f} {p95:>7.1f} {p99:>7.1f} {most:>8.1f}")
    late = 1e3 * found.late.mean()
    spoken = needed(hops[-1].first, stream, 1) - needed(0, stream, 1)
    kept = size * (len(hops) - 1) / max(spoken, hops[-1].ready - hops[0].ready) if spoken else float("nan")
    could = size * len(hops) / sum(hop.ready - hop.begun for hop in hops)
    lines += [
        f"late: {int(found.late.sum())} of {count} frames, {late:.1f} in 1,000",
        f"{kept:.1f} frames/s as they were spoken; {could:.1f} if sound were always there",
    ]
    p95 = float(np.quantile(found.preceding, 0.95))
    passed = p95 <= BARS["preceding"] and late <= BARS["late"] and kept >= BARS["fps"] - 0.1
    bar = f"{BARS['fps']:g} frames/s, p95 {BARS['preceding']:g} ms, {BARS['late']:g} late frame in 1,000"
    return "\n".join([*lines, f"bar of two cores ({bar}): {'reached' if passed else 'missed'}"])


def histogram(title: str, values: Float[np.ndarray, " t"]) -> Image.Image:
    """A picture of how many frames have which latency, in ms, with p50, p95 and p99."""
    width, height, margin, ink = 720, 300, 36, (20, 20, 20)
    sheet = Image.new("RGB", (width, height), (255, 255, 255))
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    most = 50.0 * np.ceil(max(values.max(), 1.0) / 50)
    counts, edges = np.histogram(values, 60, (0.0, most))

    def across(value: float) -> float:
        return margin + (width - 2 * margin) * value / most

    def up(count: float) -> float:
        return height - margin - (height - 3 * margin) * count / counts.max()

    pen.text((margin, 8), f"{title}: {len(values)} frames, ms", ink, font)
    for count, left, right in zip(counts, edges[:-1], edges[1:], strict=True):
        pen.rectangle((across(left), up(count), across(right) - 1, height - margin), (76, 120, 168))
    step = 50.0 * np.ceil(most / 500)
    for mark in np.arange(0.0, most + 1, step):
        pen.text((across(mark) - 8, height - margin + 6), f"{mark:.0f}", ink, font)
    for row, (name, share) in enumerate((("p50", 0.5), ("p95", 0.95), ("p99", 0.99))):
        value = float(np.quantile(values, share))
        x, y = across(value), margin + 14 * row
        pen.line((x, y, x, height - margin), (200, 60, 40))
        pen.text((x - 3, y), f"{name} {value:.0f}", (200, 60, 40), font, anchor="rm")
    return sheet


def planned(name: str, hop: int, steps: int) -> str:
    """What a hop at paper size takes on a machine that is not here: estimated, not measured.

    Raises:
        UserError: for a topology that cannot be planned, or one without a data sheet.
    """
    from vasa_jax.training import plan
    from vasa_jax.training.topology import find_topology

    topology = find_topology(name)
    if topology.limits is None:
        raise UserError(f"{name} has no data sheet to estimate from; plan for cuda:rtx4090 or cuda:h100")
    here = plan.on_first(topology)
    dtype = plan.planned_dtype("auto", topology)
    texts, chunk = [plan.heading(f"planned: a hop of {hop} frames at paper size", dtype, topology)], 0.0
    for title, counted, (function, arguments) in parts_at_paper_size(hop, steps, dtype):
        jitted = jax.jit(function, in_shardings=here, out_shardings=here)
        call = plan.Call(title, hop, plan.cost(jitted, arguments, 1, topology))
        table, frame = plan.inference_table(call, topology)
        texts.append(f"planned: {table}")
        chunk += (frame or 0.0) * hop * counted
    waits = np.array([(hop - 1 - i) / FPS for i in range(hop)])
    ahead = front_end(AudioEncoderConfig(kind="mel")).ahead / SAMPLE_RATE
    p95 = float(np.quantile(waits, 0.95)) + ahead + chunk
    texts.append(
        f"planned, by roofline, without launching kernels, copying to the host and encoding: chunk latency "
        f"{1e3 * chunk:.1f} ms, preceding latency p95 {1e3 * p95:.1f} ms, {hop / chunk:.0f} frames/s"
    )
    return "\n\n".join(texts) + "\n"


def parts_at_paper_size(hop: int, steps: int, dtype: Any) -> Iterator[tuple[str, int, tuple[Callable, Any]]]:
    """Of each part its title, whether its time counts (1) or is inside another's (0), and a function with the shapes
    of its arguments."""
    array: Any = partial(jax.ShapeDtypeStruct, dtype=jnp.float32)
    config = MotionConfig(audio=AudioEncoderConfig(kind="mel"), anchor=True, head_cutoff=4.0, dtype=dtype)
    front, z = front_end(config.audio), config.dynamics_dim
    key = jax.eval_shape(lambda: jax.random.key(0))
    carry = jax.eval_shape(lambda: session_start(config, jax.random.key(0)))
    sound = array((slice_samples(front, config.window),))
    hear = partial(front.hear, {}, hop=hop)
    yield "log-mel, inside the step", 0, (hear, (carry.loudness, array((1, *sound.shape))))
    statistics = Statistics(*(array(shape) for shape in ((6,), (6,), (z,), (z, z), (z,))))
    known: Any = jax.ShapeDtypeStruct((), bool)
    controls = Controls(array((2,)), array((1,)), array((8,)), known)
    scales = {"audio": array(()), "gaze": array(())}
    params = jax.eval_shape(partial(initialise, config), key)
    step = partial(session_step, config, hop=hop, steps=steps, stepper=DpmSolver())
    arguments = (params, {}, statistics, carry, sound, controls, scales, jax.ShapeDtypeStruct((), jnp.int32))
    yield f"step, {steps} of DPM-Solver++, 3 branches, window of {config.window}", 1, (step, arguments)
    face = dataclasses.replace(paper_model(), dtype=dtype)
    model = Autoencoder(face)
    feature: Any = partial(jax.ShapeDtypeStruct, dtype=dtype)
    portrait = Portrait(feature((1, *face.volume_shape)), feature((1, 4, 4, face.identity_channels)))
    motion = Motion(array((hop, POSE_DIM)), array((hop, face.dynamics_dim)))
    weights = jax.eval_shape(partial(model.init, method="render"), key, portrait, motion)
    side = face.image_size
    yield f"render at {side}x{side}", 1, (partial(model.apply, method="render"), (weights, portrait, motion))


if __name__ == "__main__":
    main()
