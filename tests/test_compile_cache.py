"""The folder of compiled programs: whatever is wrong with it costs one line, and the next start is fast again."""

import os
import warnings
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache

from tests.full_disk import full_disk
from vasa_jax import compile_cache
from vasa_jax.compile_cache import keep_compiled

OPTIONS = (
    "jax_compilation_cache_dir",
    "jax_enable_compilation_cache",
    "jax_persistent_cache_min_compile_time_secs",
)


def odd_program(x):
    return x * 3 + 1


def other_program(x):
    return x * 5 - 2


@pytest.fixture
def start(capsys, monkeypatch) -> Callable[[Path | str], tuple[int, list[str]]]:
    """Acts as a process that starts, keeps what it compiles in a folder, and runs two programs."""
    before = {name: getattr(jax.config, name) for name in OPTIONS}
    hits = []
    listen = lambda event, **_: hits.append(event) if event.endswith("/cache_hits") else None  # noqa: E731
    jax.monitoring.register_event_listener(listen)
    monkeypatch.setattr(compile_cache, "SHORTEST", 0.0)

    def forget(folder: str | None) -> None:
        compilation_cache.reset_cache()
        jax.clear_caches()
        jax.config.update("jax_compilation_cache_dir", folder)

    def run(folder: Path | str) -> tuple[int, list[str]]:
        forget(None)
        hits.clear()
        jax.config.update("jax_enable_compilation_cache", True)
        with warnings.catch_warnings():
            keep_compiled(folder)
            for program in (odd_program, other_program):
                np.asarray(jax.jit(program)(np.ones(3, np.float32)))
        return len(hits), capsys.readouterr().err.splitlines()

    yield run
    jax.monitoring.unregister_event_listener(listen)
    forget(before["jax_compilation_cache_dir"])
    for name, value in before.items():
        jax.config.update(name, value)


def entries(folder: Path) -> list[Path]:
    return sorted(folder.glob("jit_*_program-*-cache"))


@pytest.mark.parametrize("damage", [lambda whole: whole[: len(whole) // 2], lambda _: b"", lambda _: b"x" * 500])
def test_a_damaged_entry_is_made_anew(start, tmp_path, damage):
    assert start(tmp_path / "programs") == (0, [])
    assert len(entries(tmp_path / "programs")) == 2
    assert start(tmp_path / "programs") == (2, [])
    for path in entries(tmp_path / "programs"):
        path.write_bytes(damage(path.read_bytes()))
    hits, lines = start(tmp_path / "programs")
    assert hits == 0 and len(lines) == 1 and "damaged" in lines[0]
    assert start(tmp_path / "programs") == (2, [])


def test_a_half_written_entry_is_removed(start, tmp_path):
    with full_disk(100):
        hits, lines = start(tmp_path / "programs")
    assert hits == 0 and len(lines) == 1 and "cannot be kept" in lines[0]
    assert not entries(tmp_path / "programs")


def test_a_folder_that_cannot_be_made_costs_one_line(start, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("here")  # root may write to any folder, but not below a file
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        hits, lines = start(folder)
        assert hits == 0 and len(lines) == 1 and str(folder) in lines[0]
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # as for a user without a home
    hits, lines = start("~/programs")
    assert hits == 0 and len(lines) == 1 and "~/programs" in lines[0]


def test_other_warnings_are_shown(start, tmp_path):
    start(tmp_path)
    with pytest.warns(UserWarning, match="something else"):
        warnings.warn("something else", stacklevel=1)


def test_what_was_not_used_for_longest_goes(tmp_path):
    for age in range(4):
        path = tmp_path / f"jit_{age}-0-cache"
        path.write_bytes(bytes(10))
        os.utime(path, (1000 - age, 1000 - age))
    compile_cache._prune(tmp_path, 25)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["jit_0-0-cache", "jit_1-0-cache"]
