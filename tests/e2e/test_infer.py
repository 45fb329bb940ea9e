import hashlib
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import c2pa
import numpy as np
import pytest
import soundfile
from PIL import Image

import infer
import vasa_jax
from vasa_jax.checkpoint import load_release
from vasa_jax.doors import infer as door
from vasa_jax.errors import UserError
from vasa_jax.media.video import read_video
from vasa_jax.provenance import credentials, watermark
from vasa_jax.provenance.credentials import KINDS, LABEL
from vasa_jax.provenance.detector import examine
from vasa_jax.provenance.keys import configuration_folder

ROOT = Path(infer.__file__).parent
SOUND = np.random.default_rng(1).uniform(-0.3, 0.3, (22050, 2))  # 1 s in stereo at 22.05 kHz


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a portrait and a sound."""
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 50, 3), np.uint8)).save("face.png")
    soundfile.write("speech.wav", SOUND, 22050)
    return tmp_path


@pytest.fixture
def command(folder, release, capsys):
    """Runs infer.py in this process; returns exit code, stdout and stderr."""

    def run(**flags) -> tuple[int, str, str]:
        steps = None if flags.get("driving") else 2
        flags = {
            "image": "face.png",
            "audio": "speech.wav",
            "out": "talk.mp4",
            "model": release,
            "steps": steps,
        } | flags
        arguments = [(f"--{name.replace('_', '-')}", str(value)) for name, value in flags.items() if value is not None]
        code = door.main(list(itertools.chain(*arguments)))
        return code, *capsys.readouterr()

    return run


def test_a_video_with_sound(command, folder):
    code, out, err = command(seed=3)
    assert code == 0
    assert "talk.mp4: 25 frames of 32x32, 1.00 s of video" in out
    assert all(part in out for part in ("load", "compile", "portrait", "motion", "render", "encode"))
    assert "25/25" in err  # the progress bar
    frames = list(read_video("talk.mp4"))
    assert len(frames) == 25 and frames[0].shape == (32, 32, 3)
    with av.open("talk.mp4") as container:
        video, sound = container.streams.video[0], container.streams.audio[0]
        assert (sound.rate, sound.channels) == (22050, 2)
        assert "vasa-jax" in container.metadata["comment"]
        assert video.start_time == sound.start_time == 0
        for stream in (video, sound):
            assert stream.duration and stream.time_base
            assert abs(float(stream.duration * stream.time_base) - 1) < 0.005
    assert sorted(path.name for path in folder.iterdir()) == ["face.png", "speech.wav", "talk.mp4"]
    assert examine("talk.mp4").verdict == "marked"


def test_a_notice_for_viewers_is_asked_for_by_a_flag():
    given = ["--image", "face.png", "--audio", "speech.wav", "--out", "talk.mp4"]
    assert door.wishes_of(door.parse([*given, "--badge"])) == {"badge": True}
    assert door.wishes_of(door.parse(given)) == {}


def test_a_folder_of_pictures_is_the_same_for_the_same_seed(command):
    options = {"gaze": "-5,10", "distance": 1.5, "emotion": "happy:0.6", "box": "5,5,40", "size": 48}
    for out, seed in (("a/", 1), ("b", 1), ("c", 2)):
        assert command(out=out, seed=seed, **options)[0] == 0
    a, b, c = (np.stack([np.asarray(Image.open(path)) for path in sorted(Path(name).iterdir())]) for name in "abc")
    assert a.shape == (25, 48, 48, 3)
    np.testing.assert_array_equal(a, b)
    assert (a != c).any()


@pytest.mark.parametrize(
    "size, said",
    [((40, 80), "its upper square is used (--box 0,0,40)"), ((80, 40), "its central square"), ((50, 50), "its whole")],
)
def test_what_is_shown_of_a_picture_without_a_face_is_said(command, size, said):
    Image.new("RGB", size, "red").save("other.png")
    code, _, err = command(image="other.png", size=16)
    lines = [line for line in err.splitlines() if line.startswith("infer: ")]
    assert code == 0 and len(lines) == 1 and said in lines[0]
    assert "infer: " not in command(image="other.png", size=16, box="0,0,20")[2]


@pytest.fixture
def unmarked(monkeypatch):
    """Frames as they are drawn: the watermark is another one for other inputs."""
    monkeypatch.setattr(watermark, "marking", lambda frames, mark: frames)


def test_the_largest_face_is_used(command, assets, unmarked):
    mona_lisa = assets / "portraits" / "painting_mona_lisa.jpg"
    assert command(image=mona_lisa, out="found")[:1] == (0,)
    assert command(image=mona_lisa, out="cropped", box="92,53,512")[:1] == (0,)
    found, cropped = (np.asarray(Image.open(f"{name}/000012.png"), np.float32) for name in ("found", "cropped"))
    assert np.abs(found - cropped).mean() < 1.0


@pytest.mark.parametrize("name", ["12:30", "http:", "ü" * 120, "a" * 251, "%d"])
def test_names_that_libraries_take_for_something_else(command, name):
    assert command(out=f"{name}.mp4", save_motion=f"{name}.npz")[0] == 0
    Path("face.png").rename(f"{name}.png")
    Path("speech.wav").rename(f"{name}.wav")
    assert command(image=f"{name}.png", audio=f"{name}.wav", out=name + "/", driving=f"./{name}.npz")[0] == 0
    assert len(list(Path(name).iterdir())) == 25


def test_motion_is_stored_and_replayed(command, unmarked):
    assert command(out="a", save_motion="m.npz")[0] == 0
    assert command(out="b", driving="m.npz", audio=None)[0] == 0
    assert command(driving="m.npz")[0] == 0
    for path in Path("a").iterdir():
        np.testing.assert_array_equal(Image.open(path), Image.open(Path("b") / path.name))
    assert len(list(read_video("talk.mp4"))) == 25


BAD = {
    "no image": ({"image": "none.png"}, "none.png: no such image file"),
    "text as image": ({"image": "letter.txt"}, "letter.txt is not a usable image"),
    "sound as image": ({"image": "speech.wav"}, "not a usable image"),
    "one pixel": ({"image": "pixel.png"}, "1x1 pixels"),
    "no sound": ({"audio": "none.wav"}, "none.wav: no such sound file"),
    "empty sound": ({"audio": "empty.wav"}, "empty.wav is empty"),
    "zero-length sound": ({"audio": "zero.wav"}, "zero length"),
    "text as sound": ({"audio": "letter.txt"}, "letter.txt is not a sound"),
    "image as sound": ({"audio": "face.png"}, "not a sound"),
    "NaN in a sound": ({"audio": "nan.wav"}, "NaN"),
    "neither": ({"audio": None}, "neither --audio nor --driving"),
    "model": ({"model": "nobody"}, "the model 'nobody' is not there"),
    "gaze": ({"gaze": "away"}, "gaze 'away'"),
    "distance": ({"distance": 9}, "distance 9"),
    "distance text": ({"distance": "far"}, "--distance"),
    "emotion": ({"emotion": "bored"}, "emotion 'bored'"),
    "emotion weight": ({"emotion": "happy:7"}, "weight"),
    "no steps": ({"steps": 0}, "steps 0"),
    "steps text": ({"steps": "many"}, "--steps"),
    "sampler": ({"sampler": "euler"}, "sampler 'euler'"),
    "guidance": ({"guidance_audio": "nan"}, "guidance_audio"),
    "seed": ({"seed": -1}, "seed"),
    "platform": ({"platform": "abacus"}, "abacus"),
    "dtype": ({"dtype": "int4"}, "int4"),
    "negative size": ({"size": -4}, "give 16 to 4096"),
    "size for a badge": ({"size": 8, "out": "a/"}, "--size 8 cannot be written; give 16 to 4096"),
    "size for a wall": ({"size": 16384}, "--size 16384 cannot be written; give 16 to 4096"),
    "size for a wall of pictures": ({"size": 100000, "out": "a/"}, "give 16 to 4096"),
    "size 0": ({"size": 0}, "--size 0"),
    "out is the image": ({"out": "a.mp4", "image": "a.mp4"}, "--out a.mp4 would overwrite --image a.mp4"),
    "motion is the motion": ({"driving": "m.npz", "save_motion": "./m.npz"}, "would overwrite --driving m.npz"),
    "motion among the frames": ({"out": "a/", "save_motion": "a/m.npz"}, "get in each other's way"),
    "motion among old frames": ({"out": "empty", "save_motion": "empty/m.npz"}, "get in each other's way"),
    "options of a generator": (
        {"driving": "m.npz", "gaze": "left", "guidance_audio": 0.5, "seed": 0},
        "seed, guidance_audio, gaze would do nothing",
    ),
    "image with a long name": ({"image": "a" * 300}, "no such image file"),
    "driver with a long name": ({"driving": "a" * 300}, "no such video file"),
    "model with a long name": ({"model": "a" * 300}, "is not there"),
    "long name": ({"out": "a" * 252 + ".mp4"}, "shorten it"),
    "box text": ({"box": "1,2"}, "'1,2' is not x,y,size"),
    "box outside": ({"box": "90,90,40"}, "outside of the picture"),
    "face text": ({"face": "first"}, "--face 'first' names no face"),
    "position text": ({"position": "1"}, "--position '1' is not x,y"),
    "amplitude": ({"amplitude": 9}, "amplitude 9 is out of range"),
    "no motion": ({"driving": "letter.npz"}, "letter.npz is not a motion file"),
    "text as a driving video": ({"driving": "letter.txt"}, "in any of the 5 frames of letter.txt"),
    "text as LivePortrait's motion": ({"driving": "letter.pkl"}, "letter.pkl"),
    "show crop": ({"show_crop": "c.jpg"}, "must end in .png"),
    "neither image nor jobs": ({"image": None}, "there is no --image"),
    "save motion": ({"save_motion": "m.txt"}, ".npz"),
    "out suffix": ({"out": "talk.gif"}, "must end in"),
    "out folder": ({"out": "none/talk.mp4"}, "no folder"),
    "full folder": ({"out": "full/"}, "not an empty folder"),
    "out is a file": ({"out": "letter.txt/talk.mp4"}, "no folder"),
    "unknown flag": ({"sped": 3}, "--sped"),
    "no out": ({"out": None}, "there is no --out"),
}


@pytest.mark.parametrize("flags, message", BAD.values(), ids=BAD.keys())
def test_bad_input_ends_in_one_line(command, folder, flags, message):
    for suffix in ("txt", "npz", "pkl"):
        Path(f"letter.{suffix}").write_text("dear reader\n" * 100)
    Image.new("RGB", (1, 1)).save("pixel.png")
    Path("empty.wav").touch()
    soundfile.write("zero.wav", np.zeros(0), 16000)
    soundfile.write("nan.wav", np.append(np.zeros(40000), np.nan), 16000, subtype="FLOAT")
    Path("empty").mkdir()
    Path("full").mkdir()
    Path("full/note").touch()
    before = sorted(folder.rglob("*"))
    code, out, err = command(**flags)
    lines = [line for line in err.splitlines() if line.strip() and "frame/s" not in line and "talking" not in line]
    assert code == 2
    assert out == ""
    assert len(lines) == 1 and lines[0].startswith("infer: error: "), err
    assert message in lines[0]
    assert sorted(folder.rglob("*")) == before


def test_a_target_that_cannot_be_written(command):
    code, _, err = command(out="/proc/talk.mp4")
    assert code == 2 and "cannot write /proc/talk.mp4" in err


def test_the_command_line(folder, release):
    """As a user starts it: help without JAX, a run, and a run that is stopped half-way and leaves nothing behind."""
    start = [sys.executable, str(ROOT / "infer.py")]
    helped = subprocess.run([*start, "--help"], capture_output=True, text=True, check=True)
    assert "--guidance-audio" in helped.stdout
    soundfile.write("long.wav", np.zeros(16000 * 3600, np.int16), 16000)
    flags = ["--image", "face.png", "--audio", "long.wav", "--out", "talk.mp4", "--model", str(release), "--steps", "1"]
    process = subprocess.Popen([*start, *flags, "--platform", "cpu"], stderr=subprocess.PIPE, text=True)
    waited = time.monotonic() + 300
    while not list(folder.glob(".unfinished-*")) and process.poll() is None and time.monotonic() < waited:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "interrupted" in err
    assert sorted(path.name for path in folder.iterdir()) == ["face.png", "long.wav", "speech.wav"]


def test_real_inputs(command, assets):
    portrait, speech = assets / "portraits" / "statue_marble.png", assets / "speech" / "french.wav"
    code, out, _ = command(image=portrait, audio=speech, steps=1)
    assert code == 0 and "169 frames" in out
    with av.open("talk.mp4") as container:
        assert container.streams.audio[0].rate == 48000
        assert sum(1 for _ in container.decode(video=0)) == 169


def test_many_jobs_load_a_model_once(folder, release, capsys, monkeypatch):
    loads = []
    real = vasa_jax.load
    monkeypatch.setattr(vasa_jax, "load", lambda *given: loads.append(given) or real(*given))
    Path("jobs.csv").write_text("image,out,seed\nface.png,a.mp4,1\nnone.png,b.mp4,2\nface.png,c/,3\nface.png,d.mp4,x\n")
    common = ["--audio", "speech.wav", "--model", str(release), "--steps", "2", "--box", "5,5,40", "--jobs", "jobs.csv"]
    assert door.main(common) == 2
    out, err = capsys.readouterr()
    assert len(loads) == 1 and Path("a.mp4").is_file() and len(list(Path("c").iterdir())) == 25
    assert "b.mp4  failed: none.png: no such image file" in out and "d.mp4  failed:" in out
    assert err.splitlines()[-1] == "infer: error: 2 of 4 jobs of jobs.csv failed; mend their rows and run it again"
    Path("jobs.csv").write_text("image,out,seed\nface.png,a.mp4,1\nface.png,c/,3\n")
    assert door.main(common) == 0
    assert capsys.readouterr().out.count("skipped: it is there") == 2 and len(loads) == 1


def test_all_that_is_written_is_sealed(command, folder, release):
    """Read by c2pa itself; a video that keeps its transparency has its manifest beside it."""
    sound = hashlib.sha256((folder / "speech.wav").read_bytes()).hexdigest()
    photo = hashlib.sha256((folder / "face.png").read_bytes()).hexdigest()
    ids = set()
    for out in ("b.webm", "c/"):
        assert command(out=out, seed=3, show_crop="crop.png", gaze="left")[0] == 0
        path = next(Path(out).iterdir()) if out == "c/" else Path(out)
        beside = Path("b.c2pa").read_bytes() if out == "b.webm" else None
        with path.open("rb") as file, c2pa.Reader(KINDS[path.suffix], file, beside) as reader:
            told = json.loads(reader.json())
            assert reader.get_validation_state() == "Valid"
        manifest = told["manifests"][told["active_manifest"]]
        [said] = [entry["data"] for entry in manifest["assertions"] if entry["label"] == LABEL]
        assert said["sources"] == {"portrait": photo, "sound": sound} and said["seed"] == 3
        assert said["model"] == {"name": "tiny", "sha256": load_release(release).sha256}
        assert said["options"] == {"gaze": "left", "steps": 2}
        ids.add(said["id"])
        assert examine(path).verdict == "marked" and examine("crop.png").intact
    assert len(ids) == 2


def test_a_certificate_that_is_given_signs_and_a_bad_one_is_refused_before_any_work(command, folder):
    text = (configuration_folder() / "signing.pem").read_text()  # the key of this session, as if it were another's
    at = text.index("-----BEGIN CERT")
    Path("cert.pem").write_text(text[at:])
    Path("key.pem").write_text(text[:at])
    both = ["--sign-with", "cert.pem", "key.pem"]
    given = ["--image", "face.png", "--audio", "speech.wav", "--out", "talk.mp4"]
    assert door.main([*given, *both, "--tsa", "http://127.0.0.1:9/"]) == 2
    assert door.main([*given, "--sign-with", "cert.pem", "cert.pem"]) == 2
    assert command(image="face.png", sign_with="cert.pem")[0] == 2  # it takes two files
    assert not Path("talk.mp4").exists()


def test_a_seal_that_fails_leaves_no_video(command, folder, monkeypatch):
    def fail(*_):
        raise UserError("the disk is full")

    monkeypatch.setattr(credentials, "_sign", fail)
    code, _, err = command()
    assert code == 2 and "the disk is full" in err
    assert sorted(path.name for path in folder.iterdir()) == ["face.png", "speech.wav"]
