"""Models by name: bundled, in folders, and on a Hub, which here is a server on loopback."""

import os
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from huggingface_hub import constants

from tests.convert.hub_server import COMMIT, serve, use
from tests.full_disk import full_disk
from vasa_jax.checkpoint import BUNDLED, load_release, save_release
from vasa_jax.convert.__main__ import main
from vasa_jax.convert.hub import find_release
from vasa_jax.convert.pair import HALVES, choose
from vasa_jax.errors import UserError

NAME = "someone/talker"
TREE = {"dense": {"kernel": jnp.arange(5000.0), "bias": jnp.ones(3)}}


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A Hub with one release, and an empty cache in a home folder of its own."""
    save_release(tmp_path / "made", "vasa", {}, {"net": TREE}, "float32", "# Card\n")
    files = {path.name: path.read_bytes() for path in (tmp_path / "made").iterdir()}
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    with serve() as served:
        use(served, tmp_path / "hub", monkeypatch)
        served.repositories[NAME] = files | {"README.md": b"hello", "deep/other.safetensors": b"0"}
        yield served


@pytest.fixture
def offline(monkeypatch):
    def go():
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)

    return go


def pieces(tmp_path):
    """What cut downloads left in the cache."""
    return [path.name for path in (tmp_path / "hub").rglob("*.incomplete")]


def test_names_and_folders_need_no_hub(hub, tmp_path, monkeypatch):
    assert find_release("demo") == BUNDLED / "demo"
    assert find_release(tmp_path / "made") == tmp_path / "made"
    (tmp_path / "someone" / "talker").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert find_release(NAME) == Path(NAME)
    assert not hub.asked


@pytest.mark.parametrize(
    "model, told",
    [
        ("nothing", "'nothing' is not there; give demo, joyvasa, the folder of a release, or NAME/REPO of one"),
        ("./nothing", "is not there"),
        ("https://huggingface.co/someone/talker", "is not there"),
        ("", "is not there"),
        (__file__, "is a file; name the folder of a release"),
    ],
)
def test_anything_else_is_refused_with_the_ways(hub, model, told):
    with pytest.raises(UserError, match=told.replace("/", "[/]")):
        find_release(model)
    assert not hub.asked


@pytest.mark.parametrize("model", [NAME, f"{NAME}@main", f"{NAME}@{COMMIT}"])
def test_a_release_comes_from_the_hub_once(hub, model):
    said = []
    folder = find_release(model, said.append)
    assert said == [f"looking up {NAME}@{model.partition('@')[2] or 'main'} on the Hugging Face Hub"]
    release = load_release(folder)
    np.testing.assert_array_equal(release.tensors["net"]["dense"]["kernel"], TREE["dense"]["kernel"])
    assert release.card == "# Card\n"
    assert sorted(hub.fetched()) == ["config.json", "manifest.json", "model_card.md", "net.safetensors"]
    assert find_release(model) == folder and len(hub.fetched()) == 4


def test_a_renamed_repository_is_found(hub):
    hub.moved["someone/former"] = NAME
    assert load_release(find_release("someone/former")).config["kind"] == "vasa"


def test_without_a_network_the_cache_serves(hub, offline, tmp_path):
    folder = find_release(NAME)
    asked = len(hub.asked)
    offline()
    assert find_release(NAME) == folder and len(hub.asked) == asked
    with pytest.raises(UserError, match="gives no release someone/other@main: someone/other: .*offline mode"):
        find_release("someone/other")


def test_a_hub_that_does_not_answer_is_one_line(hub, monkeypatch):
    folder = find_release(NAME)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert find_release(NAME) == folder
    with pytest.raises(UserError, match="gives no release someone/other@main: someone/other: .*refused"):
        find_release("someone/other")


def test_what_is_no_release_is_refused_before_its_weights_come(hub):
    files = hub.repositories[NAME]
    with pytest.raises(UserError, match="gives no release no/body@main: no/body: .*Repository Not Found"):
        find_release("no/body")
    with pytest.raises(UserError, match="talker@v9: .*Revision Not Found"):
        find_release(f"{NAME}@v9")
    hub.repositories["someone/bert"] = files | {"config.json": b'{"model_type": "bert"}'}
    with pytest.raises(UserError, match="no release someone/bert@main: .*is not of a release of format 2"):
        find_release("someone/bert")
    hub.repositories["someone/text"] = {"README.md": b"hello"}
    with pytest.raises(UserError, match="someone/text@main has no config.json"):
        find_release("someone/text")
    hub.repositories["someone/half"] = {name: data for name, data in files.items() if name != "net.safetensors"}
    with pytest.raises(UserError, match="someone/half@main has no net.safetensors"):
        find_release("someone/half")
    assert "net.safetensors" not in hub.fetched()


def test_a_cut_download_is_taken_up_where_it_ended(hub, tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1000)  # what was written is kept
    hub.cut.add("net.safetensors")
    load_release(find_release(NAME))
    whole = len(hub.repositories[NAME]["net.safetensors"]) // 2 // 1000 * 1000
    ranges = [part for method, path, part in hub.asked if method == "GET" and path.endswith("net.safetensors")]
    assert ranges == [None, f"bytes={whole}-"] and not pieces(tmp_path)


def test_a_download_that_stays_cut_leaves_nothing(hub, tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1000)
    hub.cut.add("net.safetensors")
    hub.broken.add("net.safetensors")
    with pytest.raises(UserError, match=f"gives no release {NAME}@main: {NAME}: .*503"):
        find_release(NAME)
    assert not pieces(tmp_path)
    hub.cut.clear()
    load_release(find_release(NAME))
    assert hub.fetched().count("config.json") == 1


def test_a_wrong_hash_is_refused_and_removed(hub, tmp_path):
    hub.lies["net.safetensors"] = "0" * 64
    with pytest.raises(UserError, match="net.safetensors came with another SHA-256 than its listing says, and was rem"):
        find_release(NAME)
    assert not [path for path in (tmp_path / "hub").rglob("*") if path.name in ("net.safetensors", "0" * 64)]
    hub.lies.clear()
    load_release(find_release(NAME))


def test_a_full_disk_is_one_line_and_leaves_nothing(hub, tmp_path):
    with full_disk(8000), pytest.raises(UserError, match=f"gives no release {NAME}@main: {NAME}: File too large"):
        find_release(NAME)
    assert not pieces(tmp_path)
    load_release(find_release(NAME))


LISTING = [
    "README.md",
    "liveportrait/base_models/appearance_feature_extractor.pth",
    "liveportrait/base_models/motion_extractor.pth",
    "liveportrait/base_models/spade_generator.pth",
    "liveportrait/base_models/warping_module.pth",
    "liveportrait/landmark.onnx",
    "liveportrait/retargeting_models/stitching_retargeting_module.pth",
    "liveportrait_animals/base_models/motion_extractor.pth",
]


def test_files_are_looked_up_in_the_listing_wherever_they_are():
    half = HALVES["liveportrait"]
    chosen = choose(half, LISTING, "it")
    assert list(chosen.values()) == [LISTING[i] for i in (1, 2, 4, 3, 6)]
    moved = [path.replace("liveportrait/base_models", "v2") for path in LISTING]
    assert choose(half, moved, "it")[half.files[0]] == "v2/appearance_feature_extractor.pth"
    with pytest.raises(UserError, match="it holds no spade_generator.pth"):
        choose(half, [path for path in LISTING if "spade" not in path], "it")
    with pytest.raises(
        UserError, match="it holds 2 files motion_extractor.pth: liveportrait.*old/motion_extractor.pth"
    ):
        choose(half, [*LISTING, "old/motion_extractor.pth"], "it")


def test_the_known_name_of_the_motion_generator_comes_before_any_other():
    half = HALVES["joyvasa"]
    first, second = "a/motion_generator_hubert_chinese.pt", "b/motion_generator_wav2vec2.pt"
    template = "motion_template/motion_template.pkl"
    assert list(choose(half, [second, first, template], "it").values()) == [first, template]
    assert list(choose(half, [second, template], "it").values()) == [second, template]


def test_the_pair_without_its_files_is_one_line_and_nothing_is_kept(hub, tmp_path, capsys):
    hub.repositories["KlingTeam/LivePortrait"] = {path: b"" for path in LISTING if "warping" not in path}
    with pytest.raises(UserError) as refused:
        find_release("joyvasa")
    told = str(refused.value)
    assert "KwaiVGI/LivePortrait: " in told and "KlingTeam/LivePortrait holds no warping_module.pth" in told
    assert "vasa-convert pair --liveportrait DIR" in told
    kept = tmp_path / "home" / ".cache" / "vasa-jax" / "releases"
    assert not (kept / "joyvasa").exists() and not hub.fetched()
    assert main(["pair", "--out", str(tmp_path / "out")]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("convert: fetching the public weights, once, to ") and "MIT" in lines[0]
    assert len(lines) == 2 and not (tmp_path / "out").exists()


def test_files_that_are_no_checkpoints_are_named(hub, tmp_path):
    hub.repositories["KlingTeam/LivePortrait"] = {path: b"<html>" for path in LISTING}
    hub.repositories["jdh-algo/JoyVASA"] = {"a/b.pt": b"<html>", "motion_template.pkl": b"<html>"}
    with pytest.raises(UserError, match="appearance_feature_extractor.pth .*it is a web page"):
        find_release("joyvasa")
    assert "liveportrait/landmark.onnx" not in hub.fetched()
    assert not (tmp_path / "home" / ".cache" / "vasa-jax" / "releases" / "joyvasa").exists()


def test_the_environment_of_huggingface_hub_counts(hub, tmp_path):
    code = f"from vasa_jax.convert.hub import find_release; print(find_release({NAME!r}))"
    environment = os.environ | {"HF_ENDPOINT": hub.url, "HF_HUB_CACHE": str(tmp_path / "apart")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True)
    assert done.stdout.startswith(str(tmp_path / "apart"))
    assert load_release(done.stdout.strip()).config["kind"] == "vasa"


def test_the_hub_is_asked_only_when_needed():
    code = "import sys, vasa_jax.convert.hub as h; h.find_release('demo'); sys.exit('huggingface_hub' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
