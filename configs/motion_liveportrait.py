"""Stage 2 on LivePortrait's motion: the paper's transformer learns to move the public face model, on own videos.

    python -m vasa_jax.training.encode RECORDS encoded --autoencoder PUBLIC
    vasa-train motion_liveportrait --workdir runs/motion --autoencoder PUBLIC --data.path encoded
    python -m vasa_jax.training.export runs/motion --face PUBLIC --out my-model

RECORDS are prepared videos (docs/preparation.md), PUBLIC is a release of the public pair (docs/public-weights.md). Its
motion is JoyVASA's seventy numbers, as a head pose and a dynamics code of 64 (`liveportrait.motion_code`). It hears
log-mel, which needs no other weights. Steps, batch and learning rate are ours and have not been run to the end.
"""

from vasa_jax.audio.front_end import AudioEncoderConfig
from vasa_jax.liveportrait.motion_code import DYNAMICS_DIM
from vasa_jax.motion.config import MotionConfig
from vasa_jax.training.config import MotionExperiment, OptimiserConfig, PerformanceWorld


def get_config() -> MotionExperiment:
    """The experiment."""
    return MotionExperiment(
        model=MotionConfig(
            dynamics_dim=DYNAMICS_DIM,
            audio=AudioEncoderConfig(kind="mel", feature_dim=256),
            anchor=True,
            head_cutoff=4.0,
            spare=5,
        ),
        data=PerformanceWorld(clips=2000, seconds=4.0),
        optimiser=OptimiserConfig(learning_rate=1e-4, final_learning_rate=1e-6, warmup=2000),
        steps=100_000,
        batch_size=64,
        ema=0.9999,
    )
