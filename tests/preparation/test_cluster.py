"""The same job on a real Ray cluster of this machine."""

import sys

import pytest

from tests.preparation import fakes
from tests.preparation.fakes import attempts, write_films
from tests.preparation.test_job import FILMS, job, shards
from vasa_jax.errors import UserError
from vasa_jax.preparation.config import PreparationConfig
from vasa_jax.preparation.sources import Video
from vasa_jax.preparation.worker import BROKEN, Work, opened


@pytest.mark.long
def test_two_ray_workers_one_of_them_killed_make_the_same_records(tmp_path):
    pytest.importorskip("ray", reason="needs the extra [prepare]")
    films = FILMS | {"deadly": "die 9"}
    videos = write_films(tmp_path / "films", **films)
    job(videos, tmp_path / "here", 2)
    again = write_films(tmp_path / "again", **films | {"anna__one": "die 1 clips 3 dropped 1"})
    lines = job(again, tmp_path / "ray", 2, ray="local")
    assert "8 videos (3 failed), 8 clips of 8 people" in lines[-1]
    assert len(attempts(again / "anna/one.mp4")) == len(attempts(again / "deadly.mp4")) == 2
    assert shards(tmp_path / "ray") == shards(tmp_path / "here")


def test_without_ray_one_line_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    videos = write_films(tmp_path / "films", a="clips 1")
    with pytest.raises(UserError, match=r"--ray needs Ray; install vasa-jax\[prepare\]"):
        job(videos, tmp_path / "records", ray="local")


def test_a_cluster_that_is_not_there_is_missed_at_once(tmp_path):
    pytest.importorskip("ray", reason="needs the extra [prepare]")
    videos = write_films(tmp_path / "films", a="clips 1")
    with pytest.raises(UserError, match="--ray 127.0.0.1:1: nobody answers there .*; start the cluster"):
        job(videos, tmp_path / "records", ray="127.0.0.1:1")


def test_a_node_that_does_not_see_the_folders_breaks_the_job_and_no_video(tmp_path):
    videos = write_films(tmp_path / "films", a="clips 1")
    video = Video("a.mp4", str(videos / "a.mp4"), 7)
    work = Work(str(tmp_path / "records"), PreparationConfig(), "track", fakes.candidates, fakes.open_helpers)
    with opened(work) as prepare:
        outcome = prepare(video)
    assert outcome.state == BROKEN and "does not see" in outcome.error and "records" in outcome.error
    (tmp_path / "records").mkdir()
    (tmp_path / "records" / "preparation.json").write_text("{}")
    with opened(work) as prepare:
        assert prepare(video._replace(path="/nowhere/a.mp4")).state == BROKEN
        (tmp_path / "unmounted").mkdir()
        assert prepare(video._replace(path=str(tmp_path / "unmounted" / "a.mp4"))).state == BROKEN
        assert prepare(video._replace(path=str(videos / "lost.mp4"))).state == "failed"
        assert prepare(video).state == "done"
