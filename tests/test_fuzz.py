"""What `benchmarks.fuzz` calls unexplained, and a seeded hundred of its cases, of every kind."""

import faulthandler
import mmap
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks import fuzz
from benchmarks.hostile.case import Box, Case, door
from vasa_jax.errors import UserError

ROOT = Path(__file__).parents[1]


def refuse(message: str):
    def work() -> None:
        raise UserError(message)

    return door("infer", work)


def verdict(box: Box, work, **more) -> fuzz.Verdict:
    return fuzz.judge(Case("", work, named="a.png", **more), box, work, fuzz.files(box))


@pytest.fixture
def box(tmp_path) -> Box:
    return fuzz.open_box(tmp_path / "case")


def test_a_valid_result_and_a_clear_line_are_explained(box):
    assert verdict(box, door("infer", lambda: None)).state == "valid"
    assert verdict(box, refuse("a.png is no picture")).state == "refused"
    assert verdict(box, lambda: 3, codes=(0, 3)).state == "valid"
    assert verdict(box, lambda: int(not (box.output / "a.mp4").write_bytes(b"x"))).state == "valid"


def test_what_is_not_explained(box):
    def broken() -> int:
        raise RuntimeError("lost")

    def crash() -> int:
        faulthandler.disable()  # pytest's report of it would be read as one of this process
        os.kill(os.getpid(), signal.SIGSEGV)
        return 0

    def chatty() -> int:
        sys.stderr.write("hm\n")
        return refuse("a.png is no picture")()

    def litter(path: Path, work):
        path.write_bytes(b"x")
        return work()

    cases = {
        "exit code 70: RuntimeError: lost": broken,
        "signal 11": crash,
        "2 lines: ": chatty,
        "a.png is not named": refuse("it is no picture"),
        "letters that are not printable": lambda: litter(box.root / "stderr", lambda: _say("a.png \x1b[2J")),
        "exit code 1: nothing was said": lambda: 1,
        "cwd/a was left behind": lambda: litter(Path("a"), lambda: 0),
        "out/a.mp4 was left behind": lambda: litter(box.output / "a.mp4", refuse("a.png is no picture")),
        "code of the input was run": lambda: litter(box.canary, lambda: 0),
    }
    for why, work in cases.items():
        found = verdict(box, work)
        assert found.state == "unexplained" and found.why.startswith(why), (why, found)
        for path in (box.root / "cwd" / "a", box.output / "a.mp4", box.canary):
            path.unlink(missing_ok=True)


def _say(line: str) -> int:
    sys.stderr.write(f"infer: error: {line}\n")
    return 2


def test_a_case_that_takes_too_long_or_too_much_is_stopped(box, monkeypatch):
    def compute() -> int:
        while True:
            pass

    def sleep() -> int:
        time.sleep(100)
        return 0

    def grow() -> int:
        fresh = mmap.mmap(-1, 200_000_000)  # of the heap as much may lie idle, and be counted from the start
        for page in range(0, len(fresh), mmap.PAGESIZE):
            fresh[page] = 1
        return 0

    monkeypatch.setattr(fuzz, "PATIENCE", 1000)
    assert fuzz.apart(box, compute, seconds=0.3).stopped == "it computed for more than 0.3 s"
    monkeypatch.setattr(fuzz, "PATIENCE", 0.01)
    assert fuzz.apart(box, sleep, seconds=50.0).stopped == "it had not ended after 0.5 s"
    monkeypatch.undo()
    assert fuzz.apart(box, grow, megabytes=50.0).stopped.startswith("it took ")
    assert fuzz.apart(box, lambda: 0).stopped == ""


def test_a_run_goes_on_with_its_log_and_judges_again_what_was_unexplained(tmp_path):
    log = fuzz.Log(tmp_path / "log")
    log.add("sounds", 0, "noise", fuzz.Verdict("valid", 1.0, 2.0), "")
    log.add("sounds", 1, "noise", fuzz.Verdict("unexplained", 1.0, 2.0, "signal 11"), "")
    log.add("sounds (command)", 0, "noise", fuzz.Verdict("refused", 1.0, 2.0), "infer: error: x")
    again = fuzz.Log(tmp_path / "log")
    assert set(again.known) == {("sounds", 0), ("sounds (command)", 0)}
    assert [len(again.verdicts()[kind]) for kind in ("sounds", fuzz.WHOLE)] == [1, 1]


def test_the_table_counts():
    found = {"sounds": [fuzz.Verdict("valid", 1.0, 5.0), fuzz.Verdict("refused", 2.0, 1.0)], "jobs": []}
    *_, row, total = fuzz.table(found)
    assert row.split("|")[1:-1] == total.replace("all   ", "sounds").split("|")[1:-1]
    assert [cell.strip() for cell in row.split("|")[1:-1]] == ["sounds", "2", "1", "1", "0", "2.0", "5"]


def test_a_seeded_hundred_is_explained():
    """In a fresh process, which forks one for each case."""
    command = [sys.executable, "-m", "benchmarks.fuzz", "--cases", "98", "--seed", "1", "--commands", "0"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    assert done.stdout.splitlines()[-1].split("|")[2].strip() == "98"
