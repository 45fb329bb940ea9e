"""Sound front ends: what a network hears of 16 kHz sound, 25 frames a second (VASA-1 section 3.2: wav2vec 2.0).

One protocol, `FrontEnd`, for log-mel (`audio.log_mel`) and for the frozen networks wav2vec 2.0 and HuBERT
(`audio.speech`). The same object writes records, trains and runs; its numbers are `AudioEncoderConfig`, its weights an
argument, so that every function here is pure.

Streaming by construction. Frames come in blocks of B, and a slice of sound for t frames (a multiple of B) has

    lead + 640 t + ahead samples, the first `lead` of them before its first frame.                               (1)

Block j is a function of the samples from `lead` before its first frame to `ahead` behind its last one, and of the
loudness of what came before, which a state hands on from slice to slice. So slices of a recording that begin at
multiples of B give the features of the whole, and no frame hears more than `ahead` beyond its block. What lies outside
of the recording is zeros.

A speech network sees a whole recording when it is used as published. Here it computes every block from a window of its
own: `past` frames, the block, `ahead` frames,

    [ past | block | ahead ] -> 50 features a second -> the block's, averaged in pairs                           (2)

with 40 samples more on both sides, so that n frames of sound give 2 n features. Before that the window is multiplied by
one gain, the one that the causal loudness (`audio.loudness`) has reached at the end of the block, so that speech has
unit variance, as these networks were trained. A programme loudness as pyloudnorm measures it is no way to do that: its
gates look at the whole recording, which a stream does not have, and offline and live would differ. A gain from the
window's own variance would be causal, but would turn pauses up to the level of speech. The mean needs no care: the
networks' first norm takes it out. That norm, of each channel over the window, also makes up for much of a level, as it
does over a whole recording; with a past of a second, few windows of speech hold a pause alone.
"""

import dataclasses
from typing import Any, Literal, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from vasa_jax.arrays import SAMPLES_PER_FRAME
from vasa_jax.audio import log_mel
from vasa_jax.audio.loudness import TARGET, Loudness, level, track, unheard
from vasa_jax.audio.speech import FIELD, HOP, SpeechConfig, SpeechEncoder
from vasa_jax.errors import UserError

Kind = Literal["mel", "wav2vec2", "hubert"]
EDGE = (FIELD - HOP) // 2
"""Samples on both sides of a window, so that every 320 samples give a feature."""
AT_ONCE = 64
"""Windows that a speech network computes at once; at the base size the first layer's output takes 8 MB of each."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class AudioEncoderConfig:
    """What a frame of sound is before the transformer."""

    kind: Kind = "wav2vec2"  # "mel": log-mel and a small learned encoder; else the features of a frozen network
    feature_dim: int = 768  # channels a frame: of the frozen features, or out of the learned encoder
    layer: int | Literal["mean"] = -1  # whose output is taken; 0 is the first one's input; "mean" is the mean of all
    block: int = 5  # frames that are computed together
    past: int = 25  # frames before a block that its window shows
    ahead: int = 2  # frames behind a block that its window shows
    speech: SpeechConfig = SpeechConfig()
    weights: str = ""  # of the frozen network: a folder that vasa-convert speech wrote, or NAME/REPO on the Hub
    sha256: str = ""  # of these weights; training fills it in

    def __post_init__(self) -> None:
        if self.kind not in ("mel", "wav2vec2", "hubert"):
            raise UserError(f"audio.kind is {self.kind!r}; it must be 'mel', 'wav2vec2' or 'hubert'")
        if self.feature_dim < 1:
            raise UserError(f"audio.{self.feature_dim=} must be at least 1")
        if self.kind == "mel":
            for field in dataclasses.fields(self)[2:]:
                if getattr(self, field.name) != field.default:
                    raise UserError(f"audio.{field.name} means nothing with audio.kind 'mel'; leave it out")
            return
        if self.block < 1 or self.past < 0 or self.ahead < 0:
            raise UserError(f"audio.{self.block=} must be 1 or more, {self.past=} and {self.ahead=} 0 or more")
        if self.layer != "mean" and not -self.speech.layers - 1 <= self.layer <= self.speech.layers:
            raise UserError(f"audio.{self.layer=} is none of the {self.speech.layers} layers; -1 is the last")
        if self.feature_dim != self.speech.width:
            raise UserError(f"audio.{self.feature_dim=} must be the network's width, {self.speech.width}")

    @property
    def frozen(self) -> bool:
        """Whether a frozen network makes the features, whose weights are to be had from elsewhere."""
        return self.kind != "mel"

    @property
    def identity(self) -> dict[str, Any]:
        """What decides frozen features, as JSON values; equal exactly for front ends that give the same."""
        names = ("kind", "layer", "block", "past", "ahead", "sha256")
        return {name: getattr(self, name) for name in names}


@runtime_checkable
class FrontEnd(Protocol):
    """Sound to features, by slices of equation (1)."""

    @property
    def lead(self) -> int:
        """Samples of a slice before its first frame."""
        ...

    @property
    def ahead(self) -> int:
        """Samples of a slice behind its last frame."""
        ...

    @property
    def block(self) -> int:
        """Frames that are computed together; slices have a multiple of it."""
        ...

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one frame's features."""
        ...

    def start(self, batch: int, dtype: DTypeLike = jnp.float32) -> Loudness:
        """The state of recordings of which nothing has been heard."""
        ...

    def hear(
        self, weights: Any, state: Loudness, samples: Float[Array, "b n"], hop: int | None = None
    ) -> tuple[Loudness, Float[Array, "b t *features"]]:
        """The features of slices of recordings.

        Args:
            weights: of the frozen network; {} where there is none.
            state: after what came before the slice.
            samples: (b, lead + 640 t + ahead) in -1..1.
            hop: the slice after this one begins so many frames later, a multiple of `block`; None is behind all frames.

        Returns:
            The state after `hop` frames, and the features.

        Raises:
            ValueError: a length that is no slice.
        """
        ...


def slice_samples(front: FrontEnd, frames: int) -> int:
    """Samples of the slice of sound that `frames` frames need, equation (1)."""
    return front.lead + SAMPLES_PER_FRAME * frames + front.ahead


def known_frames(front: FrontEnd, heard: Any) -> Any:
    """Frames whose features are known when so many frames of a slice, and `ahead` samples behind them, exist; int or
    int array."""
    return heard // front.block * front.block if front.block > 1 else heard


@dataclasses.dataclass(frozen=True)
class LogMel:
    """`audio.log_mel` as a front end: blocks of one frame, no weights."""

    lead: int = log_mel.LEAD
    ahead: int = log_mel.SLICE_EXTRA - log_mel.LEAD
    block: int = 1
    shape: tuple[int, ...] = (log_mel.MELS_PER_FRAME, log_mel.BANDS)

    def start(self, batch: int, dtype: DTypeLike = jnp.float32) -> Loudness:
        """See `FrontEnd`."""
        return unheard(batch, dtype)

    def hear(
        self, weights: Any, state: Loudness, samples: Float[Array, "b n"], hop: int | None = None
    ) -> tuple[Loudness, Float[Array, "b t mels bands"]]:
        """See `FrontEnd`; the gain of a frame multiplies the power of its four mel frames."""
        del weights
        return log_mel.hear(state, samples, hop)


@dataclasses.dataclass(frozen=True)
class Speech:
    """A frozen speech network as a front end, equation (2). `weights` are the network's parameters, float32; it
    computes in float32 everywhere, since features are what other networks were trained on."""

    config: AudioEncoderConfig

    @property
    def lead(self) -> int:
        """The past, and what the level of the first frame hears."""
        return SAMPLES_PER_FRAME * self.config.past + log_mel.LEAD

    @property
    def ahead(self) -> int:
        """The frames behind, and what the level of the last frame hears."""
        return SAMPLES_PER_FRAME * self.config.ahead + log_mel.SLICE_EXTRA - log_mel.LEAD

    @property
    def block(self) -> int:
        """See `FrontEnd`."""
        return self.config.block

    @property
    def shape(self) -> tuple[int, ...]:
        """Channels."""
        return (self.config.feature_dim,)

    def start(self, batch: int, dtype: DTypeLike = jnp.float32) -> Loudness:
        """See `FrontEnd`."""
        return unheard(batch, dtype)

    def hear(
        self, weights: Any, state: Loudness, samples: Float[Array, "b n"], hop: int | None = None
    ) -> tuple[Loudness, Float[Array, "b t c"]]:
        """See `FrontEnd`."""
        after, windows = self.windows(state, samples, hop)
        count, batch, size = windows.shape
        network = SpeechEncoder(self.config.speech)

        def features(part: Float[Array, "n b samples"]) -> Float[Array, "n b f c"]:
            layers = jnp.asarray(network.apply({"params": weights}, part.reshape(-1, size)))
            chosen = layers.mean(0) if self.config.layer == "mean" else layers[self.config.layer]
            own = chosen[:, 2 * self.config.past :][:, : 2 * self.block]
            return own.reshape(-1, batch, self.block, 2, *self.shape).mean(3)

        most = max(AT_ONCE // batch, 1)
        together = max(n for n in range(1, count + 1) if count % n == 0 and n <= most)
        parts = windows.reshape(-1, together, batch, size)
        found = features(windows) if together == count else jax.lax.map(features, parts)
        return after, jnp.moveaxis(found.reshape(count, batch, self.block, *self.shape), 0, 1).reshape(
            batch, count * self.block, *self.shape
        )

    def windows(
        self, state: Loudness, samples: Float[Array, "b n"], hop: int | None = None
    ) -> tuple[Loudness, Float[Array, "blocks b size"]]:
        """What the network sees of slices: the state after `hop` frames and the windows of equation (2), each at the
        level that its block has reached; arguments and errors as of `hear`."""
        frames, rest = divmod(samples.shape[1] - self.lead - self.ahead, SAMPLES_PER_FRAME)
        if rest or frames < 1 or frames % self.block:
            raise ValueError(
                f"{samples.shape[1]} samples are no slice of sound; t frames need 640 t + {self.lead + self.ahead}, "
                f"and t must be a multiple of audio.block={self.block}"
            )
        margin = self.lead - log_mel.LEAD
        power = log_mel.power_spectrum(samples[:, margin:][:, : log_mel.slice_samples(frames)])
        levels = level(power.mean(2))
        after, gains = track(state, levels[:, :hop])
        if gains.shape[1] < frames:
            gains = jnp.concatenate([gains, track(after, levels[:, hop:])[1]], 1)
        amplitude = jnp.power(10.0, (gains[:, self.block - 1 :: self.block] - TARGET) / 20.0)
        size = SAMPLES_PER_FRAME * (self.config.past + self.block + self.config.ahead) + 2 * EDGE
        starts = log_mel.LEAD - EDGE + SAMPLES_PER_FRAME * self.block * jnp.arange(frames // self.block)
        cut = jax.vmap(lambda start: jax.lax.dynamic_slice_in_dim(samples, start, size, 1))(starts)
        return after, cut * amplitude.T[..., None]


def front_end(config: AudioEncoderConfig) -> FrontEnd:
    """The front end that a config names; equal configs give equal ones, which hash."""
    return Speech(config) if config.frozen else LogMel()
