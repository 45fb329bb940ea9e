"""A fault of each kind, once; `benchmarks/faults.py` does each twenty times."""

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import faults

ROOT = Path(__file__).parents[1]


def table(*arguments):
    """The rows that the command prints, and what it says of what went wrong."""
    command = [sys.executable, "-m", "benchmarks.faults", "--times", "1", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | {"XLA_FLAGS": ""}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert all(line.startswith("|") for line in lines)
    return {" to ".join(line.split(" | ")[:2]).removeprefix("| "): line.split(" | ")[3:] for line in lines[2:]}


def test_records_and_shards_survive_what_happens():
    rows = table("--only", "to records", "to shard")
    assert rows.keys() == {
        *(f"{name} to records" for name, (_, subjects) in faults.FAULTS.items() if "records" in subjects),
        "full disk to shard",
    }
    for name, (codes, *counts) in rows.items():
        assert [count.strip(" |") for count in counts] == ["0"] * 5
        if "disk" in name or "read-only" in name:
            assert codes == "2 (1)"


@pytest.mark.long
def test_everything_survives_what_happens():
    rows = table()
    assert len(rows) == sum(len(subjects) for _, subjects in faults.FAULTS.values())
    assert rows["device out of memory to checkpoint"][0] == "2 (1)"


class Note(faults.File):
    """A file that is written in the two ways, of which one is wrong."""

    name, file = "note", "note.txt"
    whole = True

    def command(self, folder):
        from vasa_jax.command import run
        from vasa_jax.files import whole_file

        def work():
            if not self.whole:
                (folder / self.file).write_text("half")
                (folder / ".unfinished-1").touch()
                raise OSError("half-way")
            with whole_file(folder / self.file) as hidden:
                hidden.write_text("new" * 6000)
            yield "written"

        return run("note", work)


def test_what_is_wrong_is_seen(tmp_path):
    """A command that writes under the final name, and ends in a traceback."""
    note = Note(tmp_path)
    life, size = faults.undisturbed(note, tmp_path / "note")
    trial = faults.Trial(note, tmp_path / "note" / "trial", random.Random(0), life, size)
    assert size >= 15000 and faults.read_only(trial) == ("2", []) and faults.full_disk(trial) == ("2", [])
    for number, codes in ((signal.SIGTERM, {"130", "0", "-15"}), (signal.SIGKILL, {"-9", "0"})):
        code, wrong = faults.signalled(number)(trial)
        assert code in codes and not wrong
    note.whole = False
    code, wrong = faults.full_disk(trial)
    assert code == "1" and {one.kind for one in wrong} == {"code", "line", "partial", "left"}
