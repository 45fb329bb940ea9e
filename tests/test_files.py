"""Files and folders appear whole or not at all; outputs never destroy an input."""

import os
from pathlib import Path

import pytest

from vasa_jax.errors import UserError, device_memory, refusals
from vasa_jax.files import (
    Growing,
    check_apart,
    check_target,
    make_folder,
    remove_unfinished,
    whole_file,
    whole_folder,
    write_text,
)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("name", ["a", "x" * 251 + ".mp4", "声" * 85, "12:30.m4a"])
def test_a_file_of_any_legal_name_appears_whole(tmp_path, name):
    write_text(tmp_path / name, "one")
    write_text(tmp_path / name, "two")
    assert (tmp_path / name).read_text() == "two" and names(tmp_path) == [name]
    assert (tmp_path / name).stat().st_mode & 0o777 == 0o666 & ~_umask()


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


@pytest.mark.parametrize("whole", [whole_file, whole_folder])
def test_what_fails_leaves_nothing_and_the_old_stays(tmp_path, whole):
    target = tmp_path / "target"
    if whole is whole_file:
        target.write_text("old")
    else:
        target.mkdir()
        (target / "old").touch()
    with pytest.raises(KeyboardInterrupt), whole(target) as hidden:
        if whole is whole_file:
            hidden.write_text("half")
        else:
            (hidden / "half").touch()
        raise KeyboardInterrupt
    assert names(tmp_path) == ["target"]
    assert target.read_text() == "old" if whole is whole_file else names(target) == ["old"]


def test_what_the_system_refuses_is_told_with_the_path(tmp_path):
    with (
        pytest.raises(UserError, match="cannot write .*target: No space left on device"),
        whole_file(tmp_path / "target"),
    ):
        raise OSError(28, os.strerror(28))
    with pytest.raises(UserError, match="cannot read it: 'odd'; go"), refusals("read", "it", KeyError, advice="go"):
        raise KeyError("odd")
    with pytest.raises(KeyError), refusals("read", "it"):
        raise KeyError("a bug")
    assert not names(tmp_path)


def test_a_new_folder_takes_the_place_of_an_old_one(tmp_path):
    for content in ("one", "two"):
        with whole_folder(tmp_path / "deep" / "folder") as hidden:
            (hidden / content).touch()
    assert names(tmp_path / "deep") == ["folder"] and names(tmp_path / "deep" / "folder") == ["two"]
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="it is a file"), whole_folder(tmp_path / "file"):
        pass


@pytest.mark.parametrize("after", [1, 2])
def test_a_signal_between_two_names_loses_neither_folder(tmp_path, monkeypatch, after):
    """The old folder has been moved aside, or the new one has just got its place."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "old").touch()
    rename, done = Path.rename, []

    def interrupted(self, target):
        rename(self, target)
        done.append(target)
        if len(done) == after:
            raise KeyboardInterrupt

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt), whole_folder(tmp_path / "folder") as hidden:
        (hidden / "new").touch()
    assert names(tmp_path) == ["folder"] and names(tmp_path / "folder") == [{1: "old", 2: "new"}[after]]


def test_a_link_keeps_leading_to_what_is_written(tmp_path):
    (tmp_path / "far").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "far" / "file")
    write_text(tmp_path / "link", "text")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "far" / "file").read_text() == "text"


def test_leavings_of_killed_writers_go(tmp_path):
    (tmp_path / ".unfinished-1-ab.npz").touch()
    (tmp_path / ".unfinished-1-cd").mkdir()
    (tmp_path / "mine").touch()
    remove_unfinished(tmp_path)
    assert names(tmp_path) == ["mine"]


def test_targets_are_checked_before_any_work(tmp_path):
    assert check_target(tmp_path / "a.mp4") == tmp_path / "a.mp4"
    for path, message in [
        (tmp_path / "none" / "a", "no folder"),
        (tmp_path / ("x" * 256), "longer than 255 bytes"),
        ("", "names no file"),
        ("/proc/x/y", "no folder"),
    ]:
        with pytest.raises(UserError, match=message):
            check_target(path)


def test_an_output_that_is_an_input_is_refused(tmp_path):
    source = tmp_path / "in.safetensors"
    source.touch()
    (tmp_path / "link").symlink_to(source)
    os.link(source, tmp_path / "hard")
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards" / "1").touch()
    check_apart({"OUT": tmp_path / "out"}, {"SOURCE": source})
    for out, given in [
        (source, source),
        (tmp_path / "link", source),
        (tmp_path / "hard", source),
        (tmp_path / "shards" / "1", tmp_path / "shards"),
        (tmp_path, source),
    ]:
        with pytest.raises(UserError, match="OUT .* would overwrite SOURCE"):
            check_apart({"OUT": out}, {"SOURCE": given})


def test_outputs_in_each_others_way_are_refused(tmp_path):
    check_apart({"--out": tmp_path / "a", "--save-motion": tmp_path / "a.npz"}, {})
    for second in (tmp_path / "a", tmp_path / "a" / "m.npz"):
        with pytest.raises(UserError, match="--out .* and --save-motion .* in each other's way"):
            check_apart({"--out": tmp_path / "a", "--save-motion": second}, {})


def test_a_device_without_memory_is_told_in_one_line():
    import jax

    with pytest.raises(UserError, match="ran out of memory.*smaller batch"), device_memory("take a smaller batch"):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1 bytes")
    with pytest.raises(jax.errors.JaxRuntimeError), device_memory("take a smaller batch"):
        raise jax.errors.JaxRuntimeError("INTERNAL: something else")


def test_a_file_that_grows_has_every_piece_at_once_and_none_in_part(tmp_path):
    file = Growing(tmp_path / "log")
    for piece in (b"one\n", b"two\n"):
        file.append(piece)
    assert (tmp_path / "log").read_bytes() == b"one\ntwo\n"
    file.close()
    full = Growing("/dev/full")
    with pytest.raises(UserError, match="cannot write /dev/full: No space left"):
        full.append(b"three")
    full.close()
    with pytest.raises(UserError, match="cannot open .*missing/log: No such file"):
        Growing(tmp_path / "missing" / "log")


@pytest.mark.parametrize(
    "path, message",
    [
        ("", "workdir is empty; name a folder"),
        ("{}/f", "workdir {}/f is a file; name a folder"),
        ("{}/f/run", "cannot make the folder {}/f/run: Not a directory; name another workdir"),
        ("/proc/x", "cannot make the folder /proc/x: .*; name another workdir"),
        ("/proc", "cannot write into /proc: .*; name another workdir"),
        ("{}/" + "x" * 300, "cannot make the folder .*: File name too long; name another workdir"),
        ("gs://bucket/run", "workdir gs://bucket/run is a URL, .*; mount the store"),
        (Path("s3://bucket/run"), "workdir s3:/bucket/run is a URL"),
        ("memory://run", "workdir memory://run is a URL"),
    ],
)
def test_a_folder_that_cannot_take_files_is_refused_before_work(tmp_path, monkeypatch, path, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "f").touch()
    with pytest.raises(UserError, match=message.format(tmp_path)):
        make_folder("workdir", path.format(tmp_path) if isinstance(path, str) else path)
    assert [one.name for one in tmp_path.iterdir()] == ["f"]


def test_a_folder_is_made_with_its_parents_and_left_empty(tmp_path):
    assert make_folder("workdir", tmp_path / "a:b" / "run") == tmp_path / "a:b" / "run"
    assert not any(make_folder("workdir", tmp_path / "a:b" / "run").iterdir())
