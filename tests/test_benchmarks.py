"""The benchmarks run at the tiniest setting and print what they promise; their people are nobody else's."""

import itertools
import json
import types

import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import demo_quality, render, sampler, timing
from benchmarks import input as benchmark_input
from tests.inference.tiny import FACE, MOTION
from vasa_jax.arrays import Motion
from vasa_jax.metrics.lip_sync import SpokenClip
from vasa_jax.metrics.probe import Reading
from vasa_jax.synthetic.splits import SPLITS
from vasa_jax.training.transfer import Face

QUICK = ["--repeats", "1", "--matrix-size", "32", "--dtypes", "float32"]
COPIER = Face(
    encode=lambda picture: picture,
    motion=lambda picture: Motion(jnp.zeros((len(picture), 6)), picture.reshape(len(picture), -1)),
    render=lambda portrait, motion: motion.dynamics.reshape(portrait.shape),
)
"""A perfect face, but for the pose."""


def reading(mouth):
    """A reading of which only the mouth matters."""
    return Reading(np.zeros((len(mouth), 6)), mouth, np.zeros((len(mouth), 2)), np.zeros((len(mouth), 2)))


@pytest.fixture
def judged(monkeypatch):
    """A model whose mouth says exactly what it hears, on clips whose audio names the true mouth."""
    random = np.random.default_rng(0)
    mouths = random.uniform(size=(6, 500)).astype(np.float32)
    blank = np.zeros((500, 8, 8, 3), np.uint8)
    clips = [SpokenClip(seed, blank, np.full(500 * 640, seed, np.float32), reading(m)) for seed, m in enumerate(mouths)]

    def speak(model, clip, audio, read, hear, seed):
        heard = mouths[int(audio[0])] if hear == "audio" else random.uniform(size=500)
        return reading(heard), blank

    def read(config, params, frames):
        count = len(frames)
        return Reading(*(random.uniform(size=(count, *shape)) for shape in ((6,), (), (2,), (2,))))

    face = types.SimpleNamespace(config=None, params=None)
    monkeypatch.setattr(demo_quality, "load", lambda name: types.SimpleNamespace(size=32, face=face))
    monkeypatch.setattr(demo_quality.probe, "load_or_train", lambda folder, config: {})
    monkeypatch.setattr(demo_quality.probe, "read", read)
    monkeypatch.setattr(demo_quality.transfer, "network_face", lambda config, params: COPIER)
    monkeypatch.setattr(demo_quality, "spoken_clips", lambda people, count, seconds, size: clips)
    monkeypatch.setattr(demo_quality, "speak", speak)
    monkeypatch.delenv("VASA_JAX_ASSETS", raising=False)


def test_a_perfect_model_passes_every_bar(judged, tmp_path, capsys):
    """Every table is printed, every bar passed, and the same numbers are written as JSON."""
    out = tmp_path / "numbers.json"
    demo_quality.main(["--clips", "6", "--people", "2", "--json", str(out)])
    printed = capsys.readouterr().out
    for words in ("transfer gain", "PSNR", "deranged: 95 %", "own above nulled", "Landmarker was not asked"):
        assert words in printed
    assert "pass" in printed and "MISS" not in printed
    numbers = json.loads(out.read_text())["numbers"]
    assert set(demo_quality.BARS) <= set(numbers)
    np.testing.assert_allclose([numbers["sync/own"], numbers["gain/jaw"], numbers["gain/lids"]], 1.0, atol=1e-4)
    assert abs(numbers["sync/deranged"]) < 0.1 and abs(numbers["sync/nulled"]) < 0.1
    assert numbers["source/psnr/all"] < numbers["pose_only/psnr/all"] < numbers["psnr/all"]


def test_one_clip_cannot_exchange_its_audio(capsys):
    """Refused at the door, with the way out."""
    with pytest.raises(SystemExit):
        demo_quality.main(["--clips", "1"])
    assert "2 or more" in capsys.readouterr().err


def test_rendering_is_timed(capsys, monkeypatch):
    """One row per precision and batch; the cost per frame is printed."""
    monkeypatch.setitem(render.MODELS, "demo", lambda: FACE)
    render.main(["--model", "demo", "--batches", "1", *QUICK])
    printed = capsys.readouterr().out
    assert "GFLOP a frame" in printed and "jax" in printed
    assert sum(line.startswith("float32") for line in printed.splitlines()) == 1


def test_sampling_is_timed(capsys, monkeypatch):
    """One row per precision and number of steps, three branches a step."""
    monkeypatch.setitem(sampler.MODELS, "demo", lambda: MOTION)
    sampler.main(["--model", "demo", "--steps", "2", *QUICK])
    printed = capsys.readouterr().out
    assert "3 branches" in printed
    assert sum(line.startswith("float32") for line in printed.splitlines()) == 1


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


def test_the_input_is_measured(capsys, monkeypatch):
    """A row for each number of threads; clips are read back by the sampler of stage 1."""
    frames = np.zeros((4, 32, 32, 3), np.uint8)
    clip = types.SimpleNamespace(frames=frames, audio=np.zeros(640 * 4, np.float32), labels={})
    monkeypatch.setattr(benchmark_input, "make_clip", lambda seed, seconds, size: clip)
    benchmark_input.main(["--size", "32", "--seconds", "0.2", "--threads", "1", "2", "--workers", "--steps", "0"])
    lines = capsys.readouterr().out.splitlines()
    assert sum(" threads | " in line for line in lines) == 2
