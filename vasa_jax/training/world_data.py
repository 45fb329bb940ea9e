"""Training clips: from the synthetic world, made once into shards and reused, or somebody's own.

A folder of made clips holds `recipe.json` (what was asked for), `train/` and `validation/` with ArrayRecord shards, and
`done.json` once all are there. Shards appear under their names only when complete, so a making that was interrupted
goes on with the first that is missing. Stage 1 clips are one person in many independent states (VASA-1 section 3.1
trains on pairs of frames of one clip); stage 2 clips are performances with sound, whose motion is what stage 1's
encoders see (section 3.2). A folder of somebody's own clips holds `train/` and `validation/` and no recipe
(docs/data.md).
"""

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from vasa_jax import config as configs
from vasa_jax.arrays import FPS, Motion
from vasa_jax.data.pipeline import open_shards, readable
from vasa_jax.data.records import Clip, CorruptRecordError, read_clip, write_clip, write_shard
from vasa_jax.errors import UserError, refusals
from vasa_jax.files import remove_unfinished, write_text
from vasa_jax.synthetic.clip import make_clip
from vasa_jax.synthetic.identity import sample_identity
from vasa_jax.synthetic.performance import perform
from vasa_jax.synthetic.render import labels, render
from vasa_jax.synthetic.splits import seeds
from vasa_jax.synthetic.state import State, random_state, with_head_pose
from vasa_jax.training.config import PerformanceData, PortraitData, WorldData

RENDER_BATCH = 24
"""Pictures in one call of the renderer or of stage 1."""
PERFORMED_SECONDS = 3.0
"""Length of the performance whose moments stage 1 sees."""
STATISTICS_CLIPS = 2000
"""Clips, evenly spaced, behind the statistics of motion."""
SPLITS = ("train", "validation")
"""Folders of shards."""
NOT_CONTENT = ("path", "threads", "prefetch", "max_corrupt")
"""Fields of the data config that do not change the clips."""

Make = Callable[[list[int]], Iterator[bytes]]
"""Seeds to records, one a seed."""


def data_folder(data: WorldData, workdir: str | Path) -> Path:
    """Where the clips of a run live: `data.path`, else WORKDIR/data."""
    return Path(data.path) if data.path else Path(workdir) / "data"


def prepare(data: WorldData, workdir: str | Path, make: Make, source: str = "") -> Path:
    """Make sure that a run's clips exist, and return their folder; somebody's own are taken as they are.

    Args:
        data: what to make.
        workdir: of the run.
        make: writes records from seeds.
        source: what else decides the clips (stage 2: the digest of stage 1's parameters).

    Raises:
        UserError: where the folder holds clips of another recipe, or shards in another layout.
    """
    folder = data_folder(data, workdir)
    if is_own(folder):
        return folder
    content = {name: value for name, value in json.loads(configs.to_json(data)).items() if name not in NOT_CONTENT}
    recipe = {"kind": type(data).__name__, "source": source} | content
    written = folder / "recipe.json"
    if written.is_file() and (there := json.loads(written.read_text())) != recipe:
        name = next(key for key in [*recipe, *there] if recipe.get(key) != there.get(key))
        raise UserError(
            f"the clips in {folder} were made with {name}={there.get(name)!r}, this run wants {recipe.get(name)!r}; "
            "remove the folder or choose another --data.path"
        )
    if (folder / "done.json").is_file():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    write_text(written, json.dumps(recipe, indent=2) + "\n")
    counts = {"train": data.clips, "validation": data.validation_clips}
    with tqdm(total=sum(counts.values()), unit="clip", desc="making clips", mininterval=1.0) as bar:
        for split, count in counts.items():
            _make_split(data, folder / split, list(seeds(split)[data.first_seed : data.first_seed + count]), make, bar)
    write_text(folder / "done.json", json.dumps(counts) + "\n")
    return folder


def is_own(folder: Path) -> bool:
    """Whether a folder holds somebody's own shards: some in `train/` and in `validation/`, and no recipe.

    Raises:
        UserError: shards without a recipe that are not in both.
    """
    if (folder / "recipe.json").is_file():
        return False
    where = {path.parent for pattern in ("*.array_record", "*/*.array_record") for path in folder.glob(pattern)}
    missing = [split for split in SPLITS if folder / split not in where]
    if where and missing:
        raise UserError(
            f"{folder} holds shards, but none in {missing[0]}/: own clips go into train/ and validation/, see "
            "docs/data.md"
        )
    return bool(where)


def _make_split(data: WorldData, folder: Path, members: list[int], make: Make, bar: tqdm) -> None:
    with refusals("make", folder):
        folder.mkdir(parents=True, exist_ok=True)
    remove_unfinished(folder)
    shards = [members[i : i + data.clips_per_shard] for i in range(0, len(members), data.clips_per_shard)]
    for number, chosen in enumerate(shards):
        path = folder / f"clips-{number:05d}-of-{len(shards):05d}.array_record"
        if path.exists():
            bar.update(len(chosen))
            continue

        def counted(records: Iterator[bytes]) -> Iterator[bytes]:
            for record in records:
                bar.update()
                yield record

        write_shard(path, counted(make(chosen)))


def make_portraits(data: PortraitData, chosen: list[int]) -> Iterator[bytes]:
    """Records of stage 1: `data.frames` pictures of each person, with pose, gaze, mouth, lids and regions a picture.

    The last `data.performed` of them are moments of the person's performance, the others independent random states
    with `data.poses` head poses among them.
    """
    people = max(1, RENDER_BATCH // data.frames)
    for first in range(0, len(chosen), people):
        group = chosen[first : first + people]
        padded = (group * people)[:people]  # one shape, compiled once
        moments = [_moments(seed, data.performed) for seed in padded]
        performed = jax.tree.map(lambda *parts: np.stack(parts), *moments)
        frames, truth = jax.device_get(
            _portraits(np.asarray(padded, np.uint32), performed, data.frames, data.poses, data.size)
        )
        for i, seed in enumerate(group):
            yield write_clip(frames[i], None, {k: v[i] for k, v in truth.items()} | {"identity": np.int64(seed)})


def make_performances(data: PerformanceData, motion: Callable[[Any], Motion], chosen: list[int]) -> Iterator[bytes]:
    """Records of stage 2: sound, the truth of the world, and `pose` and `dynamics` as stage 1's encoders see them.

    Args:
        data: what to make.
        motion: pictures (b, h, w, 3) float32 0..1 to `Motion`.
        chosen: seeds.
    """
    for seed in chosen:
        clip = make_clip(seed, data.seconds, data.size)
        yield encoded_record(Clip(clip.frames, np.asarray(clip.audio, np.float32), clip.labels), motion)


def encoded_record(clip: Clip, motion: Callable[[Any], Motion]) -> bytes:
    """A stage 2 record of a clip with frames: its sound and labels, and `pose` and `dynamics` as stage 1 sees them.

    The clip's own `pose`, `dynamics` and `regions` are left out, and so are the frames; the first of them stays as the
    label `portrait`, for sample videos.

    Args:
        clip: at least one frame, of the size that stage 1 takes.
        motion: pictures (b, h, w, 3) float32 0..1 to `Motion`; called with `RENDER_BATCH` of them.
    """
    frames = clip.frames
    parts = [
        jax.device_get(motion(_padded(frames[i : i + RENDER_BATCH]).astype(np.float32) / 255.0))
        for i in range(0, len(frames), RENDER_BATCH)
    ]
    seen = Motion(*(np.concatenate([part[k] for part in parts])[: len(frames)] for k in range(2)))
    kept = {name: value for name, value in clip.labels.items() if name not in ("pose", "dynamics", "regions")}
    kept |= {"pose": np.float32(seen.pose), "dynamics": np.float32(seen.dynamics), "portrait": frames[0]}
    return write_clip(None, clip.audio, kept)


def stamp(folder: Path, source: str) -> None:
    """Note in a folder of encoded clips which stage 1 made them; `source` is the SHA-256 of its parameters."""
    check_stamp(folder, source)
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "encoded.json", json.dumps({"autoencoder": source}) + "\n")


def check_stamp(folder: Path, source: str) -> None:
    """Raise UserError where the clips of a folder were encoded by another stage 1; a folder without a stamp passes."""
    written = folder / "encoded.json"
    if written.is_file() and (there := json.loads(written.read_text())["autoencoder"]) != source:
        raise UserError(
            f"the clips in {folder} were encoded by the stage 1 with SHA-256 {there[:16]}, this one has {source[:16]}; "
            "name that autoencoder, or encode the clips into another folder"
        )


def read_encoded(record: bytes, dynamics_dim: int, frames: int) -> Clip:
    """A stage 2 clip, without pictures.

    Raises:
        CorruptRecordError: a broken record, or one without finite pose and dynamics (frames or more, dynamics_dim).
    """
    clip = read_clip(record, [])
    for name, size in (("pose", 6), ("dynamics", dynamics_dim)):
        if name not in clip.labels:
            raise CorruptRecordError(
                f"a stage 2 clip without label {name!r}; encode videos with python -m vasa_jax.training.encode"
            )
        shape = clip.labels[name].shape
        if shape[1] != size or not np.isfinite(clip.labels[name]).all():
            raise CorruptRecordError(f"label {name!r} of shape {shape} must be finite, with {size} numbers a frame")
        if len(clip.labels[name]) < frames:
            raise CorruptRecordError(f"{shape[0]} frames are fewer than a window with its context needs ({frames})")
    return clip


def read_motion(folder: str | Path, dynamics_dim: int, max_corrupt: int) -> Motion:
    """Motion of a folder of stage 2 shards, (frames, 6) and (frames, z), NumPy: of all clips, or of `STATISTICS_CLIPS`
    of them, evenly spaced. Raises CorruptRecordError beyond `max_corrupt` corrupt ones."""
    source = open_shards(folder)
    chosen = np.linspace(0, len(source) - 1, min(STATISTICS_CLIPS, len(source))).astype(int).tolist()

    def read(record: bytes) -> list[np.ndarray]:
        labels = read_encoded(record, dynamics_dim, 1).labels
        return [labels[name] for name in ("pose", "dynamics")]

    clips = [parts for _, parts in readable(source, read, max_corrupt, chosen)]
    return Motion(*(np.concatenate(parts) for parts in zip(*clips, strict=True)))


def _padded(frames: np.ndarray) -> np.ndarray:
    """Repeat the last picture up to a whole render batch, so that one shape is compiled."""
    missing = RENDER_BATCH - len(frames)
    return np.concatenate([frames, np.repeat(frames[-1:], missing, 0)]) if missing else frames


def _moments(seed: int, count: int) -> State:
    """`count` states out of a person's performance, NumPy (count, ...)."""
    states = perform(seed, PERFORMED_SECONDS, None).states
    moments = np.random.default_rng((seed, 1)).choice(int(PERFORMED_SECONDS * FPS), count, replace=False)
    return jax.tree.map(lambda x: np.asarray(x)[moments], states)


@partial(jax.jit, static_argnums=(2, 3, 4))
def _portraits(
    members: jax.Array, performed: State, count: int, poses: int, size: int
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Pictures uint8 (p, count, size, size, 3) and labels (p, count, ...) of people by seed."""
    people = jax.vmap(lambda seed: sample_identity(jax.random.fold_in(jax.random.key(0), seed)))(members)
    independent = count - performed.jaw.shape[1]

    def draw(seed: jax.Array) -> State:
        root = jax.random.fold_in(jax.random.key(1), seed)
        states = jax.vmap(lambda i: random_state(jax.random.fold_in(root, i)))(jnp.arange(independent))
        return with_head_pose(states, jax.tree.map(lambda x: x[jnp.arange(independent) % poses], states))

    states = jax.vmap(draw)(members)
    states = jax.tree.map(lambda a, b: jnp.concatenate([a, b], 1), states, performed)
    people = jax.tree.map(lambda x: jnp.broadcast_to(x[:, None], (x.shape[0], count, *x.shape[1:])), people)
    frames = jnp.round(render(people, states, size) * 255.0).astype(jnp.uint8)
    return frames, labels(people, states)
