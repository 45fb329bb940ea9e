"""The public pair, from files that torch wrote to a frame of the original pipeline."""

import filecmp
import pickle
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from huggingface_hub import constants
from PIL import Image

from tests.convert.hub_server import serve, use
from tests.full_disk import full_disk
from tests.parity import fixtures
from tests.parity import pipeline_fixtures as inputs
from tests.parity.agreement import agree
from vasa_jax.convert.__main__ import main
from vasa_jax.convert.hub import find_release
from vasa_jax.errors import UserError
from vasa_jax.inference import parity
from vasa_jax.inference.load import load
from vasa_jax.joyvasa.windows import Noise
from vasa_jax.liveportrait import pictures
from vasa_jax.liveportrait.animation import Rules
from vasa_jax.liveportrait.driving import DrivingMotion
from vasa_jax.liveportrait.keypoints import HeadMotion


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


@pytest.fixture(scope="module")
def golden():
    with np.load(Path(__file__).parents[1] / "golden_pipeline_seed1.npz") as answers:
        return dict(answers)


@pytest.fixture(scope="module")
def noise():
    """What the originals drew: step t of a window at index t - 1."""

    def steps(window):
        drawn = [inputs.step_noise(1, window, step) for step in range(50, 1, -1)]
        return np.stack([np.zeros_like(drawn[0]), *drawn[::-1]])

    return Noise(fixtures.gaussian(1, "x_T", (1, 100, 73)), steps)


def photo_of(name, request):
    if name == "synthetic":
        return inputs.portrait(1)
    path = request.getfixturevalue("assets") / "portraits" / "painting_mona_lisa.jpg"
    return np.asarray(Image.open(path).convert("RGB"))


def same_picture(record_property, found, golden, key, start, stride):
    apart = np.abs(found[start::stride, start::stride].astype(int) - golden[key])
    assert apart.max() <= 3 and apart.mean() <= 0.2
    agree(record_property, f"{key}, mean levels", found.mean((0, 1)) / 255, golden[f"{key}_mean64"] / 255, 5e-3)


@pytest.fixture
def crop(monkeypatch, golden):
    """Lets faces be cut out by the goldens' own matrices, since a hundredth of a pixel shows in what follows."""

    def set_to(name):
        transform = pictures.Transform(golden[f"crop.{name}.rot.M_o2c"], golden[f"crop.{name}.rot.M_c2o"])
        monkeypatch.setattr(pictures, "find_crop", lambda points: transform)

    return set_to


@pytest.mark.parametrize("name, frames", [("synthetic", (0, 103, 127)), ("mona_lisa", (103,))])
def test_a_photo_and_a_sound_become_the_pictures_of_the_originals(
    record_property, request, pair, golden, noise, crop, name, frames
):
    photo, points = photo_of(name, request), golden[f"photo.{name}.landmarks"]
    drawn = name == "synthetic"  # and no JPEG file, whose decoder has levels of its own
    own = parity.sit(pair, photo, points).portrait.source.placed
    agree(
        record_property, f"whole.{name}: source, own crop", own, golden[f"source.{name}.x_s"], 1e-4 if drawn else 1e-3
    )
    crop(name)
    take = parity.talk_as_originals(pair, photo, points, inputs.sound(1), noise, 2.8, "per_position")
    assert len(take.keypoints) == 128
    wanted = golden[f"whole.{name}.x_d"]
    agree(record_property, f"whole.{name}: keypoints", take.keypoints[::3], wanted, 1e-5 if drawn else 1e-3)
    sitter = parity.sit(pair, photo, points)
    levels = np.asarray(pair.face.levels(sitter.portrait, jnp.asarray(take.keypoints[103:104])))[0]
    block = golden[f"whole.{name}.103.crop_float_block"][0].transpose(1, 2, 0)
    assert np.abs(levels[248:264, 248:264] - block).max() < (1e-4 if drawn else 2 / 255)
    for number, frame in zip(frames, parity.draw(pair, sitter, take.keypoints[list(frames)], whole=False), strict=True):
        key = f"whole.{name}.{number}"
        same_picture(record_property, frame, golden, f"{key}.crop", 4, 16)
        pasted = pictures.Pasting(sitter.photo, sitter.transform).paste(frame)
        same_picture(record_property, pasted, golden, f"{key}.pasted", 6, 24)
        if number == 0:
            np.testing.assert_array_equal(next(take.frames), pasted)


def test_a_driver_moves_a_photo_as_in_the_originals(record_property, pair, golden, crop):
    crop("synthetic")
    motion = HeadMotion(*(golden[f"drive.{part}"] for part in ("R", "exp", "scale", "t")))
    driver = DrivingMotion(motion, 25.0, golden["drive.eyes"], golden["drive.lip"])
    photo, points = inputs.portrait(1), golden["photo.synthetic.landmarks"]
    take = parity.drive_as_originals(pair, photo, points, driver)
    agree(record_property, "driven keypoints", take.keypoints, golden["x_d.default"])
    (third,) = parity.draw(pair, parity.sit(pair, photo, points), take.keypoints[2:3], whole=True)
    same_picture(record_property, third, golden, "frame.default_2.pasted", 6, 24)
    bare = parity.drive_as_originals(pair, photo, points, driver, Rules(stitching=False))
    agree(record_property, "driven keypoints, not stitched", bare.keypoints, golden["x_d.no_stitching"])


def test_a_video_drives(pair, golden):
    frames, points = inputs.source_video(1), golden["video.landmarks"]
    driver = parity.watch_as_originals(pair, frames, points, 25.0)
    np.testing.assert_allclose(driver.eyes, golden["source.video.eyes"], atol=1e-6)
    np.testing.assert_allclose(driver.lips, golden["source.video.lip"], atol=1e-6)
    seen = pictures.halve(pictures.cut(frames[5], pictures.find_steady_crop(points))).astype(np.float32) / 255
    for part, last in zip(driver.motion, pair.face.encode(jnp.asarray(seen[None])).source.motion, strict=True):
        np.testing.assert_allclose(part[5], last, atol=1e-5)


def test_drivers_that_the_originals_cannot_follow_are_refused(pair, golden):
    motion = HeadMotion(*(golden[f"drive.{part}"] for part in ("R", "exp", "scale", "t")))
    photo, points = inputs.portrait(1), golden["photo.synthetic.landmarks"]

    def refused(rules, count):
        driver = DrivingMotion(HeadMotion(*(part[:count] for part in motion)), 25.0, None, None)
        with pytest.raises(UserError) as error:
            parity.drive_as_originals(pair, photo, points, driver, rules)
        return str(error.value)

    assert "a driver of one frame" in refused(Rules(), 1)
    assert "no ratios of the eyes" in refused(Rules(retarget_eyes=True), 6)
    assert "no ratios of the lips" in refused(Rules(retarget_lips=True, relative=False), 6)


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
    with full_disk(1 << 20), pytest.raises(UserError, match="cannot write .*/releases/joyvasa"):
        find_release("joyvasa")
    left = {path.name for path in (tmp_path / "full" / ".cache" / "vasa-jax" / "releases").iterdir()}
    assert left == {"joyvasa.lock"} and len(hub.asked) == asked
