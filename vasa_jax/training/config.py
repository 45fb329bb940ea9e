"""What an experiment is: a frozen value that a file in `configs/` returns and the training door overlays with flags.

Defaults follow MegaPortraits (supplement): AdamW, learning rate 2e-4 with a cosine to 1e-6. Stage 1 is VASA-1 section
3.1, stage 2 section 3.2.
"""

import dataclasses
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

from vasa_jax import config as configs
from vasa_jax.arrays import FPS
from vasa_jax.audio.augmentation import SoundAugmentationConfig
from vasa_jax.autoencoder.config import AutoencoderConfig
from vasa_jax.autoencoder.discriminator import DiscriminatorConfig
from vasa_jax.autoencoder.objective import HELPERS, ObjectiveConfig, terms
from vasa_jax.autoencoder.views import CROSSED
from vasa_jax.errors import UserError
from vasa_jax.motion.config import MotionConfig
from vasa_jax.pretrained.world_features import SMALLEST, WorldFeaturesConfig
from vasa_jax.synthetic.looks import Randomisation
from vasa_jax.synthetic.splits import SPLITS


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimiserConfig:
    """AdamW with linear warm-up, a schedule of the learning rate, and clipping by the global norm."""

    learning_rate: float = 2e-4  # at the top of the schedule
    final_learning_rate: float = 1e-6  # at the last step; of no use to a constant schedule
    # how the rate goes from the first to the second: as a cosine, not at all, or warm-up, stable, decay
    schedule: Literal["cosine", "constant", "wsd"] = "cosine"
    decay_share: float = 0.2  # of wsd: the share of the steps in which the rate falls, at the end
    warmup: int = 500  # steps from zero to the schedule
    b1: float = 0.9  # decay of the first moment
    b2: float = 0.999  # decay of the second moment
    weight_decay: float = 0.01  # of kernels only
    clip: float = 1.0  # largest global norm of a gradient
    freeze: tuple[str, ...] = ()  # patterns (regular expressions) of whole names of parameters that stay as they are
    rates: tuple[tuple[str, float], ...] = ()  # patterns and factors of the learning rate; the first match counts

    def __post_init__(self):
        if not (0.0 < self.learning_rate < float("inf") and 0.0 <= self.final_learning_rate <= self.learning_rate):
            raise UserError(
                f"optimiser: {self.learning_rate=} must be above 0 and no less than {self.final_learning_rate=}"
            )
        if not (0.0 <= self.b1 < 1.0 and 0.0 <= self.b2 < 1.0):
            raise UserError(f"optimiser: {self.b1=} and {self.b2=} must lie in [0, 1)")
        if self.schedule not in ("cosine", "constant", "wsd"):
            raise UserError(f"optimiser: {self.schedule=} must be 'cosine', 'constant' or 'wsd'")
        if not 0.0 < self.decay_share <= 1.0:
            raise UserError(f"optimiser: {self.decay_share=} must lie in (0, 1]")
        if self.warmup < 0 or self.weight_decay < 0.0 or self.clip <= 0.0:
            raise UserError(
                f"optimiser: {self.warmup=} and {self.weight_decay=} must be 0 or more, {self.clip=} above 0"
            )
        for pattern in (*self.freeze, *(pattern for pattern, _ in self.rates)):
            try:
                re.compile(pattern)
            except re.error as error:
                raise UserError(f"optimiser: {pattern!r} is no regular expression: {error}") from error
        for pattern, factor in self.rates:
            if not 0.0 < factor < float("inf"):
                raise UserError(f"optimiser.rates: {factor=} of {pattern!r} must be above 0; freeze it to keep it")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reading:
    """How clips are read, whoever made them."""

    validation_clips: int = 16  # held-out clips, for pictures and evaluation; the first of the split
    threads: int = 2  # reading threads
    prefetch: int = 4  # batches read ahead
    max_corrupt: int = 10  # corrupt records that a process skips; the next one stops the run

    def __post_init__(self):
        for name in ("validation_clips", "threads", "prefetch"):
            if getattr(self, name) < 1:
                raise UserError(f"data.{name}={getattr(self, name)} must be 1 or more")
        if self.max_corrupt < 0:
            raise UserError(f"data.max_corrupt={self.max_corrupt} must be 0 or more")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Records(Reading):
    """Clips that are there: shards of records in `train/` and `validation/`, see docs/data.md. Nothing is made."""

    path: str = ""  # the folder that holds both
    mix: tuple[tuple[str, float], ...] = ()  # or several such folders, and the weight of each in training

    def __post_init__(self):
        super().__post_init__()
        if not self.path and not self.mix:
            raise UserError("data.path is empty: name the folder that holds train/ and validation/")
        if self.path and self.mix:
            raise UserError(f"data.path={self.path!r} and data.mix={self.mix} are two answers; name folders in one")
        names = [name for name, _ in self.mix]
        for name, weight in self.mix:
            if not name or names.count(name) > 1:
                raise UserError(f"data.mix names {names}; name each folder once, and none with an empty name")
            if not 0.0 < weight < float("inf"):
                raise UserError(f"data.mix gives {name!r} the weight {weight}; it must be above 0")

    @property
    def folders(self) -> tuple[tuple[str, float], ...]:
        """All folders, and their weights."""
        return self.mix or ((self.path, 1.0),)


@dataclasses.dataclass(frozen=True, kw_only=True)
class World(Reading):
    """Clips of the synthetic world, made into shards where they are missing, and reused.

    Their pictures have the size that stage 1 takes. Clip i is seed first_seed + i of the split "train"; held-out clips
    are the first of the split "validation". More clips may be asked for later: what is there stays.
    """

    make_in: str = ""  # folder of the made clips, which runs may share; empty is WORKDIR/data
    clips: int = 2000  # clips to train on
    first_seed: int = 0  # offset into the split
    clips_per_shard: int = 100  # an interrupted making goes on with the first missing shard

    def __post_init__(self):
        super().__post_init__()
        for name in ("clips", "clips_per_shard"):
            if getattr(self, name) < 1:
                raise UserError(f"data.{name}={getattr(self, name)} must be 1 or more")
        if self.first_seed < 0 or self.first_seed + self.clips > len(SPLITS["train"]):
            raise UserError(
                f"data.first_seed={self.first_seed} and data.clips={self.clips} leave the {len(SPLITS['train'])} seeds "
                "to train on; lower one of them"
            )
        if self.validation_clips > len(SPLITS["validation"]):
            raise UserError(
                f"data.validation_clips={self.validation_clips} is more than there are ({len(SPLITS['validation'])})"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class PortraitWorld(World):
    """Stage 1: every clip is one person in `frames` pictures, of independent states and of moments of a performance."""

    frames: int = 12  # pictures a clip
    performed: int = 4  # how many of them are moments of a performance; the others are independent states
    poses: int = 2  # head poses shared by the independent states, so that some pictures differ in expression alone
    randomisation: Randomisation = Randomisation()  # how the clips to train on look otherwise; held-out ones never do

    def __post_init__(self):
        super().__post_init__()
        if self.frames < 2 or not 0 <= self.performed <= self.frames:
            raise UserError(f"data: {self.frames=} must be 2 or more and {self.performed=} between 0 and it")
        if self.poses < 1:
            raise UserError(f"data: {self.poses=} must be 1 or more")


@dataclasses.dataclass(frozen=True, kw_only=True)
class PerformanceWorld(World):
    """Stage 2: every clip is a performance with sound, encoded by stage 1."""

    seconds: float = 6.0  # length of a clip

    def __post_init__(self):
        super().__post_init__()
        if not 0.0 < self.seconds < 3600.0:
            raise UserError(f"data.seconds={self.seconds} must be above 0 and below an hour")


@dataclasses.dataclass(frozen=True, kw_only=True)
class PeopleWorld(World):
    """The feature network: every clip is one person in independent states, each with another light, background and
    clothes, so that none of them tells who it is."""

    frames: int = 4  # pictures a clip
    size: int = 128  # side of the pictures in pixels

    def __post_init__(self):
        super().__post_init__()
        if self.frames < 2:
            raise UserError(f"data.frames={self.frames} must be 2 or more: nobody is recognised in one picture")
        if self.size < 2 * SMALLEST or self.size % 2:
            raise UserError(f"data.size={self.size} must be even and {2 * SMALLEST} or more: it is halved")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment:
    """What all of them have. `kind` names what is trained in checkpoints, and as releases spell it."""

    kind: ClassVar[str] = ""
    optimiser: OptimiserConfig = OptimiserConfig()
    steps: int = 10_000  # length of the run and of the learning rate's schedule
    batch_size: int = 16  # samples a step, over all devices
    seed: int = 0  # of initialisation, data order and every random number in a step
    parallel: Literal["jit", "pmap", "sharded"] = "jit"  # how a step is spread over devices
    fsdp: int = 0  # devices that share one copy of the state, with --parallel sharded; 0 is all of them
    accumulate: int = 1  # micro-batches that a step's batch is computed in, to save memory
    remat: bool = False  # keep only convolutions and products for the backward pass and compute the rest again
    # of computation; auto is bfloat16 on accelerators and float32 on a CPU
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    ema: float = 0.999  # decay of the averaged parameters, which are what a release holds
    log_every: int = 50  # steps between scalars
    pictures_every: int = 1000  # steps between pictures
    eval_every: int = 1000  # steps between evaluations on held-out clips
    judge_every: int = 1000  # steps between judgements of what the networks generate; 0 is never
    save_every: int = 1000  # steps between checkpoints
    keep: int = 2  # checkpoints kept
    keep_every: int = 0  # steps between checkpoints that are kept for ever, a multiple of save_every; 0 is none
    # steps between releases of the averaged parameters, in WORKDIR/releases, a multiple of save_every; 0 is none
    export_every: int = 0

    def __post_init__(self):
        for name in ("keep_every", "export_every"):
            if getattr(self, name) < 0:
                raise UserError(f"{name}={getattr(self, name)} must be 0 or more")
            if getattr(self, name) % self.save_every:
                raise UserError(f"{name}={getattr(self, name)} must be a multiple of {self.save_every=}")
        for name in (
            "steps",
            "batch_size",
            "accumulate",
            "log_every",
            "pictures_every",
            "eval_every",
            "save_every",
            "keep",
        ):
            if getattr(self, name) < 1:
                raise UserError(f"{name}={getattr(self, name)} must be 1 or more")
        if self.judge_every < 0:
            raise UserError(f"{self.judge_every=} must be 0 (never) or more")
        if self.batch_size % self.accumulate:
            raise UserError(f"{self.batch_size=} must be a multiple of {self.accumulate=}")
        if self.fsdp < 0 or (self.fsdp and self.parallel != "sharded"):
            raise UserError(
                f"fsdp={self.fsdp} must be 0, or more with parallel='sharded'; {self.parallel=} splits no state"
            )
        if not 0.0 <= self.ema < 1.0:
            raise UserError(f"ema={self.ema} must lie in [0, 1); 0 keeps the last parameters")
        if not 0 <= self.seed < 2**31:
            raise UserError(f"seed={self.seed} must lie in [0, 2^31)")


@dataclasses.dataclass(frozen=True, kw_only=True)
class HelperConfig:
    """A frozen network that some terms ask."""

    weights: str = ""  # its release: a folder, or the name of one that comes with the package
    sha256: str = ""  # of its parameters; filled in when a run starts, and held to from then on


@dataclasses.dataclass(frozen=True, kw_only=True)
class HelpersConfig:
    """The frozen networks of stage 1, by the part that they play (`autoencoder.objective`)."""

    perceptual: HelperConfig = HelperConfig()
    face: HelperConfig = HelperConfig()
    gaze: HelperConfig = HelperConfig()
    identity: HelperConfig = HelperConfig()

    @property
    def named(self) -> dict[str, HelperConfig]:
        """Those that have weights, by part."""
        return {part: getattr(self, part) for part in HELPERS if getattr(self, part).weights}


@dataclasses.dataclass(frozen=True, kw_only=True)
class AutoencoderExperiment(Experiment):
    """Stage 1: the face latent space (VASA-1 section 3.1)."""

    kind: ClassVar[str] = "autoencoder"
    model: AutoencoderConfig = AutoencoderConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    helpers: HelpersConfig = HelpersConfig()
    discriminator: DiscriminatorConfig = DiscriminatorConfig()
    # of the discriminator; the rates of MegaPortraits
    discriminator_optimiser: OptimiserConfig = OptimiserConfig(b1=0.5, weight_decay=0.0)
    discriminator_every: int = 1  # steps from one turn of the discriminator to the next
    data: PortraitWorld | Records = PortraitWorld()
    frames_per_sample: int = 4  # frames drawn from a clip for one sample: a source and its drivers
    other_frames_per_sample: int = 0  # frames of another person's clip that stand beside them; 0 reads none

    def __post_init__(self):
        super().__post_init__()
        _check_dtype(self.model)
        if self.frames_per_sample < 2:
            raise UserError(f"{self.frames_per_sample=} must be 2 or more: a source and its drivers")
        if self.other_frames_per_sample < 0:
            raise UserError(f"{self.other_frames_per_sample=} must be 0 or more")
        self._check_helpers()
        if self.discriminator_every < 1:
            raise UserError(f"{self.discriminator_every=} must be 1 or more")
        if self.objective.plays:
            _check_dtype(self.discriminator, "discriminator")
            self.discriminator.check(self.model.image_size)
        if isinstance(self.data, PortraitWorld) and self.data.frames < max(
            self.frames_per_sample, self.other_frames_per_sample
        ):
            raise UserError(
                f"{self.frames_per_sample=} and {self.other_frames_per_sample=} must not exceed {self.data.frames=}"
            )

    def _check_helpers(self) -> None:
        """Raise UserError for a term without what it needs, and for a helper that no term asks."""
        asked = {term.helper: term.name for term in terms(self.objective) if term.helper}
        for part, name in asked.items():
            if part not in self.helpers.named:
                raise UserError(
                    f"objective.{name}={getattr(self.objective, name)} asks a frozen network: name its release with "
                    f"--helpers.{part}.weights, or set the weight to 0"
                )
        for part, helper in self.helpers.named.items():
            if part not in asked:
                raise UserError(
                    f"helpers.{part}.weights={helper.weights!r} would never be asked: give its term in the objective a "
                    "weight, or leave it out"
                )
        for term in terms(self.objective):
            if CROSSED in term.needs and not self.other_frames_per_sample:
                raise UserError(
                    f"objective.{term.name}={getattr(self.objective, term.name)} needs frames of another person: set "
                    "--other-frames-per-sample 1, or the weight to 0"
                )


@dataclasses.dataclass(frozen=True, kw_only=True)
class MotionExperiment(Experiment):
    """Stage 2: facial dynamics from sound (VASA-1 section 3.2)."""

    kind: ClassVar[str] = "motion"
    model: MotionConfig = MotionConfig()
    autoencoder: str = ""  # stage 1, which encodes the clips: a release folder or a workdir
    data: PerformanceWorld | Records = PerformanceWorld()
    augmentation: SoundAugmentationConfig = SoundAugmentationConfig()
    # radians by which gazes are shifted at random, the code's own gaze being the condition (see training/eyes.py); 0
    # takes gazes as labelled. For stage 1 of kind vasa, whose code holds a gaze
    eyes: float = 0.0
    # where frozen features come from: recorded in the clips (float16, heard once), or live, heard anew in every step,
    # which then is twelve times the work at the paper's size
    features: Literal["recorded", "live"] = "recorded"

    def __post_init__(self):
        super().__post_init__()
        _check_dtype(self.model)
        if self.features not in ("recorded", "live"):
            raise UserError(f"{self.features=} must be 'recorded' or 'live'")
        if not 0.0 <= self.eyes < 1.0:
            raise UserError(f"{self.eyes=} must be 0 or more and below 1 radian")
        if not self.model.audio.frozen and self.features != "recorded":
            raise UserError(
                f"{self.features=} is of frozen networks; log-mel is always heard in the step: leave it out"
            )
        if self.records_features and self.augmentation != SoundAugmentationConfig():
            raise UserError(
                "augmentation changes sound, and recorded features were heard before; choose --features live, or leave "
                "augmentation.share and augmentation.settled at 0"
            )
        if not isinstance(self.data, PerformanceWorld):
            return
        frames = int(self.data.seconds * FPS)
        if frames < self.model.context + self.model.window:
            raise UserError(
                f"{self.data.seconds=} is {frames} frames, shorter than context and window "
                f"({self.model.context} + {self.model.window}); lengthen the clips"
            )

    @property
    def records_features(self) -> bool:
        """Whether clips carry the features of a frozen network."""
        return self.model.audio.frozen and self.features == "recorded"


@dataclasses.dataclass(frozen=True, kw_only=True)
class FeaturesObjectiveConfig:
    """What the feature network learns from, see `training.features`; a weight of 0 leaves a term out."""

    identity: float = 0.3  # weight of the classification of people
    pose: float = 1.0  # weight of the squared error of the pose, in its units
    expression: float = 0.7  # weight of the squared errors of the expression, in its units
    margin: float = 0.1  # by which angle (radians) a person must be nearer to its own row than to others
    sharpness: float = 20.0  # factor of the cosines before the softmax
    colour: float = 0.12  # spread of brightness, contrast and channel gains
    blur: float = 0.5  # share of pictures that are blurred
    noise: float = 0.03  # largest standard deviation of the noise, of 0..1
    crop: float = 0.03  # standard deviation of the angles that the crop's pose is off

    def __post_init__(self):
        for name, value in dataclasses.asdict(self).items():
            if not 0.0 <= value < float("inf"):
                raise UserError(f"objective.{name}={value} must be 0 or more, and finite")
        if self.margin >= 1.5 or self.blur > 1.0 or self.colour >= 0.5:
            raise UserError(
                f"objective: {self.margin=} must be below 1.5, {self.blur=} at most 1, {self.colour=} < 0.5"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class FeaturesExperiment(Experiment):
    """The feature network that helps stage 1 on the world (`pretrained.world_features`)."""

    kind: ClassVar[str] = "world_features"
    model: WorldFeaturesConfig = WorldFeaturesConfig()
    objective: FeaturesObjectiveConfig = FeaturesObjectiveConfig()
    data: PeopleWorld | Records = PeopleWorld()
    frames_per_sample: int = 4  # pictures of a person in one sample

    def __post_init__(self):
        super().__post_init__()
        if not isinstance(self.data, PeopleWorld):
            raise UserError(
                "the feature network learns from people of the world whose number is known; leave --data.path and "
                "--data.mix out"
            )
        if not 2 <= self.frames_per_sample <= self.data.frames:
            raise UserError(f"{self.frames_per_sample=} must lie between 2 and {self.data.frames=}")


KINDS: dict[str, type[Experiment]] = {
    kind.kind: kind for kind in (AutoencoderExperiment, MotionExperiment, FeaturesExperiment)
}
"""Name of a stage, as checkpoints and releases spell it, to its experiments."""


def to_saved(experiment: Experiment) -> dict[str, Any]:
    """An experiment as JSON values, with its `kind`: what checkpoints and `WORKDIR/config.json` hold."""
    return {"kind": experiment.kind} | json.loads(configs.to_json(experiment))


def from_saved(saved: Mapping[str, Any], source: str | Path) -> Experiment:
    """The experiment that `to_saved` wrote; `source` is for messages.

    Raises:
        UserError: for a kind that is unknown, or fields that are not those of its experiments.
    """
    if saved.get("kind") not in KINDS:
        raise UserError(
            f"the run in {str(source)!r} is of no known stage ({saved.get('kind')!r}); it must be one of "
            f"{', '.join(KINDS)}"
        )
    fields = {name: value for name, value in saved.items() if name != "kind"}
    try:
        return configs.from_json(json.dumps(fields), KINDS[saved["kind"]])
    except UserError as error:
        raise UserError(f"the run in {str(source)!r} was written by another version: {error}") from error


def _check_dtype(model: Any, name: str = "model") -> None:
    if model.dtype != type(model).dtype:
        raise UserError(
            f"{name}.dtype={model.dtype!r} is not for training; choose the dtype of computation with --dtype"
        )
