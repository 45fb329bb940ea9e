"""Sizes and rates of stage 2. The defaults are VASA-1's where it prints them (8 layers, width 512, 8 heads) and ours
where it is silent (window, context, T, front end): 28.68M parameters. What we add to make windows join, the anchor and
the cutoff, is off by default, as in releases that do not name it; the files in `configs/` turn it on.
"""

import dataclasses
from typing import Literal

import jax.numpy as jnp

from vasa_jax.arrays import FPS, POSE_DIM
from vasa_jax.audio.front_end import AudioEncoderConfig, front_end
from vasa_jax.errors import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class DropConfig:
    """How often training hides conditions, so that guidance and streaming are in distribution."""

    condition: float = 0.1  # audio, gaze, distance, emotion: each, alone
    context: float = 0.5  # the previous motion and its audio, together
    audio_tail: float = 0.5  # keep only the first n frames of audio, n uniform
    audio_min_frames: int = 3  # the smallest such n

    def __post_init__(self) -> None:
        for name in ("condition", "context", "audio_tail"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"drop.{name} is {getattr(self, name)}; it must be a probability in [0, 1]")
        if self.audio_min_frames < 1:
            raise UserError(f"drop.{self.audio_min_frames=} must be at least 1")


@dataclasses.dataclass(frozen=True, kw_only=True)
class MotionConfig:
    """The motion transformer and its diffusion."""

    width: int = 512  # channels of every token
    num_layers: int = 8  # transformer blocks
    num_heads: int = 8  # attention heads of a block
    ffn: int = 2048  # hidden channels of a block's feed-forward part and of the time embedding
    window: int = 50  # W: frames generated at once
    context: int = 10  # K: frames of the previous window that are conditions
    dynamics_dim: int = 128  # size of the dynamics code of stage 1
    timesteps: int = 1000  # T: noise levels
    anchor: bool = False  # add to a window, fading, what the network's answer misses at the last frame of context
    head_cutoff: float = 0.0  # Hz at which half of the head's pose passes, in targets and answers; 0 smooths nothing
    spare: int = 0  # last frames of a window that the next one makes anew, since they are made without what follows
    gaze_guidance: float = 1.0  # scale at which samples follow a gaze where none is asked for; the paper's is 1
    audio: AudioEncoderConfig = AudioEncoderConfig()
    drop: DropConfig = DropConfig()
    velocity: float = 0.5  # V of equation (2) of `motion.objective`: weight of the errors of steps
    dtype: Literal["float32", "bfloat16"] = "float32"  # of the layers; parameters and the result stay float32

    def __post_init__(self) -> None:
        for name in ("width", "num_layers", "num_heads", "ffn", "window", "context", "dynamics_dim", "timesteps"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.width % self.num_heads or self.width % 2:
            raise UserError(f"{self.width=} must be even and a multiple of {self.num_heads=}")
        if not 0 <= self.head_cutoff <= FPS / 2:
            raise UserError(f"{self.head_cutoff=} must be 0 to {FPS / 2} Hz; 4 keeps nods and loses a tracker's noise")
        if not 0 <= self.gaze_guidance < float("inf"):
            raise UserError(f"{self.gaze_guidance=} must be finite, 0 or more")
        if not 0 <= self.velocity < float("inf"):
            raise UserError(f"{self.velocity=} must be finite, 0 or more")
        if self.dtype not in ("float32", "bfloat16"):
            raise UserError(f"{self.dtype=} must be 'float32' or 'bfloat16'")
        if self.drop.audio_min_frames > self.window:
            raise UserError(f"drop.{self.drop.audio_min_frames=} must not exceed {self.window=}")
        block = front_end(self.audio).block
        if not 0 <= self.spare < self.window:
            raise UserError(f"{self.spare=} must be 0 or more and below {self.window=}")
        for name in ("window", "context", "spare"):
            if getattr(self, name) % block:
                raise UserError(
                    f"{name} is {getattr(self, name)}; it must be a multiple of audio.block={block}, the frames of "
                    "sound that are computed together; audio.block 1 fits every number"
                )

    @property
    def motion_dim(self) -> int:
        """Channels of one frame of motion: pose, then dynamics."""
        return POSE_DIM + self.dynamics_dim

    @property
    def compute_dtype(self) -> jnp.dtype | None:
        """The dtype of the layers as Linen takes it: None is that of inputs and parameters, float32 unless widened."""
        return None if self.dtype == "float32" else jnp.dtype(self.dtype)

    @property
    def num_tokens(self) -> int:
        """Length of the sequence: motion and audio of context and window, gaze, distance, emotion, time."""
        return 2 * (self.context + self.window) + 4


def demo_model() -> MotionConfig:
    """The small network that hears log-mel: 2.2M parameters, trained on two cores within the hour."""
    return MotionConfig(
        width=192,
        num_layers=4,
        num_heads=6,
        ffn=768,
        dynamics_dim=32,
        audio=AudioEncoderConfig(kind="mel", feature_dim=128),
        anchor=True,
        head_cutoff=4.0,
        spare=5,
        gaze_guidance=0.0,
    )
