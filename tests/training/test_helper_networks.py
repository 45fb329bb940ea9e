"""Frozen networks in training: named, hashed, asked for, and refused in one line."""

import dataclasses

import jax
import numpy as np
import pytest

from tests.training.tiny import STAGE_1
from vasa_jax.autoencoder.discriminator import DiscriminatorConfig
from vasa_jax.pretrained.arcface import ArcFaceConfig
from vasa_jax.pretrained.helper import build_helper, save_helper
from vasa_jax.pretrained.vgg import VGGConfig
from vasa_jax.training.config import HelperConfig, HelpersConfig, from_saved, to_saved
from vasa_jax.training.face_task import _is_apart
from vasa_jax.training.helper_networks import load_helpers, with_helpers
from vasa_jax.training.tasks import make_task


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("helpers")
    vgg = build_helper("vgg16", VGGConfig(blocks=(1,), widths=(2,), layers=("relu1_1",)))
    arcface = build_helper("arcface", ArcFaceConfig(stages=(1, 1, 1, 1), width=2, code=4))
    for name, helper, seed in (("vgg", vgg, 0), ("other", vgg, 1), ("arcface", arcface, 0)):
        save_helper(folder / name, helper, jax.device_get(helper.init(jax.random.key(seed))), "")
    return folder


def asking(weights, helpers, **fields):
    objective = dataclasses.replace(STAGE_1.objective, **weights)
    named = HelpersConfig(**{part: HelperConfig(weights=str(path)) for part, path in helpers.items()})
    return dataclasses.replace(STAGE_1, objective=objective, helpers=named, **fields)


def test_a_run_notes_what_it_asks_and_goes_on_with_nothing_else(folder):
    experiment = with_helpers(
        asking({"perceptual": 1.0, "face": 1.0}, {"perceptual": folder / "vgg", "face": folder / "vgg"})
    )
    sha256 = experiment.helpers.perceptual.sha256
    assert len(sha256) == 64 and experiment.helpers.face.sha256 == sha256
    assert from_saved(to_saved(experiment), "run") == experiment
    loaded = load_helpers(experiment.helpers)
    assert len(loaded.params) == 1 and set(loaded.bound(loaded.params)) == {"perceptual", "face"}
    task = make_task(experiment)
    jax.tree.map(lambda x, shape: np.testing.assert_equal(x.shape, shape.shape), task.helpers(), task.helper_shapes())
    moved = HelperConfig(weights=str(folder / "other"), sha256=sha256)
    changed = dataclasses.replace(experiment, helpers=dataclasses.replace(experiment.helpers, face=moved))
    with pytest.raises(ValueError, match=rf"helpers.face: the helper's sha256 is {sha256}, the weights in .* are"):
        with_helpers(changed)
    assert with_helpers(STAGE_1) is STAGE_1


def test_what_a_term_lacks_is_named(folder):
    with pytest.raises(ValueError, match=r"objective.gaze=2.0 asks a frozen network: .*--helpers.gaze.weights"):
        asking({"gaze": 2.0}, {})
    with pytest.raises(ValueError, match=r"helpers.face.weights='F' would never be asked"):
        asking({}, {"face": "F"})
    with pytest.raises(ValueError, match=r"objective.cross_identity=1.0 needs frames of another person"):
        asking({"cross_identity": 1.0}, {"identity": folder / "arcface"})
    with pytest.raises(ValueError, match=r"helpers.identity.weights=.*is a vgg16, which does not tell people apart"):
        with_helpers(asking({"cross_identity": 1.0}, {"identity": folder / "vgg"}, other_frames_per_sample=1))
    with pytest.raises(ValueError, match=r"helpers.face: .*not a release folder"):
        with_helpers(asking({"face": 1.0}, {"face": folder}))


@pytest.mark.parametrize(
    "weights, fields, message",
    [
        ({"adversarial": float("nan")}, {}, "objective.adversarial=nan must be a finite number, 0 or more"),
        ({"consistency_every": 0}, {}, "objective.consistency_every=0 must be 1 or more"),
        ({}, {"discriminator_every": 0}, "discriminator_every=0 must be 1 or more"),
        ({"matching": 1.0}, {"discriminator": DiscriminatorConfig(layers=6)}, "pictures of 32 pixels do not fit"),
        (
            {"matching": 1.0},
            {"discriminator": DiscriminatorConfig(layers=1, dtype="bfloat16")},
            "discriminator.dtype='bfloat16' is not for training",
        ),
    ],
)
def test_nonsense_is_refused(weights, fields, message):
    with pytest.raises(ValueError, match=message):
        asking(weights, {}, **fields)


def test_a_game_that_is_over_is_warned_about():
    assert _is_apart({"discriminator/accuracy": 0.8}) == "" == _is_apart({"loss": 1.0})
    assert "tells 99.9% of all patches apart" in _is_apart({"discriminator/accuracy": 0.999})
