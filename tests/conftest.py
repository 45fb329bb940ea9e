"""A strict session: rank promotion raises, and the CPU shows eight devices (pmap and meshes need them)."""

import gc
import os
import tempfile
from pathlib import Path

import jax
import pytest

from tests.compiling import HURRIED

# Commands that tests start inherit the platform; JAX itself may be imported already, so it is told twice.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Most programs here run a few times only: their compilation is what takes time.
os.environ.setdefault("XLA_FLAGS", HURRIED)
jax.config.update("jax_platforms", os.environ["JAX_PLATFORMS"])
# XLA's threads: eight devices that meet in collectives need more than a small machine has cores.
os.environ.setdefault("NPROC", "64")
# Workers, commands and later runs find what one of them compiled.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parents[1] / ".cache" / "jax"))
jax.config.update("jax_compilation_cache_dir", os.environ["JAX_COMPILATION_CACHE_DIR"])
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")
# What tests seal is signed by a key of their own, not by that of whoever runs them.
SETTINGS = tempfile.TemporaryDirectory(prefix="vasa-jax-settings-")
os.environ["XDG_CONFIG_HOME"] = SETTINGS.name
gc.set_threshold(100_000, 50, 50)  # a trace makes many small objects that live on


SLOW_FIRST = (
    "tests/training/test_strategies.py",
    "tests/autoencoder/test_objective.py",
    "tests/data/test_documentation.py",
    "tests/training/test_documentation.py",
    "tests/e2e/",
    "tests/metrics/",
    "tests/training/test_stages.py",  # finds the step of the first file compiled
)
"""Where compilation takes minutes; started first, so that several workers end together."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order files by SLOW_FIRST, keeping the order within each."""

    def rank(item: pytest.Item) -> int:
        return next((i for i, start in enumerate(SLOW_FIRST) if item.nodeid.startswith(start)), len(SLOW_FIRST))

    items.sort(key=rank)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The table of parity: errors that tests recorded under "parity", as fractions of the answer's range."""
    reports = [report for kind in ("passed", "failed") for report in terminalreporter.stats.get(kind, [])]
    rows = sorted(value for report in reports for name, value in report.user_properties if name == "parity")
    if rows:
        terminalreporter.section("parity with the original networks")
        for network, error, bar in rows:
            terminalreporter.line(f"{network:<48} largest error {error:.1e} of the range (bar {bar:.0e})")


@pytest.fixture(scope="session")
def assets() -> Path:
    """The folder of real inputs (portraits, speech, models) that VASA_JAX_ASSETS names; skips without it."""
    folder = os.environ.get("VASA_JAX_ASSETS")
    if not folder:
        pytest.skip("needs real inputs: set VASA_JAX_ASSETS to their folder")
    if not Path(folder).is_dir():
        pytest.fail(f"VASA_JAX_ASSETS={folder!r} is not a folder")
    return Path(folder)
