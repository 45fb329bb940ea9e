"""Keypoints that W is given, against the answers of the original pipelines, flag by flag."""

import dataclasses
import functools
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from tests.parity import pipeline_fixtures as inputs
from vasa_jax.convert import build, convert
from vasa_jax.convert.torch_file import read_torch_file
from vasa_jax.liveportrait.animation import EYES, Correctors, Rules, Source, animate, drive, follow_speech
from vasa_jax.liveportrait.driving import DrivingMotion, read_driving
from vasa_jax.liveportrait.keypoints import LIPS, HeadMotion, eye_ratios, lip_ratio

BAR = 1e-5
"""Of the range of the answer."""


@pytest.fixture(scope="module")
def golden():
    with np.load(Path(__file__).with_name("golden_pipeline_seed1.npz")) as answers:
        return dict(answers)


@functools.cache
def correctors():
    def network(name):
        flax = f"liveportrait.{name}"
        return functools.partial(build(flax).apply, convert(flax, inputs.corrector(name, 1)))

    return Correctors(*map(network, ("stitching", "retarget_eye", "retarget_lip")))


def source_of(golden, name="synthetic", landmarks="photo"):
    parts = (golden[f"source.{name}.{part}"][0] for part in ("R", "exp", "scale", "t"))
    ratios = (golden[f"ratio.{landmarks}.{part}"] for part in ("eyes", "lip"))
    return Source(golden[f"source.{name}.kp"][0], HeadMotion(*parts), *ratios)


def driver_of(golden, frames=slice(None)):
    motion = HeadMotion(*(golden[f"drive.{part}"][frames] for part in ("R", "exp", "scale", "t")))
    return DrivingMotion(motion, 25.0, golden["drive.eyes"][frames], golden["drive.lip"][frames])


def agrees(found, wanted):
    assert found.shape == wanted.shape
    assert np.abs(np.asarray(found) - wanted).max() <= BAR * np.ptp(wanted)


POSE, BOTH = {"friendly": False}, {"retarget_eyes": True, "retarget_lips": True}
CASES = {
    "default": {},
    "absolute": {"relative": False},
    "pose_friendly": POSE,
    "multiplier_1.3": {"multiplier": 1.3},
    "multiplier_0.6_pose_friendly": {"multiplier": 0.6, **POSE},
    "no_stitching": {"stitching": False},
    "no_stitching_pose_friendly": {"stitching": False, **POSE},
    "eyes_retarget": {"retarget_eyes": True},
    "lip_retarget": {"retarget_lips": True},
    "both_retarget": BOTH,
    "both_retarget_absolute": {"relative": False, **BOTH},
    "both_retarget_absolute_no_stitching": {"relative": False, "stitching": False, **BOTH},
}
for region in ("exp", "pose", "lip", "eyes"):
    CASES[f"region_{region}"] = {"region": region}
    CASES[f"region_{region}_absolute"] = {"region": region, "relative": False}
    CASES[f"region_{region}_pose_friendly"] = {"region": region, **POSE}
LIP_CASES = {
    "open": {},
    "open_no_stitching": {"stitching": False},
    "shut": {},
    "shut_no_stitching": {"stitching": False},
    "open_absolute": {"relative": False},
    "open_multiplier_1.3_pose_friendly": {"multiplier": 1.3, **POSE},
    "open_lip_retarget": {"retarget_lips": True},
}


@pytest.mark.parametrize("case", CASES)
def test_a_driver_moves_a_portrait(golden, case):
    found = drive(source_of(golden), driver_of(golden), Rules(**CASES[case]), correctors())
    agrees(found, golden[f"x_d.{case}"])


@pytest.mark.parametrize("case", LIP_CASES)
def test_an_open_mouth_is_closed(golden, case):
    source = source_of(golden, landmarks=case.partition("_")[0])
    found = drive(source, driver_of(golden), Rules(close_lips=True, **LIP_CASES[case]), correctors())
    agrees(found, golden[f"x_d.normalize_lip_{case}"])


def test_a_photo_that_is_not_cropped(golden):
    rules = Rules(relative=False, stitching=False)
    found = drive(source_of(golden, "no_crop"), driver_of(golden), rules, correctors())
    agrees(found, golden["x_d.no_crop_no_stitching_absolute"])


@pytest.mark.parametrize("case", ["default", "absolute", *(f"region_{r}" for r in ("lip", "eyes", "exp", "pose"))])
def test_a_picture_drives(golden, case):
    rules = Rules(**CASES[case])
    found = drive(source_of(golden), driver_of(golden, slice(4, 5)), rules, correctors(), golden["lip_array"][0])
    agrees(found, golden[f"x_d.picture_drives.{case}"])


@pytest.mark.parametrize("case", ["default", "absolute", "both_retarget_absolute"])
@pytest.mark.parametrize("name, stride", [("d2", 3), ("d5", 21)])
def test_a_public_motion_file_drives(golden, assets, name, stride, case):
    driver = read_driving(read_torch_file(assets / "motion" / f"{name}.pkl"))
    motion = HeadMotion(*(part[::stride] for part in driver.motion))
    eyes, lips = (None if part is None else part[::stride] for part in (driver.eyes, driver.lips))
    driver = DrivingMotion(motion, driver.rate, eyes, lips)
    agrees(drive(source_of(golden), driver, Rules(**CASES[case]), correctors()), golden[f"x_d.file_{name}.{case}"])


APP = {"close_lips": True}
COMMAND = {"relative": False, "multiplier": 1.1, "stitching": False}
SPEECH = {
    "command_line_default": ("no_crop", COMMAND),
    "app_default_open_lips": ("synthetic", APP),
    "app_default": ("synthetic", APP),
    "crop_only": ("synthetic", COMMAND | {"multiplier": 1.0}),
    "app_pose_friendly": ("synthetic", APP | POSE),
    "app_lip_retarget": ("synthetic", APP | {"retarget_lips": True}),
    "app_absolute": ("synthetic", APP | {"relative": False}),
}


@pytest.mark.parametrize("case", SPEECH)
def test_speech_moves_a_portrait(golden, case):
    name, rules = SPEECH[case]
    source = source_of(golden, name, "open" if "open" in case else "photo")
    agrees(follow_speech(source, driver_of(golden).motion, Rules(**rules), correctors()), golden[f"joyvasa.x_d.{case}"])


@pytest.mark.parametrize("region", ["exp", "pose", "lip", "eyes"])
@pytest.mark.parametrize("app", ["", "_app"])
def test_speech_moves_a_region(golden, region, app):
    rules = Rules(region=region, **(APP if app else {"friendly": False}))
    found = follow_speech(source_of(golden), driver_of(golden).motion, rules, correctors())
    agrees(found, golden[f"joyvasa.x_d.region_{region}{app}"])


def test_ratios_of_eyes_and_lips(golden):
    for name in ("open", "shut"):
        points = jnp.asarray(golden[f"landmarks203.{name}"])
        np.testing.assert_allclose(eye_ratios(points), golden[f"ratio.{name}.eyes"], rtol=1e-5)
        np.testing.assert_allclose(lip_ratio(points), golden[f"ratio.{name}.lip"], rtol=1e-5)
    assert dataclasses.replace(Rules(), region="lip").region == "lip"


def test_our_own_way_begins_where_the_originals_end(golden):
    """Relative to the first frame and at full strength it is LivePortrait's relative motion with closed lips."""
    source, driver = source_of(golden, landmarks="open"), driver_of(golden)
    first = HeadMotion(*(part[:1] for part in driver.motion))
    found = animate(source, driver.motion, first, correctors())
    agrees(found, np.asarray(drive(source, driver, Rules(close_lips=True), correctors())))


def test_strengths_are_of_regions(golden):
    """Before stitching: nothing at strength 0 is the source; each strength moves its own keypoints, the head all."""
    source, driver = source_of(golden), driver_of(golden)
    first = HeadMotion(*(part[:1] for part in driver.motion))
    none = Correctors(*[lambda features, size=size: jnp.zeros((len(features), size)) for size in (65, 63, 63)])
    move = functools.partial(animate, source, driver.motion, first, none)
    agrees(move(face=0.0, head=0.0), np.repeat(np.asarray(source.placed), len(driver.motion.scale), 0))
    held = np.asarray(move(head=0.0))
    for name, points in (("mouth", LIPS), ("blink", EYES)):
        changed = np.abs(np.asarray(move(head=0.0, **{name: 0.0})) - held).max((0, 2)) > 1e-6
        assert set(np.flatnonzero(changed)) == set(points), name
    moved = np.asarray(move(position=(0.25, -0.5))) - np.asarray(move())
    np.testing.assert_allclose(moved, np.broadcast_to(np.float32([0.25, -0.5, 0.0]), moved.shape), atol=1e-6)
    whole = np.asarray(move(face=0.0, head=0.0, zoom=2.0)) - np.asarray(move(face=0.0, head=0.0))
    centre = np.asarray(source.motion.translation) * np.float32([1, 1, 0])
    agrees(whole, np.repeat(np.asarray(source.placed) - centre, len(whole), 0))
