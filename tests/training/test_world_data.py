"""Folders of clips: made where nothing is, grown, shared; and somebody's own, which are never made."""

import dataclasses
import json

import numpy as np
import pytest

from vasa_jax.data import read_clip, write_clip, write_shard
from vasa_jax.data.shards import SPLITS, open_shards
from vasa_jax.errors import UserError
from vasa_jax.synthetic.looks import Randomisation
from vasa_jax.synthetic.splits import seeds
from vasa_jax.training import world_data
from vasa_jax.training.config import PortraitWorld, Records
from vasa_jax.training.lock import locked

WORLD = PortraitWorld(clips=5, validation_clips=2, clips_per_shard=3)
SIZE = 32


def make(data, chosen):
    """Clips without pictures, which know their seed."""
    return (write_clip(None, None, {"identity": np.int64(seed)}) for seed in chosen)


def forbidden(data, chosen):
    raise AssertionError(f"nothing is to be made, but {chosen} are")


def seeds_of(data, workdir, split):
    source = world_data.open_split(data, workdir, split)
    return [int(read_clip(source[i]).labels["identity"]) for i in range(len(source))]


def test_clips_are_made_once(tmp_path):
    world_data.prepare(WORLD, tmp_path, SIZE, make)
    assert sorted(path.name for path in (tmp_path / "data" / "train").iterdir()) == [
        "clips-00000000.array_record",
        "clips-00000003.array_record",
    ]
    assert seeds_of(WORLD, tmp_path, "train") == list(seeds("train")[:5])
    assert seeds_of(WORLD, tmp_path, "validation") == list(seeds("validation")[:2])
    world_data.prepare(WORLD, tmp_path, SIZE, forbidden)
    world_data.prepare(dataclasses.replace(WORLD, clips=4, threads=1), tmp_path, SIZE, forbidden)
    assert seeds_of(dataclasses.replace(WORLD, clips=4), tmp_path, "train") == list(seeds("train")[:4])


def test_a_folder_grows_and_runs_that_asked_for_less_read_what_they_did(tmp_path):
    world_data.prepare(WORLD, tmp_path, SIZE, make)
    shards = {path: path.stat().st_mtime_ns for path in tmp_path.glob("data/train/*.array_record")}
    more = dataclasses.replace(WORLD, clips=10, validation_clips=3, clips_per_shard=4)
    world_data.prepare(more, tmp_path, SIZE, make)
    assert {path: path.stat().st_mtime_ns for path in shards} == shards
    assert seeds_of(more, tmp_path, "train") == list(seeds("train")[:10])
    assert seeds_of(more, tmp_path, "validation") == list(seeds("validation")[:3])
    assert seeds_of(WORLD, tmp_path, "train") == list(seeds("train")[:5])


def test_a_shard_that_was_removed_is_made_again(tmp_path):
    world_data.prepare(WORLD, tmp_path, SIZE, make)
    (tmp_path / "data" / "train" / "clips-00000000.array_record").unlink()
    world_data.prepare(WORLD, tmp_path, SIZE, make)
    assert seeds_of(WORLD, tmp_path, "train") == list(seeds("train")[:5])


def test_an_interrupted_making_goes_on(tmp_path):
    def interrupted(data, chosen):
        yield from make(data, chosen[:1])
        raise KeyboardInterrupt

    for maker in (interrupted, make):
        with pytest.raises(KeyboardInterrupt) if maker is interrupted else pytest.MonkeyPatch.context():
            world_data.prepare(WORLD, tmp_path, SIZE, maker)
    assert seeds_of(WORLD, tmp_path, "train") == list(seeds("train")[:5])


def test_the_first_seed_moves_people_to_train_on_and_nobody_else(tmp_path):
    later = dataclasses.replace(WORLD, first_seed=900_000)
    world_data.prepare(later, tmp_path, SIZE, make)
    assert seeds_of(later, tmp_path, "train") == list(seeds("train")[900_000:900_005])
    assert seeds_of(later, tmp_path, "validation") == list(seeds("validation")[:2])


def test_clips_of_another_recipe_are_refused(tmp_path):
    world_data.prepare(WORLD, tmp_path, SIZE, make)
    for world, size, match in (
        (dataclasses.replace(WORLD, poses=3), SIZE, "made with poses=2, this run wants 3"),
        (dataclasses.replace(WORLD, first_seed=7), SIZE, "made with first_seed=0, this run wants 7"),
        (WORLD, 64, "made with size=32, this run wants 64; remove the folder, or choose another --data.make-in"),
    ):
        with pytest.raises(ValueError, match=match):
            world_data.prepare(world, tmp_path, size, forbidden)


def test_a_folder_that_holds_something_else_is_never_filled(tmp_path):
    for name in ("photo.jpg", "train"):
        folder = tmp_path / f"with_{name}"
        folder.mkdir()
        (folder / name).mkdir()
        with pytest.raises(ValueError, match=f"holds {name} and no clips of the world.*--data.path"):
            world_data.prepare(dataclasses.replace(WORLD, make_in=str(folder)), tmp_path, SIZE, forbidden)
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="file: "):
        world_data.prepare(dataclasses.replace(WORLD, make_in=str(tmp_path / "file")), tmp_path, SIZE, forbidden)
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "recipe.json").write_text("{")
    with pytest.raises(ValueError, match="recipe.json is no JSON"):
        world_data.prepare(dataclasses.replace(WORLD, make_in=str(tmp_path / "damaged")), tmp_path, SIZE, forbidden)


def test_two_runs_do_not_make_in_one_folder_at_once(tmp_path):
    (tmp_path / "data").mkdir()
    with locked(tmp_path / "data"), pytest.raises(ValueError, match="in use by process.*wait until it has made"):
        world_data.prepare(WORLD, tmp_path, SIZE, forbidden)


def test_made_clips_serve_as_records_once_they_are_all_there(tmp_path):
    world_data.prepare(WORLD, tmp_path, SIZE, make)
    records = Records(path=str(tmp_path / "data"))
    world_data.prepare(records, tmp_path / "other", SIZE, forbidden)
    assert seeds_of(records, tmp_path / "other", "train") == list(seeds("train")[:5])
    (tmp_path / "data" / "done.json").unlink()
    with pytest.raises(ValueError, match="are not all made yet"):
        world_data.prepare(records, tmp_path / "other", SIZE, forbidden)


def test_clips_that_another_stage_1_encoded_are_refused(tmp_path):
    world_data.prepare(WORLD, tmp_path, SIZE, make, source="a" * 64)
    assert json.loads((tmp_path / "data" / "encoded.json").read_text()) == {"autoencoder": "a" * 64}
    for data in (WORLD, Records(path=str(tmp_path / "data"))):
        world_data.prepare(data, tmp_path, SIZE, forbidden, source="a" * 64)
        with pytest.raises(ValueError, match="encoded by the stage 1 with SHA-256 aaaa"):
            world_data.prepare(data, tmp_path, SIZE, forbidden, source="b" * 64)


def refused(folder, match):
    before = sorted(folder.parent.rglob("*"))
    with pytest.raises(ValueError, match=match):
        world_data.prepare(Records(path=str(folder)), folder.parent / "run", SIZE, forbidden)
    assert sorted(folder.parent.rglob("*")) == before


def test_records_that_are_not_there_are_refused_and_nothing_is_written(tmp_path):
    (tmp_path / "my_clips").mkdir()
    (tmp_path / "file").touch()
    refused(tmp_path / "my_clip", "there is no folder of clips .*; did you mean .*/my_clips?")
    refused(tmp_path / "elsewhere", "there is no folder of clips .*mend --data.path")
    refused(tmp_path / "my_clips", "holds no shards: own clips go into train/ and validation/")
    refused(tmp_path / "file", "is a file; name the folder")
    for split in SPLITS:
        (tmp_path / "my_clips" / split).mkdir()
    refused(tmp_path / "my_clips", "holds no shards")
    write_shard(tmp_path / "my_clips" / "train" / "a.array_record", [write_clip(None, None, {})])
    refused(tmp_path / "my_clips", "holds shards, but none in validation/")


def test_shards_without_records_are_refused(tmp_path):
    for split in SPLITS:
        (tmp_path / split).mkdir()
        write_shard(tmp_path / split / "a.array_record", [])
    with pytest.raises(ValueError, match="hold no clips"):
        world_data.open_split(Records(path=str(tmp_path)), tmp_path, "train")


def test_only_clips_to_train_on_are_randomised(tmp_path):
    world = dataclasses.replace(WORLD, frames=3, performed=1)
    varied = dataclasses.replace(world, randomisation=Randomisation(share=1.0))

    def made(data, split):
        return [read_record(record) for record in world_data.make_portraits(data, list(seeds(split)[:2]), SIZE)]

    def read_record(record):
        write_shard(tmp_path / "one.array_record", [record])
        clip = read_clip(open_shards(tmp_path)[0])
        (tmp_path / "one.array_record").unlink()
        return clip

    for one, two in zip(made(world, "validation"), made(varied, "validation"), strict=True):
        np.testing.assert_array_equal(one.frames, two.frames)
    for plain, look, again in zip(*(made(data, "train") for data in (world, varied, varied)), strict=True):
        np.testing.assert_array_equal(look.frames, again.frames)
        assert np.abs(np.float32(look.frames) - np.float32(plain.frames)).mean() > 8.0
        for name in ("gaze", "mouth", "lids", "identity"):
            np.testing.assert_allclose(look.labels[name], plain.labels[name], atol=1e-6, err_msg=name)
        moved = look.labels["pose"] - plain.labels["pose"]  # one framing for the clip
        np.testing.assert_allclose(moved, np.repeat(moved[:1], 3, 0), atol=1e-6)
        assert np.abs(moved[0, :3]).max() < 1e-6 and np.abs(moved[0, 3:]).max() > 0.0


def test_a_folder_remembers_whether_it_was_randomised(tmp_path):
    world_data.prepare(WORLD, tmp_path, SIZE, make)
    assert "randomisation" not in json.loads((tmp_path / "data" / "recipe.json").read_text())
    varied = dataclasses.replace(WORLD, randomisation=Randomisation(share=0.5))
    with pytest.raises(UserError, match="randomisation"):
        world_data.prepare(varied, tmp_path, SIZE, forbidden)
