"""The benchmarks run at the tiniest setting and print what they promise; their people are nobody else's."""

import itertools
import json

import pytest

from benchmarks import demo_quality, render, sampler, timing
from tests.inference.tiny import FACE, MOTION, write_release
from vasa_jax.synthetic.splits import SPLITS

QUICK = ["--repeats", "1", "--matrix-size", "32", "--dtypes", "float32"]


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    """A release folder of untrained tiny networks."""
    return write_release(tmp_path_factory.mktemp("release") / "tiny")


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
    monkeypatch.setitem(render.MODELS, "demo", lambda: FACE)
    render.main(["--model", "demo", "--batches", "1", "2", *QUICK])
    printed = capsys.readouterr().out
    assert "GFLOP a frame" in printed and "jax" in printed
    assert sum(line.startswith("float32") for line in printed.splitlines()) == 2


def test_sampling_is_timed(capsys, monkeypatch):
    """One row per precision and number of steps, three branches a step."""
    monkeypatch.setitem(sampler.MODELS, "demo", lambda: MOTION)
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
