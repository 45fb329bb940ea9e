"""Does fitting a portrait help where the photo says nothing? PSNR at other true motions of people never met.

    python -m benchmarks.fit [--model demo] [--people 12] [--others 5] [--steps 100] [--motion random|speech]

Of every person of the "test" split one picture is the photo and others show other true poses and expressions, which the
model's own encoder reads off them. The portrait is drawn there by the encoder alone and fitted (`inference.fit`), and
PSNR is measured in the face: a disc of half a head around the point between nose and mouth. A fit that is to be the
default gains 1 dB in the median and loses nowhere.

random  independent, wide poses and expressions, as stage 1 is trained on
speech  frames of one performance, the photo its first
"""

import argparse
import time
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from benchmarks import timing
from vasa_jax.arrays import FPS, Motion
from vasa_jax.errors import UserError
from vasa_jax.inference import Model, load
from vasa_jax.inference.fit import fit
from vasa_jax.inference.vasa import FaceModel
from vasa_jax.metrics import transfer
from vasa_jax.synthetic.identity import Identity
from vasa_jax.synthetic.performance import perform
from vasa_jax.synthetic.splits import seeds
from vasa_jax.synthetic.state import State, state_pose

LEAST = 1.0
"""Gain in dB that the median must reach; none may be below 0."""
SECONDS = 4.0
"""Of the performances, and of the sound behind the generated motion."""


class Gain(NamedTuple):
    """before: PSNR in dB of the photo, then of the other pictures, by the encoder alone. after: the same, fitted.
    seconds: of each step."""

    before: Float[np.ndarray, " n"]
    after: Float[np.ndarray, " n"]
    seconds: Float[np.ndarray, " steps"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    timing.add_platform_flag(parser)
    parser.add_argument("--model", default="demo", help="name of a bundled model, or a release folder")
    parser.add_argument("--people", type=timing.positive, default=12, help="portraits that are fitted")
    parser.add_argument("--others", type=timing.positive, default=5, help="other pictures of each")
    parser.add_argument("--steps", type=timing.positive, default=100, help="of the fit")
    parser.add_argument("--motion", choices=("random", "speech"), default="random", help="what the pictures show")
    parser.add_argument("--seed", type=int, default=0, help="of the fit and of the generated motion")
    flags = parser.parse_args(arguments)
    timing.start(flags)
    model = load(flags.model)
    people = seeds("test")[: flags.people]
    voice = perform(seeds("test").stop - 1, SECONDS, None).audio
    gains = []
    print(f"\nPSNR in the face, dB, {flags.steps} steps, {flags.motion} motion")
    print(f"{'person':>8} {'photo':>15} {'others':>15} {'gain':>7} {'worst':>7}")
    for person in people:
        gains.append(gain(model, *pictures(person, flags.others, model.size, flags.motion), voice, flags))
        print(_row(str(person), *gains[-1][:2]), flush=True)
    before, after, seconds = (np.stack(part) for part in zip(*gains, strict=True))
    print(_row("median", np.median(before, 0), np.median(after, 0)))
    others = (after - before)[:, 1:]
    low, median, high = np.quantile(seconds[:, 1:] if flags.steps > 1 else seconds, [0.1, 0.5, 0.9])
    verdict = "reached" if np.median(others) >= LEAST and others.min() >= 0 else "missed"
    print(
        f"\ngain at other motions: median {np.median(others):+.2f} dB, 10..90 % {np.quantile(others, 0.1):+.2f}.."
        f"{np.quantile(others, 0.9):+.2f}, worst {others.min():+.2f}; below 0: {np.mean(others < 0):.0%}\n"
        f"gain of the photo itself: median {np.median((after - before)[:, 0]):+.2f} dB\n"
        f"bar for a default (median {LEAST:+g} dB, none below 0): {verdict}\n"
        f"seconds a step: {median:.3f} ({low:.3f}..{high:.3f}), the first of all {seconds[0, 0]:.1f}"
    )


def pictures(
    person: int, others: int, size: int, motion: str
) -> tuple[Float[np.ndarray, "n h w 3"], Float[np.ndarray, "n 6"]]:
    """1 + `others` pictures of a person, 0..1, the photo first, and their true poses."""
    if motion == "speech":
        frames = np.linspace(0, round(SECONDS * FPS) - 1, others + 1).astype(int)
        states = jax.tree.map(lambda x: np.asarray(x)[frames], perform(person, SECONDS, None).states)
    else:
        drawn = [transfer.random_states([person], index) for index in range(others + 1)]
        states: State = jax.tree.map(lambda *x: np.concatenate(x), *drawn)
    crowd: Identity = transfer.people_of([person] * (others + 1))
    return transfer.photograph(crowd, states, size), np.asarray(state_pose(jax.tree.map(jnp.asarray, states)))


def gain(
    model: Model,
    shown: Float[np.ndarray, "n h w 3"],
    pose: Float[np.ndarray, "n 6"],
    voice: Float[np.ndarray, " samples"],
    flags: argparse.Namespace,
) -> Gain:
    """What a fit to the first of some pictures changes in all of them."""
    face = model.face
    if not isinstance(face, FaceModel):
        raise UserError(f"models of kind {model.pair.kind!r} have no decoder that is fitted; choose one of kind 'vasa'")
    photo = jnp.asarray(shown[:1])
    portrait, motion = face.encode(photo), face.motion(jnp.asarray(shown))
    parts = list(model.motions(portrait, voice, seed=flags.seed))
    generated = Motion(*(np.concatenate(part) for part in zip(*parts, strict=True)))
    times = [time.perf_counter()]
    fitted = fit(
        face,
        portrait,
        photo,
        generated,
        steps=flags.steps,
        key=jax.random.key(flags.seed),
        progress=lambda done: times.append(time.perf_counter()),
    )
    mask = transfer.face_disc(pose, model.size)
    before, after = (
        transfer.masked_psnr(np.asarray(frames) / np.float32(255), shown, mask)
        for frames, _ in (face.render(portrait, motion), face.render(fitted.portrait, motion))
    )
    return Gain(before, after, np.diff(times))


def _row(name: str, before: Float[np.ndarray, " n"], after: Float[np.ndarray, " n"]) -> str:
    others = (after - before)[1:]
    cells = [f"{b:.1f} -> {a:.1f}" for b, a in ((before[0], after[0]), (np.median(before[1:]), np.median(after[1:])))]
    return f"{name:>8} {cells[0]:>15} {cells[1]:>15} {np.median(others):>+7.2f} {others.min():>+7.2f}"


if __name__ == "__main__":
    main()
