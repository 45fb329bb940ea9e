"""Where a run starts from. The first of these that is there wins:

1. the run's own last complete checkpoint: the same command goes on where it stopped;
2. `resume`: the checkpoint of another run, whole: state, position in the data, config;
3. `init_from`: the parameters of a release or of a run (its averages) and the constants that they were trained with
   (stage 2: the statistics of motion); a new optimiser, step 0;
4. scratch.

1 and 2 want the config that the checkpoint was written with, but for fields that `allow_config_change` names.
"""

import dataclasses
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vasa_jax import config as configs
from vasa_jax.checkpoint import flatten, is_run, load_release
from vasa_jax.errors import UserError
from vasa_jax.files import check_local, read_json
from vasa_jax.training.bundles import check_bundle, newest_bundle, read_bundle
from vasa_jax.training.config import AutoencoderExperiment, Experiment, MotionExperiment, from_saved


@dataclasses.dataclass(frozen=True, kw_only=True)
class Start:
    """What a run may start from besides its own checkpoint."""

    resume: str = ""  # go on from the last checkpoint of this other run, or from DIR/checkpoints/STEP
    init_from: str = ""  # start at step 0 from the parameters of this release (or bundled: demo) or run
    refit_statistics: bool = False  # with init_from, stage 2: measure the statistics of motion on this run's clips anew
    fresh: tuple[str, ...] = ()  # with init_from: patterns of parameter names that start from scratch all the same
    allow_config_change: tuple[str, ...] = ()  # config fields that may differ from the checkpoint's

    def __post_init__(self):
        if self.resume and self.init_from:
            raise UserError(f"resume={self.resume!r} and init_from={self.init_from!r}: choose one of them")
        if self.fresh and not self.init_from:
            raise UserError(f"fresh={self.fresh!r} means nothing without init_from")
        if self.refit_statistics and not self.init_from:
            raise UserError("refit_statistics means nothing without init_from: a new run measures its own")
        for pattern in self.fresh:
            try:
                re.compile(pattern)
            except re.error as error:
                raise UserError(f"fresh={pattern!r} is no regular expression: {error}") from error


def checkpoint_of(path: str) -> tuple[Path, int | None]:
    """A run's workdir and a step, of DIR (then None: the last) or DIR/checkpoints/STEP."""
    folder = Path(path)
    if folder.parent.name == "checkpoints" and folder.name.isdigit():
        return folder.parent.parent, int(folder.name)
    return folder, None


def check_sources(start: Start) -> None:
    """Refuse sources that are not there, before any data is made for a run that starts from them.

    Raises:
        UserError: naming the one.
    """
    if start.resume and not is_run(checkpoint_of(start.resume)[0]):
        raise UserError(f"resume={start.resume!r} holds no complete checkpoint; name a run's workdir")
    if start.init_from and not is_run(start.init_from):
        load_release(start.init_from)


def step_to_resume(path: str) -> int:
    """The step of the checkpoint that `resume` names, read once; with DIR, of the newest that is whole.

    Raises:
        UserError: where there is none, or the one that is named is damaged.
    """
    folder, step = checkpoint_of(path)
    check_local("resume", folder)
    if step is None:
        step, _ = newest_bundle(folder)
    elif Path(path).is_dir():
        check_bundle(folder, step)
    if step is None or not Path(path).is_dir():
        raise UserError(f"resume={path!r} holds no complete checkpoint; name a run's workdir")
    return step


def check_config(saved: Mapping[str, Any], experiment: Experiment, allowed: tuple[str, ...]) -> dict[str, str]:
    """Compare a checkpoint's config with the run's.

    Args:
        saved: the config of the checkpoint, JSON values.
        experiment: of the run.
        allowed: fields that may differ, as dotted paths; a path allows all below it.

    Returns:
        What changed, and was allowed: dotted path to "old -> new".

    Raises:
        UserError: for a change that is not allowed, naming each; for an allowed field that does not exist.
    """
    fields = {name: value for name, value in saved.items() if name != "kind"}
    try:
        before = configs.from_json(json.dumps(fields), type(experiment))
    except ValueError as error:
        raise UserError(f"the checkpoint is of another kind of run: {error}; choose another --workdir") from error
    for name in allowed:
        value: Any = experiment
        for part in name.split("."):
            if part not in {field.name for field in dataclasses.fields(value)}:
                raise UserError(f"allow_config_change={name!r} is no field of the config; --help lists them")
            value = getattr(value, part)
    changed = {name: f"{old!r} -> {new!r}" for name, (old, new) in configs.difference(before, experiment).items()}
    refused = [name for name in changed if not any(name == a or name.startswith(f"{a}.") for a in allowed)]
    if refused:
        listed = ", ".join(f"{name} {changed[name]}" for name in refused)
        raise UserError(
            f"the config differs from the checkpoint's: {listed}; repeat the old values, choose another --workdir, or "
            f"allow it with --allow-config-change {' '.join(refused)}"
        )
    return changed


def with_stage_1(experiment: Experiment, start: Start) -> Experiment:
    """Stage 1 into stage 2: an experiment that names no autoencoder takes that of `init_from`, a release or a run.

    Raises:
        UserError: where `init_from` is neither.
    """
    if not isinstance(experiment, MotionExperiment) or not start.init_from or experiment.autoencoder:
        return experiment
    source = start.init_from
    if is_run(source):
        there = from_saved(read_json(Path(source) / "config.json"), source)
        source = there.autoencoder if isinstance(there, MotionExperiment) else source
    return dataclasses.replace(experiment, autoencoder=source)


class Source(NamedTuple):
    """What `init_from` names, as far as it fits a kind of experiment; by name, as `checkpoint.flatten` spells it.

    parameters: of the task; empty where the source has none. constants: likewise, those that they were trained with.
    """

    parameters: dict[str, np.ndarray]
    constants: dict[str, np.ndarray]


def read_source(source: str, experiment: Experiment) -> Source:
    """The parameters of a release or a run and their constants. A release of both stages serves both; a run's averaged
    parameters are taken.

    Raises:
        UserError: where the source is neither.
    """
    if is_run(source):
        _, saved, state = read_bundle(source)
        if saved.get("kind") != experiment.kind:
            return Source({}, {})
        return Source(flatten(state["ema"]), flatten(state["constants"]))
    tensors = load_release(source).tensors
    if isinstance(experiment, AutoencoderExperiment) and "autoencoder" in tensors:
        return Source(flatten({"autoencoder": tensors["autoencoder"]}), {})
    if isinstance(experiment, MotionExperiment) and "motion" in tensors:
        return Source(flatten(tensors["motion"]), flatten(tensors.get("statistics", {})))
    return Source({}, {})


class Initial(NamedTuple):
    """What a run starts from besides fresh values.

    parameters: by name, see `take_parameters`. constants: a tree as the task's, or None where they are to be measured.
    """

    parameters: dict[str, np.ndarray]
    constants: Any


def initial(start: Start, experiment: Experiment, params: Any, released: Any, constants: Any) -> Initial:
    """What `init_from` gives to a run: nothing where all it holds is stage 2's stage 1.

    Args:
        start: names the source.
        experiment: of the run.
        params, released: shapes, as for `take_parameters`, which says what is refused.
        constants: shapes of the task's constants.

    Raises:
        UserError: also for constants that the source lacks or has in another shape, and for `refit_statistics` where
            nothing is kept.
    """
    source = read_source(start.init_from, experiment)
    own_stage_1 = isinstance(experiment, MotionExperiment) and experiment.autoencoder == start.init_from
    if not source.parameters and own_stage_1:
        taken = {}
    else:
        taken = take_parameters(source.parameters, params, released, start.fresh, start.init_from)
    wanted = flatten(constants)
    if start.refit_statistics and not (wanted and taken):
        raise UserError(f"refit_statistics means nothing here: this run takes no statistics from {start.init_from!r}")
    if start.refit_statistics or not taken:
        return Initial(taken, None)
    return Initial(taken, _take_constants(source.constants, constants, start.init_from))


def _take_constants(loaded: Mapping[str, np.ndarray], shapes: Any, source: str) -> Any:
    wanted = flatten(shapes)
    for name, leaf in wanted.items():
        there = np.shape(loaded[name]) if name in loaded else "missing"
        if there != tuple(leaf.shape):
            raise UserError(
                f"{source!r} has statistics {name} {there}, this run {tuple(leaf.shape)}; measure them anew with "
                "--refit-statistics"
            )
    leaves = [np.asarray(loaded[name], leaf.dtype) for name, leaf in wanted.items()]
    return jax.tree.unflatten(jax.tree.structure(shapes), leaves)


def take_parameters(
    loaded: Mapping[str, np.ndarray], shapes: Any, released: Any, fresh: tuple[str, ...], source: str
) -> dict[str, np.ndarray]:
    """Which of the loaded parameters a model takes.

    Args:
        loaded: name to array, from `read_source`.
        shapes: of the model's parameters.
        released: the part of `shapes` that a release holds, see `Task.blocks`; the rest may be missing.
        fresh: patterns of whole names that are to start from scratch.
        source: for messages.

    Returns:
        Name to array, in the type of the model.

    Raises:
        UserError: for a parameter that the source lacks or has in another shape and no pattern names, for a pattern
            that names nothing, and where nothing fits.
    """
    wanted = flatten(shapes)
    idle = [pattern for pattern in fresh if not any(re.fullmatch(pattern, name) for name in wanted)]
    if idle:
        raise UserError(f"fresh={idle[0]!r} matches no parameter; names look like {next(iter(wanted))!r}")
    needed = {id(leaf) for leaf in jax.tree.leaves(released)}
    taken, wrong = {}, []
    for name, leaf in wanted.items():
        if any(re.fullmatch(pattern, name) for pattern in fresh):
            continue
        if name not in loaded:
            if id(leaf) in needed:
                wrong.append(f"{name} is missing")
        elif np.shape(loaded[name]) != tuple(leaf.shape):
            wrong.append(f"{name} is {np.shape(loaded[name])} there and {tuple(leaf.shape)} here")
        else:
            taken[name] = np.asarray(loaded[name], leaf.dtype)
    if wrong or not taken:
        reasons = "; ".join(wrong[:5]) + (f"; and {len(wrong) - 5} more" if len(wrong) > 5 else "")
        raise UserError(
            f"{source!r} does not fill this model: {reasons or 'nothing fits'}; name what is to start from "
            "scratch with --fresh PATTERN"
        )
    return taken


def overlay(params: Any, taken: Mapping[str, Any]) -> Any:
    """Parameters with the leaves that `taken` names replaced; pure."""
    leaves = [jnp.asarray(taken.get(name, leaf)) for name, leaf in flatten(params).items()]
    return jax.tree.unflatten(jax.tree.structure(params), leaves)
