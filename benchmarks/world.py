"""How fast is the synthetic world? Milliseconds a frame of each stage on this machine.

    python -m benchmarks.world [--size 128] [--batch 32] [--repeats 10] [--seconds 4] [--platform cpu]

Drawing (`render`), the truth about it (`labels`), drawing with looks of training (`strangers`: every picture with
another style, light, camera and recording), the voice alone (`synthesise`, 640 samples a frame), and a whole clip with
voice and performance (`make_clip`). The bars at 128 x 128 on two cores are 120 frames/s for drawing, 8.3 ms a frame,
and 100 with looks; a voice is made 30 times faster than it speaks, 750 frames/s. Median with the 10th and 90th
percentile over the repeats; the first call, which compiles, is shown apart.
"""

import argparse

import jax
import numpy as np

from benchmarks import timing
from vasa_jax.arrays import FPS
from vasa_jax.synthetic.clip import make_clip
from vasa_jax.synthetic.identity import sample_identity
from vasa_jax.synthetic.phonemes import babble
from vasa_jax.synthetic.render import labels, render
from vasa_jax.synthetic.sheet import strangers
from vasa_jax.synthetic.splits import seeds
from vasa_jax.synthetic.state import random_state
from vasa_jax.synthetic.voice import sample_voice, synthesise


def stages(size: int, batch: int, repeats: int, seconds: float) -> dict[str, tuple[timing.Times, int]]:
    """Times of every stage and the frames that one call of it makes.

    Args:
        size: side of the pictures in pixels. batch: frames of one call of the renderer.
        repeats: calls behind each median. seconds: length of the clip.
    """
    people = jax.jit(jax.vmap(sample_identity))(jax.random.split(jax.random.key(0), batch))
    states = jax.jit(jax.vmap(random_state))(jax.random.split(jax.random.key(1), batch))
    seed = seeds("validation").start
    rng = np.random.default_rng(0)
    track, voice = babble(rng, seconds), sample_voice(rng)
    return {
        "render": (timing.measure(lambda: render(people, states, size), repeats), batch),
        "labels": (timing.measure(lambda: labels(people, states), repeats), batch),
        "strangers": (timing.measure(lambda: strangers(jax.numpy.arange(batch), size), repeats), batch),
        "synthesise": (timing.measure(lambda: synthesise(track, voice, rng), repeats), round(FPS * seconds)),
        "make_clip": (timing.measure(lambda: make_clip(seed, seconds, size).frames, repeats), round(FPS * seconds)),
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    timing.add_platform_flag(parser)
    parser.add_argument("--size", type=timing.positive, default=128, help="side of the pictures in pixels")
    parser.add_argument("--batch", type=timing.positive, default=32, help="frames in one call of the renderer")
    parser.add_argument("--repeats", type=timing.positive, default=10, help="calls behind each median")
    parser.add_argument("--seconds", type=float, default=4.0, help="length of the clip")
    options = parser.parse_args()
    timing.start(options)
    print(f"{options.size} x {options.size} pixels, batch {options.batch}, {options.repeats} repeats\n")
    print("| stage | ms a frame | 10 % .. 90 % | frames/s | first call, s |")
    print("|---|---|---|---|---|")
    for name, (times, frames) in stages(options.size, options.batch, options.repeats, options.seconds).items():
        low, median, high = (1e3 * x / frames for x in (times.low, times.median, times.high))
        print(
            f"| {name} | {median:.2f} | {low:.2f} .. {high:.2f} | {1e3 / median:.0f} | {times.first:.1f} |", flush=True
        )


if __name__ == "__main__":
    main()
