import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import soundfile

from vasa_jax.arrays import Motion
from vasa_jax.autoencoder.config import LABEL_UNIT
from vasa_jax.errors import UserError
from vasa_jax.faces.box import Box
from vasa_jax.geometry.rotation import gaze_angles, gaze_direction, pose_rotation
from vasa_jax.inference.driving import resample
from vasa_jax.inference.offline import Model, batches
from vasa_jax.inference.pair import Options
from vasa_jax.inference.vasa import MotionModel
from vasa_jax.media import audio
from vasa_jax.media.audio import AudioReader

FACE = np.random.default_rng(0).integers(0, 256, (40, 48, 3), np.uint8)
BOX = Box(24, 20, 40)
"""What is shown, so that nobody looks for a face in noise."""
SOUND = np.random.default_rng(1).uniform(-0.3, 0.3, 640 * 20 + 1).astype(np.float32)


def animate(model: Model, sound=SOUND, **options) -> np.ndarray:
    return np.stack(list(model.animate(FACE, sound, **{"steps": 2, "box": BOX, **options})))


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


CHANGES = {"gaze": "left", "distance": 2.0, "emotion": "happy", "steps": 4, "guidance_audio": 3.0, "guidance_gaze": 0.0}
CHANGES["sampler"] = "dpm++"


@pytest.mark.parametrize("name", CHANGES)
def test_every_option_reaches_the_motion(model, name):
    portrait, options = model.portrait(FACE), {"steps": 3, "gaze": "up"}
    default, changed = (
        next(model.motions(portrait, SOUND[:640], **options | more)) for more in ({}, {name: CHANGES[name]})
    )
    assert (default.dynamics != changed.dynamics).any()


def test_frames_made_without_what_follows_are_made_anew_by_the_next_window(model):
    """Of windows of 8 frames 5 are taken at a time, as a session of that hop emits them; all of the sound is shown."""
    own = model.motion
    other = MotionModel(dataclasses.replace(own.config, spare=3), own.params, own.statistics)
    spare = Model(dataclasses.replace(model.pair, motion=other))
    parts = list(spare.motions(model.portrait(FACE), SOUND, steps=2))
    assert [len(part.pose) for part in parts] == [5, 5, 5, 5, 1]
    carry, needs, controls = own.start(jax.random.key(0)), own.needs, own.make_controls()
    padded = np.pad(SOUND, (needs.lead, 640 * needs.window + needs.ahead))
    for number, part in enumerate(parts[:3]):
        slice_ = padded[640 * 5 * number :][: needs.lead + 640 * needs.window + needs.ahead]
        carry, drawn = own.step(carry, jnp.asarray(slice_), needs.window, 5, controls, Options(2))
        count = len(part.pose)
        np.testing.assert_array_equal(part.pose, drawn.pose[:count])
        np.testing.assert_array_equal(part.dynamics, drawn.dynamics[:count])


def raw(model, **options):
    motions = list(model.motions(model.portrait(FACE), SOUND, steps=2, **options))
    return Motion(*map(np.concatenate, zip(*motions, strict=True)))


def fitted(model, motion, **adjustments):
    asked = model.asked(**adjustments)
    return model.pair.retarget(None, None, motion, asked.controls, asked.adjustments)[1]


def test_adjustments_do_what_they_say(model):
    motion, mean = raw(model), jax.device_get(model.motion.statistics.pose_mean)
    assert fitted(model, motion) is motion
    still = fitted(model, motion, head=0.0, distance=2.0).pose
    np.testing.assert_allclose(still, np.broadcast_to(mean + [0, 0, 0, 0, 0, np.log(2)], still.shape), atol=1e-6)
    moved = fitted(model, motion, position=(0.25, -0.5), zoom=2.0)
    np.testing.assert_allclose(moved.pose - motion.pose, [[0, 0, 0, 0.25, -0.5, -np.log(2)]] * 21, atol=1e-6)
    labels = np.clip(motion.dynamics[:, :3], [[-1.2, -2.8, -2.8]], [[2.8, 1.2, 1.2]])
    np.testing.assert_allclose(moved.dynamics[:, :3], labels, atol=1e-5)
    shut = fitted(model, motion, mouth=0.0, blink=0.0).dynamics
    np.testing.assert_allclose(shut[:, :3], [[-1.2, 1.2, 1.2]] * 21, atol=1e-5)


def test_eyes_look_where_they_looked_when_the_head_is_held(model):
    def seen(motion):
        in_head = gaze_direction(LABEL_UNIT[3] * jnp.asarray(motion.dynamics)[:, 3:5])
        return gaze_angles(jnp.einsum("ti,tij->tj", in_head, pose_rotation(jnp.asarray(motion.pose))))

    motion = Motion(0.3 * raw(model).pose, 0.3 * raw(model).dynamics)
    np.testing.assert_allclose(seen(fitted(model, motion, head=0.2)), seen(motion), atol=1e-4)


def test_pose_and_dynamics_may_have_two_sources(model):
    pose, dynamics = raw(model, seed=1), raw(model, seed=2)
    cut = Motion(*(part[:4] for part in pose))
    kept = []
    model.perform(FACE, SOUND, kept, box=BOX, pose_from=cut, dynamics_from=dynamics)
    frames = list(model.perform(FACE, SOUND, kept, steps=2, seed=2, box=BOX, pose_from=cut).frames)
    joined = Motion(*map(np.concatenate, zip(*kept, strict=True)))
    assert len(frames) == 21
    np.testing.assert_array_equal(joined.pose, pose.pose[[0, 1, 2, 3, 2, 1] * 3 + [0, 1, 2]])
    np.testing.assert_array_equal(joined.dynamics[:, :3], dynamics.dynamics[:, :3])


@pytest.mark.parametrize("rate", [12.5, 25.0, 50.0])
def test_motion_of_another_rate_is_interpolated(rate):
    times = np.arange(40) / rate
    motion = Motion(np.stack([times] * 6, 1), np.stack([times**0] * 5, 1))  # pyright: ignore[reportArgumentType]
    found = resample(motion, rate)
    assert len(found.pose) == round(40 / rate * 25)
    np.testing.assert_allclose(found.pose[:, 0], np.minimum(np.arange(len(found.pose)) / 25, times[-1]), atol=1e-6)
    np.testing.assert_allclose(found.dynamics, 1.0)


def test_motion_can_be_replayed(model):
    portrait = model.portrait(FACE)
    motions = list(model.motions(portrait, SOUND, steps=2))
    joined = Motion(*map(np.concatenate, zip(*motions, strict=True)))
    np.testing.assert_array_equal(list(model.animate(FACE, driving=joined, box=BOX)), animate(model))


def test_frames_come_before_the_sound_has_ended(model):
    class Endless(AudioReader):
        def __iter__(self):
            while True:
                yield SOUND

    assert len(list(itertools.islice(model.animate(FACE, Endless(SOUND), steps=2, box=BOX), 30))) == 30


def test_a_box_is_used(model):
    left, right = (animate(model, SOUND[:640], box=Box(x, 16, 32)) for x in (16, 32))
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
        ({"sampler": "euler"}, "no sampler 'euler'; it has ddim, dpm\\+\\+"),
        ({"guidance_audio": float("nan")}, "guidance_audio"),
        ({"guidance_gaze": -1.0}, "guidance_gaze"),
        ({"box": Box(90, 20, 32)}, "outside of the picture"),
        ({"face": 0, "box": BOX}, "--face and --box both"),
        ({"amplitude": 5.0}, "amplitude 5 is out of range"),
        ({"mouth": -1.0}, "mouth -1"),
        ({"position": (2.0, 0.0)}, "position"),
        ({"zoom": 0.0}, "zoom 0"),
        ({"square": False}, "always draw the square"),
        ({"driving": "none.npz", "sound": None}, "no such motion file"),
        ({"driving": "none.mp4", "sound": None}, "no such video file"),
        ({"driving": "none.npz", "sound": None, "seed": 0, "gaze": "left"}, "seed, gaze would do nothing"),
        ({"driving": "a.npz", "pose_from": "b.npz", "dynamics_from": "c.npz"}, "driving would do nothing"),
        ({"pose_from": "b.npz", "sound": None}, "neither a sound nor motion"),
        ({"sound": "none.wav"}, "no such sound file"),
        ({"sound": None}, "neither a sound nor motion"),
        ({"sound": np.zeros(0, np.float32)}, "zero length"),
    ],
    ids=str,
)
def test_bad_arguments_are_refused_before_the_first_frame(model, options, message):
    options = {"sound": SOUND, "box": BOX, **options}
    with pytest.raises(ValueError, match=message):
        model.animate(FACE, options.pop("sound"), **options)


def test_nan_far_into_a_sound_is_found(model):
    sound = np.zeros(audio.BLOCK + 1000, np.float32)
    sound[-1] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        list(model.motions(model.portrait(FACE), sound, steps=1))


def test_motion_that_is_not_finite_is_refused(model, monkeypatch):
    def broken(carry, sound, heard, hop, controls, options):
        return carry, Motion(np.full((8, 6), np.nan), np.zeros((8, 5)))  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(model.motion, "step", broken)
    with pytest.raises(ValueError, match="NaN"):
        next(model.animate(FACE, SOUND, box=BOX))


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
        next(model.animate(FACE, SOUND, steps=2, box=BOX))
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


def test_frames_bring_a_provenance_of_all_that_they_depend_on(model):
    def declared(**changes):
        given = {"image": FACE, "audio": SOUND, "steps": 2, "box": BOX} | changes
        return model.perform(**given).provenance

    first = declared(gaze="left", seed=3)
    assert (first.seed, first.intent, first.model) == (3, "created", model.name)
    assert first.options == {"steps": 2, "gaze": "left", "box": "[24, 20, 40, 0.0]"}
    assert first.mark == declared(gaze="left", seed=3).mark and first.sources.keys() == {"sound"}
    motion = next(model.motions(model.portrait(FACE), SOUND))
    changes = ({"seed": 4}, {"zoom": 1.5}, {"audio": SOUND[::-1]}, {"audio": (SOUND, 8000)}, {"image": FACE[::-1]})
    driven = model.perform(FACE, driving=motion, box=BOX)
    marks = {first.mark, driven.provenance.mark, *(declared(**change).mark for change in changes)}
    assert len(marks) == 7 and driven.provenance.sources.keys() == {"driving"}
