"""Sample videos: what the networks at hand make of the same held-out clips, to be watched while they learn."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from vasa_jax.arrays import FPS
from vasa_jax.data.pipeline import open_shards, readable
from vasa_jax.data.records import Clip, read_clip
from vasa_jax.inference.offline import Model
from vasa_jax.synthetic.clip import make_clip
from vasa_jax.synthetic.splits import seeds
from vasa_jax.training import transfer, world_data
from vasa_jax.training.config import PerformanceData, PortraitData, WorldData
from vasa_jax.training.logs import Video

COUNT = 2
"""Clips that are shown."""
SECONDS = 2.0
"""Length of the performances of the world that stage 1 is shown; its own clips are single moments."""
LONGEST = 10 * FPS
"""Frames of a longer clip that are shown."""
STEPS = 20
"""Of the sampler."""


def reconstructions(data: PortraitData, workdir: str | Path, face: transfer.Face) -> dict[str, Video]:
    """Stage 1: on the left a held-out clip, on the right its first frame, moved as the clip moves."""
    videos = {}
    for number, clip in enumerate(_clips(data, workdir)):
        moved = transfer.follow(face, clip.frames[0], clip.frames)
        videos[f"clip_{number}"] = Video(np.concatenate([clip.frames, moved], 2), clip.audio)
    return videos


def performances(data: PerformanceData, workdir: str | Path, model: Model) -> dict[str, Video]:
    """Stage 2: the portrait of a held-out clip, speaking with the clip's sound; clips that lack either are left out."""
    videos = {}
    for number, clip in enumerate(_stored_clips(data, workdir)):
        if "portrait" in clip.labels and clip.audio is not None:
            steps = min(STEPS, model.motion.config.timesteps)
            frames = list(model.animate(clip.labels["portrait"], clip.audio, steps=steps, seed=number))
            videos[f"clip_{number}"] = Video(np.stack(frames), clip.audio)
    return videos


def _clips(data: WorldData, workdir: str | Path) -> Iterator[Clip]:
    """Held-out videos: somebody's own clips, or performances of the world's held-out people."""
    if world_data.is_own(world_data.data_folder(data, workdir)):
        yield from (clip._replace(frames=clip.frames[:LONGEST]) for clip in _stored_clips(data, workdir))
        return
    for seed in seeds("validation")[:COUNT]:
        clip = make_clip(seed, SECONDS, data.size)
        yield Clip(clip.frames, np.asarray(clip.audio, np.float32), {})


def _stored_clips(data: WorldData, workdir: str | Path) -> Iterator[Clip]:
    source: Any = open_shards(world_data.data_folder(data, workdir) / "validation")
    return (clip for _, clip in itertools.islice(readable(source, read_clip, data.max_corrupt), COUNT))
