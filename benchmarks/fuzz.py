"""Does every door end hostile input in a valid result or in one clear line?

    python -m benchmarks.fuzz [--cases 2000] [--seed 0] [--commands 60] [--kinds pictures sounds ...] [--keep FOLDER]
                              [--seeds FOLDER] [--log FILE] [--minutes N]

Each case is one input of `benchmarks.hostile`, drawn from (seed, kind, number), in folders of its own. It goes through
the function behind the door in a process of its own, forked from this one, so that a case costs milliseconds; and some
(`--commands`) go through the whole command as a user types it. A case is explained where it ends within 60 s and with
at most 2 GB more than an idle process, either in a valid result, or in exit code 2 and exactly one printable line that
names the file. Seconds are those of the processor. Anything else counts as unexplained: a traceback, a signal, a hang,
a file that a refusal leaves behind or that lies outside of the asked place, and code in the input that was run. Prints
a table by kind, and of each unexplained case its number, so that `--kinds KIND --only NUMBER` repeats it. Exit code 1
if there is any.
"""

import argparse
import json
import os
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks import timing
from benchmarks.hostile import marked, messages, pickles, pictures, records, sounds, texts, videos, weights
from benchmarks.hostile.case import Box, Case, Kind

ROOT = Path(__file__).resolve().parents[1]
SECONDS = 60.0
"""Of processor time that a case may take, so that a busy machine counts as an idle one does."""
PATIENCE = 5
"""How many times as many it may take by the clock."""
MEGABYTES = 2000.0
LONGEST_LINE = 1000
KINDS: dict[str, Kind] = {
    "pictures": pictures.case,
    "sounds": sounds.case,
    "videos": videos.case,
    "controls": texts.controls,
    "jobs": texts.jobs,
    "motion": texts.motion,
    "configs": texts.config,
    "releases": weights.release,
    "runs": weights.run,
    "pickles": pickles.case,
    "safetensors": weights.safetensors_case,
    "records": records.case,
    "manifests": marked.case,
    "messages": messages.case,
}
SEEDED = {"controls", "jobs", "configs", "releases", "runs", "safetensors", "manifests"}
"""Kinds that start from seeds."""
OWN = (".config", ".cache")
"""Where the package may keep its key and its compiled programs, in the user's home."""
STREAMS = "stdout", "stderr"
CHATTER = re.compile(r"|Corrupt JPEG data.*|.*\d+%\|.*")
"""What libjpeg inside OpenCV says of a picture of a record, which nothing can silence, and bars of progress."""
TYPED, WHOLE = " (command)", "whole commands"


class Verdict(NamedTuple):
    """How a case ended. state: valid, refused or unexplained. seconds: of processor time. megabytes: more than an idle
    process. why: of the last."""

    state: str
    seconds: float
    megabytes: float
    why: str = ""


class Ended(NamedTuple):
    """A process that is no more. code: negative is a signal. seconds: of processor time. stopped: why, or empty."""

    code: int
    seconds: float
    megabytes: float
    stopped: str


def memory(process: int | str = "self", field: str = "VmRSS") -> float:
    """Megabytes that a process holds."""
    try:
        lines = Path(f"/proc/{process}/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1e3 for line in lines if line.startswith(f"{field}:")), 0.0)


def busy(process: int) -> float:
    """Seconds of processor time that a process and its children that have ended took."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def apart(
    box: Box,
    work: Callable[[], int],
    idle: float | None = None,
    seconds: float = SECONDS,
    megabytes: float = MEGABYTES,
) -> Ended:
    """Do work in a forked process that lives in a box, and wait for its end or stop it at a limit.

    Args:
        box: where it lives.
        work: returns an exit code.
        idle: megabytes of a process that has done nothing yet; None for what the forked one begins with.
        seconds, megabytes: limits, the second beyond `idle`.
    """
    began = time.monotonic()
    ready, go = os.pipe()
    process = os.fork()
    if not process:
        os.close(go)
        os.read(ready, 1)  # it begins when its memory has been looked at
        os.close(ready)
        _live(box, work)
    os.close(ready)
    idle = memory(process) if idle is None else idle
    os.close(go)
    stopped = ""
    while True:
        ended, status, usage = os.wait4(process, os.WNOHANG)
        if ended:
            break
        if busy(process) > seconds:
            stopped = f"it computed for more than {seconds:g} s"
        elif time.monotonic() - began > PATIENCE * seconds:
            stopped = f"it had not ended after {PATIENCE * seconds:g} s"
        elif memory(process, "VmHWM") - idle > megabytes + 1000:
            stopped = f"it took more than {megabytes + 1000:g} MB"
        if stopped:
            os.kill(process, signal.SIGKILL)
        time.sleep(0.01)
    with_children = max(usage.ru_maxrss / 1e3 - idle, 0.0)
    _end_group(process)
    if not stopped and with_children > megabytes:
        stopped = f"it took {with_children:.0f} MB"
    return Ended(os.waitstatus_to_exitcode(status), usage.ru_utime + usage.ru_stime, with_children, stopped)


def _live(box: Box, work: Callable[[], int]) -> None:
    """What the forked process does; never returns."""
    code = 70
    try:
        os.setsid()
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (2 << 30, 2 << 30))
        os.environ |= environment(box)
        tempfile.tempdir = None
        os.chdir(box.root / "cwd")
        for number, name in enumerate(STREAMS, 1):
            os.dup2(os.open(box.root / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w", errors="backslashreplace")  # noqa: SIM115
        code = work()
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 70
    except BaseException:  # noqa: BLE001  (whatever it is, it is told)
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _end_group(process: int) -> None:
    try:
        os.killpg(process, signal.SIGKILL)
    except ProcessLookupError:
        pass


def environment(box: Box) -> dict[str, str]:
    """Where a process in a box finds its home and its place for what is temporary."""
    home = str(box.root / "home")
    places = {"HOME": home, "TMPDIR": str(box.root / "tmp"), "XDG_CONFIG_HOME": f"{home}/.config"}
    return places | {"JAX_PLATFORMS": "cpu", "PYTHONDONTWRITEBYTECODE": "1"}


def open_box(root: Path) -> Box:
    """An empty box."""
    for name in ("in", "out", "cwd", "home", "tmp"):
        (root / name).mkdir(parents=True)
    return Box(root)


def files(box: Box) -> dict[str, tuple[int, int]]:
    """Every file in a box, but for what the process says, with size and time."""
    found = {}
    for folder, _, names in os.walk(box.root):
        for name in names:
            path = Path(folder) / name
            inside = str(path.relative_to(box.root))
            if inside not in STREAMS and not any(inside.startswith(f"home/{own}/") for own in OWN):
                state = path.lstat()
                found[inside] = state.st_size, state.st_mtime_ns
    return found


def judge(
    case: Case, box: Box, work: Callable[[], int], before: dict[str, tuple[int, int]], idle: float | None = None
) -> Verdict:
    """Run a case and say how it ended."""
    ended = apart(box, work, idle)
    why = ended.stopped or _complaint(case, box, ended, before)
    state = "unexplained" if why else "valid" if ended.code in case.codes else "refused"
    return Verdict(state, ended.seconds, ended.megabytes, why)


def _complaint(case: Case, box: Box, ended: Ended, before: dict[str, tuple[int, int]]) -> str:
    said = (box.root / STREAMS[1]).read_text(encoding="utf-8", errors="backslashreplace")
    if box.canary.exists():
        return "code of the input was run"
    if ended.code < 0:
        return f"signal {-ended.code}"
    if ended.code not in (*case.codes, 2) or "Traceback" in said:
        last = [line for line in said.splitlines() if line.strip()] or ["nothing was said"]
        return f"exit code {ended.code}: {last[-1][:300]}"
    after, whole = files(box), ended.code in case.codes
    for path in sorted(after.keys() | before.keys()):
        mine = path.startswith("out/") and ".unfinished" not in path
        if after.get(path) != before.get(path) and not (mine and whole) and path not in case.stays:
            return f"{path} was {'changed' if path in before else 'left behind'}"
    if whole:
        return ""
    lines = [line for line in said.splitlines() if not CHATTER.fullmatch(line)]
    if len(lines) != 1 or not said.endswith("\n") or "error: " not in lines[0]:
        return f"{len(lines)} lines: {said[:300]!r}"
    if not lines[0].isprintable():
        return f"letters that are not printable: {lines[0][:200]!r}"
    if len(lines[0]) > LONGEST_LINE:
        return f"a line of {len(lines[0])} letters: {lines[0][:200]}"
    if case.named and case.named not in lines[0]:
        return f"{case.named} is not named: {lines[0][:300]}"
    return ""


def typed(case: Case, seeds: Path) -> Callable[[], int]:
    """The whole command in place of the door's function."""
    given = {"SOUND": seeds / "sound.wav", "PHOTO": seeds / "photo.png", "MODEL": seeds / "release"}
    arguments = [str(given.get(part, part)) for part in case.command]
    if arguments[0].endswith(".py"):
        arguments[0] = str(ROOT / arguments[0])

    def work() -> int:
        os.environ["PYTHONPATH"] = str(ROOT)
        os.execv(sys.executable, [sys.executable, *arguments])

    return work


def draw(kind: str, seed: int, number: int, seeds: Path, box: Box) -> Case:
    """A case by its number."""
    return KINDS[kind](np.random.default_rng([seed, zlib.crc32(kind.encode()), number]), seeds, box)


def cases(kinds: Sequence[str], count: int, only: int | None) -> Iterator[tuple[str, int]]:
    """Kinds in turn, each with its own numbers."""
    if only is not None:
        yield from ((kind, only) for kind in kinds)
        return
    yield from ((kinds[i % len(kinds)], i // len(kinds)) for i in range(count))


def make_seeds(folder: Path) -> None:
    """The sound files that cases start from, by a process that is gone afterwards. Raises RuntimeError."""

    def work() -> int:
        from benchmarks.hostile.seeds import make

        make(box.input)
        return 0

    box = open_box(folder)
    ended = apart(box, work, None, 600.0, 8000.0)
    if ended.code:
        raise RuntimeError(f"the seeds could not be made: {(box.root / STREAMS[1]).read_text()[-2000:]}")


def table(verdicts: dict[str, list[Verdict]]) -> Iterator[str]:
    """A row for each kind, and one for all."""
    yield f"| {'kind':<20} | cases | valid | refused | unexplained | slowest, s | most, MB |"
    yield f"|{'-' * 22}|{'-' * 6}:|{'-' * 6}:|{'-' * 8}:|{'-' * 12}:|{'-' * 11}:|{'-' * 9}:|"
    for name, found in (*verdicts.items(), ("all", [one for some in verdicts.values() for one in some])):
        if found:
            counts = [sum(one.state == state for one in found) for state in ("valid", "refused", "unexplained")]
            worst = max(one.seconds for one in found), max(one.megabytes for one in found)
            yield (
                f"| {name:<20} | {len(found):>5} | {counts[0]:>5} | {counts[1]:>7} | {counts[2]:>11} | "
                f"{worst[0]:>10.1f} | {worst[1]:>8.0f} |"
            )


class Log:
    """What was judged, a line of JSON a case, in a file that a later run goes on with; and what is to be judged."""

    def __init__(self, path: Path | None):
        """Without a path it is forgotten at the end. What was unexplained is judged again."""
        self.path, self.known = path, dict[tuple[str, int], Verdict]()
        lines = path.read_text(encoding="utf-8").splitlines() if path is not None and path.exists() else []
        for line in map(json.loads, lines):
            verdict = Verdict(line["state"], line["seconds"], line["megabytes"], line["why"])
            self.known[line["kind"], line["number"]] = verdict
        self.known = {key: one for key, one in self.known.items() if one.state != "unexplained"}

    def add(self, kind: str, number: int, what: str, verdict: Verdict, said: str) -> None:
        """Keep a verdict; tell of one that is unexplained."""
        self.known[kind, number] = verdict
        if verdict.state == "unexplained":
            print(f"{kind} {number}: {what[:150]!r}: {verdict.why}", flush=True)
        if self.path is not None:
            line = {"kind": kind, "number": number, **verdict._asdict(), "what": what[:300], "said": said[:300]}
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")

    def verdicts(self) -> dict[str, list[Verdict]]:
        """By kind, whole commands last."""
        found: dict[str, list[Verdict]] = {kind: [] for kind in (*KINDS, WHOLE)}
        for (kind, _), verdict in self.known.items():
            found[WHOLE if kind.endswith(TYPED) else kind].append(verdict)
        return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the cases and print the table; the exit code is 1 where a case is unexplained."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=timing.positive, default=2000, help="all kinds together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--commands", type=int, default=60, help="cases that go through the whole command as well")
    parser.add_argument("--kinds", nargs="+", choices=tuple(KINDS), default=tuple(KINDS))
    parser.add_argument("--only", type=int, help="the case of this number alone")
    parser.add_argument("--seeds", type=Path, help="folder that keeps the sound files that cases start from")
    parser.add_argument("--log", type=Path, help="file that keeps each verdict, and lets the same command go on")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="after which no further case begins")
    parser.add_argument("--keep", type=Path, help="folder for what unexplained cases read and said")
    flags = parser.parse_args(arguments)
    log = Log(flags.log)
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        place = flags.seeds or Path(folder) / "seeds"
        if not place.exists() and (flags.commands or SEEDED & set(flags.kinds)):
            make_seeds(place)
        _judge_all(flags, log, (place / "in").resolve(), Path(folder) / "case")
    print()
    for line in table(log.verdicts()):
        print(line)
    return int(any(one.state == "unexplained" for one in log.known.values()))


def _judge_all(flags: argparse.Namespace, log: Log, seeds: Path, root: Path) -> None:
    chosen = list(cases(flags.kinds, flags.cases, flags.only))
    every = max(1, len(chosen) // flags.commands) if flags.commands else len(chosen) + 1
    last, due = flags.minutes * 60 + time.monotonic(), 0
    for i, (kind, number) in enumerate(chosen):
        if time.monotonic() > last:
            break
        due += i % every == every - 1
        if (kind, number) in log.known:
            due -= (kind + TYPED, number) in log.known
            continue
        box = open_box(root)
        try:
            case = draw(kind, flags.seed, number, seeds, box)
        except Exception as error:  # noqa: BLE001  (a mistake of ours in one case must not stop the others)
            case = Case("not drawn", lambda error=error: (_ for _ in ()).throw(error))
        before = files(box)
        ways: list[tuple[str, Callable[[], int], float | None]] = [(kind, case.work, None)]
        if due > 0 and case.command:
            ways.append((kind + TYPED, typed(case, seeds), memory()))
            due -= 1
        for name, work, idle in ways:
            verdict = judge(case, box, work, before, idle)
            log.add(name, number, case.what, verdict, (box.root / STREAMS[1]).read_text(errors="replace"))
            if verdict.state == "unexplained":
                if flags.keep is not None:
                    shutil.copytree(root, flags.keep / f"{name}-{number}", symlinks=True, dirs_exist_ok=True)
                break
            shutil.rmtree(box.output)
            box.output.mkdir()
        shutil.rmtree(root)


if __name__ == "__main__":
    sys.exit(main())
