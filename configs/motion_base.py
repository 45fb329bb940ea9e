"""Stage 2 at VASA-1's size: 28.68M parameters, 6.5 GFLOP a guidance branch, on frozen 768-channel features of speech.

    vasa-train motion_base --dry-run
    vasa-train motion_base --workdir runs/motion_base --autoencoder runs/autoencoder_512

The features are those of wav2vec 2.0 base, fetched and converted once; `--model.audio.weights` names another place of
its weights. They are heard while clips are made, or by `training.encode --sound motion_base` for clips that are there.

The paper trains for about three days on four RTX A6000 and reports, on its own real test set at 50 steps and scales
(0.5, 1.0), S_C 7.957 and S_D 6.635. Steps, batch and learning rate are not printed there; those below are ours and
have not been run. A step of two samples takes 3.4 s on two loaded CPU cores, with `--features live` 21.8 s; heard once,
a minute of sound takes 2.7 TMAC (`python -m benchmarks.hearing`).
"""

from vasa_jax.audio.front_end import AudioEncoderConfig
from vasa_jax.motion.config import MotionConfig
from vasa_jax.training.config import MotionExperiment, OptimiserConfig, PerformanceWorld


def get_config() -> MotionExperiment:
    """The experiment."""
    return MotionExperiment(
        model=MotionConfig(
            audio=AudioEncoderConfig(weights="facebook/wav2vec2-base-960h"),
            anchor=True,
            head_cutoff=4.0,
            spare=5,
            gaze_guidance=0.0,
        ),
        eyes=0.4,
        data=PerformanceWorld(clips=20_000, seconds=8.0),
        optimiser=OptimiserConfig(learning_rate=1e-4, final_learning_rate=1e-6, warmup=2000),
        steps=500_000,
        batch_size=64,
        ema=0.9999,
    )
