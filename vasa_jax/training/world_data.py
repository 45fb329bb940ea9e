"""Training clips: of the synthetic world, made into shards and reused, or somebody's own.

A folder of made clips holds `recipe.json` (what was asked for, but for how many), `train/` and `validation/` with
ArrayRecord shards, named by the number of their first clip, and `done.json` once all that were asked for first are
there. Shards appear under their names only when complete, so a making that was interrupted goes on with the first that
is missing, and a run that asks for more clips adds shards; each run reads as many as it asked for. Stage 1 clips are
one person in many independent states (VASA-1 section 3.1 trains on pairs of frames of one clip); stage 2 clips are
performances with sound, whose motion is what stage 1's encoders see (section 3.2). A folder of records is taken as it
is (docs/data.md): one that was named and holds none is refused, never filled.
"""

import difflib
import functools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from vasa_jax import config as configs
from vasa_jax.arrays import FPS, Motion
from vasa_jax.data.pipeline import readable
from vasa_jax.data.records import Clip, CorruptRecordError, Record, StoredClip, write_clip, write_shard
from vasa_jax.data.shards import SPLITS, Shards, open_folders, open_shards
from vasa_jax.errors import UserError, refusals
from vasa_jax.files import PREFIX, check_folder, read_json, remove_unfinished, write_text
from vasa_jax.synthetic import film
from vasa_jax.synthetic.clip import make_clip
from vasa_jax.synthetic.identity import sample_identity
from vasa_jax.synthetic.looks import Randomisation, framed, look_key, randomise
from vasa_jax.synthetic.performance import perform
from vasa_jax.synthetic.render import labels, render
from vasa_jax.synthetic.splits import seeds, split_of
from vasa_jax.synthetic.state import State, random_state, with_head_pose
from vasa_jax.training.config import PerformanceWorld, PortraitWorld, Records, World
from vasa_jax.training.lock import locked

RENDER_BATCH = 24
"""Pictures in one call of the renderer or of stage 1."""
PERFORMED_SECONDS = 3.0
"""Length of the performance whose moments stage 1 sees."""
STATISTICS_CLIPS = 2000
"""Clips, evenly spaced, behind the statistics of motion."""
LEFT_OUT = ("pose", "dynamics", "regions", "portrait", "features")
"""Labels of a video that its encoded clip does not keep."""
NOT_CONTENT = ("make_in", "clips", "validation_clips", "clips_per_shard", "threads", "prefetch", "max_corrupt")
"""Fields of a world that do not change its clips, but at most how many there are."""

W = TypeVar("W", bound=World)
Make = Callable[[W, list[int]], Iterator[Record]]
"""A world and seeds to records, one a seed."""


def data_folders(data: World | Records, workdir: str | Path) -> list[Path]:
    """Where the clips of a run live: the records' folders, or where the world's are made: WORKDIR/data by default."""
    if isinstance(data, Records):
        return [Path(path) for path, _ in data.folders]
    return [Path(data.make_in) if data.make_in else Path(workdir) / "data"]


def open_split(data: World | Records, workdir: str | Path, split: str) -> Shards:
    """The clips of a split that a run trains on or is judged by: all records, or as many of the world as it asked
    for."""
    folders = [folder / split for folder in data_folders(data, workdir)]
    return open_folders(folders) if isinstance(data, Records) else open_shards(folders[0], _counts(data)[split])


def weights(data: World | Records) -> tuple[float, ...]:
    """Shares of the training stream that the folders of `open_split` get."""
    return tuple(weight for _, weight in data.folders) if isinstance(data, Records) else (1.0,)


def prepare(
    data: W | Records,
    workdir: str | Path,
    size: int,
    make: Make[W],
    source: str = "",
    heard: dict[str, Any] | None = None,
) -> None:
    """Make sure that a run's clips are there.

    Args:
        data: records that are there, or what to make.
        workdir: of the run.
        size: side of the world's pictures in pixels.
        make: writes the world's records.
        source: SHA-256 of the stage 1 that encodes the clips, see `stamp`; "" where none does.
        heard: the identity of the front end whose features the clips are to carry; None where they need none.

    Raises:
        UserError: where records are named that are not there, or clips were encoded by another stage 1 or front end,
            or the folder to make clips in holds something else.
    """
    for folder in data_folders(data, workdir):
        if isinstance(data, Records):
            check_records(folder)
            check_stamp(folder, source, heard)
        else:
            _make(data, folder, size, make, source, heard)


def check_records(folder: Path) -> None:
    """Refuse a folder of records that does not hold shards of both splits, or that is still being made.

    Raises:
        UserError: naming the folder and what is amiss.
    """
    with refusals("read", folder):
        if not folder.exists():
            siblings = [path.name for path in folder.absolute().parent.glob("*") if path.is_dir()]
            close = difflib.get_close_matches(folder.name, siblings, 1)
            hint = f"; did you mean {folder.with_name(close[0])}?" if close else "; mount it, or mend --data.path"
            raise UserError(f"there is no folder of clips {folder}{hint}")
        if not folder.is_dir():
            raise UserError(f"{folder} is a file; name the folder that holds train/ and validation/ with shards")
        where = {path.parent for pattern in ("*.array_record", "*/*.array_record") for path in folder.glob(pattern)}
    missing = [split for split in SPLITS if folder / split not in where]
    if missing:
        raise UserError(
            f"{folder} holds {'shards, but none in ' + missing[0] + '/' if where else 'no shards'}: own clips go into "
            "train/ and validation/, see docs/data.md"
        )
    if (folder / "recipe.json").is_file() and not (folder / "done.json").is_file():
        raise UserError(f"the clips in {folder} are not all made yet; let the run that makes them end first")


def _counts(data: World) -> dict[str, int]:
    return {"train": data.clips, "validation": data.validation_clips}


def _make(data: W, folder: Path, size: int, make: Make[W], source: str, heard: dict[str, Any] | None) -> None:
    """Make what is missing of a world's clips."""
    _check_recipe(data, folder, size)
    check_stamp(folder, source, heard)
    if (folder / "done.json").is_file() and all(
        _made(folder / split) >= count for split, count in _counts(data).items()
    ):
        return
    check_folder(folder)
    with refusals("make", folder):
        folder.mkdir(parents=True, exist_ok=True)
    with locked(folder, "wait until it has made the clips there, or choose another --data.make-in"):
        write_text(folder / "recipe.json", json.dumps(_recipe(data, size), indent=2) + "\n")
        if source:
            stamp(folder, source, heard)
        counts = _counts(data)
        with tqdm(total=sum(counts.values()), unit="clip", desc="making clips", mininterval=1.0) as bar:
            for split, count in counts.items():
                first = data.first_seed if split == "train" else 0
                members = seeds(split)[first : first + count]
                _make_split(folder / split, members, data.clips_per_shard, functools.partial(make, data), bar)
        write_text(folder / "done.json", json.dumps(counts) + "\n")


def _recipe(data: World, size: int) -> dict[str, Any]:
    """What decides a world's clips, but for their number."""
    content = {name: value for name, value in json.loads(configs.to_json(data)).items() if name not in NOT_CONTENT}
    if isinstance(data, PortraitWorld) and not data.randomisation.share:
        del content["randomisation"]  # what never happens does not matter
    return {"kind": type(data).__name__, "size": size} | content


def _check_recipe(data: World, folder: Path, size: int) -> None:
    """Refuse a folder that holds anything but clips of this recipe.

    Raises:
        UserError: naming the folder and what is in it, or which field differs.
    """
    written, wanted = folder / "recipe.json", _recipe(data, size)
    with refusals("read", folder):
        if not folder.exists():
            return
        names = sorted(
            path.name for path in folder.iterdir() if path.name != "lock" and not path.name.startswith(PREFIX)
        )
        if names and not written.is_file():
            raise UserError(
                f"{folder} holds {names[0]} and no clips of the world: have them made in an empty folder, or train on "
                "the records that it holds with --data.path"
            )
        there = read_json(written) if names else wanted
    for name in [*wanted, *there]:
        if wanted.get(name) != there.get(name):
            raise UserError(
                f"the clips in {folder} were made with {name}={there.get(name)!r}, this run wants "
                f"{wanted.get(name)!r}; remove the folder, or choose another --data.make-in"
            )


def _shard(folder: Path, first: int) -> Path:
    return folder / f"clips-{first:08d}.array_record"


def _made(folder: Path, first: int = 0) -> int:
    """The first clip, from `first` on, that a split lacks."""
    while _shard(folder, first).exists() and (count := len(Shards([str(_shard(folder, first))]))):
        first += count
    return first


def _make_split(
    folder: Path, members: Sequence[int], per_shard: int, make: Callable[[list[int]], Iterator[Record]], bar: tqdm
) -> None:
    """Add the shards that a split lacks, each of at most `per_shard` clips."""
    with refusals("make", folder):
        folder.mkdir(parents=True, exist_ok=True)
    remove_unfinished(folder)

    def counted(records: Iterator[Record]) -> Iterator[Record]:
        for record in records:
            bar.update()
            yield record

    named = folder.glob(f"clips-{'[0-9]' * 8}.array_record")
    there = sorted(int(path.stem.removeprefix("clips-")) for path in named)
    first = _made(folder)
    bar.update(min(first, len(members)))
    while first < len(members):
        following = next((number for number in there if number > first), len(members))
        chosen = list(members[first : min(first + per_shard, following)])
        write_shard(_shard(folder, first), counted(make(chosen)))
        first = _made(folder, first)


def make_portraits(data: PortraitWorld, chosen: list[int], size: int) -> Iterator[Record]:
    """Records of stage 1: `data.frames` pictures of each person, with all labels of the world a picture.

    The last `data.performed` of them are moments of the person's performance, the others independent random states
    with `data.poses` head poses among them. `size` is the side of the pictures in pixels. Clips to train on look as
    `data.randomisation` says, held-out ones as the plain world.
    """
    trained_on = split_of(chosen[0]) == "train"
    looks = data.randomisation if trained_on and data.randomisation.share else None
    people = max(1, RENDER_BATCH // data.frames)
    for first in range(0, len(chosen), people):
        group = chosen[first : first + people]
        padded = (group * people)[:people]  # one shape, compiled once
        moments = [_moments(seed, data.performed) for seed in padded]
        performed = jax.tree.map(lambda *parts: np.stack(parts), *moments)
        frames, truth = jax.device_get(
            _portraits(np.asarray(padded, np.uint32), performed, data.frames, data.poses, size, looks)
        )
        for i, seed in enumerate(group):
            yield write_clip(frames[i], None, {k: v[i] for k, v in truth.items()} | {"identity": np.int64(seed)})


def make_performances(
    data: PerformanceWorld,
    chosen: list[int],
    size: int,
    motion: Callable[[Any], Motion],
    features: Callable[[Any, int], Any] | None = None,
) -> Iterator[Record]:
    """Records of stage 2: sound, the truth of the world, and `pose` and `dynamics` as stage 1's encoders see them.

    Those of held-out people have a portrait.

    Args:
        data: what to make.
        chosen: seeds.
        size: side of the pictures in pixels, which stage 1 takes.
        motion: pictures (b, h, w, 3) float32 0..1 to `Motion`.
        features: what makes those of the sound, see `hearing.clip_features`; None writes none.
    """
    for seed in chosen:
        clip = make_clip(seed, data.seconds, size)
        portrait = clip.frames[0] if split_of(seed) == "validation" else None
        video = Clip(clip.frames, np.asarray(clip.audio, np.float32), clip.labels)
        yield encoded_record(video, motion, portrait, features=features)


def encoded_record(
    clip: Clip,
    motion: Callable[[Any], Motion],
    portrait: np.ndarray | bytes | None,
    about: Mapping[str, str | int | float] | None = None,
    features: Callable[[Any, int], Any] | None = None,
) -> Record:
    """A stage 2 record of a clip with frames: its sound and labels, and `pose` and `dynamics` as stage 1 sees them.

    The clip's own `pose`, `dynamics` and `regions` are left out, and so are the frames. Sound gets the label
    `features`, (t, c) float16, where something makes them.

    Args:
        clip: at least one frame, of the size that stage 1 takes.
        motion: pictures (b, h, w, 3) float32 0..1 to `Motion`; called with `RENDER_BATCH` of them.
        portrait: the picture that sample videos move, uint8 (h, w, 3) or JPEG; None where none are made of this clip.
        about: where the clip comes from.
        features: see `hearing.clip_features`.
    """
    frames = clip.frames
    parts = [
        jax.device_get(motion(_padded(frames[i : i + RENDER_BATCH]).astype(np.float32) / 255.0))
        for i in range(0, len(frames), RENDER_BATCH)
    ]
    seen = Motion(*(np.concatenate([part[k] for part in parts])[: len(frames)] for k in range(2)))
    kept = {name: value for name, value in clip.labels.items() if name not in LEFT_OUT}
    kept |= {"pose": np.float32(seen.pose), "dynamics": np.float32(seen.dynamics)}
    kept |= {} if portrait is None else {"portrait": portrait}
    if features is not None and clip.audio is not None:
        kept["features"] = features(clip.audio, len(frames))
    return write_clip(None, clip.audio, kept, about)


def stamp(folder: Path, source: str, heard: dict[str, Any] | None = None) -> None:
    """Note in a folder of encoded clips which stage 1 made them, by the SHA-256 of its parameters, and which front end
    their features, by its identity; a folder keeps both for good."""
    check_stamp(folder, source, heard)
    written = folder / "encoded.json"
    if heard is None and written.is_file() and "features" in read_json(written):
        raise UserError(f"the clips in {folder} carry features of sound: name their front end, or another folder")
    folder.mkdir(parents=True, exist_ok=True)
    note = {"autoencoder": source} | ({} if heard is None else {"features": heard})
    write_text(written, json.dumps(note) + "\n")


def check_stamp(folder: Path, source: str, heard: dict[str, Any] | None = None) -> None:
    """Raise UserError where the clips of a folder were encoded by another stage 1 or front end.

    A folder without a stamp passes, and so does any without a `source`, the SHA-256 of a stage 1; without `heard`, it
    does not matter whose features they carry.
    """
    written = folder / "encoded.json"
    if source and written.is_file() and (there := str(read_json(written).get("autoencoder"))) != source:
        raise UserError(
            f"the clips in {folder} were encoded by the stage 1 with SHA-256 {there[:16]}, this one has {source[:16]}; "
            "name that autoencoder, or encode the clips into another folder"
        )
    if heard is None or not written.is_file() or (there := read_json(written).get("features")) == heard:
        return
    if not isinstance(there, dict):
        raise UserError(
            f"the clips in {folder} carry no features of sound; encode them into another folder with --sound, or train "
            "with --features live"
        )
    name = next(name for name in heard if there.get(name) != heard[name])
    values = [str(values.get(name))[:16] for values in (there, heard)]
    raise UserError(
        f"the features in {folder} were made with {name}={values[0]}, this run hears with {values[1]}; encode the "
        "clips into another folder, or train with --features live"
    )


def read_encoded(record: StoredClip, dynamics_dim: int, frames: int, features: bool = False) -> Clip:
    """A stage 2 clip, without pictures: with its sound or, where asked for and there, its features in place of that.

    Raises CorruptRecordError as `check_encoded` does, and for broken sound or features.
    """
    check_encoded(record, dynamics_dim, frames)
    nothing = np.zeros((0, 0, 0, 3), np.uint8)
    if features and record.has_features:
        return Clip(nothing, None, record.labels | {"features": record.features()})
    return Clip(nothing, record.sound(), record.labels)


def check_encoded(record: StoredClip, dynamics_dim: int, frames: int) -> StoredClip:
    """A stage 2 clip as it came.

    Raises:
        CorruptRecordError: for one without finite pose and dynamics (frames or more, dynamics_dim).
    """
    for name, size in (("pose", 6), ("dynamics", dynamics_dim)):
        if name not in record.labels:
            raise CorruptRecordError(
                f"a stage 2 clip without label {name!r}; encode videos with python -m vasa_jax.training.encode"
            )
        shape = record.labels[name].shape
        if shape[1] != size or not np.isfinite(record.labels[name]).all():
            raise CorruptRecordError(f"label {name!r} of shape {shape} must be finite, with {size} numbers a frame")
        if shape[0] < frames:
            raise CorruptRecordError(f"{shape[0]} frames are fewer than a window with its context needs ({frames})")
    return record


def read_motion(source: Shards, dynamics_dim: int, max_corrupt: int) -> Motion:
    """Motion of stage 2 clips, (frames, 6) and (frames, z), NumPy: of all, or of `STATISTICS_CLIPS` of them, evenly
    spaced. Raises CorruptRecordError beyond `max_corrupt` corrupt ones."""
    chosen = np.linspace(0, len(source) - 1, min(STATISTICS_CLIPS, len(source))).astype(int).tolist()

    def read(record: StoredClip) -> list[np.ndarray]:
        labels = check_encoded(record, dynamics_dim, 1).labels
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


@functools.partial(jax.jit, static_argnums=(2, 3, 4, 5))
def _portraits(
    members: jax.Array, performed: State, count: int, poses: int, size: int, randomisation: Randomisation | None
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
    look = None
    if randomisation is not None:
        roots = jax.vmap(look_key)(members)
        people, looks = jax.vmap(lambda root, person: randomise(root, randomisation, person))(roots, people)
        look = _repeated(looks, count)
        states = framed(look, states)
    people = _repeated(people, count)
    pictures = render(people, states, size, look)
    if look is not None:
        keys = jax.vmap(lambda root: jax.vmap(lambda i: jax.random.fold_in(root, i))(jnp.arange(count)))(roots)
        pictures = film.finish(look, pictures, keys)
    return jnp.round(pictures * 255.0).astype(jnp.uint8), labels(people, states, look)


def _repeated(tree: Any, count: int) -> Any:
    """Every leaf (p, ...) as (p, count, ...)."""
    return jax.tree.map(lambda x: jnp.broadcast_to(x[:, None], (x.shape[0], count, *x.shape[1:])), tree)
