"""Stage 2 as a task: the motion of a face from sound (VASA-1 section 3.2), on windows of clips that stage 1 encoded."""

import dataclasses
import functools
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vasa_jax.arrays import SAMPLES_PER_FRAME
from vasa_jax.audio.augmentation import SoundAugmentationConfig
from vasa_jax.audio.front_end import FrontEnd, LogMel, front_end, slice_samples
from vasa_jax.audio.weights import speech_shapes
from vasa_jax.data.pipeline import Sample
from vasa_jax.data.records import Clip, CorruptRecordError, StoredClip
from vasa_jax.errors import UserError
from vasa_jax.files import write_text
from vasa_jax.inference.offline import Model
from vasa_jax.inference.vasa import MotionModel
from vasa_jax.metrics.judges.training import Spoken, judge_motion
from vasa_jax.motion import objective as motion_objective
from vasa_jax.motion import statistics as motion_statistics
from vasa_jax.motion.conditions import empty
from vasa_jax.motion.denoiser import initialise, predict
from vasa_jax.motion.sampling import sample_window
from vasa_jax.motion.statistics import Statistics
from vasa_jax.nn import cost
from vasa_jax.training import samples, world_data
from vasa_jax.training.clips import check_first, compute_dtype, held_out_batch, on_device, shown, training_batches
from vasa_jax.training.config import MotionExperiment
from vasa_jax.training.eyes import turn_eyes
from vasa_jax.training.hearing import clip_features, load_speech
from vasa_jax.training.logs import Video
from vasa_jax.training.players import Player, as_computed
from vasa_jax.training.stage_1 import load_stage_1
from vasa_jax.training.task import Task

GAZE_KNOWN = 0.5
"""Share of a window's frames in which gaze must be known to be a condition: eyes that blink look nowhere."""
MEL = LogMel()
LOGGER = logging.getLogger(__name__)


def motion_task(experiment: MotionExperiment) -> Task:
    """The task of a stage 2 experiment."""
    data, model = experiment.data, dataclasses.replace(experiment.model, dtype=compute_dtype(experiment))
    audio, front, recorded = model.audio, front_end(model.audio), experiment.records_features
    speech = functools.cache(lambda: load_speech(audio))

    def prepare(workdir: Path) -> None:
        if not experiment.autoencoder:
            raise UserError("autoencoder is empty: stage 2 needs --autoencoder, a release folder or a stage 1 workdir")
        if audio.frozen and not audio.sha256:
            raise UserError("model.audio.sha256 is empty; hearing.with_speech fills it in")
        params = speech()
        face = load_stage_1(experiment.autoencoder)
        if face.dynamics_dim != model.dynamics_dim:
            raise UserError(
                f"the autoencoder {experiment.autoencoder!r} has dynamics_dim={face.dynamics_dim}; this experiment "
                f"{model.dynamics_dim=}"
            )
        if experiment.eyes and not face.labelled:
            raise UserError(
                f"eyes={experiment.eyes} turns the gaze that a code holds, and that of the stage 1 "
                f"{experiment.autoencoder!r} holds none; leave it at 0"
            )
        features = clip_features(audio, params) if recorded else None
        make = functools.partial(
            world_data.make_performances, size=face.sizes[0], motion=face.motion, features=features
        )
        heard = audio.identity if recorded else None
        world_data.prepare(data, workdir, face.sizes[0], make, source=face.sha256, heard=heard)
        check_first(data, workdir, sample)

    def measure(workdir: Path, kept: Statistics | None) -> tuple[Statistics, dict[str, Any]]:
        source = world_data.open_split(data, workdir, "train")
        motion = world_data.read_motion(source, model.dynamics_dim, data.max_corrupt)
        statistics = motion_statistics.fit(motion) if kept is None else kept
        lines = [motion_statistics.describe(motion_statistics.spectrum(statistics, motion))]
        remarks = {}
        if kept is not None:
            agreement = motion_statistics.compare(kept, motion)
            lines.append(
                f"kept from the run's source; on these clips {motion_statistics.describe_agreement(agreement)}"
            )
            remarks = {"statistics": lines[-1]}
            if not motion_statistics.agrees(agreement):
                LOGGER.warning(
                    "the statistics of motion are %s: they fit these clips badly; --refit-statistics measures them "
                    "anew, in coordinates that the network then has to learn",
                    lines[-1],
                )
        write_text(workdir / "statistics.txt", "\n".join(lines) + "\n")
        return statistics, remarks

    def sample(record: StoredClip, rng: np.random.Generator | None) -> Sample:
        frames = model.context + model.window
        clip = world_data.read_encoded(record, model.dynamics_dim, frames, recorded)
        starts = (len(clip.labels["pose"]) - frames) // front.block + 1  # where blocks begin, as in a session
        first = 0 if rng is None else front.block * int(rng.integers(starts))
        return motion_sample(clip, first, model.context, model.window, front, recorded)

    loss = functools.partial(motion_objective.loss, model)
    z = model.dynamics_dim
    unmeasured = Statistics(jnp.zeros(6), jnp.ones(6), jnp.zeros(z), jnp.eye(z), jnp.ones(z))
    spec = functools.partial(motion_objective.batch_spec, model, heard=recorded)

    def listen(helpers: Any, batch: Any, keys: Any = None, augmentation: SoundAugmentationConfig | None = None) -> Any:
        if experiment.eyes:
            batch = turn_eyes(experiment.eyes, model.context, batch, keys)
        return motion_objective.listen(model, helpers, batch, keys, augmentation)

    held_out_loss, hear = jax.jit(loss), jax.jit(listen)
    sampled = jax.jit(functools.partial(_sampled, model))
    live: Callable[[], dict[str, Any]] = dict if recorded else speech

    def evaluate(params: Any, constants: Any, batch: dict[str, Any]) -> dict[str, float]:
        size, heard = len(batch["gaze"]), hear(live(), on_device(batch))
        totals = [
            held_out_loss(params, constants, heard, jax.random.split(jax.random.key(draw), size)) for draw in range(4)
        ]
        values = [parts | {"loss": value} for value, parts in jax.device_get(totals)]
        return {name: float(np.mean([value[name] for value in values])) for name in values[0]}

    speakers: list[Model] = []  # one, so that its programs are compiled once

    def videos(params: Any, constants: Any, workdir: Path) -> dict[str, Video]:
        if not speakers:
            pair = load_stage_1(experiment.autoencoder).join(experiment.model, params, constants, speech())
            speakers.append(Model(pair))
        speakers[0].motion.params, speakers[0].motion.statistics = params, constants
        return samples.performances(data, workdir, speakers[0])

    judged: list[tuple[MotionModel, list[Spoken]]] = []  # likewise

    def judge(params: Any, constants: Any, workdir: Path) -> dict[str, float]:
        if not judged:
            clips = samples.spoken(data, workdir, load_stage_1(experiment.autoencoder).labelled)
            judged.append((MotionModel(experiment.model, params, constants, speech()), clips))
        [(mover, clips)] = judged
        mover.params, mover.statistics = params, constants
        return judge_motion(mover, clips, min(samples.STEPS, mover.steps[2])) if clips else {}

    return Task(
        init=lambda key: (initialise(model, key), unmeasured, {}),
        forward=lambda params, frozen, batch, keys: loss(params, frozen.constants, batch, keys),
        players=(Player("motion", as_computed, experiment.optimiser),),
        batch_spec=lambda size: spec(size) | {"index": jax.ShapeDtypeStruct((size,), jnp.uint32)},
        prepare=prepare,
        measure=measure,
        dataset=functools.partial(training_batches, data, sample),
        held_out=lambda workdir: held_out_batch(data, workdir, sample),
        evaluate=evaluate,
        judge=judge,
        pictures=lambda params, constants, batch: {
            "true_above_sampled": sampled(params, constants, hear(live(), on_device(shown(batch))))
        },
        videos=videos,
        blocks=lambda params: dict(params),
        macs=lambda: {"branch": _count_branch(model)},
        helpers=lambda: jax.tree.map(np.asarray, live()),
        helper_shapes=lambda: speech_shapes(audio.speech) if audio.frozen and not recorded else {},
        view=lambda helpers, batch, keys: listen(helpers, batch, keys, experiment.augmentation),
    )


def motion_sample(
    clip: Clip, first: int, context: int, window: int, front: FrontEnd = MEL, recorded: bool = False
) -> Sample:
    """K + W frames of a stage 2 clip from frame `first`, with their sound and the window's conditions; see
    `motion.objective`.

    Gaze is the mean in the camera frame over the window's frames in which it is known, distance its mean log distance;
    NaN where it is known in too few frames, as is the sound of a silent clip. Sound that ends before its frames is
    followed by zeros.

    Args:
        clip: of stage 2.
        first: frame.
        context, window: K and W.
        front: what hears the sound.
        recorded: the sample gets the features that the clip carries instead of the slice of its sound.

    Raises:
        CorruptRecordError: a clip with sound whose recorded features are missing, or of another shape.
    """
    last = first + context + window
    labels = clip.labels
    sound = _features(clip, front)[first:last] if recorded else _slice(clip, first, context + window, front)
    gaze = labels["gaze"][first + context : last] if "gaze" in labels else np.full((1, 2), np.nan)
    known = np.isfinite(gaze).all(1)
    gaze = gaze[known].mean(0) if known.mean() >= GAZE_KNOWN else np.full(2, np.nan)
    pose = labels["pose"][first:last]
    return {
        "motion_pose": np.float32(pose),
        "motion_dynamics": np.float32(labels["dynamics"][first:last]),
        "features" if recorded else "samples": sound,
        "gaze": np.float32(gaze),
        "distance": np.float32(pose[context:, 5:].mean(0)),
        "emotion": np.float32(labels["emotion"]) if "emotion" in labels else np.full(8, np.nan, np.float32),
    }


def _slice(clip: Clip, first: int, frames: int, front: FrontEnd) -> np.ndarray:
    """The slice of a clip's sound that some frames need; NaN for a silent clip."""
    size = slice_samples(front, frames)
    if clip.audio is None:
        return np.full(size, np.nan, np.float32)
    missing = max(0, SAMPLES_PER_FRAME * len(clip.labels["pose"]) - len(clip.audio))
    padded = np.pad(clip.audio, (front.lead, missing + front.ahead))
    return padded[SAMPLES_PER_FRAME * first :][:size]


def _features(clip: Clip, front: FrontEnd) -> np.ndarray:
    """The features that a clip carries, float32; NaN for a silent clip."""
    shape = (len(clip.labels["pose"]), *front.shape)
    if "features" not in clip.labels:
        if clip.audio is None:
            return np.full(shape, np.nan, np.float32)
        raise CorruptRecordError(
            "a clip without label 'features': encode the videos with --sound, or train with --features live"
        )
    found = np.asarray(clip.labels["features"], np.float32)
    if found.shape != shape:
        raise CorruptRecordError(f"label 'features' is of shape {found.shape}; this run needs {shape}")
    return found


def _sampled(model: Any, params: Any, statistics: Statistics, batch: dict[str, Any]) -> Any:
    """True windows above sampled ones: time runs right, each row is a component of normalised motion, grey is 0."""
    truth, conditions = motion_objective.conditions_of_batch(model, statistics, batch)
    drawn = sample_window(model, params, jax.random.key(0), conditions, steps=20)
    rows = jnp.concatenate([truth, jnp.zeros_like(truth[:, :2]), drawn], 1)  # (b, 2 w + 2, d)
    sheet = jnp.concatenate([jnp.swapaxes(rows[i], 0, 1) for i in range(len(rows))], 0)
    return jnp.repeat(jnp.clip(0.5 + sheet / 6.0, 0.0, 1.0)[..., None], 3, -1)


def _count_branch(model: Any) -> int:
    """Multiply-adds of one evaluation of the denoiser for one window."""
    params = jax.eval_shape(functools.partial(initialise, model), jax.random.key(0))
    conditions = jax.eval_shape(lambda: empty(model, 1))
    noisy = jax.ShapeDtypeStruct((1, model.window, model.motion_dim), jnp.float32)
    level = jax.ShapeDtypeStruct((1,), jnp.float32)
    return cost.count_macs(functools.partial(predict, model), params, noisy, level, conditions)
