"""The tiny model, written once a session and loaded once."""

from pathlib import Path

import pytest

import vasa_jax
from tests.inference.tiny import write_release
from vasa_jax.inference import Model


@pytest.fixture(scope="session")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_release(tmp_path_factory.mktemp("release") / "tiny")


@pytest.fixture(scope="session")
def model(release: Path) -> Model:
    return vasa_jax.load(release)
