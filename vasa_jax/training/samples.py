"""Samples: the same held-out clips again and again, watched as videos and judged while networks learn."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from vasa_jax.arrays import FPS, SAMPLES_PER_FRAME, Motion
from vasa_jax.data.pipeline import readable
from vasa_jax.data.records import Clip, StoredClip, read_clip
from vasa_jax.inference.offline import Model
from vasa_jax.metrics import transfer
from vasa_jax.metrics.judges.training import Spoken
from vasa_jax.synthetic.clip import make_clip
from vasa_jax.synthetic.splits import seeds
from vasa_jax.training import world_data
from vasa_jax.training.config import PerformanceWorld, PortraitWorld, Records, World
from vasa_jax.training.logs import Video

COUNT = 2
"""Clips that are shown."""
SECONDS = 2.0
"""Length of the performances of the world that stage 1 is shown; its own clips are single moments."""
LONGEST = 10 * FPS
"""Frames of a longer clip that are shown."""
STEPS = 20
"""Of the sampler."""
JUDGED = 4
"""Clips that judges of stage 2 hear."""


def reconstructions(
    data: PortraitWorld | Records, workdir: str | Path, size: int, face: transfer.Face
) -> dict[str, Video]:
    """Stage 1: on the left a held-out clip, on the right its first frame, moved as the clip moves; `size` is the side
    of the pictures in pixels."""
    videos = {}
    for number, clip in enumerate(_clips(data, workdir, size)):
        moved = transfer.follow(face, clip.frames[0], clip.frames)
        videos[f"clip_{number}"] = Video(np.concatenate([clip.frames, moved], 2), clip.audio)
    return videos


def performances(data: PerformanceWorld | Records, workdir: str | Path, model: Model) -> dict[str, Video]:
    """Stage 2: the portrait of a held-out clip, speaking with the clip's sound; clips that lack either are left out."""
    videos = {}
    for number, clip in enumerate(_stored_clips(data, workdir)):
        if "portrait" in clip.labels and clip.audio is not None:
            sound = clip.audio[: LONGEST * SAMPLES_PER_FRAME]
            steps = min(STEPS, model.motion.steps[2])
            portrait = model.portrait(clip.labels["portrait"])
            frames = list(model.frames(portrait, model.motions(portrait, sound, steps=steps, seed=number)))
            videos[f"clip_{number}"] = Video(np.stack(frames), sound)
    return videos


def spoken(data: PerformanceWorld | Records, workdir: str | Path, labelled: bool) -> list[Spoken]:
    """Stage 2: held-out clips with sound, at most `JUDGED`; `labelled` says that their code begins with the mouth."""
    found = []
    for clip in _stored_clips(data, workdir, count=JUDGED):
        if clip.audio is not None:
            motion = Motion(*(np.asarray(clip.labels[name][:LONGEST]) for name in ("pose", "dynamics")))
            mouth = np.ravel(clip.labels["mouth"][:LONGEST]) if labelled and "mouth" in clip.labels else None
            found.append(Spoken(clip.audio[: len(motion.pose) * SAMPLES_PER_FRAME], motion, mouth))
    return found


def _clips(data: PortraitWorld | Records, workdir: str | Path, size: int) -> Iterator[Clip]:
    """Held-out videos: somebody's own clips, or performances of the world's held-out people."""
    if isinstance(data, Records):
        for clip in _stored_clips(data, workdir, size):
            sound = None if clip.audio is None else clip.audio[: LONGEST * SAMPLES_PER_FRAME]
            yield clip._replace(audio=sound)
        return
    for seed in seeds("validation")[:COUNT]:
        clip = make_clip(seed, SECONDS, size)
        yield Clip(clip.frames, np.asarray(clip.audio, np.float32), {})


def _stored_clips(
    data: World | Records, workdir: str | Path, size: int | None = None, count: int = COUNT
) -> Iterator[Clip]:
    """The first held-out clips, with the frames that are shown; their side is `size`, or as it is stored."""
    source = world_data.open_split(data, workdir, "validation")

    def read(record: StoredClip) -> Clip:
        return read_clip(record, range(min(record.count, LONGEST)), size)

    return (clip for _, clip in itertools.islice(readable(source, read, data.max_corrupt, source.in_turn()), count))
