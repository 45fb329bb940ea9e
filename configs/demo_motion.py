"""Stage 2 of the bundled demo model, trained on performances of the synthetic world as stage 1 encodes them.

    vasa-train demo_motion --workdir runs/motion --autoencoder runs/autoencoder

Performances with sound are made and encoded first. Cost and the numbers to expect are in
`vasa_jax/models/demo/model_card.md`.
"""

from vasa_jax.audio.augmentation import SoundAugmentationConfig
from vasa_jax.motion.config import demo_model
from vasa_jax.training.config import MotionExperiment, OptimiserConfig, PerformanceWorld


def get_config() -> MotionExperiment:
    """The experiment."""
    return MotionExperiment(
        model=demo_model(),
        eyes=0.4,
        data=PerformanceWorld(clips=1000, seconds=4.0),
        augmentation=SoundAugmentationConfig(share=0.9, settled=0.5),
        optimiser=OptimiserConfig(learning_rate=1e-3, final_learning_rate=1e-5, warmup=100, b2=0.99),
        steps=1600,
        batch_size=32,
        ema=0.995,
        log_every=25,
        pictures_every=500,
        eval_every=200,
        save_every=100,
    )
