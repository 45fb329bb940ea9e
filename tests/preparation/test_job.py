"""Jobs: nothing that ends a run costs more than the videos in hand; the records do not depend on who did the work."""

import contextlib
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.preparation import fakes
from tests.preparation.fakes import attempts, write_films
from vasa_jax.data import open_shards, read_clip
from vasa_jax.errors import UserError
from vasa_jax.preparation.config import PreparationConfig
from vasa_jax.preparation.job import Effort, Folder, prepare
from vasa_jax.preparation.manifest import Manifest
from vasa_jax.training.lock import locked

ROOT = Path(__file__).parents[2]
FILMS = {
    "anna__one": "clips 3 dropped 1",
    "anna__two words": "clips 1",
    "björn__ü": "clips 2 dropped 3",
    "lonely": "clips 2",
    "nobody": "dropped 2",
    "torn": "fail broken",
    "strange": "bug 1",
}


def job(videos, records, workers=1, folder=None, candidates=fakes.candidates, helpers=fakes.open_helpers, **effort):
    """Run a job to its end; its lines."""
    folder, effort = folder or Folder(), Effort(workers=workers, **effort)
    return list(prepare([videos], records, PreparationConfig(), folder, effort, candidates, helpers))


def command(videos, records, *more):
    return [sys.executable, "-m", "tests.preparation.driver", str(videos), str(records), *map(str, more)]


def shards(records):
    return {
        str(path.relative_to(records)): path.read_bytes() for path in sorted(Path(records).glob("*/*.array_record"))
    }


def entries(records):
    """Source to what the manifest says of it, without what depends on time."""
    unsteady = ("seconds", "traceback")
    return {e["source"]: {k: v for k, v in e.items() if k not in unsteady} for e in Manifest(records).entries()}


def clips(folder):
    source = open_shards(folder)
    return [read_clip(source[i]) for i in range(len(source))]


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    return write_films(tmp_path_factory.mktemp("films"), **FILMS)


@pytest.fixture(scope="module")
def whole(films, tmp_path_factory):
    """A job that nothing disturbed, and its lines."""
    records = tmp_path_factory.mktemp("whole") / "records"
    return records, job(films, records)


def wait_for(moment, process):
    while not moment():
        assert process.poll() is None, "it ended before that moment"
        time.sleep(0.01)


def test_a_job_leaves_records_a_manifest_and_a_report(whole):
    records, lines = whole
    assert "7 videos (2 failed), 8 clips of 8 people" in lines[-1] and "report.html" in lines[-1]
    names = sorted(path.name for path in records.iterdir())
    assert names == [
        "lock",
        "manifest",
        "preparation.json",
        "report.html",
        "shards.json",
        "train",
        "validation",
        "workers.log",
    ]
    there = entries(records)
    assert there["torn.mp4"]["error"] == "torn.mp4 broken; mend it"
    assert there["strange.mp4"]["error"] == "ZeroDivisionError: <b>nobody</b> expected this"
    assert there["björn/ü.mp4"]["dropped"] == {"small": 2, "no speech": 1}
    assert there["björn/ü.mp4"]["dropped_seconds"] == {"small": 3.0, "no speech": 1.5}
    assert not there["nobody.mp4"]["clips"]
    assert len(clips(records / "train")) + len(clips(records / "validation")) == 8


def test_three_workers_one_of_them_killed_make_the_same_records(films, whole, tmp_path):
    videos = write_films(tmp_path / "films", **FILMS | {"anna__one": "die 1 clips 3 dropped 1"})
    job(videos, tmp_path / "records", 3)
    assert shards(tmp_path / "records") == shards(whole[0])
    ours, theirs = entries(tmp_path / "records"), entries(whole[0])
    assert ours.pop("anna/one.mp4")["clips"] == theirs.pop("anna/one.mp4")["clips"] and ours == theirs
    assert len(attempts(videos / "anna/one.mp4")) == 2 and len(attempts(videos / "lonely.mp4")) == 1


def test_a_video_that_kills_its_workers_fails_and_costs_no_other(tmp_path):
    videos = write_films(tmp_path / "films", deadly="die 9", a="clips 1", b="clips 1")
    job(videos, tmp_path / "records", 2)
    there = entries(tmp_path / "records")
    assert there["deadly.mp4"]["error"] == "crashed twice (SIGKILL, as where memory runs out)"
    assert {there[name]["state"] for name in ("a.mp4", "b.mp4")} == {"done"} and len(
        attempts(videos / "deadly.mp4")
    ) == 2
    write_films(videos, deadly="clips 1")
    assert "3 of 3 videos are finished already" in job(videos, tmp_path / "records")[0]
    before = shards(tmp_path / "records")
    lines = job(videos, tmp_path / "records", retry=True)
    assert "2 of 3 videos are finished already" in lines[0] and "(0 failed), 3 clips" in lines[-1]
    after = shards(tmp_path / "records")
    assert before.items() < after.items() and len(after) == len(before) + 1


def test_a_killed_driver_goes_on_where_it_was(films, whole, tmp_path):
    videos = write_films(tmp_path / "films", **FILMS | {"lonely": "clips 2 slow ."})
    records = tmp_path / "records"
    process = subprocess.Popen(command(videos, records), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(lambda: len(list(records.glob("manifest/*/*.json"))) == 6, process)
    process.kill()
    process.wait()
    assert not shards(records)
    (videos / ".go").touch()
    done = subprocess.run(command(videos, records), cwd=ROOT, check=True, capture_output=True, text=True)
    assert "6 of 7 videos are finished already" in done.stdout
    assert shards(records) == shards(whole[0])
    assert [len(attempts(videos / name)) for name in ("lonely.mp4", "anna/one.mp4", "torn.mp4")] == [2, 1, 1]
    assert not list(records.rglob(".unfinished-*"))


def test_ctrl_c_says_how_to_go_on(tmp_path):
    videos = write_films(tmp_path / "films", lonely="clips 2 slow .")
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command(videos, tmp_path / "records", 1), cwd=ROOT, **pipes)
    wait_for(lambda: attempts(videos / "lonely.mp4"), process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate()
    assert process.returncode == 130 and "the same command goes on" in out
    assert err.splitlines()[-1] == "prepare: interrupted; nothing half-written was left" and "Traceback" not in err
    assert not list(tmp_path.rglob(".unfinished-*"))


def test_a_full_disk_ends_in_one_line_and_the_job_goes_on(films, whole, tmp_path):
    records = tmp_path / "records"
    full = subprocess.run(command(films, records, 1, 20_000), cwd=ROOT, capture_output=True, text=True)
    assert full.returncode == 2 and not list(records.rglob(".unfinished-*"))
    last = full.stderr.splitlines()[-1]
    assert last.startswith("prepare: error: cannot write ") and "File too large" in last and "goes on" in last
    job(films, records)
    assert shards(records) == shards(whole[0])


def test_packing_goes_on_with_the_first_shard_that_is_missing(films, tmp_path, monkeypatch):
    from vasa_jax.preparation import shards as packing

    small = Folder(shard_megabytes=1)
    monkeypatch.setattr(packing, "write_shard", refuse_after(2))
    monkeypatch.setattr("vasa_jax.preparation.job.pack", lambda m, p, v, _: packing.pack(m, p, v, 60_000))
    with pytest.raises(UserError, match="No space left"):
        job(films, tmp_path / "records", folder=small)
    first = shards(tmp_path / "records")
    left = len(list((tmp_path / "records").glob("parts/*/*.part")))
    assert len(first) == 2 and 0 < left < 4
    monkeypatch.undo()
    job(films, tmp_path / "records", folder=small)
    assert first.items() < shards(tmp_path / "records").items()
    assert not (tmp_path / "records" / "parts").exists()
    assert len(clips(tmp_path / "records" / "train")) + len(clips(tmp_path / "records" / "validation")) == 8
    next(iter(sorted((tmp_path / "records" / "train").iterdir()))).unlink()
    with pytest.raises(UserError, match="is gone, and so are the parts"):
        job(films, tmp_path / "records", folder=small)


def refuse_after(count):
    from vasa_jax.data import write_shard

    calls = []

    def write(path, records):
        calls.append(path)
        if len(calls) > count:
            raise UserError(f"cannot write {path}: No space left on device")
        return write_shard(path, records)

    return write


def test_people_may_be_folders(films, tmp_path):
    job(films, tmp_path / "records", folder=Folder(people="folder"))
    sides = {side: clips(tmp_path / "records" / side) for side in ("train", "validation")}
    people = {side: {int(clip.labels["identity"]) for clip in found} for side, found in sides.items()}
    assert not people["train"] & people["validation"]
    assert sum(map(len, people.values())) == 4  # anna, björn, and two tracks of lonely
    written = json.loads((tmp_path / "records" / "shards.json").read_text())
    assert written["units"].keys() == {"anna/", "björn/", "lonely.mp4"}


def test_one_video_alone_is_divided_by_time(tmp_path):
    videos = write_films(tmp_path / "films", alone="clips 3")
    lines = job(videos, tmp_path / "records")
    assert "validation says nothing about other people" in lines[0]
    assert [len(clips(tmp_path / "records" / side)) for side in ("train", "validation")] == [2, 1]
    (held,) = clips(tmp_path / "records" / "validation")
    assert len(held.frames) == 7  # the last one
    single = write_films(tmp_path / "single", alone="clips 1")
    assert "training needs one to hold out too" in job(single, tmp_path / "one")[0]


@pytest.mark.parametrize(
    "helpers, words", [(fakes.no_helpers, "the detector is not there"), (fakes.dying_helpers, "SIG")]
)
def test_workers_that_cannot_start_end_the_job_in_one_line(films, tmp_path, helpers, words):
    with pytest.raises(UserError, match=words):
        job(films, tmp_path / "records", helpers=helpers)


def test_a_job_without_a_clip_ends_with_its_report(tmp_path):
    videos = write_films(tmp_path / "films", nobody="dropped 2")
    with pytest.raises(UserError, match="no clip was kept; .*report.html says why"):
        job(videos, tmp_path / "records")
    assert "small" in (tmp_path / "records" / "report.html").read_text()


def test_a_folder_belongs_to_one_run_with_one_setting(whole, films, tmp_path):
    records = whole[0]
    with locked(records), pytest.raises(UserError, match="is in use by"):
        job(films, records)
    with pytest.raises(UserError, match="was prepared with --validation 0.05, not 0.2: leave it so"):
        job(films, records, folder=Folder(validation=0.2))
    with contextlib.closing(prepare([films], records, PreparationConfig(size=256), Folder(), Effort())) as lines:
        with pytest.raises(UserError, match="was prepared with --size 512, not 256"):
            next(lines)
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(UserError, match="holds thesis.tex and was not made by this command"):
        job(films, tmp_path)
    with pytest.raises(UserError, match="RECORDS .* would overwrite VIDEOS"):
        job(films, films / "records")
    for wrong in ({"validation": 0.0}, {"shard_megabytes": 0}):
        with pytest.raises(UserError, match="must be|is a share"):
            Folder(**wrong)
    with pytest.raises(UserError, match="workers=-1"):
        Effort(workers=-1)


def test_a_folder_whose_first_file_was_never_finished_is_taken(films, tmp_path):
    """A run that was killed as it began left that, or one that begins now is writing it."""
    (tmp_path / "records").mkdir()
    (tmp_path / "records" / ".unfinished-1-ab.json").touch()
    with locked(tmp_path / "records"), pytest.raises(UserError, match="is in use by process"):
        job(films, tmp_path / "records")
    assert "8 clips of 8 people" in job(films, tmp_path / "records")[-1]
    assert not list((tmp_path / "records").glob(".unfinished-*"))


def test_what_a_record_refuses_is_dropped_alone(tmp_path):
    videos = write_films(tmp_path / "films", a="clips 2")
    job(videos, tmp_path / "records", candidates=fakes.in_degrees)
    entry = entries(tmp_path / "records")["a.mp4"]
    assert entry["dropped"] == {"refused": 1} and len(entry["clips"]) == 1
