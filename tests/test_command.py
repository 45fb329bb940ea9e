"""The package's commands complain in one line."""

import gc
import importlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from vasa_jax.command import STOPPED, check_stopped, run
from vasa_jax.errors import UserError

ROOT = Path(__file__).parents[1]
COMMANDS = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__main__")
    for path in (ROOT / "vasa_jax").rglob("*.py")
    if 'if __name__ == "__main__":' in path.read_text(encoding="utf-8")
)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_flag_that_does_not_exist_ends_in_one_line(name, capsys):
    is_package = (ROOT / name.replace(".", "/")).is_dir()
    door = importlib.import_module(f"{name}.__main__" if is_package else name)
    assert door.main(["--no-such-flag"]) == 2
    out, err = capsys.readouterr()
    assert not out and err.count("\n") == 1 and "error: " in err and err.endswith("see --help\n")


def test_the_commands_are_those_of_the_documents():
    assert COMMANDS == [
        "vasa_jax.convert",
        "vasa_jax.data",
        "vasa_jax.doors.demo",
        "vasa_jax.faces",
        "vasa_jax.metrics",
        "vasa_jax.preparation",
        "vasa_jax.provenance",
        "vasa_jax.serve",
        "vasa_jax.synthetic",
        "vasa_jax.training.encode",
        "vasa_jax.training.export",
        "vasa_jax.training.plan",
    ]


def test_a_mistake_of_several_lines_becomes_one(capsys):
    def work():
        raise UserError("first\n  second")

    assert run("name", work) == 2 and capsys.readouterr().err == "name: error: first second\n"
    assert run("name", lambda: ["one", "two"]) == 0 and capsys.readouterr().out == "one\ntwo\n"


def test_a_complaint_repeats_no_codes_for_terminals_and_no_book(capsys):
    def work():
        raise UserError(f"\x1b[2J{'a' * 10_000}\u202e; give b")

    assert run("name", work) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("name: error: ?[2Jaa") and line.endswith("aa?; give b") and len(line) < 1000


def test_what_was_done_before_a_mistake_is_told(capsys):
    def work():
        yield "first"
        raise UserError("second")

    assert run("name", work) == 2 and capsys.readouterr() == ("first\n", "name: error: second\n")


def test_a_bug_keeps_its_traceback():
    def work():
        raise ValueError("conv_general_dilated lhs feature dimension size ...")

    with pytest.raises(ValueError, match="conv_general"):
        run("name", work)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_in_one_line_and_all_is_cleaned_up(capsys, number):
    cleaned = []

    def work():
        try:
            yield "begun"
            signal.raise_signal(number)
            yield "never said"
        finally:
            cleaned.append(True)

    before = [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)]
    assert run("name", work) == 130 and cleaned and not STOPPED
    assert capsys.readouterr() == ("begun\n", "name: interrupted; nothing half-written was left\n")
    assert [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_signal_that_python_drops_is_remembered(capsys):
    """An exception in a callback of the garbage collector goes nowhere."""

    def strike(phase, info):
        signal.raise_signal(signal.SIGTERM)

    def work():
        gc.callbacks.append(strike)
        try:
            gc.collect()
        finally:
            gc.callbacks.remove(strike)
        yield "it went on"
        check_stopped()
        yield "never said"

    before = sys.unraisablehook
    assert run("name", work) == 130 and sys.unraisablehook is before
    assert capsys.readouterr() == ("it went on\n", "name: interrupted; nothing half-written was left\n")


def test_what_a_library_makes_of_a_signal_is_no_bug(capsys):
    def work():
        try:
            signal.raise_signal(signal.SIGTERM)
        except KeyboardInterrupt:
            raise ValueError("CANCELLED: the event loop was left") from None
        yield "never said"

    assert run("name", work) == 130
    assert capsys.readouterr() == ("", "name: interrupted; nothing half-written was left\n")


@pytest.mark.parametrize("numbers", [1 << 46, 1 << 60])
def test_memory_that_runs_out_is_one_line(capsys, numbers):
    """JAX's own error for an array that no device holds, and NumPy's for one that no machine holds."""
    import jax.numpy as jnp
    import numpy as np

    make = jnp.zeros if numbers == 1 << 46 else np.ones
    assert run("name", lambda: [str(make(numbers, np.uint8 if make is np.ones else np.float32))]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and " ran out of memory: " in err and err.endswith("or ask for less at once\n")


@pytest.mark.parametrize("redirect", ["2>&-", ">&-", ">&- 2>&- <&-", "> /dev/full", "2> /dev/full", "| true"])
def test_standard_streams_that_are_closed_or_broken_fail_nothing(tmp_path, redirect):
    """Lines, progress and a file that is opened while descriptor 2 is free."""
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\nfrom tqdm import tqdm\nfrom vasa_jax.command import run\n"
        "def work():\n"
        "    with open('kept', 'w') as file:\n"
        "        for i in tqdm(range(3), mininterval=0):\n"
        "            yield 'line ' * 5000\n"
        "        sys.stderr.write('complaint')\n"
        "        file.write('whole')\n"
        "sys.exit(run('script', work))\n"
    )
    shell = f"set -o pipefail; {sys.executable} {script} {redirect}"
    done = subprocess.run(
        ["bash", "-c", shell], cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "kept").read_text() == "whole"
