"""One process of a cluster on this machine, or a run alone: trains the toy and prints its end as JSON.

    python -m tests.training.worker WORKDIR PARALLEL STEPS STOP PORT PROCESSES PROCESS [DELAY]

The toy has two players, of whom one has a turn in every second step after the third.

Four devices in all, whatever the number of processes; STOP is the step after which the first process is sent SIGTERM,
or 0; PORT 0 is a run alone. With DELAY, seconds, there is a checkpoint every four steps, and its writing takes that
much longer.
"""

import dataclasses
import json
import os
import signal
import sys
import time

import jax

from benchmarks.kill_resume import slow_writer
from tests.training.toy import EXPERIMENT, both, make_toy
from vasa_jax.training import cluster, sharding
from vasa_jax.training.loop import train

DEVICES = 4


def main(workdir, parallel, steps, stop, port, processes, process, delay=None):
    if delay:
        slow_writer(delay)
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", DEVICES // processes)
    if port:
        cluster.join(f"127.0.0.1:{port}", processes, process)
    sharding.SMALL = 1
    experiment = dataclasses.replace(
        EXPERIMENT, parallel=parallel, steps=steps, log_every=1, save_every=1000 if delay is None else 4
    )
    toy, seen = make_toy(players=both(every=2, start=3)), []

    def dataset(*arguments):
        batches = toy.dataset(*arguments)
        take = type(batches).__next__
        noted = type("Noted", (type(batches),), {"__next__": lambda self: note(take(self))})
        batches.__class__ = noted
        return batches

    def note(batch):
        seen.append(batch["index"].tolist())
        return batch

    def ask(done):
        if stop and done == stop and process == 0:
            os.kill(os.getpid(), signal.SIGTERM)
        if stop and done >= stop:
            time.sleep(0.1)  # the toy's steps are faster than the news of a signal
        return ""

    def measure(workdir, kept):
        assert process == 0  # the others get what the first one measured
        return toy.measure(workdir, kept)

    task = dataclasses.replace(toy, dataset=dataset, measure=measure)
    result = train(experiment, task, workdir, stop=ask, progress=False)
    mine = {"step": result.step, "stopped": result.stopped, "digest": result.digest, "seen": seen}
    cluster.leave()
    sys.stdout.write(json.dumps(mine) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:3], *map(int, sys.argv[3:]))
