"""The door of the judges: who is asked about what, and what is printed and written."""

import json

import numpy as np
import pytest
from PIL import Image

from tests.inference.tiny import write_release
from tests.metrics.judges.test_portraits import still
from vasa_jax.doors import evaluate as door
from vasa_jax.metrics.__main__ import main
from vasa_jax.metrics.judges.report import number, picture


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    """Random weights."""
    return str(write_release(tmp_path_factory.mktemp("release") / "tiny"))


def test_a_face_is_judged_and_drawn(tmp_path, monkeypatch, capsys):
    """The judges that were asked, in a table, as JSON and as a picture."""
    monkeypatch.setattr(door, "open_source", lambda source: door.Judged(None, (still(), 16)))
    written = {name: str(tmp_path / f"out.{name}") for name in ("json", "png")}
    flags = ["--only", "sharpness", "pose", "--people", "2", "--json", written["json"], "--png", written["png"]]
    assert main(["evaluate", "somewhere", *flags]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in printed[1:5]] == ["pose/pitch", "pose/yaw", "pose/roll", "sharpness"]
    content = json.loads((tmp_path / "out.json").read_text())
    assert [row["name"] for row in content["rows"]] == [line.split()[0] for line in printed[1:5]]
    assert content["rows"][0]["count"] == 2 and content["rows"][0]["encoded"] is None and content["people"] == 2
    drawn = np.asarray(Image.open(tmp_path / "out.png"))
    assert drawn.std() > 10 and drawn.shape[0] > picture("", []).height


@pytest.mark.parametrize(
    "arguments, complaint",
    [
        (["evaluate", "nowhere"], "there is no run and no release 'nowhere'; name a workdir, a folder, or one of demo"),
        (["evaluate", "demo", "--only", "beauty"], "there is no judge 'beauty'; choose among seam, jitter"),
        (["evaluate", "demo", "--clips", "1"], "clips and voices must be 2 or more"),
        (["evaluate", "demo", "--people", "1"], "--people 1 must be 2 or more"),
        (["evaluate", "demo", "--json", "no/where.json"], "no"),
        (["judge", "demo"], "invalid choice: 'judge'"),
        ([], "the following arguments are required: evaluate"),
    ],
)
def test_a_mistake_ends_in_one_line(arguments, complaint, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    printed, complained = capsys.readouterr()
    assert not printed and complained.count("\n") == 1 and complaint in complained


def test_what_is_missing_is_named(release, tmp_path, capsys, monkeypatch):
    """Judges of stage 2 have nothing to judge in a face; a folder is no run."""
    monkeypatch.setattr(door, "open_source", lambda source: door.Judged(None, (still(), 16)))
    assert main(["evaluate", "somewhere", "--only", "seam"]) == 2
    assert "the judge 'seam' has nothing to judge here; choose among gain, psnr" in capsys.readouterr().err
    monkeypatch.undo()
    assert main(["evaluate", str(tmp_path)]) == 2
    assert "is not a release folder" in capsys.readouterr().err


def test_a_release_is_both_stages(release):
    """Of which each has its judges."""
    judged = door.open_source(release)
    assert judged.model is not None and judged.face is not None and judged.face[1] == judged.model.size == 32


def test_numbers_have_three_digits():
    """Or a dash."""
    assert [number(x) for x in (1234.5, 12.345, 0.01234, 0.0, -0.5, float("nan"))] == [
        "1234",
        "12.3",
        "0.0123",
        "0",
        "-0.500",
        "-",
    ]
