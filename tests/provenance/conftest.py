import dataclasses
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vasa_jax.media.tags import Tags
from vasa_jax.media.video import FrameWriter, VideoWriter
from vasa_jax.provenance.credentials import TERMS, Provenance, declare, sealer, tags_of
from vasa_jax.provenance.keys import Signing, own_signing

SIDE, FRAMES = 32, 3
SOUND = (np.random.default_rng(0).uniform(-0.1, 0.1, 2000).astype(np.float32), 16000)
PHOTO = np.random.default_rng(1).integers(0, 256, (16, 16, 3)).astype(np.uint8)


@pytest.fixture(autouse=True)
def settings(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's configuration folder, empty but for what the test puts there."""
    folder = tmp_path_factory.mktemp("settings")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folder))
    return folder / "vasa-jax"


@pytest.fixture
def signing(settings: Path) -> Signing:
    return own_signing()


@pytest.fixture
def provenance() -> Provenance:
    options = {"gaze": ["left"] * 100, "position": (0.5, -0.25), "zoom": 1.5}
    return declare("demo", "ab" * 32, PHOTO, "created", SOUND, {"driving": np.zeros(3)}, 7, options)


def film(path: Path, provenance: Provenance, signing: Signing) -> Path:
    """Some frames in a video, a folder or a picture, sealed as the commands do."""
    frames = np.random.default_rng(2).integers(0, 256, (FRAMES, SIDE, SIDE, 3)).astype(np.uint8)
    seal = sealer(provenance, signing)
    tags = tags_of(provenance) if provenance.intent in TERMS else Tags()
    how = {"tags": tags, "seal": seal}
    if path.suffix == ".png":
        hidden = path.with_name(".unfinished-1.png")
        Image.fromarray(frames[0]).save(hidden, pnginfo=tags.png())
        seal(hidden, path)
        hidden.rename(path)
        return path
    video = bool(path.suffix)
    with VideoWriter(path, 25, SIDE, SOUND, **how) if video else FrameWriter(path, SIDE, **how) as writer:
        for frame in frames:
            writer.write(frame)
    return path


def pasted(provenance: Provenance) -> Provenance:
    """The same of frames that were put back into their photo."""
    return dataclasses.replace(provenance, intent="composite")
