"""The report: what a person has to see is in it, and nothing that a name of a file says is taken for HTML."""

import re

import numpy as np
import pytest

from tests.preparation.fakes import write_films
from tests.preparation.test_job import job
from vasa_jax.arrays import EMOTIONS
from vasa_jax.doors.prepare import main
from vasa_jax.preparation import report
from vasa_jax.preparation.manifest import Manifest
from vasa_jax.preparation.numbers import HISTOGRAMS, Numbers, middle


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    odd = "<script>alert(1)</script> ü"
    films = {
        "a": "clips 3 dropped 2",
        odd.replace("/", "__"): "clips 2",
        "torn": "fail <i>sadly</i>",
        "none": "dropped 1",
    }
    job(write_films(folder / "films", **films), folder / "records", 2)
    return folder / "records"


def test_the_report_is_one_file_that_asks_nothing_of_others(records):
    text = (records / "report.html").read_text()
    assert not re.search(r"<script|<link|<iframe|<i>|url\(|@import", text)
    assert set(re.findall(r'(?:src|href)="([^:"]*:?)', text)) == {"data:"}
    assert "://" not in text


def test_the_report_shows_what_was_kept_dropped_and_failed(records):
    text = (records / "report.html").read_text()
    assert text.count('src="data:image/jpeg;base64,') == 3 + 2 + 2 + 1
    for words in (
        "must have agreed",
        "the face is smaller than the pictures need",
        "torn.mp4 &lt;i&gt;sadly&lt;/i&gt;; mend it",
        "&lt;script&gt;alert(1)",
        "Videos without a clip: 1",
        "5</b>clips kept",
        "5</b>people",
    ):
        assert words in text, words
    for name in ("yaw", "pitch", "roll", "distance", "mouth", "length", "speech"):
        assert HISTOGRAMS[name].title.split()[0] in text
    assert "strongest emotion" in text and "clips a person" in text
    assert HISTOGRAMS["theta"].title not in text  # unknown in all frames


def test_a_command_writes_it_anew(records, capsys):
    before = (records / "report.html").read_bytes()
    (records / "report.html").unlink()
    assert main(["report", str(records)]) == 0
    assert (records / "report.html").read_bytes() == before
    assert (
        "4 videos (1 failed), 5 clips of 5 people, 1.2 s; dropped small 2, no speech 1; look at"
        in capsys.readouterr().out
    )
    assert main(["report", str(records / "train")]) == 2
    assert main(["report"]) == 2
    assert capsys.readouterr().err.count("\n") == 2


def test_pictures_stay_few_and_small_whatever_the_job(tmp_path):
    manifest = Manifest(tmp_path)
    manifest.write_settings({})
    picture = "/9j/" + "A" * 6000
    for i in range(150):
        entry = {"source": f"{i}", "state": "done", "dropped": {"small": 1}}
        manifest.write(f"{i:032d}", entry | {"pictures": [["", picture], ["", picture], ["small", picture], ["", "x"]]})
    report.write_report(tmp_path)
    text = (tmp_path / "report.html").read_text()
    assert text.count("<img") <= report.KEPT_SHOWN + report.DROPPED_SHOWN and len(text) < 1e6
    for i in range(report.FAILURES_SHOWN + 10):
        manifest.write(f"{i:032x}", {"source": f"f{i}", "state": "failed", "error": "torn"})
    report.write_report(tmp_path)
    assert "more; the manifest has them all" in (tmp_path / "report.html").read_text()


def test_histograms_add_up():
    yaw = np.radians([-100.0, -90.0, 0.0, 2.4, 89.9, np.nan])
    labels = {"pose": np.stack([0 * yaw, yaw, *4 * [0 * yaw]], -1), "emotion": np.eye(8)[4], "identity": np.int64(7)}
    one, both = Numbers(), Numbers()
    one.add(6, labels, {"speech": 1.0, "source": "a"})
    both.merge(one.as_json())
    both.merge(one.as_json())
    counts = both.histograms["yaw"]
    assert counts.sum() == 10 and counts[0] == 4 and counts[18] == 4 and counts[-1] == 2
    assert both.people == {"7": [2, 12]} and both.emotions[EMOTIONS[4]] == 2
    assert both.histograms["speech"][-1] == 2 and middle("yaw", counts) == pytest.approx(2.5)
    assert np.isnan(middle("theta", both.histograms["theta"]))


def test_the_time_has_a_unit_that_fits():
    assert [report.duration(seconds) for seconds in (1.2, 600.0, 36_000.0)] == ["1.2 s", "10.0 min", "10.0 h"]
