"""What do the terms of stage 1's objective cost? A training step of each kind, beside the step without them.

    python -m benchmarks.terms [--config demo_autoencoder] [--batch 2] [--rounds 3]

Rows add one group of terms at a time to the plain step (VASA-1 section 3.1, MegaPortraits section 3.3); l_consist and
the canonical term stand there for every step and for every fourth, whose time is the mean over four steps. Helpers are
the bundled network of the world. TFLOP are of products and convolutions, forward and backward; of a step that does some
work now and then they count the dearest.
"""

import argparse
import dataclasses
from collections.abc import Sequence
from typing import Any

from benchmarks import timing
from benchmarks.stepping import random_step
from vasa_jax import config as configs
from vasa_jax.autoencoder.objective import HELPERS, TERMS
from vasa_jax.training.config import AutoencoderExperiment, HelperConfig, HelpersConfig

PLAIN = ("l1", "gradient", "square", "change", "pose", "labels")
ROWS: dict[str, dict[str, Any]] = {
    "plain": {},
    "re-encoded": {"rendered_labels": 1.0, "contrastive": 1.0},
    "l_consist and canonical, every step": {"consistency": 1.0, "canonical": 1.0},
    "the same, every fourth": {"consistency": 1.0, "canonical": 1.0, "consistency_every": 4},
    "perceptual": {"perceptual": 1.0},
    "l_cross_id": {"cross_identity": 1.0},
    "the game": {"adversarial": 1.0, "matching": 1.0},
}
HELPER = "world_features"


def experiment_of(base: AutoencoderExperiment, weights: dict[str, Any]) -> AutoencoderExperiment:
    """The plain experiment with some more terms."""
    every = {term.name: float(term.name in PLAIN) for term in TERMS}
    objective = dataclasses.replace(base.objective, **every | {"consistency_every": 1} | weights)
    asked = {term.helper for term in TERMS if term.helper in HELPERS and getattr(objective, term.name)}
    helpers = HelpersConfig(**{part: HelperConfig(weights=HELPER) for part in asked})
    others = int(bool(objective.cross_identity))
    return dataclasses.replace(base, objective=objective, helpers=helpers, other_frames_per_sample=others)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    timing.add_platform_flag(parser)
    parser.add_argument("--config", default="demo_autoencoder", help="of stage 1")
    parser.add_argument("--batch", type=timing.positive, default=2, help="samples a step")
    parser.add_argument("--rounds", type=timing.positive, default=3, help="times four steps of each row")
    parser.add_argument("--rows", nargs="+", choices=tuple(ROWS), default=list(ROWS), metavar="ROW", help="some alone")
    flags = parser.parse_args(arguments)
    timing.start(flags)
    base = dataclasses.replace(configs.load(flags.config), batch_size=flags.batch)
    costs, steps = zip(*(random_step(experiment_of(base, ROWS[name])) for name in flags.rows), strict=True)
    # The first call of each compiles; four more make every cycle whole.
    fours = [lambda step=step: [step() for _ in range(4)] for step in steps]
    times = timing.measure_in_turns(fours, flags.rounds)
    first = times[0].median
    print(f"\n{'a step of ' + str(flags.batch):<38} {'TFLOP':>8} {'ms':>8} {'10..90 %':>15} {'times the first':>16}")
    for name, cost, spent in zip(flags.rows, costs, times, strict=True):
        low, high = 250.0 * spent.low, 250.0 * spent.high
        print(
            f"{name:<38} {cost:>8.4f} {250.0 * spent.median:>8.0f} {f'{low:.0f}..{high:.0f}':>15} "
            f"{spent.median / first:>16.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
