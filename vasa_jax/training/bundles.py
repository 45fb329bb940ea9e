"""The bundles of a run, which it resumes from: written behind its back, and read with suspicion.

A bundle is one Orbax step folder, `WORKDIR/checkpoints/STEP`, with two items, the train state and the config as JSON;
the number of its step is also the position in the data. It is written asynchronously to a temporary folder and renamed
when complete, so a half-written bundle is never seen; the last few stay, and milestones. What was complete once may
still be damaged later (a full or failing disk, an interrupted copy), so every array is read before a run builds on it;
one that cannot be read is put aside for the one before.
"""

import json
import logging
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import jax
import numpy as np

from vasa_jax.checkpoint import flatten, is_run, unflatten
from vasa_jax.errors import UserError, reason, refusals
from vasa_jax.files import check_local
from vasa_jax.renames import is_old, renewed

LOGGER = logging.getLogger(__name__)
LIBRARIES = ("absl", "asyncio")
"""The loggers under which the tracebacks are printed of every thread and task of Orbax that a full disk stops."""
LATE = "Event loop is closed"
"""What writers in the background find who are late."""
LATEST = 20
"""Tenths of a second that they are waited for."""
PATIENCE = 100 * 365 * 24 * 3600
"""Seconds that a write may take by Orbax's clock, which is the wall's and may be set while it writes: from 1970, where
a machine starts without a battery, to now."""
STATUS = re.compile(r"[A-Z_]{5,}: ")
"""How the messages of TensorStore's errors begin, which are ValueErrors."""


class DamagedError(UserError):
    """A bundle that is there and cannot be read; the message names its folder."""


class Bundles:
    """The bundles of one run; a context manager that waits for writes on leaving."""

    def __init__(self, workdir: str | Path, keep: int = 2, keep_every: int = 0, read_only: bool = False):
        """Open (and make) the folder; the last `keep` bundles stay, and those whose step `keep_every` divides, unless
        it is 0. Left-overs of an interrupted write are removed, unless the folder is only read."""
        import orbax.checkpoint as ocp  # as long to import as Flax, and only runs need it

        self._folder, self._failed = _folder(workdir), False
        handlers = {"state": ocp.StandardCheckpointHandler(), "config": ocp.JsonCheckpointHandler()}
        with ExitStack() as stack:
            stack.callback(self._give_room_back)
            stack.enter_context(_quiet(lambda: self._failed))
            alone = jax.process_count() == 1  # else processes tell by the time which of them are lost
            unhurried = ocp.AsyncOptions(timeout_secs=PATIENCE, create_directories_asynchronously=False)
            options = ocp.CheckpointManagerOptions(
                async_options=unhurried if alone else None,
                max_to_keep=None if read_only else keep,
                keep_period=keep_every or None,
                cleanup_tmp_directories=not read_only,
                create=not read_only,
                read_only=read_only,
            )
            with refusals("open", self._folder, ValueError, KeyError, TypeError, AttributeError):  # damaged notes
                self._manager = ocp.CheckpointManager(self._folder, item_handlers=handlers, options=options)
            self._open = stack.pop_all()
        self._args = ocp.args

    def __enter__(self) -> "Bundles":
        return self

    def __exit__(self, *exception: object) -> None:
        with self._open:
            try:
                with self._writing():
                    self._manager.close()
            except UserError:
                with suppress(UserError), self._writing():
                    self._manager.close()  # the first call ends at the error and closes nothing
                if exception[0] is None:
                    raise

    def _give_room_back(self) -> None:
        """Remove what a failed write has left; late writers may make it again for a moment."""
        for _ in range(LATEST if self._failed else 0):
            unfinished = list(self._folder.glob("*.orbax-checkpoint-tmp*"))
            for folder in unfinished:
                shutil.rmtree(folder, ignore_errors=True)
            if not unfinished:
                return
            time.sleep(0.1)

    def newest(self) -> int | None:
        """The step of the newest bundle, or None; one that is being written counts."""
        return self._manager.latest_step()

    def save(self, step: int, state: Any, config: Mapping[str, Any]) -> None:
        """Start writing a bundle; the arrays are copied before this returns, so that the next step may reuse them. All
        processes call this together.

        Raises:
            UserError: where this bundle, or the one before it, cannot be written.
        """
        items = self._args.Composite(state=self._args.StandardSave(state), config=self._args.JsonSave(dict(config)))
        with self._writing():
            self._manager.save(step, args=items, force=True)

    def check(self) -> None:
        """Raise UserError where a write in the background has failed; does not wait for one that goes on."""
        if not self._manager.is_saving_in_progress():
            self.finish()

    def finish(self) -> None:
        """Wait for the writes in the background. Raises UserError where one has failed."""
        with self._writing():
            self._manager.wait_until_finished()

    def config(self, step: int) -> dict[str, Any]:
        """The config saved with the bundle of `step`. Raises DamagedError for one that cannot be read."""
        with self._reading(step):
            return self._manager.restore(step, args=self._args.Composite(config=self._args.JsonRestore()))["config"]

    def restore(self, step: int, state: Any = None) -> Any:
        """The state of the bundle of `step`.

        Args:
            step: of a bundle that is there and whole, see `check_bundle`.
            state: gives structure, shapes and shardings; None restores nested dictionaries by field name.

        Raises:
            UserError: where the bundle holds arrays of other names or shapes, naming one; DamagedError where it cannot
                be read.
        """
        with self._reading(step):
            return self._restore(step, state)

    @contextmanager
    def _reading(self, step: int) -> Iterator[None]:
        """Turn what Orbax makes of damaged notes inside into a DamagedError."""
        try:
            yield
        except UserError:
            raise
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise DamagedError(f"the checkpoint {self._folder / str(step)} is damaged ({_cause(error)})") from error

    def _restore(self, step: int, state: Any) -> Any:
        if state is None:  # on one device, however many wrote it
            here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
            state = jax.tree.map(
                lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=here),
                self._manager.item_metadata(step)["state"],
                is_leaf=lambda leaf: hasattr(leaf, "shape"),
            )
        there = flatten(self._manager.item_metadata(step)["state"])
        saved = {name: tuple(leaf.shape) for name, leaf in there.items()}
        wanted = {name: tuple(leaf.shape) for name, leaf in flatten(state).items()}
        if is_old(saved) and not is_old(wanted):
            raise UserError(
                f"the checkpoint of step {step} is of an older version, whose networks are laid out otherwise; start a "
                f"new run from its parameters, with --init-from {self._folder.parent} and another --workdir"
            )
        for name in sorted(saved.keys() | wanted.keys()):
            if saved.get(name) != wanted.get(name):
                raise UserError(
                    f"the checkpoint of step {step} has {name} {saved.get(name, 'missing')}, this run "
                    f"{wanted.get(name, 'missing')}; choose another --workdir"
                )
        return self._manager.restore(step, args=self._args.Composite(state=self._args.StandardRestore(state)))["state"]

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Turn what the system refuses inside into a UserError."""
        try:
            yield
        except (OSError, ValueError) as error:
            if isinstance(error, ValueError) and not STATUS.match(str(error)):
                raise
            self._failed = True
            raise UserError(f"cannot write a checkpoint to {self._folder}: {_cause(error)}") from error


@contextmanager
def _quiet(failed: Callable[[], bool]) -> Iterator[None]:
    """Keep the tracebacks off standard error that a failed write leaves; it is raised, and told in one line.

    Orbax prints one for each of its threads. TensorStore's writers find the loop gone that they report to; where a
    write has failed, both may do so long after the end.
    """
    levels, shown = {name: logging.getLogger(name).level for name in LIBRARIES}, sys.unraisablehook

    def hook(told: Any) -> None:
        if str(told.exc_value) != LATE:
            shown(told)

    for name in LIBRARIES:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    sys.unraisablehook = hook
    try:
        yield
    finally:
        if not failed():
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)
            if sys.unraisablehook is hook:
                sys.unraisablehook = shown


def check_bundle(workdir: str | Path, step: int) -> None:
    """Read all of a bundle, one array at a time.

    Raises:
        DamagedError: where something is missing, cut or cannot be decoded.
    """
    import tensorstore

    folder = _folder(workdir) / str(step)
    try:
        if not isinstance(json.loads((folder / "config" / "metadata").read_bytes()), dict):
            raise TypeError("its config is no JSON object")
        state, _ = (json.loads((folder / "state" / name).read_bytes()) for name in ("_METADATA", "_sharding"))
        for written in (folder / "state" / "array_metadatas").glob("*"):
            for entry in json.loads(written.read_bytes())["array_metadatas"]:
                entry["array_metadata"]["write_shape"]
        base = {"driver": "ocdbt", "base": {"driver": "file", "path": f"{folder / 'state'}/"}}
        for leaf in state["tree_metadata"].values():
            if leaf["value_metadata"]["skip_deserialize"]:
                continue
            name = ".".join(str(key["key"]) for key in leaf["key_metadata"])
            array = {"driver": "zarr3" if state["use_zarr3"] else "zarr", "kvstore": base | {"path": f"{name}/"}}
            array["fill_missing_data_reads"] = False
            tensorstore.open(array, open=True, read=True).result().read().result()
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedError(f"the checkpoint {folder} is damaged ({_cause(error)})") from error


def newest_bundle(workdir: str | Path, put_aside: bool = False) -> tuple[int | None, list[str]]:
    """The step of the newest bundle that can be read, or None where there are no bundles; the newer ones are told of.

    Args:
        workdir: of a run.
        put_aside: move damaged ones to `WORKDIR/damaged/STEP`, so that the run may save their steps again.

    Returns:
        (step, remarks), one on each damaged bundle.

    Raises:
        UserError: where there are bundles and none can be read.
    """
    damaged: dict[int, DamagedError] = {}
    for step in sorted(_steps(_folder(workdir)), reverse=True):
        try:
            check_bundle(workdir, step)
        except DamagedError as error:
            damaged[step] = error
            continue
        remarks = [_pass_over(workdir, bad, error, step, put_aside) for bad, error in damaged.items()]
        for remark in remarks:
            LOGGER.warning("%s", remark)
        return step, remarks
    if damaged:
        first = next(iter(damaged.values()))
        raise UserError(f"{first}, and there is no older one; remove it, or name another folder")
    return None, []


def _pass_over(workdir: str | Path, step: int, error: DamagedError, good: int, put_aside: bool) -> str:
    """Leave a damaged bundle for a good one; says so."""
    where = ""
    if put_aside:
        aside = _folder(workdir).parent / "damaged" / str(step)
        with refusals("move", _folder(workdir) / str(step)):
            shutil.rmtree(aside, ignore_errors=True)
            aside.parent.mkdir(exist_ok=True)
            (_folder(workdir) / str(step)).rename(aside)
        where = f"moved to {aside}, "
    return f"{error}: {where}step {good} is taken instead"


def read_bundle(workdir: str | Path) -> tuple[int, dict[str, Any], dict[str, Any]]:
    """Read a run's newest bundle that is whole as NumPy arrays, whatever wrote it.

    Returns:
        (step, config, state), the state as nested dictionaries by field name (`params`, `ema`, `constants`, ...);
        parameters of an older version by their present names (`renames`).

    Raises:
        UserError: where the folder holds no complete bundle, or none that can be read.
    """
    check_local("the run", workdir)
    if not is_run(workdir):
        raise UserError(
            f"{str(workdir)!r} holds no run: it has no checkpoints; train it first with vasa-train --workdir"
        )
    step, _ = newest_bundle(workdir)
    if step is None:
        raise UserError(f"{str(workdir)!r} holds no complete checkpoint yet; wait for the first or train longer")
    with Bundles(workdir, read_only=True) as bundles:
        state = jax.tree.map(np.asarray, bundles.restore(step))
        state |= {name: unflatten(renewed(flatten(state[name]))) for name in ("params", "ema")}
        return step, bundles.config(step), state


def _folder(workdir: str | Path) -> Path:
    return Path(workdir).absolute() / "checkpoints"


def _steps(folder: Path) -> list[int]:
    """Of all bundles that were complete once; unfinished ones have other names."""
    return [int(path.name) for path in folder.glob("*") if path.name.isdigit() and path.is_dir()]


def _cause(error: BaseException) -> str:
    """What an error of Orbax or TensorStore says of its cause, in a few words."""
    number = re.search(r"os_error_code='?(\d+)", str(error))
    if number:
        return os.strerror(int(number[1]))
    if isinstance(error, KeyError):
        return f"{error} is missing"
    if isinstance(error, FileNotFoundError) and error.filename:
        return f"{Path(error.filename).name} is missing"
    status = re.match(STATUS.pattern + "[^:]*", reason(error))  # what follows are the files inside, one by one
    return (status[0] if status else reason(error))[:200]
