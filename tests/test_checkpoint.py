import resource

import jax.numpy as jnp
import numpy as np
import pytest

from vasa_jax.checkpoint import bundled_releases, flatten, load_release, save_release, unflatten, write_manifest
from vasa_jax.errors import UserError
from vasa_jax.files import file_digest

TREE = {"block": {"kernel": jnp.linspace(-1, 1, 12).reshape(3, 4), "bias": jnp.zeros(4)}, "step": jnp.int32(7)}


def test_flatten_and_unflatten_are_inverse():
    flat = flatten(TREE)
    assert list(flat) == ["block/bias", "block/kernel", "step"]
    assert unflatten(flat).keys() == TREE.keys()
    with pytest.raises(ValueError, match="joined by"):
        flatten({"a/b": 1})
    for odd in ({"a": 1, "a/b": 2}, {"a/b": 1, "a": 2}):
        with pytest.raises(UserError, match="lies inside of another"):
            unflatten(odd)


@pytest.mark.parametrize("dtype, error", [("float32", 0.0), ("bfloat16", 2.0**-8)])
def test_a_release_comes_back(tmp_path, dtype, error):
    config = {"autoencoder": {"image_size": 128, "widths": [1, 2]}}
    tensors = {"autoencoder": TREE, "statistics": {"rotation": jnp.full((2, 2), 0.1)}}
    save_release(tmp_path / "a" / "release", "vasa", config, tensors, dtype, "# Card\n")
    names = sorted(path.name for path in (tmp_path / "a" / "release").iterdir())
    assert names == [
        "autoencoder.safetensors",
        "config.json",
        "manifest.json",
        "model_card.md",
        "statistics.safetensors",
    ]
    release = load_release(tmp_path / "a" / "release")
    assert release.config.items() >= config.items() and release.card == "# Card\n"
    assert (release.config["kind"], release.config["format"]) == ("vasa", 4)
    kernel = release.tensors["autoencoder"]["block"]["kernel"]
    assert kernel.dtype == np.float32
    np.testing.assert_allclose(kernel, TREE["block"]["kernel"], rtol=error)
    assert release.tensors["autoencoder"]["step"] == 7
    np.testing.assert_array_equal(release.tensors["statistics"]["rotation"], np.full((2, 2), 0.1, np.float32))


def test_a_release_is_replaced_as_a_whole_and_nothing_else_ever_is(tmp_path):
    save_release(tmp_path / "r", "vasa", {"v": 1}, {"a": TREE, "b": TREE}, "float32", "one")
    save_release(tmp_path / "r", "vasa", {"v": 2}, {"a": TREE}, "float32", "two")
    assert all(path.stat().st_mode & 0o044 == 0o044 for path in (tmp_path / "r").iterdir())  # others may read it
    assert load_release(tmp_path / "r").card == "two" and list(load_release(tmp_path / "r").tensors) == ["a"]
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.txt").write_text("dear")
    with pytest.raises(ValueError, match="is not a release"):
        save_release(tmp_path / "home", "vasa", {}, {"a": TREE}, "float32", "")
    with pytest.raises(ValueError, match="dtype 'int8' is unknown"):
        save_release(tmp_path / "r", "vasa", {}, {"a": TREE}, "int8", "")
    with pytest.raises(ValueError, match="not a release folder"):
        load_release(tmp_path / "home")


def test_a_folder_with_anything_else_in_it_is_never_replaced(tmp_path):
    """A training run has a config.json too; so may a release have a note of its owner beside it."""
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    (run / "config.json").write_text('{"steps": 3}')
    save_release(tmp_path / "noted", "vasa", {}, {"a": TREE}, "float32", "")
    (tmp_path / "noted" / "notes.txt").write_text("dear")
    for folder in (run, tmp_path / "noted"):
        before = sorted(folder.rglob("*"))
        with pytest.raises(UserError, match="is not a release"):
            save_release(folder, "vasa", {}, {"a": TREE}, "float32", "")
        assert sorted(folder.rglob("*")) == before


def test_a_full_disk_is_told_by_the_names_that_the_user_knows(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))  # writes stop as on a full disk
    try:
        with pytest.raises(UserError, match=f"^cannot write {tmp_path}/r/a.safetensors: .*File too large"):
            save_release(tmp_path / "r", "vasa", {}, {"a": {"b": np.zeros(1000)}}, "float32", "")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("a.safetensors", b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "a pointer of Git LFS"),
        ("a.safetensors", None, "damaged or not whole"),
        ("a.safetensors", b"", "a.safetensors holds no weights; it is empty"),
        ("a.safetensors", b"<!DOCTYPE html><p>Sign in", "a.safetensors holds no weights; it is a web page"),
        ("config.json", b"{", "config.json is no JSON"),
        ("config.json", b"[]", "not of a release of format 2 or 3 or 4"),
        ("config.json", b'{"format": 1}', "not of a release of format 2 or 3 or 4"),
        ("config.json", b'{"format": 2, "tensors": {}}', "says no kind of model"),
        ("config.json", b"[" * 100_000, "config.json is no JSON"),
        ("config.json", b'{"kind": "vasa", "format": 2, "tensors": {"../a": {}}}', "could be called '../a'"),
        ("config.json", b'{"kind": "vasa", "format": 2, "tensors": {"a": [3]}}', "could be called 'a'"),
        ("config.json", b'{"kind": "vasa", "format": 2, "tensors": {"b": {}}}', "config.json in .*changed"),
        ("config.json", b'{"kind": "vasa", "format": 2, "tensors": {"a": {"step": [3]}}}', "config.json in .*changed"),
        ("model_card.md", b"# Another licence", "^model_card.md in .* is not what its manifest.json says"),
        ("manifest.json", b"{}", "no manifest of a release"),
        ("manifest.json", b'{"sha256": {"../r/a": ""}, "tensors": {}}', "config.json in .* is not what"),
    ],
)
def test_a_damaged_release_is_refused_by_the_name_of_its_file(tmp_path, name, content, message):
    save_release(tmp_path / "r", "vasa", {}, {"a": TREE}, "float32", "")
    path = tmp_path / "r" / name
    path.write_bytes(path.read_bytes()[:-40] if content is None else content)
    with pytest.raises(UserError, match=message):
        load_release(tmp_path / "r")


def test_a_changed_tensor_is_refused_by_its_name(tmp_path):
    save_release(tmp_path / "r", "vasa", {}, {"a": TREE}, "float32", "")
    path = tmp_path / "r" / "a.safetensors"
    data = bytearray(path.read_bytes())
    at = data.index(np.float32(-1).tobytes())  # the first number of the kernel
    data[at] ^= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"^tensor block/kernel of a.safetensors in .*: it was changed or damaged"):
        load_release(tmp_path / "r")


def test_a_release_without_a_manifest_is_an_older_one_or_refused(tmp_path):
    save_release(tmp_path / "r", "vasa", {}, {"a": TREE}, "float32", "")
    whole = load_release(tmp_path / "r").sha256
    assert whole == file_digest(tmp_path / "r" / "manifest.json")
    (tmp_path / "r" / "manifest.json").unlink()
    with pytest.raises(UserError, match="has no manifest.json, which its format demands"):
        load_release(tmp_path / "r")
    config = tmp_path / "r" / "config.json"
    config.write_text(config.read_text().replace('"format": 4', '"format": 3'))
    first = load_release(tmp_path / "r").sha256
    (tmp_path / "r" / "model_card.md").write_text("another")
    assert len(first) == 64 and first not in (whole, load_release(tmp_path / "r").sha256)
    write_manifest(tmp_path / "r")
    assert load_release(tmp_path / "r").card == "another"


def test_older_releases_may_list_other_tensors_than_they_hold_and_are_refused(tmp_path):
    save_release(tmp_path / "r", "vasa", {}, {"a": TREE}, "float32", "")
    (tmp_path / "r" / "manifest.json").unlink()
    (tmp_path / "r" / "config.json").write_text('{"kind": "vasa", "format": 2, "tensors": {"a": {"step": [3]}}}')
    with pytest.raises(UserError, match="has step"):
        load_release(tmp_path / "r")


def test_the_bundled_releases_have_manifests():
    for folder in bundled_releases().values():
        assert load_release(folder).sha256 == file_digest(folder / "manifest.json")
