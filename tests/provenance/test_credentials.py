import dataclasses
import io
import json
import resource
import signal
import time
from pathlib import Path

import c2pa
import numpy as np
import pytest
from PIL import Image

from tests.provenance.conftest import PHOTO, SIDE, film, pasted
from vasa_jax.errors import UserError
from vasa_jax.media.video import FrameWriter, VideoWriter, read_video
from vasa_jax.provenance import credentials, seal
from vasa_jax.provenance.credentials import KINDS, check_sidecar, declare, sealer

SOURCE = "http://cv.iptc.org/newscodes/digitalsourcetype/"
KIND_NAMES = ("talk.mp4", "talk.m4v", "talk.mov", "talk.webm", "talk.mkv", "talk.png")


def manifest_of(path: Path) -> tuple[str, dict, list[str]]:
    """State, active manifest and complaints, by c2pa's own reader."""
    side = path.with_suffix(".c2pa")
    beside = side.read_bytes() if path.suffix in (".webm", ".mkv") else None
    with path.open("rb") as file, c2pa.Reader(KINDS[path.suffix], file, beside) as reader:
        told = json.loads(reader.json())
        codes = [entry["code"] for entry in told.get("validation_status", [])]
        return str(reader.get_validation_state()), told["manifests"][told["active_manifest"]], codes


def said(manifest: dict, label: str) -> dict:
    return next(entry["data"] for entry in manifest["assertions"] if entry["label"] == label)


@pytest.mark.parametrize("name", KIND_NAMES)
def test_an_independent_reader_finds_what_was_declared(tmp_path, provenance, signing, name):
    path = film(tmp_path / name, provenance, signing)
    state, manifest, codes = manifest_of(path)
    assert (state, codes) == ("Valid", ["signingCredential.untrusted"])
    assert manifest["title"] == name
    maker = manifest["claim_generator_info"][0]
    assert (maker["name"], maker["version"]) == ("vasa-jax", provenance.version)
    first, *rest = said(manifest, "c2pa.actions.v2")["actions"]
    assert first["action"] == "c2pa.created" and first["digitalSourceType"] == f"{SOURCE}trainedAlgorithmicMedia"
    assert [action["action"] for action in rest] == ["c2pa.watermarked.bound"]
    [ingredient] = manifest["ingredients"]
    assert ingredient["relationship"] == "inputTo" and "thumbnail" not in ingredient
    binding = said(manifest, "c2pa.soft-binding")
    assert binding["alg"] == "vasa_jax.watermark.1" and binding["blocks"][0]["value"] == provenance.mark
    statement = said(manifest, "vasa_jax.provenance")
    assert statement["id"] == provenance.id and statement["seed"] == 7
    assert statement["model"] == {"name": "demo", "sha256": "ab" * 32}
    assert statement["sources"].keys() == {"portrait", "sound", "driving"}
    assert statement["options"]["position"] == "[0.5, -0.25]" and statement["options"]["zoom"] == 1.5
    assert statement["options"]["gaze"].startswith("100 values, sha256 ")
    names = {name, "talk.c2pa"} if path.suffix in (".webm", ".mkv") else {name}
    assert {inside.name for inside in tmp_path.iterdir()} == names  # nothing half-written is left


def test_a_pasted_face_is_a_composite_with_the_photo_in_it(tmp_path, provenance, signing):
    state, manifest, _ = manifest_of(film(tmp_path / "a.mp4", pasted(provenance), signing))
    actions = said(manifest, "c2pa.actions.v2")["actions"]
    assert state == "Valid" and manifest["ingredients"][0]["relationship"] == "componentOf"
    assert actions[0]["digitalSourceType"] == f"{SOURCE}compositeWithTrainedAlgorithmicMedia"
    assert actions[1]["action"] == "c2pa.placed" and actions[1]["parameters"]["ingredients"]


def test_each_picture_of_a_folder_is_sealed_by_itself(tmp_path, provenance, signing):
    film(tmp_path / "frames", provenance, signing)
    for number, path in enumerate(sorted((tmp_path / "frames").iterdir())):
        state, manifest, _ = manifest_of(path)
        assert state == "Valid" and manifest["title"] == f"{number:06d}.png"


def test_a_photo_with_credentials_of_its_own_keeps_them(tmp_path, provenance, signing):
    photo = film(tmp_path / "photo.png", provenance, signing)
    made = declare("demo", "ab" * 32, photo, "composite")
    _, manifest, _ = manifest_of(film(tmp_path / "a.mp4", made, signing))
    assert manifest["ingredients"][0]["active_manifest"] == manifest_of(photo)[1]["label"]


@pytest.mark.parametrize("format", ["BMP", "JPEG", "WEBP", "TIFF", "PPM", "GIF"])
def test_photos_of_any_format_become_ingredients(tmp_path, provenance, signing, format):
    Image.fromarray(PHOTO).save(tmp_path / "photo", format=format)
    made = declare("demo", "", tmp_path / "photo", "composite")
    assert manifest_of(film(tmp_path / "a.png", made, signing))[0] == "Valid"
    broken = dataclasses.replace(made, photo=made.photo[: len(made.photo) // 2])
    assert manifest_of(film(tmp_path / "b.png", broken, signing))[0] == "Valid"


def test_frames_are_those_of_a_file_without_a_seal(tmp_path, provenance, signing):
    sealed = film(tmp_path / "a.mp4", provenance, signing)
    with VideoWriter(tmp_path / "b.mp4", 25, SIDE) as writer:
        for frame in read_video(sealed):
            writer.write(frame)
    before = list(read_video(tmp_path / "b.mp4"))
    seal(tmp_path / "b.mp4", provenance)
    np.testing.assert_array_equal(list(read_video(tmp_path / "b.mp4")), before)
    assert manifest_of(tmp_path / "b.mp4")[0] == "Valid"


def test_the_mark_is_of_the_inputs_and_the_id_of_the_performance(provenance):
    def again(**changes):
        given = {"photo": PHOTO, "sound": np.zeros(3), "seed": 1, "options": {"zoom": 1.0}} | changes
        return declare("demo", "ab" * 32, intent="created", **given)

    first, second = again(), again()
    assert first.mark == second.mark and len(bytes.fromhex(first.mark)) == 4
    assert first.id != second.id
    changes = ({"seed": 2}, {"options": {"zoom": 2.0}}, {"sound": np.ones(3)}, {"photo": PHOTO[::-1]})
    assert len({first.mark, *(again(**change).mark for change in changes)}) == 5


def test_nothing_has_its_name_before_it_is_sealed(tmp_path, provenance, signing):
    seen = []

    def watch(hidden: Path, final: Path) -> None:
        seen.append((hidden.is_file(), final.exists()))
        sealer(provenance, signing)(hidden, final)

    frame = np.zeros((SIDE, SIDE, 3), np.uint8)
    for path in (tmp_path / "a.mp4", tmp_path / "a.webm"):
        with VideoWriter(path, 25, SIDE, seal=watch) as writer:
            writer.write(frame)
        assert manifest_of(path)[0] == "Valid"
    with FrameWriter(tmp_path / "frames", SIDE, seal=watch) as writer:
        writer.write(frame)
    assert seen == [(True, False)] * 3


@pytest.mark.parametrize("name", ["a.mp4", "a.webm", "frames"])
def test_what_cannot_be_sealed_is_not_written(tmp_path, provenance, signing, name):
    unusable = dataclasses.replace(signing, key=signing.certificates)
    with pytest.raises(UserError, match="C2PA cannot sign"):
        film(tmp_path / name, provenance, unusable)
    assert not list(tmp_path.iterdir())


def test_a_finished_file_is_sealed_in_place_or_left_alone(tmp_path, provenance):
    (tmp_path / "a.mp4").write_bytes(b"no video")
    with pytest.raises(UserError, match="cannot write .*a.mp4"):
        seal(tmp_path / "a.mp4", provenance)
    assert (tmp_path / "a.mp4").read_bytes() == b"no video" and len(list(tmp_path.iterdir())) == 1
    with pytest.raises(UserError, match="a.txt cannot be sealed; only .mp4"):
        seal(tmp_path / "a.txt", provenance)
    with pytest.raises(UserError, match="b.png: no such file"):
        seal(tmp_path / "b.png", provenance)


def test_two_files_never_share_a_sidecar(tmp_path, provenance, signing):
    film(tmp_path / "a.webm", provenance, signing)
    film(tmp_path / "a.webm", provenance, signing)  # its own is replaced
    before = (tmp_path / "a.c2pa").read_bytes()
    with pytest.raises(UserError, match="a.c2pa belongs to .*a.webm already; name .*a.mkv otherwise"):
        check_sidecar(tmp_path / "a.mkv")
    with pytest.raises(UserError, match="belongs to"):
        film(tmp_path / "a.mkv", provenance, signing)
    assert (tmp_path / "a.c2pa").read_bytes() == before and manifest_of(tmp_path / "a.webm")[0] == "Valid"
    film(tmp_path / "a.mp4", provenance, signing)  # it has its own inside


def test_pixels_of_any_kind_are_portraits():
    halves = np.full((4, 4), 0.5, np.float32)
    made = declare("demo", "", halves, "created")
    with Image.open(io.BytesIO(made.photo)) as picture:
        assert picture.size == (4, 4) and picture.format == "PNG"


@pytest.mark.parametrize("name", ["a.mp4", "a.webm"])
def test_an_interrupt_while_signing_ends_it_and_leaves_nothing(tmp_path, provenance, signing, monkeypatch, name):
    """The signal strikes in the middle of a file that c2pa reads."""
    film(tmp_path / name, provenance, signing)  # c2pa is loaded, and the key

    struck = []

    class Interrupted(io.BufferedReader):
        def readinto(self, buffer):
            if not struck:  # once: a later one might end the tests
                struck.append(True)
                signal.raise_signal(signal.SIGINT)
                time.sleep(0.01)
            return super().readinto(buffer)

    def opened(path, mode):
        return Interrupted(io.FileIO(path)) if mode == "rb" else open(path, mode)

    monkeypatch.setattr(credentials, "open", opened, raising=False)
    before = sorted(tmp_path.iterdir())
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)  # whatever started the tests may ignore it
    with pytest.raises(KeyboardInterrupt):
        film(tmp_path / f"b{name}", provenance, signing)
    signal.signal(signal.SIGINT, handler)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("name", ["a.mp4", "a.png", "a.webm"])
def test_a_full_disk_leaves_the_file_as_it_was(tmp_path, provenance, signing, name):
    film(tmp_path / name, provenance, signing)
    seal(tmp_path / name, provenance)  # a file can be sealed again
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    size = 1000 if name == "a.webm" else len(before[tmp_path / name]) - 500
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))  # writes stop as on a full disk
    try:
        with pytest.raises(UserError, match="^cannot write .*a"):
            seal(tmp_path / name, provenance)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
