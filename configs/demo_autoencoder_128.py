"""Stage 1 of the demo model at 128x128."""

import dataclasses

from vasa_jax.autoencoder.augmentation import AugmentationConfig
from vasa_jax.autoencoder.config import demo_model
from vasa_jax.autoencoder.objective import ObjectiveConfig
from vasa_jax.training.config import AutoencoderExperiment, OptimiserConfig, PortraitWorld


def get_config() -> AutoencoderExperiment:
    """The experiment."""
    return AutoencoderExperiment(
        model=dataclasses.replace(demo_model(), image_size=128),
        objective=ObjectiveConfig(
            l1=0.3,
            gradient=0.3,
            square=10.0,
            change=10.0,
            region_weight=30.0,
            pose=0.03,
            labels=0.05,
            rendered_labels=0.02,
            contrastive=0.01,
            consistency=0.0,
            canonical=0.0,
            augmentation=AugmentationConfig(crop=0.04, warp=0.01, colour=0.2),
        ),
        data=PortraitWorld(clips=2400, frames=10, performed=4, poses=2),
        frames_per_sample=4,
        optimiser=OptimiserConfig(learning_rate=6e-4, final_learning_rate=1e-5, warmup=100, b2=0.99),
        steps=15000,
        batch_size=2,
        ema=0.997,
        log_every=5,
        pictures_every=500,
        eval_every=500,
        judge_every=500,
        save_every=500,
    )
