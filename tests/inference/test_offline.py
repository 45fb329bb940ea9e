import itertools

import jax
import numpy as np
import pytest
import soundfile

from vasa_jax.arrays import Motion
from vasa_jax.errors import UserError
from vasa_jax.inference.offline import Model, batches
from vasa_jax.media import audio
from vasa_jax.media.audio import AudioReader

FACE = np.random.default_rng(0).integers(0, 256, (40, 48, 3), np.uint8)
SOUND = np.random.default_rng(1).uniform(-0.3, 0.3, 640 * 20 + 1).astype(np.float32)


def animate(model: Model, sound=SOUND, **options) -> np.ndarray:
    return np.stack(list(model.animate(FACE, sound, **{"steps": 2, **options})))


def test_one_frame_for_each_640_samples(model):
    frames = animate(model)
    assert frames.shape == (21, 32, 32, 3)
    assert frames.dtype == np.uint8
    assert len(animate(model, SOUND[:1])) == 1
    assert (frames != frames[:1]).any()  # it moves


@pytest.mark.users_compiler
def test_the_same_seed_gives_the_same_frames(model):
    np.testing.assert_array_equal(animate(model, seed=7), animate(model, seed=7))
    assert (animate(model, seed=7) != animate(model, seed=8)).any()


def test_how_a_file_is_cut_into_blocks_changes_nothing(model, tmp_path, monkeypatch):
    path = tmp_path / "speech.wav"
    soundfile.write(path, np.repeat(SOUND, 2), 32000)
    whole = animate(model, path)
    monkeypatch.setattr(audio, "BLOCK", 777)
    np.testing.assert_array_equal(animate(model, path), whole)


CHANGES = {"gaze": "left", "distance": 2.0, "emotion": "happy", "steps": 3, "guidance_audio": 3.0, "guidance_gaze": 0.0}


@pytest.mark.parametrize("name", CHANGES)
def test_every_option_reaches_the_motion(model, name):
    portrait, options = model.portrait(FACE), {"steps": 2, "gaze": "up"}
    default, changed = (
        next(model.motions(portrait, SOUND[:640], **options | more)) for more in ({}, {name: CHANGES[name]})
    )
    assert (default.dynamics != changed.dynamics).any()


def test_motion_can_be_replayed(model):
    portrait = model.portrait(FACE)
    motions = list(model.motions(portrait, SOUND, steps=2))
    joined = Motion(*map(np.concatenate, zip(*motions, strict=True)))
    np.testing.assert_array_equal(list(model.animate(FACE, motion=joined)), animate(model))


def test_frames_come_before_the_sound_has_ended(model):
    class Endless(AudioReader):
        def __iter__(self):
            while True:
                yield SOUND

    assert len(list(itertools.islice(model.animate(FACE, Endless(SOUND), steps=2), 30))) == 30


def test_a_crop_is_used(model):
    left, right = (animate(model, SOUND[:640], crop=(x, 0, 32)) for x in (0, 16))
    assert (left != right).any()


@pytest.mark.parametrize(
    "options, message",
    [
        ({"gaze": "away"}, "gaze"),
        ({"distance": 9.0}, "distance"),
        ({"emotion": "bored"}, "emotion"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**32}, "seed"),
        ({"steps": 0}, "steps"),
        ({"steps": 10_000}, "steps"),
        ({"guidance_audio": float("nan")}, "guidance_audio"),
        ({"guidance_gaze": -1.0}, "guidance_gaze"),
        ({"crop": (20, 20, 32)}, "crop"),
        ({"motion": "none.npz", "sound": None}, "no such motion file"),
        ({"motion": "none.npz"}, "audio would do nothing"),
        ({"motion": "none.npz", "sound": None, "seed": 0, "gaze": "left"}, "gaze, seed would do nothing"),
        ({"sound": "none.wav"}, "no such sound file"),
        ({"sound": None}, "neither audio nor motion"),
        ({"sound": np.zeros(0, np.float32)}, "zero length"),
    ],
    ids=str,
)
def test_bad_arguments_are_refused_before_the_first_frame(model, options, message):
    options = {"sound": SOUND, **options}
    with pytest.raises(ValueError, match=message):
        model.animate(FACE, options.pop("sound"), **options)


def test_nan_far_into_a_sound_is_found(model):
    sound = np.zeros(audio.BLOCK + 1000, np.float32)
    sound[-1] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        list(model.motions(model.portrait(FACE), sound, steps=1))


def test_motion_that_is_not_finite_is_refused(model, monkeypatch):
    def broken(carry, audio, controls, **options):
        return carry, Motion(np.full((8, 6), np.nan), np.zeros((8, 5)))  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(model.motion, "step", broken)
    with pytest.raises(ValueError, match="NaN"):
        next(model.animate(FACE, SOUND))


def test_pictures_that_are_not_finite_are_refused(model, monkeypatch):
    params = jax.tree.map(lambda leaf: leaf * np.nan, model.face.params)
    portrait = model.portrait(FACE)
    monkeypatch.setattr(model.face, "params", params)
    motion = Motion(np.zeros((3, 6), np.float32), np.zeros((3, 5), np.float32))  # pyright: ignore[reportArgumentType]
    with pytest.raises(UserError, match="rendered NaN; its weights are damaged"):
        next(model.frames(portrait, [motion]))


@pytest.mark.parametrize("part", ["encode", "render"])
def test_a_device_with_too_little_memory_says_what_to_do(model, monkeypatch, part):
    def full(*arguments):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 9 bytes.\nlong")

    monkeypatch.setattr(model.face, part, full)
    with pytest.raises(UserError, match="ran out of memory: .*9 bytes.*--platform cpu") as error:
        next(model.animate(FACE, SOUND, steps=2))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("lengths", [(8, 8, 3), (1, 1, 1), (20,), (16,), (5, 0, 4)])
def test_batches_regroup_motion(lengths):
    rows = np.arange(sum(lengths) * 6, dtype=np.float32).reshape(-1, 6)
    cuts = np.cumsum(lengths)[:-1]
    stretches = [Motion(part, part[:, :5]) for part in np.split(rows, cuts)]  # pyright: ignore[reportArgumentType]
    parts = list(batches(stretches, 8))
    assert all(batch.pose.shape == (8, 6) and batch.dynamics.shape == (8, 5) for batch, _ in parts)
    np.testing.assert_array_equal(np.concatenate([batch.pose[:count] for batch, count in parts]), rows)


def test_the_time_of_every_part_is_known(model):
    animate(model)
    assert set(model.seconds) == {"load", "compile", "portrait", "motion", "render"}
    assert all(seconds > 0 for seconds in model.seconds.values())
