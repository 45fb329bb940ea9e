"""Training on shards that somebody wrote, and on what stage 1 makes of them; no network is compiled but the tiny
encoders."""

import dataclasses
import itertools
import json

import jax
import numpy as np
import pytest

from tests.tiny import AUTOENCODER
from tests.training.tiny import STAGE_1, STAGE_2
from tests.training.toy import EXPERIMENT, make_toy
from vasa_jax import config as configs
from vasa_jax.autoencoder import objective
from vasa_jax.checkpoint import save_release
from vasa_jax.data import CorruptRecordError, Record, open_shards, read_clip, write_clip, write_shard
from vasa_jax.data.pipeline import make_dataset
from vasa_jax.doors import train as door
from vasa_jax.metrics.transfer import Face, clip_psnr
from vasa_jax.training import encode
from vasa_jax.training.config import Records, from_saved, to_saved
from vasa_jax.training.loop import train
from vasa_jax.training.motion_task import motion_sample
from vasa_jax.training.players import Frozen
from vasa_jax.training.tasks import make_task

FRAMES = 12


def video(number, size=32, frames=FRAMES, labels=(), sound=True):
    """A clip of noise, with some labels."""
    rng = np.random.default_rng(number)
    shapes = {"pose": (frames, 6), "gaze": (frames, 2), "mouth": (frames, 1), "emotion": (8,)}
    return write_clip(
        rng.integers(0, 256, (frames, size, size, 3)).astype(np.uint8),
        rng.uniform(-0.1, 0.1, 640 * frames - 100).astype(np.float32) if sound else None,
        {name: (0.1 * rng.normal(size=shapes[name])).astype(np.float32) for name in labels},
        {"source": f"{number}.mp4", "track": 0},
    )


def write(folder, train=(), validation=()):
    """A folder of clips, two to a shard."""
    for split, records in (("train", train), ("validation", validation)):
        (folder / split).mkdir(parents=True)
        for i in range(0, len(records), 2):
            write_shard(folder / split / f"{i:02d}.array_record", records[i : i + 2])
    return folder


@pytest.fixture
def own(tmp_path):
    """Three videos to train on, of which two have labels, and one to validate."""
    records = [video(0, labels=("gaze", "emotion")), video(1, labels=("mouth", "pose"), sound=False), video(2)]
    return write(tmp_path / "own", records, [video(3)])


UNLABELLED = dataclasses.replace(
    STAGE_1, objective=dataclasses.replace(STAGE_1.objective, pose=0.0, labels=0.0, rendered_labels=0.0)
)


def stage_1(path, experiment=UNLABELLED, **fields):
    return make_task(dataclasses.replace(experiment, data=Records(path=str(path), threads=1, **fields)))


def stage_2(path, autoencoder):
    data = Records(path=str(path), threads=1)
    return make_task(dataclasses.replace(STAGE_2, data=data, autoencoder=str(autoencoder)))


def assert_fits(batch, spec):
    assert batch.keys() == spec.keys()
    for name, shape in spec.items():
        assert (batch[name].shape, batch[name].dtype) == (shape.shape, shape.dtype), name


def test_own_clips_are_taken_as_they_are_and_missing_labels_are_nan(own, tmp_path):
    task = stage_1(own)
    task.prepare(tmp_path / "run")
    assert sorted(path.name for path in own.iterdir()) == ["train", "validation"]
    batches = task.dataset(tmp_path / "run", 3, 0, 0, 0, 1)
    batch = next(batches)
    batches.close()
    assert_fits(batch, task.batch_spec(3))
    known = {name: np.isfinite(batch[name]).any() for name in ("pose", "gaze", "mouth", "lids", "regions")}
    assert known == {"pose": True, "gaze": True, "mouth": True, "lids": False, "regions": False}
    assert np.isnan(batch["gaze"]).any() and batches.skipped == 0
    assert task.held_out(tmp_path / "run")["frames"].shape == (1, 2, 32, 32, 3)


@pytest.mark.parametrize(
    "record, match",
    [
        (video(0, size=16), r"00.array_record, clip 0: frames of 16x16 pixels, not of 32x32 or a multiple"),
        (video(0, frames=1), r"00.array_record, clip 0: a clip of 1 frames; a sample needs frames_per_sample=2"),
        (write_clip(None, None, {}), "a clip of 0 frames"),
    ],
)
def test_unfit_clips_stop_before_anything_is_compiled(tmp_path, record, match):
    folder = write(tmp_path / "own", [record], [video(1)])
    with pytest.raises(ValueError, match=match):
        stage_1(folder).prepare(tmp_path / "run")


@pytest.mark.parametrize(
    "flags, match",
    [
        (["--data.path", "SMALL"], "clip 0: frames of 16x16 pixels"),
        (["--data.path", "nothing"], "there is no folder of clips nothing"),
        (["--data.path", "SMALL", "--data.clips", "8"], "--data.clips says which clips are made"),
        (["--data.path=SMALL", "--data.make_in=x"], "--data.make-in says which clips are made"),
        (["--data.path", "SMALL", "--data.first-seed", "3"], "--data.first-seed says"),
        (["--data.path", "SMALL", "--data.poses", "3"], "--data.poses says"),
        (["--model.dtype", "float32"], "choose the dtype of computation with --dtype"),
        (["--fsdp", "2"], "fsdp=2 must be 0, or more with parallel='sharded'"),
        (["--refit-statistics"], "means nothing without init_from"),
        (["--time-limit", "nan"], "time_limit=nan must be above 0"),
        (["--process", "-2"], "must be 0 or more"),
        (["--data.threads", "0"], "data.threads=0 must be 1 or more"),
        (["--data.path", ""], "data.path is empty"),
        (["--data.mix", "SMALL", "1"], "clip 0: frames of 16x16 pixels"),
        (["--data.mix", "SMALL", "1", "nothing", "1"], "there is no folder of clips nothing"),
        (["--data.mix", "SMALL", "1", "--data.path", "SMALL"], "are two answers"),
        (["--data.mix", "SMALL", "0"], "the weight 0.0; it must be above 0"),
        (["--data.mix", "SMALL", "1", "SMALL", "2"], "name each folder once"),
        (["--data.mix", "s3://a/b", "1", "SMALL", "2"], "--data.path s3://a/b is a URL"),
        (["--data.mix", "SMALL", "1", "--data.clips", "8"], "with --data.mix none are"),
        (["--other-frames-per-sample", "-1"], "other_frames_per_sample=-1 must be 0 or more"),
        (["--other-frames-per-sample", "4"], "must not exceed self.data.frames=3"),
        (["--data.size", "32"], "--data.size"),
        (["--steps", "many"], "--steps"),
    ],
)
def test_the_door_answers_what_it_cannot_use_with_one_line_and_code_2(tmp_path, capsys, flags, match):
    config = tmp_path / "tiny.py"
    config.write_text("from tests.training.tiny import STAGE_1\n\n\ndef get_config():\n    return STAGE_1\n")
    folder = write(tmp_path / "own", [video(0, size=16)], [video(1)])
    flags = [flag.replace("SMALL", str(folder)) for flag in flags]
    assert door.main([str(config), "--workdir", str(tmp_path / "run"), *flags]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("train: error: ") and match in line


def test_records_replace_the_clips_that_a_config_makes(tmp_path):
    config = tmp_path / "tiny.py"
    config.write_text("from tests.training.tiny import STAGE_1\n\n\ndef get_config():\n    return STAGE_1\n")
    longer = STAGE_1.data.frames + 1  # more than the made clips have
    flags = ["--data.path", "own", "--data.threads", "3", "--frames-per-sample", str(longer)]
    experiment = door.parse([str(config), *flags]).experiment
    assert experiment.data == Records(path="own", threads=3, validation_clips=STAGE_1.data.validation_clips)
    assert from_saved(to_saved(experiment), "run") == experiment
    assert door.parse([str(config), "--data.clips", "9"]).experiment.data == dataclasses.replace(STAGE_1.data, clips=9)
    mixed = door.parse([str(config), "--data.mix", "own", "0.7", "their clips", "0.3"]).experiment
    assert mixed.data.folders == (("own", 0.7), ("their clips", 0.3)) and mixed.data.threads == STAGE_1.data.threads
    assert from_saved(to_saved(mixed), "run") == mixed


def person(number, identity, frames=FRAMES):
    record = video(number, frames=frames, labels=("gaze",))
    clip = read_clip(record)
    return write_clip(clip.frames, None, clip.labels | {"identity": np.int64(identity)})


def test_folders_mix_by_weight_and_another_person_stands_beside_each_clip(tmp_path):
    one = write(tmp_path / "one", [person(i, i) for i in range(3)], [person(8, 8), person(9, 9)])
    two = write(tmp_path / "two", [person(i, i) for i in range(3, 5)], [person(10, 10)])
    data = Records(mix=((str(one), 3.0), (str(two), 1.0)), threads=2, validation_clips=2)
    task = make_task(dataclasses.replace(UNLABELLED, data=data, other_frames_per_sample=3))
    task.prepare(tmp_path / "run")
    pictures = {i: read_clip(person(i, i)).frames for i in range(11)}

    def who(frames):
        (found,) = {i for i, own in pictures.items() if all((frame == own).all((1, 2, 3)).any() for frame in frames)}
        return found

    whole = task.dataset(tmp_path / "run", 4, 0, 0, 0, 1)
    halves = [task.dataset(tmp_path / "run", 4, 0, 1, process, 2) for process in range(2)]
    first, second = next(whole), next(whole)
    parts = [next(half) for half in halves]
    for batches in (whole, *halves):
        batches.close()
    assert_fits(first, task.batch_spec(4))
    assert first["other_frames"].shape == (4, 3, 32, 32, 3) and first["other_gaze"].shape == (4, 3, 2)
    params, constants, mutable = jax.eval_shape(task.init, jax.random.key(0))
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), 4))
    frozen = Frozen(constants, mutable, {}, np.int32(0))
    views = jax.eval_shape(task.forward, params, frozen, task.batch_spec(4), keys)
    assert jax.eval_shape(task.players[0].loss, params, frozen, views)[0].shape == ()
    for name, value in second.items():
        np.testing.assert_array_equal(np.concatenate([part[name] for part in parts]), value)
    people = [who(frames) for batch in (first, second) for frames in batch["frames"]]
    others = [who(frames) for batch in (first, second) for frames in batch["other_frames"]]
    assert all(a != b for a, b in zip(people, others, strict=True))
    assert sum(person >= 3 for person in people) == 2  # a quarter of eight
    held = task.held_out(tmp_path / "run")
    assert [who(frames) for frames in held["frames"]] == [8, 10]  # of every folder
    assert not {who(frames) for frames in held["other_frames"]} - {8, 9, 10}


def test_one_person_alone_has_nobody_to_be_paired_with(tmp_path):
    folder = write(tmp_path / "own", [person(0, 7), person(1, 7)], [person(2, 8), person(3, 9)])
    task = make_task(dataclasses.replace(UNLABELLED, data=Records(path=str(folder)), other_frames_per_sample=1))
    with pytest.raises(ValueError, match=r"train/00.array_record, clip 0 has nobody to be paired with"):
        task.prepare(tmp_path / "run")
    short = write(tmp_path / "short", [person(0, 6, frames=2), person(1, 7)], [person(2, 8), person(3, 9)])
    task = make_task(dataclasses.replace(UNLABELLED, data=Records(path=str(short)), other_frames_per_sample=3))
    with pytest.raises(ValueError, match=r"clip 0: a clip of 2 frames; a sample needs other_frames_per_sample=3"):
        task.prepare(tmp_path / "run")


def test_terms_without_any_label_are_named_before_anything_is_computed(own, tmp_path):
    """One clip of those that are looked at is enough; none is not."""
    stage_1(own, STAGE_1).prepare(tmp_path / "run")
    bare = write(tmp_path / "bare", [video(0, labels=("gaze",)), video(1)], [video(3)])
    flags = "--objective.pose 0"
    with pytest.raises(ValueError, match=rf"objective.pose needs label pose, and the first clips have none.*{flags}$"):
        stage_1(bare, STAGE_1).prepare(tmp_path / "other")


def test_a_broken_first_record_is_skipped_and_many_stop_the_run(tmp_path):
    records = [Record(b"rubbish"), video(1, size=16), *(video(i) for i in range(2, 6))]
    folder = write(tmp_path / "own", records, [Record(b"rubbish"), video(9)])
    with pytest.raises(ValueError, match=r"00.array_record, clip 1: frames of 16x16"):
        stage_1(folder).prepare(tmp_path / "run")
    folder = write(
        tmp_path / "mended", [Record(b"rubbish"), *records[2:], video(1, size=16)], [Record(b"rubbish"), video(9)]
    )
    stage_1(folder).prepare(tmp_path / "run")
    assert len(stage_1(folder).held_out(tmp_path / "run")["frames"]) == 1
    batches = stage_1(folder).dataset(tmp_path / "run", 3, 0, 0, 0, 1)
    list(itertools.islice(batches, 4))
    batches.close()
    assert batches.skipped == 2
    batches = stage_1(folder, max_corrupt=1).dataset(tmp_path / "run", 3, 0, 0, 0, 1)
    with pytest.raises(CorruptRecordError, match=r"array_record, clip \d: .*data.max_corrupt=1"):
        list(itertools.islice(batches, 4))
    batches.close()


def test_the_loop_stops_with_the_record_named(tmp_path):
    def refuse(row, rng):
        raise CorruptRecordError("rubbish")

    task = dataclasses.replace(make_toy(), dataset=lambda workdir, *order: make_dataset([1, 2], refuse, *order))
    with pytest.raises(CorruptRecordError, match=r"record [01]: rubbish \(2 of 2 records are corrupt"):
        train(EXPERIMENT, task, tmp_path, progress=False)


@pytest.fixture(scope="module")
def autoencoder(tmp_path_factory):
    """A release of the tiny stage 1 with random weights."""
    return release(tmp_path_factory.mktemp("stage_1") / "release", seed=0)


def release(folder, seed):
    shapes = jax.eval_shape(lambda key: objective.init(AUTOENCODER, key)[0], jax.random.key(0))
    rng = np.random.default_rng(seed)
    weights = jax.tree.map(lambda leaf: (0.2 * rng.normal(size=leaf.shape)).astype(np.float32), shapes)
    save_release(folder, "vasa", {"autoencoder": json.loads(configs.to_json(AUTOENCODER))}, weights, "float32", "")
    return folder


def test_videos_become_stage_2_clips(own, autoencoder, tmp_path, capsys):
    out = tmp_path / "encoded"
    assert encode.main([str(own), str(out), "--autoencoder", str(autoencoder)]) == 0
    assert "train 2 shards, validation 1 shards" in capsys.readouterr().out
    clips = [read_clip(open_shards(out / "train")[i]) for i in range(3)]
    for i, clip in enumerate(clips):
        before = read_clip(open_shards(own / "train")[i])
        assert not len(clip.frames) and clip.labels["dynamics"].shape == (FRAMES, 8)
        assert clip.labels["pose"].shape == (FRAMES, 6)
        assert set(clip.labels) - {"pose", "dynamics"} == set(before.labels) - {"pose"}
        assert open_shards(out / "train")[i].about == {"source": f"{i}.mp4", "track": 0}
        if before.audio is None:
            assert clip.audio is None
        else:
            np.testing.assert_array_equal(clip.audio, before.audio)
    portrait = read_clip(open_shards(out / "validation")[0]).labels["portrait"]
    np.testing.assert_array_equal(portrait, read_clip(open_shards(own / "validation")[0], [0]).frames[0])
    assert np.abs(clips[1].labels["pose"] - read_clip(open_shards(own / "train")[1]).labels["pose"]).max() > 0.01

    # The same command goes on where it was interrupted, and leaves what is complete alone.
    first, second = (out / "train" / f"0{i}.array_record" for i in (0, 2))
    (out / "train" / ".unfinished-123-ab.array_record").write_bytes(b"half")
    old, content = first.stat().st_mtime_ns, second.read_bytes()
    second.unlink()
    assert encode.main([str(own), str(out), "--autoencoder", str(autoencoder)]) == 0
    assert first.stat().st_mtime_ns == old and second.read_bytes() == content
    assert not list(out.glob("*/.unfinished*"))

    task = stage_2(out, autoencoder)
    task.prepare(tmp_path)
    statistics, _ = task.measure(tmp_path, None)
    assert statistics.rotation.shape == (8, 8) and (tmp_path / "statistics.txt").exists()
    batches = task.dataset(tmp_path, 3, 0, 0, 0, 1)
    batch = next(batches)
    batches.close()
    assert_fits(batch, task.batch_spec(3))
    labelled = {name: np.isfinite(batch[name]).all(1).sum() for name in ("gaze", "emotion", "samples", "distance")}
    assert labelled == {"gaze": 1, "emotion": 1, "samples": 2, "distance": 3}
    assert len(task.held_out(tmp_path)["index"]) == 1


def test_clips_of_another_stage_1_are_refused(own, autoencoder, tmp_path, capsys):
    out, other = tmp_path / "encoded", release(tmp_path / "other", seed=1)
    assert encode.main([str(own), str(out), "--autoencoder", str(autoencoder)]) == 0
    assert encode.main([str(own), str(out), "--autoencoder", str(other)]) == 2
    assert "were encoded by the stage 1 with SHA-256" in capsys.readouterr().err
    with pytest.raises(ValueError, match="encode the clips into another folder"):
        stage_2(out, other).prepare(tmp_path)
    with pytest.raises(ValueError, match=r"clip 0: a stage 2 clip without label .*vasa_jax.training.encode"):
        stage_2(own, autoencoder).prepare(tmp_path)


def test_encoding_refuses_bad_input_in_one_line(own, autoencoder, tmp_path, capsys):
    small = write(tmp_path / "small", [video(0), video(1, size=16)], [video(2)])
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    for clips, out, match in (
        (tmp_path / "empty", tmp_path / "x", "has no folder train or validation"),
        (own, own, "would overwrite CLIPS"),
        (own, own / "train" / "encoded", "would overwrite CLIPS"),
        (own, autoencoder / "encoded", "would overwrite --autoencoder"),
        (own, small, "holds train and no encoded clips"),
        (own, tmp_path / "file" / "x", "file is not a folder"),
        (small, tmp_path / "y", "00.array_record, clip 1: 12 frames of 16x16 pixels; this stage 1 takes 32x32"),
    ):
        assert encode.main([str(clips), str(out), "--autoencoder", str(autoencoder)]) == 2
        errors = capsys.readouterr().err.strip().splitlines()
        assert errors[-1].startswith("encode: error: ") and match in errors[-1]
    assert not (tmp_path / "y" / "train" / "00.array_record").exists()


def test_the_gaze_of_a_window_is_that_of_the_frames_in_which_it_is_known():
    gaze = np.stack([np.arange(8), np.ones(8)], 1).astype(np.float32) / 10
    gaze[[2, 5]] = np.nan  # blinks
    labels = {"pose": np.zeros((8, 6), np.float32), "dynamics": np.zeros((8, 6), np.float32), "gaze": gaze}
    clip = read_clip(write_clip(None, None, labels))
    np.testing.assert_allclose(motion_sample(clip, 0, 2, 6)["gaze"], [(3 + 4 + 6 + 7) / 40, 0.1], rtol=1e-6)
    np.testing.assert_allclose(motion_sample(clip, 4, 0, 2)["gaze"], [0.4, 0.1], rtol=1e-6)
    gaze[4] = np.nan
    clip = read_clip(write_clip(None, None, labels))
    assert np.isnan(motion_sample(clip, 3, 0, 3)["gaze"]).all()


def test_sound_that_ends_early_is_followed_by_silence_and_none_at_all_is_unknown():
    labels = {"pose": np.zeros((20, 6), np.float32), "dynamics": np.zeros((20, 6), np.float32)}
    short = motion_sample(read_clip(write_clip(None, np.ones(640 * 19, np.float32), labels)), 12, 2, 6)
    assert short["samples"].shape == (640 * 8 + 352,)
    assert (short["samples"][: 256 + 640 * 7] == 1).all() and (short["samples"][256 + 640 * 7 :] == 0).all()
    silent = motion_sample(read_clip(write_clip(None, None, labels)), 12, 2, 6)
    assert silent["samples"].shape == short["samples"].shape and np.isnan(silent["samples"]).all()


def test_reconstruction_of_any_clips_in_closed_form():
    """A face that answers its source, on clips whose other frames are 0.2 brighter."""
    still = Face(lambda picture: picture, lambda picture: picture, lambda portrait, motion: portrait)
    frames = np.full((3, 4, 8, 8, 3), 51, np.uint8)
    frames[:, 1:] += 51
    np.testing.assert_allclose(clip_psnr(still, frames), -20 * np.log10(0.2), atol=1e-4)
