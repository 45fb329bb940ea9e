"""The benchmarks run at the tiniest setting and print what they promise; their people are nobody else's."""

import dataclasses
import itertools
import json

import jax
import pytest

from benchmarks import demo_quality, render, sampler, timing
from vasa_jax.arrays import Motion
from vasa_jax.autoencoder.config import AutoencoderConfig, demo_model
from vasa_jax.autoencoder.model import Autoencoder
from vasa_jax.inference.model import FaceModel, MotionModel, save_pair
from vasa_jax.motion import config as motion_config
from vasa_jax.motion.denoiser import initialise
from vasa_jax.motion.statistics import fit
from vasa_jax.synthetic.splits import SPLITS

QUICK = ["--repeats", "1", "--matrix-size", "32", "--dtypes", "float32"]


def tiny_face() -> AutoencoderConfig:
    """The demo network, 32 pixels wide and as narrow as it gets."""
    return dataclasses.replace(
        demo_model(),
        image_size=32,
        identity_image_size=32,
        pose_size=32,
        dynamics_size=32,
        volume_channels=4,
        volume_depth=4,
        dynamics_dim=8,
        groups=2,
        appearance_stem=4,
        appearance_widths=(4, 4, 8),
        identity_width=4,
        identity_channels=8,
        motion_width=4,
        warp_channels=8,
        warp_widths=(4, 4, 4, 4),
        canonical_widths=(4, 4, 4),
        decoder_width=8,
        decoder_blocks=1,
        decoder_widths=(8, 4, 4),
    )


def tiny_motion() -> motion_config.MotionConfig:
    """The demo network with one narrow layer and short windows."""
    return dataclasses.replace(
        motion_config.demo_model(),
        width=16,
        num_layers=1,
        num_heads=2,
        ffn=16,
        window=8,
        context=2,
        dynamics_dim=8,
        audio=motion_config.AudioEncoderConfig(kind="mel", feature_dim=8),
        drop=motion_config.DropConfig(),
    )


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    """A release folder of untrained tiny networks."""
    face, motion = tiny_face(), tiny_motion()
    side = jax.numpy.zeros((1, 32, 32, 3))
    params = jax.jit(Autoencoder(face).init)(jax.random.key(0), side, side)["params"]
    keys = jax.random.split(jax.random.key(1))
    statistics = fit(Motion(0.1 * jax.random.normal(keys[0], (64, 6)), jax.random.normal(keys[1], (64, 8))))
    folder = tmp_path_factory.mktemp("release") / "tiny"
    motion_params = initialise(motion, jax.random.key(2))
    save_pair(folder, FaceModel(face, params), MotionModel(motion, motion_params, statistics), "# Tiny\n")
    return folder


def test_quality_is_measured_and_written(release, tmp_path, capsys, monkeypatch):
    """Every table of the issue, pass or miss beside every bar, and the same numbers as JSON."""
    monkeypatch.delenv("VASA_JAX_ASSETS", raising=False)
    out = tmp_path / "numbers.json"
    demo_quality.main(
        ["--model", str(release), "--clips", "2", "--seconds", "0.64", "--people", "2", "--cache", str(tmp_path)]
        + ["--probe-people", "64", "--probe-steps", "2", "--json", str(out)]
    )
    printed = capsys.readouterr().out
    for words in (
        "transfer gain",
        "PSNR",
        "bar 0.3: MISS",
        "deranged: 95 %",
        "own above nulled",
        "Landmarker was not asked",
    ):
        assert words in printed
    numbers = json.loads(out.read_text())["numbers"]
    assert set(demo_quality.BARS) <= set(numbers)
    assert numbers["gain/jaw"] < 0.1
    assert "sync/deranged/low" in numbers and "probe/true frames/mouth/error" in numbers


def test_one_clip_cannot_exchange_its_audio(capsys):
    """Refused at the door, with the way out."""
    with pytest.raises(SystemExit):
        demo_quality.main(["--clips", "1"])
    assert "2 or more" in capsys.readouterr().err


def test_rendering_is_timed(capsys, monkeypatch):
    """One row per precision and batch; the cost per frame is printed."""
    monkeypatch.setitem(render.MODELS, "demo", tiny_face)
    render.main(["--model", "demo", "--batches", "1", "2", *QUICK])
    printed = capsys.readouterr().out
    assert "GFLOP a frame" in printed and "jax" in printed
    assert sum(line.startswith("float32") for line in printed.splitlines()) == 2


def test_sampling_is_timed(capsys, monkeypatch):
    """One row per precision and number of steps, three branches a step."""
    monkeypatch.setitem(sampler.MODELS, "demo", tiny_motion)
    sampler.main(["--model", "demo", "--steps", "2", "1", *QUICK])
    printed = capsys.readouterr().out
    assert "3 branches" in printed
    assert sum(line.startswith("float32") for line in printed.splitlines()) == 2


def test_the_first_call_is_left_out_of_the_median():
    """Compilation is reported on its own."""
    calls = []
    times = timing.measure(lambda: calls.append(0), 4)
    assert len(calls) == 5
    assert times.low <= times.median <= times.high


def test_nobody_is_in_two_splits():
    """People of training, validation, the probe, the benchmarks and `make demo` are pairwise different."""
    for one, other in itertools.combinations(SPLITS.values(), 2):
        assert one.stop <= other.start or other.stop <= one.start
