"""Both stages at the smallest sizes that build the same modules."""

import dataclasses
from typing import Any

from tests.tiny import AUTOENCODER
from vasa_jax.audio.front_end import AudioEncoderConfig
from vasa_jax.autoencoder.objective import ObjectiveConfig
from vasa_jax.motion.config import DropConfig, MotionConfig
from vasa_jax.training.config import (
    AutoencoderExperiment,
    MotionExperiment,
    OptimiserConfig,
    PerformanceWorld,
    PortraitWorld,
)

MOTION = MotionConfig(
    width=8,
    num_layers=1,
    num_heads=2,
    ffn=8,
    window=6,
    context=2,
    dynamics_dim=8,
    timesteps=10,
    audio=AudioEncoderConfig(kind="mel", feature_dim=8),
    drop=DropConfig(audio_min_frames=2),
    anchor=True,
)
RARELY: dict[str, Any] = {
    "log_every": 2,
    "eval_every": 100,
    "judge_every": 0,
    "pictures_every": 100,
    "save_every": 100,
    "batch_size": 8,
    "steps": 2,
}
STAGE_1 = AutoencoderExperiment(
    model=dataclasses.replace(AUTOENCODER, motion_stages=(1,), warp_widths=(4,), warp_upsampling=((1, 2, 2),)),
    objective=ObjectiveConfig(scales=2, consistency=0.0, canonical=0.0),
    data=PortraitWorld(clips=8, validation_clips=2, frames=3, performed=1, threads=1),
    frames_per_sample=2,
    optimiser=OptimiserConfig(warmup=1),
    **RARELY,
)
STAGE_2 = MotionExperiment(
    model=MOTION,
    data=PerformanceWorld(clips=3, validation_clips=1, seconds=1.0, threads=1),
    optimiser=OptimiserConfig(warmup=1),
    **RARELY,
)
