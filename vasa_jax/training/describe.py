"""A dry run: the size of an experiment, counted abstractly (specs of blocks: VASA-1 section 3, MegaPortraits' network
figure)."""

import jax

from vasa_jax.training.config import Experiment
from vasa_jax.training.parallel import make_strategy
from vasa_jax.training.program import make_program
from vasa_jax.training.state import count, size_bytes
from vasa_jax.training.tasks import make_task


def describe(experiment: Experiment) -> str:
    """What a run would be, without data or memory: parameters a block, multiply-adds, bytes of state, and the total.

    The last line counts what a release holds; training-only heads are listed before it.
    """
    task = make_task(experiment)
    alone = make_strategy("jit", experiment.batch_size, accumulate=experiment.accumulate, on=jax.devices()[:1])
    state = make_program(experiment, task, alone).shapes
    params = state.params
    blocks = {name: count(tree) for name, tree in task.blocks(params).items()}
    total = sum(blocks.values())
    lines = [f"{name:<20} {value / 1e6:10.3f}M parameters" for name, value in blocks.items()]
    if count(params) > total:
        lines.append(f"{'training only':<20} {(count(params) - total) / 1e6:10.3f}M parameters")
    lines += [f"{name:<20} {value / 1e9:10.3f} GMAC" for name, value in task.macs().items()]
    lines.append(f"{'state':<20} {size_bytes(state):,} bytes (parameters, average, two moments)")
    batch = size_bytes(task.batch_spec(experiment.batch_size))
    lines.append(f"{'batch':<20} {batch:,} bytes ({experiment.batch_size} samples)")
    lines.append(f"total parameters: {total / 1e6:.1f}M")
    return "\n".join(lines)
