"""What is lost when something goes wrong? Nothing that was complete; and nothing partial bears a final name.

    python -m benchmarks.faults [--times 20] [--only "full disk" "SIGINT to video"] [--seed 0]

Videos, pictures, records, checkpoints and conversions are made at the smallest sizes, and something happens to each, at
a moment or a size that is drawn anew each time: the disk is full, the folder is read-only, SIGINT, SIGTERM or SIGKILL
comes, a worker is killed, the device has no memory left, the clock jumps, a second run comes into the same folder.
Afterwards what was complete before must be there bit for bit, or the whole new thing in its place; what has a final
name must be whole; the exit code must be 2 after one line, or 130 after a signal (0 where the work was done before, or
where a training stopped at its checkpoint); hidden files may be left by SIGKILL alone; and the same command must then
end where an undisturbed one does (digests of parameters and shards). Exit code 1 if any of that fails.

Commands are processes of their own, forked from this one once it has imported what they need, which saves their start;
so moments are drawn from a command's own work. Full and read-only disks are small file systems in memory, which root
alone may mount; for others the size of files is limited, and folders lose their write permission.
"""

import argparse
import contextlib
import dataclasses
import datetime
import hashlib
import importlib
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tests.preparation import fakes
from vasa_jax.files import PREFIX

LONGEST = 180.0
"""Seconds after which a command hangs."""
FRAMES = 25
ROOM = 64 << 20
"""Bytes of the small file systems, before they are full."""
HOG = 1 << 46
"""Numbers that no device holds."""
FILMS = {"anna__one": "clips 2 dropped 1", "anna__two": "clips 2", "bella": "clips 3", "torn": "fail broken"}
STEPS = 24
BEGUN = 8
"""Steps of a training, and those that are complete before anything happens."""
ANSWERS = {"lost": "complete things lost or changed", "partial": "partial things with a name"}
OTHERS = {"code": "wrong exit codes", "line": "not one line", "left": "hidden files left"}


class Ended(NamedTuple):
    """How a command ended: its exit code (negative: the signal), and what it said."""

    code: int
    out: str
    err: str


class Wrong(NamedTuple):
    """Something that must not be. kind: a key of `ANSWERS` or `OTHERS`."""

    kind: str
    what: str


class Running:
    """A command that runs in a process, and in a group, of its own."""

    def __init__(self, work: Callable[[], int], before: Callable[[], None] = lambda: None):
        """Forks; the child does `before`, and then the work, whose result is its exit code."""
        self._said = [tempfile.TemporaryFile() for _ in range(2)]  # noqa: SIM115 (closed by wait)
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid:
            return
        code = 1
        try:
            os.setsid()
            for number, file in enumerate(self._said, 1):
                os.dup2(file.fileno(), number)
            sys.stdout, sys.stderr = (open(number, "w", buffering=1, closefd=False) for number in (1, 2))
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # whoever started this one may ignore it
            before()
            code = work()
        except BaseException:  # noqa: BLE001 (shown as a command's own traceback)
            traceback.print_exc()
        with contextlib.suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)

    def kill(self, number: int) -> None:
        """Send a signal, where it still runs."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def workers(self) -> list[int]:
        """The processes that it has started."""
        found: list[int] = []
        for file in Path(f"/proc/{self.pid}/task").glob("*/children"):
            with contextlib.suppress(OSError):
                found += map(int, file.read_text().split())
        return found

    def wait(self) -> Ended:
        """Wait for it and what it has started, for at most `LONGEST`."""
        until = time.monotonic() + LONGEST
        status = None
        while status is None:
            pid, there = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                status = there
            elif time.monotonic() > until:
                os.killpg(self.pid, signal.SIGKILL)
                until = float("inf")
            else:
                time.sleep(0.01)
        with contextlib.suppress(ProcessLookupError):
            while time.monotonic() < until:
                os.killpg(self.pid, 0)
                time.sleep(0.01)
        said = []
        for file in self._said:
            file.seek(0)
            said.append(file.read().decode(errors="replace"))
            file.close()
        hung = f"{said[1]}\nTraceback: it hung" if until == float("inf") else said[1]
        return Ended(os.waitstatus_to_exitcode(status), said[0], hung)


class Subject:
    """Something that a command makes in a folder, at the smallest size."""

    name = ""
    goes_on = False  # whether the same command takes up what is there
    room = 1.0  # of what it writes, the share that a full disk has at most
    modules: tuple[str, ...] = ()  # that its command imports

    def __init__(self, scratch: Path):
        """`scratch`: a folder with inputs, for all subjects."""
        self.scratch = scratch

    def command(self, folder: Path) -> int:
        """Do the work; runs in a child."""
        raise NotImplementedError

    def begin(self, folder: Path) -> None:
        """Put there what is complete before."""

    def learn(self, folder: Path, ended: Ended) -> None:
        """Look at what an undisturbed command has made."""
        self.truth = tree(folder)

    def judge(self, folder: Path) -> Iterator[Wrong]:
        """Look at what is there after a disturbance."""
        raise NotImplementedError

    def ended(self, folder: Path, end: Ended) -> Iterator[Wrong]:
        """Look at what a command that was not disturbed, or went on, has made."""
        yield from self.judge(folder)


class File(Subject):
    """One file that is replaced: the old one or the new one is there."""

    file = ""

    def begin(self, folder: Path) -> None:
        """An older file of the name."""
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(self.scratch / f"old-{self.file}", folder / self.file)
        self.old = digest(folder / self.file)

    def is_new(self, path: Path) -> bool:
        """Whether it is the whole new file."""
        return digest(path) == self.truth[self.file]

    def judge(self, folder: Path) -> Iterator[Wrong]:
        """The old file, or the new one."""
        yield from strangers(folder, {self.file})
        path = folder / self.file
        if not path.is_file():
            yield Wrong("lost", f"{self.file} is gone")
        elif digest(path) != self.old and not self.is_new(path):
            yield Wrong("partial", f"{self.file} is neither the old nor the new one")

    def ended(self, folder: Path, end: Ended) -> Iterator[Wrong]:
        """The new file."""
        yield from self.judge(folder)
        if digest(folder / self.file) == self.old:
            yield Wrong("lost", f"{self.file} is still the old one")


class Video(File):
    """`vasa-infer` into an .mp4 file that is there already."""

    name, file = "video", "talk.mp4"
    modules = (
        *("tests.inference.tiny", "vasa_jax.doors.infer", "vasa_jax.faces.show", "vasa_jax.inference.offline"),
        *("vasa_jax.inference.load", "vasa_jax.media.video", "vasa_jax.provenance.detector"),
    )

    def command(self, folder: Path) -> int:
        """The door itself."""
        from vasa_jax.doors.infer import main

        return main([*infer_flags(self.scratch), "--out", str(folder / self.file)])

    def is_new(self, path: Path) -> bool:
        """Every frame decodes, and the seal is intact; no two videos are alike."""
        from vasa_jax.media.video import read_video
        from vasa_jax.provenance.detector import examine

        def look() -> int:
            whole = sum(1 for _ in read_video(path)) == FRAMES and examine(path).verdict == "marked"
            return 0 if whole else 1

        return Running(look).wait().code == 0


class Pictures(Subject):
    """`vasa-infer` into a folder of pictures."""

    name = "pictures"
    modules = Video.modules

    def command(self, folder: Path) -> int:
        """The door itself."""
        from vasa_jax.doors.infer import main

        return main([*infer_flags(self.scratch), "--out", f"{folder}/frames/"])

    def begin(self, folder: Path) -> None:
        """Something else lies beside."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "mine").write_text("mine")

    def judge(self, folder: Path) -> Iterator[Wrong]:
        """All pictures, or none."""
        from PIL import Image

        yield from strangers(folder, {"mine", "frames"})
        if not (folder / "mine").is_file():
            yield Wrong("lost", "what lay beside is gone")
        if (folder / "frames").exists():
            names = sorted(path.name for path in (folder / "frames").iterdir())
            if names != [f"{i:06d}.png" for i in range(FRAMES)]:
                yield Wrong("partial", f"{len(names)} pictures")
            for name in names:
                try:
                    with Image.open(folder / "frames" / name) as picture:
                        picture.load()
                except OSError:
                    yield Wrong("partial", f"{name} is cut")


class Shard(File):
    """`write_shard` over a shard that is there already."""

    name, file, modules = "shard", "000.array_record", ("vasa_jax.data",)

    def command(self, folder: Path) -> int:
        """The writer of all shards."""
        import numpy as np

        from vasa_jax.command import run
        from vasa_jax.data import write_clip, write_shard

        def work() -> Iterator[str]:
            clips = [
                write_clip([fakes.picture(draws) for _ in range(8)], np.zeros(8 * 640, np.float32), {})
                for draws in map(np.random.default_rng, range(40))
            ]
            write_shard(folder / self.file, clips)
            yield "written"

        return run("shard", work)


class Conversion(File):
    """`vasa-convert` over a file that is there already."""

    name, file, modules = "conversion", "out.safetensors", ("vasa_jax.convert.__main__",)

    def command(self, folder: Path) -> int:
        """The door itself."""
        from vasa_jax.convert.__main__ import main

        release = self.scratch / "tiny"
        sizes = ["--config", str(release / "config.json"), "--to-torch"]
        return main(["vasa.motion", str(release / "motion.safetensors"), str(folder / self.file), *sizes])


class Records(Subject):
    """`vasa-prepare` with two workers on pretended videos."""

    name, goes_on, room, modules = "records", True, 0.6, ("vasa_jax.preparation.job", "vasa_jax.data")

    def command(self, folder: Path) -> int:
        """The job behind the door, with helpers that open at once."""
        from vasa_jax.command import run
        from vasa_jax.preparation.config import PreparationConfig
        from vasa_jax.preparation.job import Effort, Folder, prepare

        films, settings = self.scratch / "films", (PreparationConfig(), Folder(), Effort(workers=2))
        return run("prepare", lambda: prepare([films], folder, *settings, fakes.candidates, fakes.open_helpers))

    def begin(self, folder: Path) -> None:
        """Nothing is there before."""
        folder.mkdir(parents=True, exist_ok=True)
        self.before: dict[str, str] = {}

    def judge(self, folder: Path) -> Iterator[Wrong]:
        """Shards are those of the undisturbed job, entries are whole."""
        self.before = {}
        for name, sha256 in tree(folder).items():
            if name.endswith(".array_record"):
                if sha256 != self.truth.get(name):
                    yield Wrong("partial", f"the shard {name} is another")
                self.before[name] = sha256
            elif name.endswith(".json"):
                try:
                    json.loads((folder / name).read_bytes())
                except ValueError:
                    yield Wrong("partial", f"{name} is no JSON")
                if name.startswith("manifest/") and "/" in name.removeprefix("manifest/"):
                    self.before[name] = sha256

    def ended(self, folder: Path, end: Ended) -> Iterator[Wrong]:
        """The same shards, and entries that were there still are."""
        there = tree(folder)
        for name, sha256 in self.before.items():
            if there.get(name) != sha256:
                yield Wrong("lost", f"{name} was made anew")
        for name, sha256 in self.truth.items():
            if name.endswith(".array_record") and there.get(name) != sha256:
                yield Wrong("lost", f"the shard {name} is not that of an undisturbed job")
        yield from strangers(folder, None)


class Checkpoint(Subject):
    """A training that goes on from its first checkpoints."""

    name, goes_on = "checkpoint", True
    modules = ("orbax.checkpoint", "tests.training.toy", "vasa_jax.training.loop", "vasa_jax.training.logs")
    until = STEPS  # where it is asked to stop

    def command(self, folder: Path) -> int:
        """The loop behind the door, with the smallest network."""
        from tests.training.toy import EXPERIMENT, make_toy
        from vasa_jax.command import run
        from vasa_jax.training.loop import train

        never = {"eval_every": 10**6, "judge_every": 0, "pictures_every": 10**6}
        experiment = dataclasses.replace(EXPERIMENT, steps=STEPS, log_every=1, save_every=4, **never)

        def work() -> Iterator[str]:
            def stop(done: int) -> str:
                return "asked to" * (done == self.until < STEPS)

            result = train(experiment, make_toy(), folder, stop=stop, progress=False)
            yield f"{result.step} {result.stopped} parameters sha256 {result.digest}"

        return run("train", work)

    def begin(self, folder: Path) -> None:
        """A run that has begun."""
        shutil.rmtree(folder, ignore_errors=True) if not os.path.ismount(folder) else None
        shutil.copytree(self.scratch / "begun", folder, dirs_exist_ok=True)

    def learn(self, folder: Path, ended: Ended) -> None:
        """What the parameters are in the end."""
        self.truth = {"sha256": ended.out.split()[-1]}

    def judge(self, folder: Path) -> Iterator[Wrong]:
        """Some checkpoint is there; the run that goes on reads it through."""
        steps = [path.name for path in (folder / "checkpoints").glob("*") if path.name.isdigit()]
        if not any(int(step) >= BEGUN for step in steps):
            yield Wrong("lost", f"of the checkpoints {', '.join(steps) or 'none'} is left")

    def ended(self, folder: Path, end: Ended) -> Iterator[Wrong]:
        """The same parameters, no checkpoint put aside, and each step logged once."""
        if not end.out.strip() or end.out.split()[-1] != self.truth["sha256"]:
            yield Wrong("lost", f"it ended elsewhere: {end.out.strip()!r}")
        if (folder / "damaged").exists():
            yield Wrong("partial", "a checkpoint with a final name was damaged")
        lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
        logged = [line["step"] for line in lines if "train/loss" in line]
        if logged != list(range(1, STEPS + 1)):
            yield Wrong("lost", f"steps logged: {logged}")
        yield from (Wrong("left", path.name) for path in (folder / "checkpoints").glob("*tmp*"))


class Trial(NamedTuple):
    """A subject, the folder it is made in, what draws, and how long an undisturbed command takes in seconds."""

    subject: Subject
    folder: Path
    draw: random.Random
    life: float
    bytes: int

    def start(self, before: Callable[[], None] = lambda: None) -> Running:
        """The command, in a process of its own."""
        return Running(lambda: self.subject.command(self.folder), before)


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def tree(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below a folder, by its name there, but for hidden ones."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.startswith("."))
    return {str(path.relative_to(folder)): digest(path) for path in files}


def strangers(folder: Path, known: set[str] | None) -> Iterator[Wrong]:
    """What lies in a folder and should not."""
    for path in folder.rglob(f"{PREFIX}*"):
        yield Wrong("left", str(path.relative_to(folder)))
    if known is not None:
        for path in folder.iterdir():
            if path.name not in known and not path.name.startswith("."):
                yield Wrong("partial", f"{path.name} is there")


def infer_flags(scratch: Path) -> list[str]:
    """The smallest talking face."""
    named = {"image": "face.png", "audio": "sound.wav", "model": "tiny"}
    paths = [part for name, file in named.items() for part in (f"--{name}", str(scratch / file))]
    return [*paths, "--steps", "2", "--box", "5,5,40", "--platform", "cpu"]


def one_line(end: Ended, code: int = 2) -> Iterator[Wrong]:
    """A refusal: one line that is an error, and its code."""
    if end.code != code:
        yield Wrong("code", f"{end.code} in place of {code}: {end.err.strip()[-300:]}")
    errors = [line for line in re.split(r"[\r\n]+", end.err) if ": error: " in line]
    if len(errors) != 1 or "Traceback" in end.err:
        yield Wrong("line", end.err.strip()[:600])


def going_on(trial: Trial) -> Iterator[Wrong]:
    """The same command again, undisturbed."""
    if not trial.subject.goes_on:
        return
    end = trial.start().wait()
    if end.code:
        yield Wrong("code", f"going on ended with {end.code}: {end.err[-300:]}")
        return
    yield from trial.subject.ended(trial.folder, end)


def full_disk(trial: Trial) -> tuple[str, list[Wrong]]:
    """Room for a part of what is written."""
    share = trial.draw.uniform(0.0, trial.subject.room)
    with small_disk(trial.folder) as disk:
        trial.subject.begin(trial.folder)
        end = trial.start(disk.fill(round(share * trial.bytes))).wait()
        disk.make_room()
        wrong = [*one_line(end), *trial.subject.judge(trial.folder), *going_on(trial)]
    return str(end.code), wrong


def read_only(trial: Trial) -> tuple[str, list[Wrong]]:
    """A folder that takes nothing."""
    with small_disk(trial.folder) as disk:
        trial.subject.begin(trial.folder)
        before = tree(trial.folder)
        disk.freeze()
        end = trial.start().wait()
        disk.thaw()
        wrong = list(one_line(end))
        if tree(trial.folder) != before:
            wrong.append(Wrong("lost", "files changed"))
        wrong += strangers(trial.folder, None)
    return str(end.code), wrong


def signalled(number: int) -> Callable[[Trial], tuple[str, list[Wrong]]]:
    """A signal at some moment of the command's life."""

    def fault(trial: Trial) -> tuple[str, list[Wrong]]:
        trial.subject.begin(trial.folder)
        command = trial.start()
        time.sleep(trial.draw.uniform(0.0, 0.9 * trial.life))
        command.kill(number)
        end = command.wait()
        known = (0, -number) if number == signal.SIGKILL or not end.out + end.err else (0, 130)  # it had not begun
        wrong = [] if end.code in known else [Wrong("code", f"{end.code}: {end.err[-300:]}")]
        if "Traceback" in end.err:
            wrong.append(Wrong("line", end.err[-600:]))
        judged = trial.subject.judge(trial.folder)
        wrong += (one for one in judged if one.kind != "left" or number != signal.SIGKILL)
        stopped = end.code == 0 and " SIG" in end.out
        return f"{end.code}{' stopped' * stopped}", [*wrong, *going_on(trial)]

    return fault


def lost_worker(trial: Trial) -> tuple[str, list[Wrong]]:
    """One of the command's processes is killed."""
    trial.subject.begin(trial.folder)
    command = trial.start()
    time.sleep(trial.draw.uniform(0.0, 0.9 * trial.life))
    workers = command.workers()
    if workers:
        with contextlib.suppress(ProcessLookupError):
            os.kill(trial.draw.choice(workers), signal.SIGKILL)
    end = command.wait()
    wrong = [Wrong("code", f"{end.code}: {end.err[-300:]}")] if end.code else []
    return f"{end.code}", [*wrong, *trial.subject.judge(trial.folder), *trial.subject.ended(trial.folder, end)]


def no_memory(trial: Trial) -> tuple[str, list[Wrong]]:
    """A device that refuses an allocation at some step; the error is JAX's own, the flag is named."""
    calls = trial.draw.randrange(3)

    def before() -> None:
        import jax
        import jax.numpy as jnp

        from vasa_jax.inference.program import Program
        from vasa_jax.training import loop

        left = [calls]

        def starved(function: Callable) -> Callable:
            def call(*arguments: Any, **named: Any) -> Any:
                if not left[0]:
                    with jax.transfer_guard("allow"):
                        jnp.zeros(HOG).block_until_ready()
                left[0] -= 1
                return function(*arguments, **named)

            return call

        make = loop.make_program
        Program.__call__ = starved(Program.__call__)
        loop.make_program = lambda *given: (program := make(*given))._replace(step=starved(program.step))

    trial.subject.begin(trial.folder)
    end = trial.start(before).wait()
    wrong = list(one_line(end))
    if not re.search(r"ran out of memory.* --[a-z]+", end.err):
        wrong.append(Wrong("line", f"no flag is named: {end.err[-300:]}"))
    return str(end.code), [*wrong, *trial.subject.judge(trial.folder), *going_on(trial)]


def clock_jumps(trial: Trial) -> tuple[str, list[Wrong]]:
    """A wall clock that is somewhere else, up to ten years away, whenever it is asked."""
    draws = random.Random(trial.draw.random())

    def before() -> None:
        now, real = time.time, datetime.datetime

        def jumping() -> float:
            return now() + draws.uniform(-1.0, 1.0) * 10.0 ** draws.uniform(0.0, 8.5)

        class Jumping(real):
            """A datetime whose now is anywhere."""

            @classmethod
            def now(cls, tz: Any = None) -> Any:
                """Some time."""
                return real.fromtimestamp(jumping(), tz)

        time.time, time.time_ns = jumping, lambda: int(jumping() * 1e9)
        datetime.datetime = Jumping

    trial.subject.begin(trial.folder)
    end = trial.start(before).wait()
    wrong = [Wrong("code", f"{end.code}: {end.err[-300:]}")] if end.code else []
    judged = trial.subject.judge(trial.folder) if end.code else trial.subject.ended(trial.folder, end)
    return str(end.code), [*wrong, *judged]


def two_runs(trial: Trial) -> tuple[str, list[Wrong]]:
    """The same command twice, the second somewhere in the life of the first."""
    trial.subject.begin(trial.folder)
    first = trial.start()
    time.sleep(trial.draw.uniform(0.0, 0.7 * trial.life) * trial.draw.choice((0.0, 1.0)))
    second = trial.start()
    ends = [first.wait(), second.wait()]
    wrong = []
    for end in ends:
        if end.code == 0:
            continue
        wrong += one_line(end)
        if not trial.subject.goes_on or "is in use by process" not in end.err:
            wrong.append(Wrong("line", end.err[-300:]))
    good = [end for end in ends if end.code == 0]
    if not good:
        wrong.append(Wrong("code", "both failed"))
    else:
        wrong += [*trial.subject.judge(trial.folder), *trial.subject.ended(trial.folder, good[-1])]
    return " and ".join(sorted(str(end.code) for end in ends)), wrong


class small_disk:  # noqa: N801 (used as a function)
    """A file system of its own under a folder, where the system lets one; else permissions and limits."""

    def __init__(self, folder: Path):
        """Nothing is mounted yet."""
        self._folder, self._mounts = folder, os.geteuid() == 0

    def __enter__(self) -> "small_disk":
        self._folder.mkdir(parents=True, exist_ok=True)
        if self._mounts:
            self._mounts = _mount("-t", "tmpfs", "-o", f"size={ROOM}", "none", str(self._folder))
        return self

    def __exit__(self, *exception: object) -> None:
        if self._mounts:
            subprocess.run(["umount", "-l", str(self._folder)], check=True)
        else:
            self.thaw()

    def _again(self, options: str) -> None:
        assert _mount("-o", f"remount,{options}", str(self._folder)), options

    def fill(self, room: int) -> Callable[[], None]:
        """Leave some bytes; returns what a child does first."""
        if self._mounts:
            status = os.statvfs(self._folder)
            page, used = status.f_frsize, status.f_blocks - status.f_bfree
            self._again(f"size={max(used + room // page, 1) * page}")  # 0 would be no limit
            return lambda: None
        return lambda: _limit_files(max(room, 1))

    def make_room(self) -> None:
        """Nothing is full any more."""
        if self._mounts:
            self._again(f"size={ROOM}")

    def freeze(self) -> None:
        """Nothing can be written."""
        if self._mounts:
            self._again("ro")
        else:
            self._permit(0o555)

    def thaw(self) -> None:
        """Everything can be written."""
        if self._mounts:
            self._again("rw")
        else:
            self._permit(0o755)

    def _permit(self, mode: int) -> None:
        for path in [self._folder, *self._folder.rglob("*")]:
            if path.is_dir():
                path.chmod(mode)


def _limit_files(most: int) -> None:
    """In a child, before its work: of a compiled module, too, only half would be written, and left for everybody."""
    sys.dont_write_bytecode, os.environ["PYTHONDONTWRITEBYTECODE"] = True, "1"
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


def _mount(*arguments: str) -> bool:
    return subprocess.run(["mount", *arguments], capture_output=True).returncode == 0


SUBJECTS: dict[str, type[Subject]] = {
    kind.name: kind for kind in (Video, Pictures, Shard, Conversion, Records, Checkpoint)
}
FAULTS: dict[str, tuple[Callable[[Trial], tuple[str, list[Wrong]]], tuple[str, ...]]] = {
    "full disk": (full_disk, ("video", "pictures", "shard", "records", "checkpoint", "conversion")),
    "read-only folder": (read_only, ("video", "records", "checkpoint", "conversion")),
    "SIGINT": (signalled(signal.SIGINT), ("video", "records", "checkpoint")),
    "SIGTERM": (signalled(signal.SIGTERM), ("video", "records", "checkpoint")),
    "SIGKILL": (signalled(signal.SIGKILL), ("video", "records", "checkpoint")),
    "lost worker": (lost_worker, ("records",)),
    "device out of memory": (no_memory, ("video", "checkpoint")),
    "clock jumps": (clock_jumps, ("video", "records", "checkpoint")),
    "two runs": (two_runs, ("video", "records", "checkpoint")),
}
"""What happens, and to what."""


def import_for(rows: Sequence[tuple[str, str]]) -> None:
    """Import what commands need, so that those that are forked start at once; no device is touched."""
    for name in dict.fromkeys(module for _, subject in rows for module in SUBJECTS[subject].modules):
        importlib.import_module(name)


def make_inputs(scratch: Path, talking: bool) -> None:
    """Write what commands read, `talking` ones too."""
    fakes.write_films(scratch / "films", **FILMS)
    if not talking:
        return

    def work() -> int:
        import numpy as np
        import soundfile
        from PIL import Image

        from tests.inference.tiny import write_release

        draws = np.random.default_rng(0)
        write_release(scratch / "tiny")
        Image.fromarray(draws.integers(0, 255, (64, 64, 3), np.uint8)).save(scratch / "face.png")
        soundfile.write(scratch / "sound.wav", draws.normal(0, 0.1, 16000).clip(-1, 1), 16000)
        return 0

    must(Running(work).wait())  # a child: this process must start no device


def undisturbed(subject: Subject, folder: Path) -> tuple[float, int]:
    """Run a subject twice without a fault; the seconds of the second run, and the bytes that it wrote."""
    for file in (getattr(subject, "file", ""),):
        if file and not (subject.scratch / f"old-{file}").exists():
            (subject.scratch / f"old-{file}").write_text("an older one, which must stay")
    if isinstance(subject, Checkpoint) and not (subject.scratch / "begun").exists():
        subject.until = BEGUN
        must(Running(lambda: subject.command(subject.scratch / "begun")).wait())
        subject.until = STEPS
    seconds, size = 0.0, 0
    for number in range(2):
        where = folder / f"whole_{number}"
        subject.begin(where)
        before, began = bytes_in(where), time.monotonic()
        end = must(Running(lambda where=where: subject.command(where)).wait())
        seconds, size = time.monotonic() - began, max(bytes_in(where) - before, 4096)
        if not number:
            subject.learn(where, end)
            size = max(size, bytes_in(where))
        if wrong := list(subject.ended(where, end)):
            raise RuntimeError(f"{subject.name}, undisturbed: {wrong}")
    return seconds, size


def must(end: Ended) -> Ended:
    """What ended well; raises RuntimeError for what did not."""
    if end.code:
        raise RuntimeError(end.err)
    return end


def bytes_in(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def faults(scratch: Path, times: int, only: Sequence[str], seed: int, show: Callable[[str], None]) -> bool:
    """Do every fault `times` times, show a table row by row, and return whether nothing went wrong."""
    wanted = [
        (fault, name)
        for fault, (_, names) in FAULTS.items()
        for name in names
        if not only or any(word in f"{fault} to {name}" for word in only)
    ]
    import_for(wanted)
    make_inputs(scratch, any(name in ("video", "pictures", "conversion") for _, name in wanted))
    subjects: dict[str, tuple[Subject, float, int]] = {}
    show(f"| what happens | to | times | exit codes | {' | '.join((ANSWERS | OTHERS).values())} |")
    show(f"|---|---|---|---|{'---|' * len(ANSWERS | OTHERS)}")
    good = True
    for fault, name in wanted:
        if name not in subjects:
            subject = SUBJECTS[name](scratch)
            subjects[name] = subject, *undisturbed(subject, scratch / name)
        subject, life, size = subjects[name]
        codes, kinds, told = Counter[str](), Counter[str](), list[str]()
        for number in range(times):
            folder = scratch / name / f"{fault.replace(' ', '_')}_{number}"
            draw = random.Random(f"{seed} {fault} {name} {number}")
            code, wrong = FAULTS[fault][0](Trial(subject, folder, draw, life, size))
            codes[code] += 1
            kinds.update(one.kind for one in wrong)
            told += (f"{fault}, {name}, {number}: {one.kind}: {one.what}" for one in wrong)
            shutil.rmtree(folder, ignore_errors=True)
        ends = ", ".join(f"{code} ({count})" for code, count in codes.most_common())
        counts = " | ".join(str(kinds[kind]) for kind in ANSWERS | OTHERS)
        show(f"| {fault} | {name} | {times} | {ends} | {counts} |")
        for line in told:
            show(line)
        good = good and not told
    return good


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; the exit code is 1 where anything went wrong."""
    from benchmarks.timing import positive  # with JAX, which workers of a preparation, who read this file, do without

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=positive, default=20, help="trials of each row")
    parser.add_argument("--only", nargs="+", default=(), help="rows that hold one of these words")
    parser.add_argument("--seed", type=int, default=0, help="of moments and sizes")
    options = parser.parse_args(arguments)
    os.environ |= {"JAX_PLATFORMS": "cpu"}
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        os.environ["XDG_CONFIG_HOME"] = f"{folder}/settings"
        good = faults(Path(folder), options.times, options.only, options.seed, lambda line: print(line, flush=True))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
