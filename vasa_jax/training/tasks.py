"""What is trained: a stage as a handful of functions that the step and the loop call.

Both stages give the same interface, so that one step and one loop serve them: stage 1 is the face latent space
(VASA-1 section 3.1) on frames of one person, stage 2 the motion of a face from sound (section 3.2) on windows of
clips that stage 1 has encoded.
"""

import dataclasses
import functools
import itertools
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
from vasa_jax.autoencoder import cost as autoencoder_cost
from vasa_jax.autoencoder import objective as autoencoder_objective
from vasa_jax.autoencoder.discriminator import advance, discriminate
from vasa_jax.autoencoder.objective import ObjectiveConfig, terms
from vasa_jax.autoencoder.views import Views, look
from vasa_jax.data.order import Partners
from vasa_jax.data.pipeline import Batches, CorruptRecords, Others, Sample, make_dataset, read_other, readable
from vasa_jax.data.records import Clip, CorruptRecordError, StoredClip
from vasa_jax.data.shards import SPLITS, Shards
from vasa_jax.errors import UserError
from vasa_jax.files import write_text
from vasa_jax.inference.offline import Model
from vasa_jax.inference.vasa import MotionModel
from vasa_jax.metrics import transfer
from vasa_jax.metrics.judges.training import Spoken, judge_motion
from vasa_jax.motion import objective as motion_objective
from vasa_jax.motion import statistics as motion_statistics
from vasa_jax.motion.conditions import empty
from vasa_jax.motion.denoiser import initialise, predict
from vasa_jax.motion.sampling import sample_window
from vasa_jax.motion.statistics import Statistics
from vasa_jax.nn import cost
from vasa_jax.pretrained import world_features
from vasa_jax.synthetic.splits import seeds
from vasa_jax.training import features, samples, world_data
from vasa_jax.training.config import (
    AutoencoderExperiment,
    Experiment,
    FeaturesExperiment,
    MotionExperiment,
    PeopleWorld,
    Records,
    World,
)
from vasa_jax.training.eyes import turn_eyes
from vasa_jax.training.hearing import clip_features, load_speech
from vasa_jax.training.helper_networks import load_helpers
from vasa_jax.training.logs import Video
from vasa_jax.training.players import Frozen, Metrics, Player
from vasa_jax.training.stage_1 import load_stage_1
from vasa_jax.training.step import still
from vasa_jax.training.task import Task

PORTRAIT_LABELS = {"pose": (6,), "gaze": (2,), "mouth": (1,), "lids": (2,), "regions": (3, 4)}
"""Labels a picture of a stage 1 sample; NaN where a record has none."""
APART = 0.995
"""Accuracy of a discriminator, over a log line, from which the game counts as over."""
GAZE_KNOWN = 0.5
"""Share of a window's frames in which gaze must be known to be a condition: eyes that blink look nowhere."""
LOOKED_AT = 16
"""Clips of each folder that are searched for labels."""
SHOWN = 8
"""Held-out samples that pictures show."""
MEL = LogMel()
LOGGER = logging.getLogger(__name__)


def make_task(experiment: Experiment) -> Task:
    """The task of an experiment; raises UserError for an experiment of no known stage."""
    if isinstance(experiment, AutoencoderExperiment):
        return _autoencoder_task(experiment)
    if isinstance(experiment, MotionExperiment):
        return _motion_task(experiment)
    if isinstance(experiment, FeaturesExperiment):
        return _features_task(experiment)
    raise UserError(
        f"{type(experiment).__name__} is no experiment; return an AutoencoderExperiment, a MotionExperiment or a "
        "FeaturesExperiment"
    )


def compute_dtype(experiment: Experiment) -> str:
    """The dtype that `experiment.dtype` means on the devices at hand."""
    if experiment.dtype != "auto":
        return experiment.dtype
    return "float32" if jax.default_backend() == "cpu" else "bfloat16"


def _autoencoder_task(experiment: AutoencoderExperiment) -> Task:
    data, frames, others = experiment.data, experiment.frames_per_sample, experiment.other_frames_per_sample
    model = dataclasses.replace(experiment.model, dtype=compute_dtype(experiment))
    size = model.image_size

    def sample(record: StoredClip, rng: np.random.Generator | None) -> Sample:
        return portrait_sample(record, frames, size, rng)

    def other_sample(record: StoredClip, rng: np.random.Generator | None) -> Sample:
        sample = portrait_sample(record, others, size, rng, "other_frames_per_sample")
        return {f"other_{name}": value for name, value in sample.items()}

    def pairing(source: Shards, read: Callable[..., Sample] = other_sample) -> Others | None:
        return Others(Partners(source, world_data.weights(data)).draw, read) if others else None

    def prepare(workdir: Path) -> None:
        make = functools.partial(world_data.make_portraits, size=size)
        world_data.prepare(data, workdir, size, make)
        _check_first(data, workdir, sample)
        _check_labels(data, workdir, experiment.objective)
        if others:
            _check_first(data, workdir, other_sample)
            for split in SPLITS:
                pairing(world_data.open_split(data, workdir, split))

    def batch_spec(batch_size: int) -> dict[str, jax.ShapeDtypeStruct]:
        spec = {"index": jax.ShapeDtypeStruct((batch_size,), jnp.uint32)} | portrait_spec(batch_size, frames, size)
        other = portrait_spec(batch_size, others, size) if others else {}
        return spec | {f"other_{name}": shape for name, shape in other.items()}

    def held_out(workdir: Path) -> dict[str, Any]:
        def pair(source: Shards) -> Others | None:
            return pairing(source, lambda record, rng: other_sample(record, None))

        return _stack(_held_out(data, workdir, lambda record: sample(record, None), pair))

    objective, game = experiment.objective, experiment.objective.plays
    judge = dataclasses.replace(experiment.discriminator, dtype=model.dtype) if game else None
    read_helpers = functools.cache(lambda: load_helpers(experiment.helpers))
    needed = autoencoder_objective.needed(objective, crossed=others > 0)

    def init(key: Any) -> tuple[Any, Any, Any]:
        params, vectors = autoencoder_objective.init(model, key, judge)
        return params, {}, vectors

    def forward(params: Any, frozen: Frozen, batch: dict[str, Any], keys: Any) -> Views:
        every = objective.consistency_every
        return look(model, objective.augmentation, needed, params, batch, keys, frozen.step, every)

    def face_loss(params: Any, frozen: Frozen, views: Views) -> tuple[Any, Metrics]:
        scores = None
        if judge is not None:
            scores = functools.partial(discriminate, judge, params["discriminator"], frozen.mutable)
        helpers = read_helpers().bound(frozen.helpers)
        return autoencoder_objective.loss(objective, views, helpers, frozen.step, scores)

    def discriminator_loss(params: Any, frozen: Frozen, views: Views) -> tuple[Any, Metrics]:
        assert judge is not None
        return autoencoder_objective.discriminator_loss(judge, params["discriminator"], frozen.mutable, views)

    face_player = Player("face", face_loss, experiment.optimiser, ("autoencoder",) if game else ())
    discriminator_player = Player(
        "discriminator",
        discriminator_loss,
        experiment.discriminator_optimiser,
        ("discriminator",),
        experiment.discriminator_every,
        objective.adversarial_start,
        averaged=False,
    )
    pictures = jax.jit(functools.partial(autoencoder_objective.pictures, model))

    def evaluate(params: Any, constants: Any, batch: dict[str, Any]) -> dict[str, float]:
        face = transfer.network_face(model, params["autoencoder"])
        return {"held_out/psnr": transfer.clip_psnr(face, batch["frames"])}

    return Task(
        init=init,
        forward=forward,
        players=(face_player, discriminator_player) if game else (face_player,),
        batch_spec=batch_spec,
        prepare=prepare,
        measure=lambda workdir, kept: ({}, {}),
        dataset=functools.partial(_dataset, data, sample, pairing),
        held_out=held_out,
        evaluate=evaluate,
        judge=lambda params, constants, workdir: transfer.evaluate(model, params),
        pictures=lambda params, constants, batch: pictures(params, _on_device(_shown(batch))),
        videos=lambda params, constants, workdir: samples.reconstructions(
            data, workdir, size, transfer.network_face(model, params["autoencoder"])
        ),
        blocks=lambda params: dict(params["autoencoder"]),
        macs=lambda: autoencoder_cost.count_macs(model),
        helpers=lambda: read_helpers().params,
        helper_shapes=lambda: read_helpers().shapes,
        advance=still if judge is None else lambda params, vectors: advance(judge, params["discriminator"], vectors),
        warn=_is_apart,
    )


def _is_apart(means: dict[str, float]) -> str:
    """What a game that has ended looks like."""
    accuracy = means.get("discriminator/accuracy", 0.0)
    if accuracy < APART:
        return ""
    return (
        f"the discriminator tells {accuracy:.1%} of all patches apart, so that the autoencoder learns nothing from it: "
        "lower discriminator_optimiser.learning_rate, or raise discriminator_every"
    )


def portrait_spec(batch_size: int, frames: int, size: int) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes of a batch of what `portrait_sample` gives."""
    shape = (batch_size, frames)
    return {"frames": jax.ShapeDtypeStruct((*shape, size, size, 3), jnp.uint8)} | {
        name: jax.ShapeDtypeStruct((*shape, *rest), jnp.float32) for name, rest in PORTRAIT_LABELS.items()
    }


def portrait_sample(
    record: StoredClip, frames: int, size: int, rng: np.random.Generator | None, asked: str = "frames_per_sample"
) -> Sample:
    """Frames of a stage 1 record and their labels: some at random, or, without a generator, spread over the clip.

    Raises CorruptRecordError for a record with fewer frames, or of a size that is no multiple of `size`.
    """
    count = record.count
    if count < frames:
        raise CorruptRecordError(f"a clip of {count} frames; a sample needs {asked}={frames}")
    spread = np.linspace(0, count - 1, frames).astype(int)
    chosen = spread if rng is None else rng.choice(count, frames, replace=False)
    labels = {
        name: np.asarray(record.labels[name], np.float32)[chosen]
        if name in record.labels
        else np.full((len(chosen), *rest), np.nan, np.float32)
        for name, rest in PORTRAIT_LABELS.items()
    }
    return {"frames": record.frames(chosen.tolist(), size)} | labels


def _motion_task(experiment: MotionExperiment) -> Task:
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
        _check_first(data, workdir, sample)

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

    def held_out(workdir: Path) -> dict[str, Any]:
        return _stack(_held_out(data, workdir, lambda record: sample(record, None), lambda source: None))

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
        size, heard = len(batch["gaze"]), hear(live(), _on_device(batch))
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
        players=(Player("motion", _as_computed, experiment.optimiser),),
        batch_spec=lambda size: spec(size) | {"index": jax.ShapeDtypeStruct((size,), jnp.uint32)},
        prepare=prepare,
        measure=measure,
        dataset=functools.partial(_dataset, data, sample, lambda source: None),
        held_out=held_out,
        evaluate=evaluate,
        judge=judge,
        pictures=lambda params, constants, batch: {
            "true_above_sampled": sampled(params, constants, hear(live(), _on_device(_shown(batch))))
        },
        videos=videos,
        blocks=lambda params: dict(params),
        macs=lambda: {"branch": _count_branch(model)},
        helpers=lambda: jax.tree.map(np.asarray, live()),
        helper_shapes=lambda: speech_shapes(audio.speech) if audio.frozen and not recorded else {},
        view=lambda helpers, batch, keys: listen(helpers, batch, keys, experiment.augmentation),
    )


def _as_computed(params: Any, frozen: Frozen, views: tuple[Any, Metrics]) -> tuple[Any, Metrics]:
    """The loss of who plays alone, whose view is the loss."""
    del params, frozen
    return views


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


def _features_task(experiment: FeaturesExperiment) -> Task:
    data, model, frames = experiment.data, experiment.model, experiment.frames_per_sample
    features.check(model)
    assert isinstance(data, PeopleWorld)
    narrow = jnp.dtype("bfloat16") if compute_dtype(experiment) == "bfloat16" else None  # None follows the parameters
    loss = functools.partial(features.loss, model, experiment.objective, dtype=narrow)

    def sample(record: StoredClip, rng: np.random.Generator | None) -> Sample:
        return features.people_sample(record, frames, data.size, data.first_seed, rng)

    def prepare(workdir: Path) -> None:
        world_data.prepare(data, workdir, data.size, functools.partial(features.make_people, size=data.size))
        _check_first(data, workdir, sample)

    def measure(workdir: Path, kept: Any) -> tuple[Any, dict[str, Any]]:
        del workdir, kept
        members = seeds("train")[data.first_seed : data.first_seed + data.clips]
        return features.traits(np.asarray(members)), {}

    return Task(
        init=lambda key: (world_features.init(model, key), jnp.zeros((data.clips, model.embedding)), {}),
        forward=lambda params, frozen, batch, keys: loss(params, frozen.constants, batch, keys),
        players=(Player("features", _as_computed, experiment.optimiser),),
        batch_spec=lambda size: (
            features.people_spec(size, frames, data.size) | {"index": jax.ShapeDtypeStruct((size,), jnp.uint32)}
        ),
        prepare=prepare,
        measure=measure,
        dataset=functools.partial(_dataset, data, sample, lambda source: None),
        held_out=lambda workdir: _stack(
            _held_out(data, workdir, lambda record: sample(record, None), lambda source: None)
        ),
        evaluate=lambda params, constants, batch: features.scores(model, params, batch),
        judge=lambda params, constants, workdir: {},  # it generates nothing
        pictures=lambda params, constants, batch: {"seen": features.shown(model, experiment.objective, _shown(batch))},
        videos=lambda params, constants, workdir: {},
        blocks=lambda params: dict(params),
        macs=lambda: {f"picture of {side}": features.count_macs(model, side) for side in (data.size // 2, data.size)},
    )


def _dataset(
    data: World | Records,
    sample: Callable[[StoredClip, np.random.Generator], Sample],
    pair: Callable[[Shards], Others | None],
    workdir: Path,
    batch_size: int,
    seed: int,
    first_step: int,
    process: int,
    processes: int,
) -> Batches:
    """Training batches of a run, see `make_dataset`; `pair` says what a sample has of another clip."""
    source = world_data.open_split(data, workdir, "train")
    order = (batch_size, seed, first_step, process, processes)
    reading = (data.threads, data.prefetch, data.max_corrupt)
    return make_dataset(source, sample, *order, *reading, world_data.weights(data), pair(source))


def _held_out(
    data: World | Records,
    workdir: Path,
    sample: Callable[[StoredClip], Sample],
    pair: Callable[[Shards], Others | None],
) -> list[Sample]:
    """Samples of the first readable validation clips of all folders in turn, at most `data.validation_clips`."""
    source = world_data.open_split(data, workdir, "validation")
    others, corrupt = pair(source), CorruptRecords(source, data.max_corrupt)
    found = []
    for index, value in readable(source, sample, data.max_corrupt, source.in_turn()):
        other = read_other(source, index, others, np.random.default_rng(index), corrupt) if others else {}
        found.append(value | other)
        if len(found) == data.validation_clips:
            break
    return found


def _check_first(data: World | Records, workdir: Path, sample: Callable[[StoredClip, Any], Sample]) -> None:
    """Make a sample of the first readable clip of each folder and split, before anything is compiled.

    Raises:
        UserError: naming the shard and clip, and what is wrong with it.
    """
    for split in SPLITS:
        source = world_data.open_split(data, workdir, split)
        ends = itertools.accumulate(source.parts)
        for end, count in zip(ends, source.parts, strict=True):
            chosen = range(end - count, end)
            index, _ = next(readable(source, lambda record: record, data.max_corrupt, chosen))
            try:
                sample(source[index], None)
            except CorruptRecordError as error:
                raise UserError(f"{source.where(index)}: {error}") from error


def _check_labels(data: World | Records, workdir: Path, objective: ObjectiveConfig) -> None:
    """Look for the labels that terms of the objective need, in the first `LOOKED_AT` clips of each folder to train on.

    Raises:
        UserError: naming the terms that would ask in vain, and the flags that leave them out.
    """
    source = world_data.open_split(data, workdir, "train")
    known: set[str] = set()
    for end, count in zip(itertools.accumulate(source.parts), source.parts, strict=True):
        clips = readable(source, lambda record: record.labels, data.max_corrupt, range(end - count, end))
        for _, labels in itertools.islice(clips, LOOKED_AT):
            known |= {name for name, value in labels.items() if np.isfinite(np.asarray(value, np.float64)).any()}
    idle = [term for term in terms(objective) if term.labels and not known & set(term.labels)]
    if idle:
        named = "; ".join(f"objective.{term.name} needs label {' or '.join(term.labels)}" for term in idle)
        flags = " ".join(f"--objective.{term.name.replace('_', '-')} 0" for term in idle)
        raise UserError(f"{named}, and the first clips have none: label them, or leave the terms out with {flags}")


def _shown(batch: dict[str, Any]) -> dict[str, Any]:
    return {name: value[:SHOWN] for name, value in batch.items()}


def _stack(samples: Any) -> dict[str, Any]:
    """Samples to a batch, with their number as `index`."""
    samples = list(samples)
    batch = {name: np.stack([sample[name] for sample in samples]) for name in samples[0]}
    return batch | {"index": np.arange(len(samples), dtype=np.uint32)}


def _on_device(batch: dict[str, Any]) -> dict[str, Any]:
    return {name: jnp.asarray(value) for name, value in batch.items()}
