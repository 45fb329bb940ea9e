"""Stage 2 on frozen features of speech: recorded or live, from the clips to a video, and what is refused on the way."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.audio.tiny import WAV2VEC2, speech_params
from tests.inference.tiny import write_release
from tests.training.tiny import MOTION, STAGE_1, STAGE_2
from vasa_jax.audio.augmentation import SoundAugmentationConfig
from vasa_jax.audio.front_end import front_end, slice_samples
from vasa_jax.audio.weights import save_speech
from vasa_jax.checkpoint import load_release, write_manifest
from vasa_jax.data import read_clip
from vasa_jax.data.shards import open_shards
from vasa_jax.doors import infer, train
from vasa_jax.media.video import read_video
from vasa_jax.motion.objective import batch_spec, listen
from vasa_jax.synthetic.__main__ import main as synthetic
from vasa_jax.training import encode, samples
from vasa_jax.training.export import main as export
from vasa_jax.training.hearing import clip_features, with_speech
from vasa_jax.training.motion_task import motion_sample
from vasa_jax.training.tasks import make_task

MODEL = dataclasses.replace(MOTION, audio=WAV2VEC2)
EXPERIMENT = dataclasses.replace(STAGE_2, model=MODEL, steps=10, eval_every=10, pictures_every=10, log_every=5)


@pytest.fixture(scope="module")
def speech(tmp_path_factory):
    """A release of the small wav2vec 2.0 with random weights."""
    folder = tmp_path_factory.mktemp("speech") / "wav2vec2"
    save_speech(folder, "wav2vec2", WAV2VEC2.speech, speech_params())
    return folder


def on(speech, experiment=EXPERIMENT, **fields):
    """The experiment with these weights."""
    audio = dataclasses.replace(WAV2VEC2, weights=str(speech))
    return dataclasses.replace(experiment, model=dataclasses.replace(MODEL, audio=audio), **fields)


def write_config(path):
    path.write_text(
        "from tests.training.test_hearing import EXPERIMENT\n\n\ndef get_config():\n    return EXPERIMENT\n"
    )
    return str(path)


@pytest.mark.long
def test_ten_steps_become_a_release_that_speaks(tmp_path, speech, monkeypatch, capsys):
    """The commands of docs/training.md: clips with features are made, ten steps, export, and a video in the end; the
    release names its speech network and carries none of it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(samples, "performances", lambda *_: {})  # the video in the end is one
    config = write_config(tmp_path / "motion_tiny.py")
    write_release(tmp_path / "stage_1", STAGE_1.model, MOTION)
    weights = ["--model.audio.weights", str(speech)]
    assert train.main([config, "--workdir", "run", "--autoencoder", "stage_1", *weights]) == 0, capsys.readouterr().err
    clip = read_clip(open_shards(tmp_path / "run" / "data" / "train")[0])
    assert clip.labels["features"].shape == (25, 16) and clip.labels["features"].dtype == np.float16
    noted = json.loads((tmp_path / "run" / "data" / "encoded.json").read_text())["features"]
    assert export(["run", "--out", "motion"]) == 0
    audio = load_release("motion").config["motion"]["audio"]
    assert audio["weights"] == str(speech) and audio["sha256"] == noted["sha256"] and len(noted["sha256"]) == 64
    assert load_release("motion").tensors.keys() == {"motion", "statistics"}
    release = load_release("motion")
    write_release(tmp_path / "model", STAGE_1.model, MOTION)
    whole = json.loads((tmp_path / "model" / "config.json").read_text())
    for name in ("motion", "statistics"):
        (tmp_path / "model" / f"{name}.safetensors").write_bytes(
            (tmp_path / "motion" / f"{name}.safetensors").read_bytes()
        )
        whole["tensors"][name] = release.config["tensors"][name]
    (tmp_path / "model" / "config.json").write_text(json.dumps(whole | {"motion": release.config["motion"]}))
    write_manifest(tmp_path / "model")
    assert synthetic(["--seed", "4000000", "--portrait", "p.png", "--speech", "s.wav", "--seconds", "1"]) == 0
    flags = ["--model", "model", "--image", "p.png", "--audio", "s.wav", "--out", "talk.mp4", "--steps", "2"]
    assert infer.main(flags) == 0, capsys.readouterr().err
    assert len(list(read_video("talk.mp4"))) == 25

    capsys.readouterr()
    other = save_speech(tmp_path / "other", "wav2vec2", WAV2VEC2.speech, speech_params(1))
    for more, match in (
        (["--speech", "nowhere"], "the speech network 'nowhere' is not there"),
        (["--speech", "other"], f"other holds the wav2vec2 with SHA-256 {other[:16]}; this model was trained"),
        (["--model", "demo", "--speech", "other"], "hears log-mel and takes no speech network"),
    ):
        assert infer.main([*flags, *more]) == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert match in line
    assert train.main([config, "--workdir", "run", "--autoencoder", "stage_1", "--model.audio.weights", "other"]) == 2
    assert "the features in run/data were made with sha256=" in capsys.readouterr().err


def test_recorded_and_live_features_agree_and_windows_begin_where_blocks_do(tmp_path, speech, monkeypatch):
    """From a clip's first frame; later ones know a loudness that a slice has yet to learn."""
    monkeypatch.chdir(tmp_path)
    write_release(tmp_path / "stage_1", STAGE_1.model, MOTION)
    recorded = with_speech(on(speech, autoencoder="stage_1"))
    task = make_task(recorded)
    task.prepare(tmp_path / "run")
    held_out = task.held_out(tmp_path / "run")
    live = make_task(dataclasses.replace(recorded, features="live"))
    assert task.helpers() == {} and jax.tree.leaves(live.helpers())[0].dtype == np.float32
    assert task.batch_spec(1).keys() - live.batch_spec(1).keys() == {"features"}
    sound = live.held_out(tmp_path / "run")
    heard = jax.jit(live.view)(live.helpers(), {name: jnp.asarray(value) for name, value in sound.items()}, None)
    np.testing.assert_allclose(heard["features"], held_out["features"], atol=2e-3)
    shapes = jax.tree.map(lambda leaf: leaf.shape, live.helpers())
    assert shapes == jax.tree.map(lambda leaf: leaf.shape, live.helper_shapes())
    batches = task.dataset(tmp_path / "run", 4, 0, 0, 0, 1)
    clips = open_shards(tmp_path / "run" / "data" / "train")
    whole = [np.asarray(read_clip(clips[i]).labels["features"], np.float32) for i in range(len(clips))]
    for part in next(batches)["features"]:
        starts = [
            first for clip in whole for first in range(len(clip) - 7) if np.array_equal(clip[first : first + 8], part)
        ]
        assert len(starts) == 1 and starts[0] % WAV2VEC2.block == 0
    batches.close()


def test_features_of_a_clip_are_those_of_a_session_from_its_beginning(speech):
    front, params = front_end(WAV2VEC2), speech_params()
    sound = 0.1 * np.random.default_rng(0).normal(size=640 * 50 - 100).astype(np.float32)
    features = clip_features(WAV2VEC2, params)(sound, 51)
    padded = np.pad(sound, (front.lead, 740 + front.ahead + 640))
    _, whole = jax.jit(front.hear)(params, front.start(1), jnp.asarray(padded[None, : slice_samples(front, 52)]))
    assert features.dtype == np.float16 and features.shape == (51, 16)
    np.testing.assert_allclose(features, whole[0, :51], atol=2e-3)


def test_live_features_hear_augmented_sound_and_recorded_ones_refuse(speech):
    augmentation = SoundAugmentationConfig(share=1.0, settled=0.5)
    with pytest.raises(ValueError, match="augmentation changes sound, .*--features live"):
        on(speech, augmentation=augmentation)
    with pytest.raises(ValueError, match="is of frozen networks"):
        dataclasses.replace(STAGE_2, features="live")
    rng = np.random.default_rng(0)
    batch = {
        name: jnp.asarray(0.1 * rng.normal(size=spec.shape), jnp.float32) for name, spec in batch_spec(MODEL, 2).items()
    }
    keys = jax.random.split(jax.random.key(0), 2)
    hear = jax.jit(listen, static_argnums=(0, 4))
    plain, changed = (hear(MODEL, speech_params(), batch, keys, how) for how in (None, augmentation))
    assert (plain["features"] != changed["features"]).any() and "samples" not in changed


def test_a_window_that_is_no_multiple_of_the_block_is_refused():
    with pytest.raises(ValueError, match="window is 7; it must be a multiple of audio.block=2.*audio.block 1"):
        dataclasses.replace(MODEL, window=7)


def test_encode_writes_features_and_folders_of_other_front_ends_are_refused(tmp_path, speech, monkeypatch, capsys):
    from tests.training.test_own_clips import video, write

    monkeypatch.chdir(tmp_path)
    config = write_config(tmp_path / "motion_tiny.py")
    own = write(tmp_path / "own", [video(0), video(1, sound=False)], [video(2)])
    write_release(tmp_path / "stage_1", STAGE_1.model, MOTION)
    arguments = [str(own), "out", "--autoencoder", "stage_1"]
    sound = ["--sound", config, "--speech", str(speech)]
    assert encode.main([*arguments, *sound]) == 0, capsys.readouterr().err
    clips = [read_clip(open_shards(tmp_path / "out" / "train")[i]) for i in range(2)]
    assert clips[0].labels["features"].shape == (12, 16) and "features" not in clips[1].labels
    silent = motion_sample(clips[1], 0, 2, 6, front_end(WAV2VEC2), recorded=True)
    assert np.isnan(silent["features"]).all() and silent["features"].shape == (8, 16)
    assert encode.main([*arguments, *sound]) == 0
    save_speech(tmp_path / "other", "wav2vec2", WAV2VEC2.speech, speech_params(1))
    capsys.readouterr()
    plain = [str(own), "plain", "--autoencoder", "stage_1"]
    assert encode.main(plain) == 0
    for given, match in (
        (arguments, "carry features of sound: name their front end"),
        ([*plain, *sound], "carry no features of sound"),
        ([*arguments, "--sound", config, "--speech", "other"], "were made with sha256="),
        ([*arguments, "--sound", config], "model.audio.weights is empty"),
        ([*arguments, "--speech", "other"], "--speech means nothing without --sound"),
        ([*arguments, "--sound", "demo_motion"], "names no config of stage 2 with a frozen speech network"),
    ):
        capsys.readouterr()
        assert encode.main(given) == 2
        assert match in capsys.readouterr().err.strip().splitlines()[-1]
    clip = read_clip(open_shards(tmp_path / "plain" / "train")[0])
    with pytest.raises(ValueError, match="without label 'features'"):
        motion_sample(clip, 0, 2, 6, front_end(WAV2VEC2), recorded=True)
