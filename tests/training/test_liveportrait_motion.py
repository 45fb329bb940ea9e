"""Stage 2 on LivePortrait's motion: encode, two steps, a model that speaks; LivePortrait in its real size."""

import dataclasses
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.inference.tiny import public_tensors
from tests.training.tiny import STAGE_2
from vasa_jax.arrays import Motion
from vasa_jax.checkpoint import save_release
from vasa_jax.data.records import read_clip, write_clip, write_shard
from vasa_jax.data.shards import open_shards
from vasa_jax.inference import public
from vasa_jax.inference.load import load
from vasa_jax.inference.pair import Adjustments
from vasa_jax.liveportrait.keypoints import HeadMotion
from vasa_jax.liveportrait.motion_code import DYNAMICS_DIM, from_code
from vasa_jax.training import encode, export, samples, world_data
from vasa_jax.training.config import Records
from vasa_jax.training.loop import train
from vasa_jax.training.tasks import make_task

FRAMES = 8


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """A release of the public pair."""
    folder = tmp_path_factory.mktemp("public") / "release"
    tensors = public_tensors()
    save_release(folder, public.KIND, {}, tensors, "float32", "", exact=tuple(tensors))
    return folder


@pytest.mark.long
def test_stage_2_learns_liveportraits_motion_and_speaks(pair, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(world_data, "RENDER_BATCH", FRAMES)
    monkeypatch.setattr(samples, "LONGEST", 1)
    (tmp_path / "clips" / "train").mkdir(parents=True)
    random = np.random.default_rng(0)
    frames = random.integers(0, 256, (FRAMES, 256, 256, 3)).astype(np.uint8)
    sound = random.uniform(-0.1, 0.1, 640 * FRAMES).astype(np.float32)
    write_shard(tmp_path / "clips" / "train" / "0.array_record", [write_clip(frames, sound, {})])
    encoded = tmp_path / "encoded"
    assert encode.main([str(tmp_path / "clips"), str(encoded), "--autoencoder", str(pair)]) == 0
    shutil.copytree(encoded / "train", encoded / "validation")
    labels = read_clip(open_shards(encoded / "train")[0]).labels
    assert labels["pose"].shape == (FRAMES, 6) and labels["dynamics"].shape == (FRAMES, DYNAMICS_DIM)
    first = jnp.asarray(read_clip(open_shards(tmp_path / "clips" / "train")[0], [0]).frames, jnp.float32) / 255
    face = public.PublicFace(public_tensors())
    code = Motion(labels["pose"][:1], labels["dynamics"][:1])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), from_code(code), face.motion(first))

    experiment = dataclasses.replace(
        STAGE_2,
        model=dataclasses.replace(STAGE_2.model, dynamics_dim=DYNAMICS_DIM),
        data=Records(path=str(encoded), threads=1),
        autoencoder=str(pair),
    )
    result = train(experiment, make_task(experiment), tmp_path / "run", progress=False)
    assert result.step == 2
    out = tmp_path / "release"
    for arguments, message in (
        (["--face", str(encoded)], "is not a release folder"),
        ([], ""),
        (["--face", str(pair)], ""),
    ):
        code = export.main([str(tmp_path / "run"), "--out", str(out), *arguments])
        errors = capsys.readouterr().err
        assert code == (2 if message else 0) and message in errors
    model = load(out)
    assert model.pair.kind == "liveportrait-vasa" and set(model.motion.controls) == {"gaze", "distance", "emotion"}
    (motion,) = model.motions(None, sound[: 640 * 5], steps=2)
    assert isinstance(motion, HeadMotion) and motion.expression.shape == (5, 21, 3)
    assert np.isfinite(np.concatenate([np.asarray(part).ravel() for part in motion])).all()
    portrait = model.portrait(np.full((512, 512, 3), 128, np.uint8))
    _, placed = model.pair.retarget(portrait, None, motion, model.motion.make_controls(), Adjustments())
    assert placed.shape == (5, 21, 3) and np.isfinite(placed).all()


def test_a_face_of_another_kind_is_refused(pair, tmp_path):
    with pytest.raises(ValueError, match="name a release of 'liveportrait-joyvasa'"):
        export._face("demo", [], {})
    with pytest.raises(ValueError, match="of stage 2 on LivePortrait's motion"):
        export._face(pair, [], {"motion": {"dynamics_dim": 6}, "training": {}})
