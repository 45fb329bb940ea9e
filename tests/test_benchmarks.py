"""The benchmarks run at the tiniest setting and print what they promise; their people are nobody else's."""

import contextlib
import dataclasses
import itertools
import json
import math
import types
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import soundfile
from PIL import Image

from benchmarks import (
    ablations,
    demo_quality,
    fit,
    gradients,
    hearing,
    latency,
    paste,
    pipeline,
    portraits,
    render,
    sampler,
    terms,
    timing,
    volume,
    world_features,
)
from benchmarks import input as benchmark_input
from tests.inference.tiny import FACE, MOTION, write_release
from tests.training.tiny import STAGE_1
from vasa_jax.autoencoder.objective import TERMS
from vasa_jax.config import difference
from vasa_jax.faces.box import largest_square
from vasa_jax.faces.framing import View
from vasa_jax.inference.pair import Listening, Options, Sound
from vasa_jax.metrics.judges.protocol import Row, row
from vasa_jax.metrics.transfer import face_disc
from vasa_jax.synthetic.splits import SPLITS
from vasa_jax.training.start import Start, initial
from vasa_jax.training.tasks import make_task

QUICK = ["--repeats", "1", "--matrix-size", "32", "--dtypes", "float32"]


def test_a_bar_is_passed_or_missed(capsys, monkeypatch, tmp_path):
    """Rows become lines, and the same is written; a bar whose row nobody measured is silent."""
    values = {"gain/jaw": (0.7, 1.0), "seam/pose": (3.9, 1.0), "jitter/yaw": (0.6, 0.3), "gaze/up": (4.0, 0.0)}
    values |= {"amplitude/step": (0.1, 0.2), "lip_sync/own": (0.9, 1.0), "drift/yaw": (0.5, 0.0)}
    rows = [Row(name, "", "truth", value, 0.0, 1.0, true, math.nan, 9) for name, (value, true) in values.items()]
    monkeypatch.setattr(demo_quality, "open_source", lambda source: source)
    monkeypatch.setattr(demo_quality, "evaluate", lambda judged, setting, people, only, cache, say: iter(rows))
    demo_quality.main(["--clips", "6", "--json", str(tmp_path / "numbers.json")])
    printed = capsys.readouterr().out.splitlines()
    written = json.loads((tmp_path / "numbers.json").read_text())
    assert (
        printed[-9:]
        == written["bars"]
        == [
            "seam/pose value 3.90: <= 1.3 MISS",
            "jitter/yaw of_truth 2.00: <= 2 pass",
            "gain/jaw value 0.700: >= 0.6 pass; accelerator >= 0.8 MISS",
            "gaze/up value 4.00: <= 5 pass; accelerator <= 2.5 MISS",
            "lip_sync/own value 0.900: >= 0.88 pass",
            "theval/sync value 0.900: >= 0.6 pass",
            "drift/yaw low 0: <= 0 pass",
            "drift/yaw high 1.00: >= 0 pass",
            "amplitude/step of_truth 0.500: >= 0.8 and <= 1.25 MISS",
        ]
    )
    assert written["numbers"]["seam/pose"] == {"value": 3.9, "low": 0.0, "high": 1.0, "truth": 1.0, "encoded": None}


@pytest.mark.long
def test_an_arm_ends_with_its_budget_and_goes_on_with_more(capsys, monkeypatch, tmp_path):
    """A tiny stage 1 whose hour is over after a step; with another hour the same run ends, and is judged once."""
    tiny = dataclasses.replace(STAGE_1, steps=3)
    monkeypatch.setitem(ablations.WHOLE, "stage 1", lambda steps: tiny)
    monkeypatch.setitem(ablations.JUDGES, "stage 1", ("psnr",))
    monkeypatch.setattr(ablations, "SOURCE", "")
    monkeypatch.setattr(ablations, "_seconds_of_steps", lambda workdir: 3600.0)
    figure = tmp_path / "figure.png"
    flags = ["--workdir", str(tmp_path), "--only", "no-augmentation", "--steps", "3", "--people", "2"]
    ablations.main(flags)
    first = capsys.readouterr().out
    assert "drivers as they are, from step 0 of 3\nno-augmentation: step 1," in first
    ablations.main([*flags, "--minutes", "120", "--png", str(figure)])
    second = capsys.readouterr().out
    assert "from step 1 of 3\nno-augmentation: step 3," in second and "\n| reconstruction, dB | " in second
    ablations.main(flags)
    assert "no-augmentation: judged before" in capsys.readouterr().out
    with Image.open(figure) as drawn:
        assert np.asarray(drawn).std() > 10


def test_an_arm_is_better_or_worse_than_the_whole_recipe():
    """Judged on the same people: their own spread falls out of a difference, whichever way is better; cells hold what
    VASA-1 prints."""
    people = np.random.default_rng(0).normal(size=32)
    made: dict[str, Any] = {"stage 1": {}, "sampling": {}}
    for name, less in (("stage-1", 0 * people), ("no-gan", 0.5 + 0.1 * people)):
        made["stage 1"][name] = {"psnr/all": row("psnr/all", "dB", "high", (20 + people - less,))}
    for name, scale in (("guided-50", 1.0), ("guided-10", 0.5)):
        made["sampling"][name] = {
            "amplitude/angles": row("amplitude/angles", "deg", "truth", (scale * (0.4 + 0.01 * people),), 0.5)
        }
    psnr, angles = ablations.METRICS["stage 1"][0], ablations.METRICS["sampling"][0]
    whole, less = made["stage 1"].values()
    more, half = ablations.change(psnr, less, whole)
    assert more == pytest.approx(-0.5 - 0.1 * people.mean())
    assert half == pytest.approx(1.96 * 0.1 * people.std() / 32**0.5, rel=0.1)
    assert ablations.worse(psnr, less, whole) == pytest.approx(-more / half)
    fifty, ten = made["sampling"].values()
    assert ablations.worse(angles, ten, fifty) > 1 and ablations.worse(angles, fifty, fifty) == 0.0
    better = {"amplitude/angles": row("amplitude/angles", "deg", "truth", (0.1 + 0.4 + 0.01 * people,), 0.5)}
    assert ablations.worse(angles, better, fifty) < -1
    lines = list(ablations.tables(made["stage 1"] | made["sampling"]))
    cells = next(line for line in lines if "reconstruction" in line).split(" | ")
    least = 20 + people.mean()
    assert cells[1:3] == [f"{least:.1f} ±{10 * half:.3f}", f"{least + more:.1f}: **{more:.3f} ±{half:.4f}**"]
    assert cells[3] == "- |"
    cells = next(line for line in lines if angles.name in line).split(" | ")
    assert cells[1].endswith(" (0.316)") and cells[2].startswith("0.199: **-0.199 ±")
    assert cells[2].endswith("** (0.243)")


def test_arms_differ_from_the_whole_recipe_in_one_thing():
    """Every trained one in one part of its experiment; a term that is left out asks no frozen network."""
    for name, arm in ablations.ARMS.items():
        if arm.stage == "sampling" or arm.change is None:
            continue
        whole = ablations.WHOLE[arm.stage](100)
        changed = {path.split(".")[0] for path in difference(whole, arm.change(whole))}
        assert changed <= ({"objective", "helpers"} if arm.stage == "stage 1" else {"model"}), name
        assert bool(changed) == (name not in ("stage-1", "stage-2"))


@pytest.mark.parametrize("stage", ablations.WHOLE)
def test_an_arm_finds_its_weights_in_the_released_model(stage):
    """Abstractly; a network that did not fit would be refused."""
    experiment = ablations.WHOLE[stage](100)
    task = make_task(experiment)
    params, constants, _ = jax.eval_shape(task.init, jax.random.key(0))
    found = initial(Start(init_from=ablations.SOURCE), experiment, params, task.blocks(params), constants).parameters
    assert found and len(found) <= len(jax.tree.leaves(params))


def test_one_clip_cannot_exchange_its_audio(capsys):
    """Refused at the door, with the way out."""
    with pytest.raises(SystemExit):
        demo_quality.main(["--clips", "1"])
    assert "2 or more" in capsys.readouterr().err


def test_pasting_is_timed(capsys):
    """A row each for pasting and writing, without and with transparency."""
    paste.main(["--photos", "64", "--size", "32", "--repeats", "2"])
    rows = [line.split()[:2] for line in capsys.readouterr().out.splitlines()[-4:]]
    assert rows == [["64", "paste"], ["64", "H.264"], ["64", "paste,"], ["64", "VP9,"]]


def test_gradients_are_timed_outside_and_inside_of_a_branch(capsys, monkeypatch):
    monkeypatch.setattr(gradients, "SIZES", ((1, 8, 2, 3, 1), (1, 8, 2, 3, 2)))
    gradients.main(["--repeats", "1"])
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[-2:]]
    assert [row[:5] for row in rows] == [["1", "x", "8x8x2,", "3", "1"], ["1", "x", "8x8x2,", "3", "2"]]
    assert all(float(number) > 0 for row in rows for number in row[5:]) and len(rows[0]) == 9


def test_the_whole_way_is_timed_by_part(capsys, tmp_path):
    release = write_release(tmp_path / "tiny")
    pipeline.main(["--models", str(release), "--seconds", "0.4", "--repeats", "1"])
    header, row = (line.split() for line in capsys.readouterr().out.splitlines()[-2:])
    assert header[:8] == ["model", "size", "first", "compile", "portrait", "motion", "render", "encode"]
    assert row[:2] == [str(release), "32x32"] and all(float(cell) >= 0 for cell in row[2:9])


def test_rendering_is_timed(capsys, monkeypatch):
    """One row per precision and batch; the cost per frame is printed."""
    monkeypatch.setitem(render.MODELS, "demo", lambda: FACE)
    render.main(["--model", "demo", "--batches", "1", *QUICK])
    printed = capsys.readouterr().out
    assert "GFLOP a frame" in printed and "jax" in printed
    assert sum(line.startswith("float32") for line in printed.splitlines()) == 1


def test_latency_is_split_into_what_it_is_made_of():
    """Two hops of two frames with a frame of look-ahead, in packets of 10 ms: the first in time, the second late."""
    motion = types.SimpleNamespace(needs=Sound(256, 96, 6))
    stream: Any = types.SimpleNamespace(
        listening=Listening(2, 3), model=types.SimpleNamespace(motion=motion), options=Options()
    )
    parts = {"step": 0.03, "retarget": 0.001, "render": 0.02, "encode": 0.004}
    hops = [latency.Hop(0, 0.13, 0.2, parts), latency.Hop(2, 0.23, 0.35, parts)]
    found = latency.latency(hops, stream, 160, 0.002)
    rows: dict[str, Any] = dict(zip(latency.PARTS, found.parts, strict=True))
    expected = {"look-ahead": [50] * 4, "hop wait": [40, 0, 40, 0], "queue": [0, 0, 20, 20], "features": [2] * 4}
    expected |= {"sampler": [28] * 4, "render": [20] * 4, "other": [15, 15, 65, 65]}
    for name, values in expected.items():
        np.testing.assert_allclose(rows[name], values, atol=1e-9, err_msg=name)
    np.testing.assert_allclose(found.preceding, [160, 120, 230, 190])
    np.testing.assert_allclose(found.chunk, [70, 70, 140, 140])
    np.testing.assert_array_equal(found.late, [0, 0, 1, 1])
    assert "late: 2 of 4 frames, 500.0 in 1,000" in latency.report(found, hops, stream, True)


def test_a_stream_is_played_and_its_latency_printed(capsys, tmp_path):
    release, figure = write_release(tmp_path / "tiny"), tmp_path / "latency.png"
    flags = ["--seconds", "0.4", "--hop", "2", "--look-ahead", "1", "--figure", str(figure)]
    latency.main(["--model", str(release), *flags])
    printed = capsys.readouterr().out
    for name in ("look-ahead", "features (apart)", "sampler", "encode", "preceding latency", "chunk latency"):
        assert f"\n{name} " in printed
    assert "of 8 frames" in printed
    with Image.open(figure) as picture:
        assert picture.size == (720, 300)


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


@pytest.fixture
def speech(tmp_path):
    """Two seconds in which a tone swells five times."""
    t = np.arange(32_000) / 16_000
    path = tmp_path / "swelling.wav"
    soundfile.write(path, 0.4 * np.sin(2 * np.pi * 300 * t) * np.sin(np.pi * 2.5 * t) ** 2, 16_000)
    return str(path)


def test_a_mouth_that_follows_any_volume_passes_and_one_that_needs_a_loud_voice_does_not(monkeypatch, speech, capsys):
    """One opens with the logarithm of what it hears, the other only above a level."""

    def opening(model, sound, steps, seed):
        loud = volume.loudness(sound, len(sound) // 640)
        return np.stack([loud if model == "keen" else np.where(loud > -2.5, loud, -2.5), np.zeros_like(loud)], 1)

    monkeypatch.setattr(volume, "load", lambda name: name)
    monkeypatch.setattr(volume, "dynamics", opening)
    for model, quiet in (("keen", " "), ("deaf", "!")):
        volume.main(["--model", model, "--volumes", "0.1", "1", "--", speech])
        row = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("swelling"))
        assert row.count("!") == (quiet == "!") and row[41] == quiet, row


def test_without_speech_the_volumes_have_nothing_to_play(monkeypatch, capsys):
    monkeypatch.delenv("VASA_JAX_ASSETS", raising=False)
    with pytest.raises(ValueError, match="name sound files, or set VASA_JAX_ASSETS"):
        volume.main([])


def test_a_fit_that_loses_somewhere_is_no_default(monkeypatch, capsys):
    """A gain of 2 dB everywhere reaches the bar; one loss among them misses it, as does a gain of half a decibel."""
    monkeypatch.setattr(fit, "load", lambda name: types.SimpleNamespace(size=32))
    monkeypatch.setattr(fit, "perform", lambda seed, seconds, emotion: types.SimpleNamespace(audio=None))
    monkeypatch.setattr(fit, "pictures", lambda *_: (None, None))
    for gains, verdict in (([5, 2, 2, 2], "reached"), ([5, 2, -0.1, 2], "missed"), ([5, 0.5, 0.5, 0.5], "missed")):
        one = fit.Gain(np.full(4, 20.0), 20.0 + np.array(gains), np.array([3.0, 0.1]))
        monkeypatch.setattr(fit, "gain", lambda *_, one=one: one)
        fit.main(["--people", "2", "--steps", "2"])
        printed = capsys.readouterr().out
        assert f"none below 0): {verdict}" in printed
        assert "photo itself: median +5.00 dB" in printed and "step: 0.100" in printed


def test_the_face_is_a_disc_that_follows_the_head():
    """Of half a head: its area, and its centre moved with the pose."""
    pose = np.zeros((2, 6), np.float32)
    pose[1, 3:] = 0.2, -0.1, np.log(2.0)
    discs = face_disc(pose, 201)
    np.testing.assert_allclose(discs.mean((1, 2)), np.pi / 4 * np.array([0.25, 0.0625]), rtol=0.02)
    side = np.linspace(-1, 1, 201)
    centres = [[(disc.sum(0) * side).sum() / disc.sum(), (disc.sum(1) * side).sum() / disc.sum()] for disc in discs]
    np.testing.assert_allclose(centres, [[0.0, 0.05], [0.2, -0.075]], atol=1e-3)


def test_hearing_prints_what_recorded_and_live_features_cost(tmp_path, capsys):
    config = tmp_path / "tiny.py"
    config.write_text("from tests.training.test_hearing import EXPERIMENT as E\n\n\ndef get_config():\n    return E\n")
    hearing.main(["--config", str(config), "--batch", "8", "--seconds", "0.4", "--repeats", "1", "--blocks", "2"])
    *_, recorded, live = capsys.readouterr().out.splitlines()
    assert recorded.startswith("recorded") and live.startswith("live") and len(live.split()) == 4
    assert float(live.split()[1]) > float(recorded.split()[1])  # TFLOP


def test_a_mouth_that_follows_and_rests_is_told_from_one_that_does_not_and_drifts(speech):
    """The first opens with the tone, the second anyhow, while its head turns by a degree a second."""
    sound = soundfile.read(speech)[0]
    sound[:6400] = 0.0
    frames = len(sound) // 640
    seconds = np.arange(frames) / 25
    loud = volume.loudness(sound, frames)
    mouth = (loud - loud.min()) / np.ptp(loud)
    still: dict[str, Any] = dict(
        pose=np.zeros((frames, 6)), lids=np.ones((frames, 2)), gaze=np.zeros((frames, 2)), dynamics=None
    )
    typical = dict.fromkeys(portraits.COMPONENTS, 10.0)
    good = portraits.judge(sound, portraits.Take(mouth=mouth, **still), typical)
    assert good.follows > 0.99 and good.lag == 0 and good.pause == 0.0 < good.loud
    still["pose"][:, 1] = np.radians(seconds)
    bad = portraits.judge(sound, portraits.Take(mouth=np.full(frames, 0.3), **still), typical)
    assert bad.follows == 0.0 and bad.of == "yaw"
    np.testing.assert_allclose([bad.pause, bad.loud, bad.drift], [30.0, 30.0, 6.0])


def test_people_of_the_world_tell_what_drift_is():
    typical, bar = portraits.world_slopes(4.0)
    assert typical.keys() == portraits.COMPONENTS.keys() and min(typical.values()) > 0 and 1.0 < bar < 10.0


def test_landmarks_are_compared_in_distances_of_the_eyes_and_pictures_within_them():
    points = np.random.default_rng(0).uniform(0.25, 0.75, (478, 2))
    points[[33, 159, 133, 145]], points[[362, 386, 263, 374]] = (0.3, 0.4), (0.5, 0.4)
    np.testing.assert_allclose(portraits.distance(points, points + np.array([0.0, 0.02])), 10.0)
    assert math.isnan(portraits.distance(None, points)) and math.isnan(portraits.distance(points, None))
    inside = portraits.hull(np.array([(0.25, 0.25), (0.75, 0.25), (0.75, 0.75), (0.25, 0.75), (0.5, 0.5)]), 64)
    assert inside.sum() == 32 * 32 or abs(inside.mean() - 0.25) < 0.02
    assert inside[20:44, 20:44].all() and not inside[:14].any()


def test_pictures_and_voices_that_nobody_made_are_measured(capsys, monkeypatch, tmp_path, speech):
    """A picture without a face, on a model with random weights: rows, and a sheet of it."""
    release, sheet = write_release(tmp_path / "tiny"), tmp_path / "sheet.png"
    for part in ("portraits", "speech"):
        (tmp_path / part).mkdir()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)).save(
        tmp_path / "portraits" / "noise.png"
    )
    Path(speech).rename(tmp_path / "speech" / "swelling.wav")
    monkeypatch.setenv("VASA_JAX_ASSETS", str(tmp_path))
    nobody = types.SimpleNamespace(find=lambda picture: [])
    monkeypatch.setattr(portraits, "Landmarker", lambda: contextlib.nullcontext(nobody))
    monkeypatch.setattr(portraits, "look", lambda photo, frame, name: View(largest_square(40, 40), None, ()))
    kept = lambda face, portrait, *given, **flags: types.SimpleNamespace(portrait=portrait)  # noqa: E731
    monkeypatch.setattr(portraits, "fit", kept)  # which has tests of its own
    monkeypatch.setattr(portraits, "EXAMPLE", 0.4)
    monkeypatch.setattr(portraits, "PEOPLE", 2)
    portraits.main(["--model", str(release), "--fit", "1", "--steps", "1", "--sheet", str(sheet), "--seconds", "2"])
    printed = capsys.readouterr().out
    row = next(line.split() for line in printed.splitlines() if line.startswith("noise.png"))
    assert all(float(cell) > 0 for cell in row[1:3]) and row[3:] == ["-", "-", "-"]
    assert "faces found of 1 pictures: photo 0, plain 0, fit 0" in printed
    assert any(line.startswith("swelling.wav") for line in printed.splitlines())
    with Image.open(sheet) as picture:
        assert picture.width == 6 * portraits.TILE


def test_without_assets_there_is_nothing_to_measure(monkeypatch):
    monkeypatch.delenv("VASA_JAX_ASSETS", raising=False)
    with pytest.raises(ValueError, match="there is no speech: set VASA_JAX_ASSETS"):
        portraits.main(["--parts", "speech"])


@pytest.mark.long
def test_terms_are_timed_one_group_at_a_time(capsys, monkeypatch):
    """A group that asks no helper, on the tiny stage 1; every term is in one of them."""
    monkeypatch.setattr(terms.configs, "load", lambda name: STAGE_1)
    rows = ["plain"]
    terms.main(["--batch", "8", "--rounds", "1", "--rows", *rows])
    lines = capsys.readouterr().out.splitlines()[-1:]
    assert [line[:38].strip() for line in lines] == rows
    assert set(terms.PLAIN).union(*terms.ROWS.values()) >= {t.name for t in TERMS} - {"face", "gaze"}


@pytest.mark.long
def test_the_feature_network_is_judged_in_four_tables(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr("sys.argv", ["world_features", "--people", "4", "--json", str(tmp_path / "found.json")])
    world_features.main()
    printed = capsys.readouterr().out
    rows = ("rank_1", "yaw, degrees", "corner_pull", "eyes turned by 20 degrees", "A driven by B")
    assert all(f"| {row} |" in printed for row in rows)
    found = json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))
    assert found["changes"]["64"].keys() == found["changes"]["128"].keys()
    assert all(0.0 <= share < 2.0 for share, _ in found["changes"]["64"].values())
