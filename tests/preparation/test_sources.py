"""What is a video, and what it is called."""

import os

import pytest

from tests.preparation.fakes import write_films
from vasa_jax.errors import UserError
from vasa_jax.preparation.sources import find_videos


def names(*places):
    return [video.source for video in find_videos(places).videos]


def test_names_are_paths_below_the_folder_in_one_order(tmp_path):
    write_films(tmp_path / "films", **{"b__with space": "1", "é__声": "22", "a": "3"})
    (tmp_path / "films" / "no ending").write_text("x")
    (tmp_path / "films" / ".hidden.mp4").write_text("x")
    (tmp_path / "films" / "list.TXT").write_text("x")
    found = find_videos([tmp_path / "films"])
    assert [video.source for video in found.videos] == ["a.mp4", "b/with space.mp4", "no ending", "é/声.mp4"]
    assert found.skipped == {".txt": 1} and found.videos[3].size == 2
    assert len({video.key for video in found.videos}) == 4 and len(found.videos[0].key) == 32
    assert names(tmp_path / "films" / "list.TXT") == ["list.TXT"]  # named itself


def test_names_that_are_no_utf_8_still_have_a_name(tmp_path):
    with open(os.fsencode(tmp_path) + b"/caf\xe9.mp4", "wb"):
        pass
    assert names(tmp_path) == ["caf\ufffd.mp4"]


def test_links_are_followed_but_not_in_circles(tmp_path):
    write_films(tmp_path / "disk", x="1")
    (tmp_path / "films").mkdir()
    (tmp_path / "films" / "link").symlink_to(tmp_path / "disk")
    (tmp_path / "disk" / "back").symlink_to(tmp_path / "films")
    (tmp_path / "films" / "broken.mp4").symlink_to(tmp_path / "gone.mp4")
    assert names(tmp_path / "films") == ["link/x.mp4"]


def test_what_cannot_be_a_job_is_refused_in_one_line(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no videos in .*empty; name"):
        names(tmp_path / "empty")
    (tmp_path / "empty" / "notes.txt").touch()
    with pytest.raises(UserError, match=r"only 1 file of other kinds \(.txt 1\)"):
        names(tmp_path / "empty")
    with pytest.raises(UserError, match="there is no"):
        names(tmp_path / "gone")
    with pytest.raises(UserError, match="is a URL"):
        names("https://example.org/films")
    write_films(tmp_path, one__x="1", two__x="1")
    with pytest.raises(UserError, match="are both called x.mp4; name one folder that holds both"):
        names(tmp_path / "one", tmp_path / "two")
    assert names(tmp_path / "one", tmp_path / "one" / "x.mp4") == ["x.mp4"]  # the same file
