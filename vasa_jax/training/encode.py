"""From videos to stage 2 clips: `python -m vasa_jax.training.encode CLIPS OUT --autoencoder DIR [--sound CONFIG]`.

CLIPS holds `train/` and `validation/` (or one of them) with shards of stage 1 video records: frames, 25 a second, sound
if there is any, labels if known. OUT gets one shard for each, of the same name, in which `pose` and `dynamics`, as
stage 1's encoders see the frames, stand in place of the frames (VASA-1 section 3.2). A shard appears under its name
only when complete: the same command goes on after an interruption, with the first shard that is missing.

With `--sound` the clips also carry `features` of their sound, float16, from the frozen speech network of that config
(`model.audio`); `--speech` names its weights where the config names none. Training on recorded features costs no more
than training on log-mel, see docs/training.md.
"""

import dataclasses
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from vasa_jax import config as configs
from vasa_jax.checkpoint import digest
from vasa_jax.command import Parser, run
from vasa_jax.data.pipeline import readable
from vasa_jax.data.records import CorruptRecordError, Record, StoredClip, read_clip, write_shard
from vasa_jax.data.shards import SPLITS, Shards, find_shards
from vasa_jax.errors import UserError, refusals
from vasa_jax.files import check_apart, check_folder, check_local, remove_unfinished
from vasa_jax.training.config import MotionExperiment
from vasa_jax.training.hearing import Features, clip_features, load_speech
from vasa_jax.training.stage_1 import Stage1, load_stage_1
from vasa_jax.training.world_data import encoded_record, stamp


def encode(
    clips: str | Path,
    out: str | Path,
    autoencoder: str,
    max_corrupt: int = 10,
    sound: str = "",
    speech: str = "",
) -> dict[str, int]:
    """Encode all shards that OUT does not have yet.

    Args:
        clips: folder with `train/` and `validation/`, or one of them.
        out: another folder, with the same layout; made where it is missing.
        autoencoder: stage 1: a release folder, a workdir, or a release of the public pair, whose LivePortrait encodes.
        max_corrupt: corrupt records of a shard that are skipped.
        sound: config of stage 2, by name or path, whose frozen front end makes features; "" makes none.
        speech: weights of the front end, in place of those that the config names.

    Returns:
        Split to the number of shards that it has now.

    Raises:
        UserError: for folders without shards, an OUT that is one of the others, holds something else or was encoded by
            another stage 1, or a clip without frames or of another size than stage 1 takes, naming its shard and
            record; CorruptRecordError beyond `max_corrupt`.
    """
    clips, out = check_local("the folder", clips), check_folder(out)
    check_apart({"OUT": out}, {"CLIPS": clips, "--autoencoder": autoencoder})
    if max_corrupt < 0:
        raise UserError(f"{max_corrupt=} must be 0 or more")
    with refusals("read", out):
        names = sorted(path.name for path in out.iterdir()) if out.is_dir() else []
    if names and "encoded.json" not in names:
        raise UserError(f"{out} holds {names[0]} and no encoded clips; name an empty folder or one to go on with")
    shards = {split: find_shards(clips / split) for split in SPLITS if (clips / split).is_dir()}
    if not shards:
        raise UserError(f"{str(clips)!r} has no folder train or validation with shards in it; see docs/data.md")
    heard, features = _front_end(sound, speech)
    face = load_stage_1(autoencoder)
    stamp(out, face.sha256, heard)
    for split, paths in shards.items():
        with refusals("make", out / split):
            (out / split).mkdir(parents=True, exist_ok=True)
        remove_unfinished(out / split)
        for path in tqdm(paths, unit="shard", desc=split, mininterval=1.0):
            target = out / split / Path(path).name
            if not target.exists():
                write_shard(target, _encode_shard(path, face, features, max_corrupt, split == "validation"))
    return {split: len(paths) for split, paths in shards.items()}


def _front_end(sound: str, speech: str) -> tuple[dict[str, Any] | None, Features | None]:
    """The identity of a config's frozen front end, and what makes its features; two times None where none is named."""
    if not sound:
        if speech:
            raise UserError("--speech means nothing without --sound, the config that hears through it")
        return None, None
    experiment = configs.load(sound)
    if not isinstance(experiment, MotionExperiment) or not experiment.model.audio.frozen:
        raise UserError(f"--sound {sound} names no config of stage 2 with a frozen speech network; leave it out")
    audio = experiment.model.audio
    audio = dataclasses.replace(audio, weights=speech or audio.weights)
    params = load_speech(audio)
    return dataclasses.replace(audio, sha256=digest(params)).identity, clip_features(audio, params)


def _encode_shard(
    path: str, face: Stage1, features: Features | None, max_corrupt: int, shown: bool
) -> Iterator[Record]:
    """Stage 2's records of a shard; those that are shown in sample videos have their first frame as a portrait."""
    source = Shards([path])

    def encoded(record: StoredClip) -> Record | StoredClip:
        size = next((size for size in face.sizes if record.count and record.fits(size)), None)
        if size is None:
            return record
        clip = read_clip(record, size=size)
        try:
            portrait = record.pictures([0])[0] if shown else None
            return encoded_record(clip, face.motion, portrait, record.about, features)
        except UserError as error:
            raise CorruptRecordError(f"as this stage 1 sees it, {error}") from error

    for index, record in readable(source, encoded, max_corrupt):
        if isinstance(record, StoredClip):
            height, width = record.size or (0, 0)
            raise UserError(
                f"{source.where(index)}: {record.count} frames of {width}x{height} pixels; this stage 1 takes "
                f"{face.sizes[0]}x{face.sizes[0]} or a multiple: write the clips at such a size"
            )
        yield record


def _work(arguments: Sequence[str]) -> str:
    parser = Parser(prog="python -m vasa_jax.training.encode", description=encode.__doc__)
    parser.add_argument("clips", help="folder with train/ and validation/ of stage 1 video records")
    parser.add_argument("out", help="folder of the stage 2 records")
    parser.add_argument("--autoencoder", required=True, help="stage 1: a release folder or a workdir")
    parser.add_argument("--max-corrupt", type=int, default=10, help="corrupt records of a shard that are skipped")
    parser.add_argument("--sound", default="", help="config of stage 2 whose frozen speech network makes features")
    parser.add_argument("--speech", default="", help="weights of that network, in place of those of the config")
    options = parser.parse_args(arguments)
    arguments = options.clips, options.out, options.autoencoder, options.max_corrupt, options.sound, options.speech
    counts = encode(*arguments)
    return f"{options.out}: {', '.join(f'{split} {count} shards' for split, count in counts.items())}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0, or 2 after one line on stderr."""
    return run("encode", lambda: [_work(sys.argv[1:] if arguments is None else arguments)])


if __name__ == "__main__":
    sys.exit(main())
