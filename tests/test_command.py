"""The package's commands complain in one line."""

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from vasa_jax.command import run
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
