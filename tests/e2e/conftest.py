"""The tiny model, written once a session."""

from pathlib import Path

import jax
import pytest

from tests.inference.tiny import write_release


@pytest.fixture(scope="session")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # Several models are loaded from this release: the second finds what the first compiled.
    jax.config.update("jax_compilation_cache_dir", str(tmp_path_factory.getbasetemp() / "compiled"))
    return write_release(tmp_path_factory.mktemp("release") / "tiny")
