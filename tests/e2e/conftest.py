"""The tiny model, written once a session."""

from pathlib import Path

import pytest

from tests.inference.tiny import write_release


@pytest.fixture(scope="session")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_release(tmp_path_factory.mktemp("release") / "tiny")
