"""Stage 1 of the demo model at 128x128, in every look of the randomised world, with every term of the recipe.

    vasa-train demo_autoencoder_128 --workdir runs/autoencoder_128 --init-from runs/encoders_128

It goes on from `demo_encoders_128`, whose motion encoders stay as they are: they judge what is rendered, and stage 2
can learn their codes meanwhile. The network is that of `demo_autoencoder` (64x64) with one more pooling before the
volume and one more up-sampling behind it: pictures of twice the side, volumes, warps and parameters as they were, so
that its weights start this one, and a frame costs twice as much. The dynamics encoder sees the face at 128x128
pixels, for brows and lip corners move by a few of them. What is dear is done now and then: l_consist and the
canonical volumes in every fourth step, the game in every second one.
"""

import dataclasses

from vasa_jax.autoencoder.augmentation import AugmentationConfig
from vasa_jax.autoencoder.config import demo_model
from vasa_jax.autoencoder.discriminator import DiscriminatorConfig
from vasa_jax.autoencoder.objective import ObjectiveConfig
from vasa_jax.synthetic.looks import Randomisation
from vasa_jax.training.config import (
    AutoencoderExperiment,
    HelperConfig,
    HelpersConfig,
    OptimiserConfig,
    PortraitWorld,
)

WORLD = HelperConfig(weights="world_features")


def get_config() -> AutoencoderExperiment:
    """The experiment."""
    return AutoencoderExperiment(
        model=dataclasses.replace(demo_model(), image_size=128, volume_stride=4, dynamics_size=128),
        objective=ObjectiveConfig(
            l1=0.3,
            gradient=0.3,
            square=10.0,
            change=10.0,
            region_weight=15.0,
            region_reach=1.6,
            perceptual=0.3,
            pose=0.0,
            labels=0.0,
            rendered_labels=0.3,
            contrastive=0.01,
            consistency=0.5,
            canonical=0.05,
            consistency_every=4,
            cross_identity=0.1,
            adversarial=0.01,
            matching=0.1,
            adversarial_start=2000,
            augmentation=AugmentationConfig(crop=0.04, warp=0.01, colour=0.2),
        ),
        helpers=HelpersConfig(perceptual=WORLD, identity=WORLD),
        discriminator=DiscriminatorConfig(width=16, layers=3, scales=2),
        discriminator_optimiser=OptimiserConfig(learning_rate=2e-4, b1=0.5, weight_decay=0.0),
        discriminator_every=2,
        data=PortraitWorld(clips=4000, frames=10, performed=4, poses=2, randomisation=Randomisation(share=0.8)),
        frames_per_sample=4,
        other_frames_per_sample=1,
        optimiser=OptimiserConfig(
            learning_rate=6e-4,
            final_learning_rate=1e-5,
            warmup=200,
            schedule="wsd",
            decay_share=0.25,
            b2=0.99,
            freeze=("autoencoder/(pose_encoder|dynamics_encoder)/.*",),
        ),
        steps=6000,
        batch_size=2,
        ema=0.998,
        log_every=20,
        pictures_every=500,
        eval_every=500,
        judge_every=500,
        save_every=50,
    )
