"""Files and folders appear whole or not at all; outputs never destroy an input."""

import os

import pytest

from vasa_jax.errors import UserError, device_memory, refusals
from vasa_jax.files import check_apart, check_target, remove_unfinished, whole_file, whole_folder, write_text


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
