"""Releases of frozen speech networks: from a checkpoint, from the Hub, once."""

import numpy as np
import pytest
from safetensors.numpy import save_file

from tests.audio.tiny import WAV2VEC2, speech_params
from tests.convert.hub_server import serve, use
from tests.joyvasa.tiny import SPEECH
from vasa_jax.audio.weights import read_speech, save_speech
from vasa_jax.checkpoint import digest
from vasa_jax.convert import speech
from vasa_jax.convert.__main__ import main
from vasa_jax.convert.hub import find_speech
from vasa_jax.errors import UserError


@pytest.fixture
def small(monkeypatch):
    """Checkpoints of one tensor, which convert to the small network."""
    monkeypatch.setattr(speech, "convert", lambda network, tensors: {"params": speech_params(int(tensors["seed"][0]))})
    monkeypatch.setattr(speech, "SpeechConfig", lambda: SPEECH)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A Hub with a release and a checkpoint of its authors, and an empty cache in a home folder of its own."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    save_speech(tmp_path / "made", "wav2vec2", SPEECH, speech_params())
    save_file({"seed": np.array([1.0], np.float32)}, tmp_path / "model.safetensors")
    with serve() as served:
        use(served, tmp_path / "hub", monkeypatch)
        made = {path.name: path.read_bytes() for path in (tmp_path / "made").iterdir()}
        checkpoint = (tmp_path / "model.safetensors").read_bytes()
        served.repositories["someone/ours"] = made
        served.repositories["someone/theirs"] = {
            "config.json": b"{}",
            "model.safetensors": checkpoint,
            "pytorch_model.bin": b"0",
        }
        served.repositories["someone/else"] = {"README.md": b"hello"}
        yield served


@pytest.mark.parametrize("name, seed", [("someone/ours", 0), ("someone/theirs", 1), ("someone/theirs@main", 1)])
def test_a_network_comes_from_the_hub_once(hub, small, name, seed):
    said = []
    folder = find_speech(name, "wav2vec2", said.append)
    assert len(said) == 1 and "once" in said[0]
    assert digest(read_speech(folder, WAV2VEC2)) == digest(speech_params(seed))
    asked = len(hub.asked)
    assert find_speech(name, "wav2vec2", said.append) == folder
    assert len(hub.asked) == asked and len(said) == 1


@pytest.mark.parametrize(
    "name, told",
    [
        ("nothing", "'nothing' is not there; name a folder .* such as facebook/wav2vec2-base-960h"),
        ("someone/else", "it has no model.safetensors"),
        ("someone/nobody", "someone/nobody"),
    ],
)
def test_what_is_no_network_is_refused(hub, name, told):
    with pytest.raises(UserError, match=told):
        find_speech(name, "wav2vec2")


def test_the_command_writes_a_release_from_a_file_or_the_hub(hub, small, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for source in ("model.safetensors", "someone/theirs"):
        out = tmp_path / f"out-{source.replace('/', '-')}"
        assert main(["speech", "wav2vec2", source, "--out", str(out)]) == 0
        assert digest(speech_params(1)) in capsys.readouterr().out
        read_speech(out, WAV2VEC2)


def test_another_checkpoint_is_refused_in_one_line(tmp_path, capsys):
    save_file({"stranger": np.zeros(3, np.float32)}, tmp_path / "model.safetensors")
    assert main(["speech", "hubert", str(tmp_path / "model.safetensors"), "--out", str(tmp_path / "out")]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "is no checkpoint of hubert" in line and not (tmp_path / "out").exists()
