"""The public pair, from files that torch wrote to a frame of the original pipeline."""

import filecmp
import pickle
import resource
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from huggingface_hub import constants

from tests.convert.hub_server import serve, use
from tests.parity import fixtures
from tests.parity import pipeline_fixtures as inputs
from vasa_jax.convert.__main__ import main
from vasa_jax.convert.hub import find_release
from vasa_jax.errors import UserError
from vasa_jax.geometry.rotation import rotation_matrix
from vasa_jax.inference.load import load
from vasa_jax.joyvasa.template import FaceMotion, smooth
from vasa_jax.liveportrait import pictures
from vasa_jax.liveportrait.animation import Rules, follow_speech
from vasa_jax.liveportrait.keypoints import HeadMotion

FRAME = 103


def as_torch(tensors, before=""):
    return {f"{before}{name}": torch.from_numpy(np.ascontiguousarray(value)) for name, value in tensors.items()}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Both halves as their authors lay them out, with the fixtures' weights of seed 1."""
    folder = tmp_path_factory.mktemp("pair")
    base = folder / "liveportrait" / "liveportrait" / "base_models"
    corrections = folder / "liveportrait" / "liveportrait" / "retargeting_models"
    joyvasa = folder / "joyvasa" / "motion_generator"
    for path in (base, corrections, joyvasa):
        path.mkdir(parents=True)
    for name in ("appearance_feature_extractor", "warping_module", "spade_generator"):
        torch.save(as_torch(fixtures.state_dict(f"liveportrait.{name}", 1)), base / f"{name}.pth")
    torch.save(as_torch(inputs.motion_extractor(1)), base / "motion_extractor.pth")
    three = {"retarget_shoulder": "stitching", "retarget_mouth": "retarget_lip", "retarget_eye": "retarget_eye"}
    content = {inside: as_torch(inputs.corrector(name, 1), "module.") for inside, name in three.items()}
    torch.save(content, corrections / "stitching_retargeting_module.pth")
    torch.save({"model": as_torch(fixtures.state_dict("joyvasa.motion_generator", 1)), "iter": 1}, joyvasa / "a.pt")
    (joyvasa / "motion_template.pkl").write_bytes(pickle.dumps(inputs.motion_template(1)))
    return folder


@pytest.fixture(scope="module")
def pair(files):
    flags = ["--liveportrait", str(files / "liveportrait"), "--joyvasa", str(files / "joyvasa")]
    assert main(["pair", *flags, "--out", str(files / "release")]) == 0
    return load(files / "release").pair


def test_a_frame_is_that_of_the_originals(pair):
    with np.load(Path(__file__).parents[1] / "golden_pipeline_seed1.npz") as answers:
        golden = dict(answers)
    transform = pictures.Transform(golden["crop.synthetic.rot.M_o2c"], golden["crop.synthetic.rot.M_c2o"])
    photo = pictures.shrink(inputs.portrait(1))
    crop = pictures.halve(pictures.cut(photo, transform)).astype(np.float32) / 255
    portrait = pair.face.encode(jnp.asarray(crop[None]))
    ratios = {"eyes": golden["ratio.photo.eyes"], "lips": golden["ratio.photo.lip"]}
    portrait = portrait._replace(source=portrait.source._replace(**ratios))
    placed = golden["source.synthetic.x_s"]
    assert np.abs(np.asarray(portrait.source.placed) - placed).max() < 1e-5 * np.ptp(placed)

    raw = np.split(golden["motion.per_position.raw"], np.cumsum([63, 1, 3, 1, 1]), 1)
    motion = smooth(FaceMotion(jnp.asarray(raw[0].reshape(-1, 21, 3)), *map(jnp.asarray, raw[1:])))
    turned = rotation_matrix(*(jnp.deg2rad(angle[:, 0]) for angle in (motion.pitch, motion.yaw, motion.roll)))
    head = HeadMotion(turned, motion.exp, motion.scale, motion.t)
    driven = follow_speech(portrait.source, head, Rules(close_lips=True), pair.face.correctors())
    wanted = golden["whole.synthetic.x_d"]
    assert np.abs(np.asarray(driven)[::3] - wanted).max() < 1e-5 * np.ptp(wanted)

    levels = np.asarray(pair.face.levels(portrait, driven[FRAME : FRAME + 1]))[0]
    block = golden[f"whole.synthetic.{FRAME}.crop_float_block"][0].transpose(1, 2, 0)
    assert np.abs(levels[248:264, 248:264] - block).max() < 1e-4
    frame = pictures.to_levels(levels)
    assert np.abs(frame[4::16, 4::16].astype(int) - golden[f"whole.synthetic.{FRAME}.crop"]).max() <= 1
    pasted = pictures.paste(frame, photo, transform)
    assert np.abs(pasted[6::24, 6::24].astype(int) - golden[f"whole.synthetic.{FRAME}.pasted"]).max() <= 1


def test_half_a_pair_and_strangers_are_refused(files, pair, tmp_path, capsys):
    def refused(*flags):
        code = main(["pair", *map(str, flags), "--out", str(tmp_path / "out")])
        err = capsys.readouterr().err
        assert code == 2 and not (tmp_path / "out").exists()
        return err.splitlines()[-1]

    halves = ("--liveportrait", files / "liveportrait", "--joyvasa", files / "joyvasa")
    assert "alone is half of a pair" in refused(*halves[:2])
    assert "holds no appearance_feature_extractor.pth" in refused("--liveportrait", files / "joyvasa", *halves[2:])
    assert "is no folder" in refused("--liveportrait", files / "nothing", *halves[2:])
    other = tmp_path / "other"
    other.mkdir()
    torch.save(as_torch(inputs.motion_extractor(1)), other / "a.pt")
    (other / "motion_template.pkl").write_bytes(pickle.dumps({"mean_exp": np.zeros(63)}))
    assert "motion_generator" in refused(*halves[:2], "--joyvasa", other)


@pytest.fixture
def hub(files, tmp_path, monkeypatch):
    """A Hub that has both halves, LivePortrait's under its second owner and with what the pair does not read."""
    halves = {
        name: {path.relative_to(files / half).as_posix(): path for path in (files / half).rglob("*.*")}
        for name, half in {"KlingTeam/LivePortrait": "liveportrait", "jdh-algo/JoyVASA": "joyvasa"}.items()
    }
    halves["KlingTeam/LivePortrait"] |= {"liveportrait_animals/base_models/motion_extractor.pth": b"of animals"}
    with serve() as served:
        use(served, tmp_path / "hub", monkeypatch)
        served.repositories |= halves
        yield served


def test_the_hub_gives_the_same_release(files, pair, hub, tmp_path, monkeypatch):
    said = []
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    folder = find_release("joyvasa", said.append)
    assert folder == tmp_path / "home" / ".cache" / "vasa-jax" / "releases" / "joyvasa"
    names = sorted(path.name for path in (files / "release").iterdir())
    assert sorted(path.name for path in folder.iterdir()) == names
    assert filecmp.cmpfiles(files / "release", folder, names, shallow=False) == (names, [], [])
    assert len(hub.fetched()) == 7 and sum("MIT" in line for line in said) == 1
    asked, told = len(hub.asked), len(said)
    assert find_release("joyvasa", said.append) == folder and (len(hub.asked), len(said)) == (asked, told)

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)  # the checkpoints are at hand, and the disk is full
    monkeypatch.setenv("HOME", str(tmp_path / "full"))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
    try:
        with pytest.raises(UserError, match="cannot write .*/releases/joyvasa"):
            find_release("joyvasa")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    left = {path.name for path in (tmp_path / "full" / ".cache" / "vasa-jax" / "releases").iterdir()}
    assert left == {"joyvasa.lock"} and len(hub.asked) == asked
