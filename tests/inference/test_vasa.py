import dataclasses
import json
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import vasa_jax
from tests.inference.tiny import FACE, MOTION
from vasa_jax.audio.log_mel import slice_samples
from vasa_jax.checkpoint import write_manifest
from vasa_jax.errors import UserError
from vasa_jax.inference.controls import make_controls
from vasa_jax.inference.load import load
from vasa_jax.inference.pair import Options
from vasa_jax.inference.vasa import MotionModel


def test_a_release_is_read_as_it_was_written(model):
    assert (model.face.config, model.motion.config) == (FACE, MOTION)
    assert model.size == 32 and model.fps == 25
    assert model.seconds["load"] > 0


def test_frames_are_rounded_pictures(model):
    portrait = model.portrait(np.full((32, 32, 3), 128, np.uint8))
    motion = model.face.motion(jnp.full((8, 32, 32, 3), 0.5))
    assert motion.pose.shape == (8, 6) and motion.dynamics.shape == (8, 5)
    frames, finite = model.face.render(portrait, motion)
    assert finite.shape == (8,) and finite.all()
    assert frames.shape == (8, 32, 32, 3) and frames.dtype == jnp.uint8


@pytest.fixture
def copy(release: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(release, tmp_path / "copy"))


def test_dtype_reaches_both_networks(copy):
    pair = load(copy, "bfloat16").pair
    face, motion = pair.face, pair.motion
    assert face.config.dtype == motion.config.dtype == "bfloat16"


@pytest.mark.parametrize("name", ["autoencoder", "motion", "statistics"])
def test_a_missing_file_is_named(copy, name):
    (copy / f"{name}.safetensors").unlink()
    with pytest.raises(ValueError, match=f"no {name}.safetensors"):
        load(copy)


@pytest.mark.parametrize("name", ["autoencoder", "motion", "statistics"])
def test_every_tensor_is_accounted_for(copy, name):
    path = copy / f"{name}.safetensors"
    tensors = load_file(path)
    first = sorted(tensors)[0]
    for changed in (
        {key: value for key, value in tensors.items() if key != first},
        tensors | {"stranger": np.zeros(3, np.float32)},
        tensors | {first: np.zeros((7, 7), np.float32)},
    ):
        save_file(changed, path)
        write_manifest(copy)
        with pytest.raises(ValueError, match=name):
            load(copy)


@pytest.mark.parametrize("change", [{"width": 24}, {"num_layers": 2}, {"window": 9}])
def test_tensors_of_another_network_are_named_before_the_first_frame(model, change):
    """Loading traces nothing; so it is the compiler that stumbles."""
    odd = MotionModel(dataclasses.replace(MOTION, **change), model.motion.params, model.motion.statistics)
    window = odd.needs.window
    silence = jnp.zeros(slice_samples(window))
    with pytest.raises(UserError, match="motion: .* do not fit its config"):
        odd.step(odd.start(jax.random.key(0)), silence, window, window, make_controls(), Options(1))


@pytest.mark.parametrize("stage, field, value", [("motion", "dynamics_dim", 6), ("autoencoder", "dynamics_dim", 6)])
def test_stages_that_do_not_fit_together(copy, stage, field, value):
    config = json.loads((copy / "config.json").read_text())
    config[stage][field] = value
    (copy / "config.json").write_text(json.dumps(config))
    write_manifest(copy)
    with pytest.raises(ValueError, match="do not fit"):
        load(copy)


def test_a_stage_that_is_absent(copy):
    config = json.loads((copy / "config.json").read_text())
    del config["motion"]
    (copy / "config.json").write_text(json.dumps(config))
    write_manifest(copy)
    with pytest.raises(ValueError, match="no 'motion'"):
        load(copy)


def test_models_that_are_not_there(tmp_path):
    with pytest.raises(ValueError, match="the model 'nobody' is not there"):
        vasa_jax.load("nobody")
    with pytest.raises(ValueError, match="no config.json"):
        vasa_jax.load(tmp_path)


def test_a_dtype_that_is_unknown(release):
    with pytest.raises(ValueError, match="float16"):
        vasa_jax.load(release, dtype="float16")


def test_a_kind_that_is_unknown(copy):
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"kind": "puppet"}))
    write_manifest(copy)
    with pytest.raises(UserError, match="of kind 'puppet'; this version runs vasa, liveportrait-joyvasa"):
        load(copy)
