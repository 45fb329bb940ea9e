"""Stage 1 of the bundled demo model at 64x64, in every look of the randomised world, with every term of the recipe.

    vasa-train demo_autoencoder_randomised --workdir runs/face --init-from runs/encoders

It goes on from `demo_encoders`, whose motion encoders stay as they are: they judge what is rendered, and stage 2 can
learn their codes meanwhile. Against `demo_autoencoder` the flow fields have cells of half the size, by one up-sampling
more and no parameter. What is dear is done now and then: l_consist and the canonical volumes in every fourth step, the
game in every second one.
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
        model=dataclasses.replace(demo_model(), warp_upsampling=((2, 2, 2), (1, 2, 2), (1, 2, 2), (1, 1, 1))),
        objective=ObjectiveConfig(
            l1=0.3,
            gradient=0.3,
            square=10.0,
            change=20.0,
            region_weight=30.0,
            region_reach=1.6,
            perceptual=0.3,
            pose=0.0,
            labels=0.0,
            rendered_labels=1.5,
            contrastive=0.01,
            consistency=0.5,
            canonical=0.05,
            consistency_every=4,
            cross_identity=0.1,
            adversarial=0.01,
            matching=0.1,
            adversarial_start=1600,
            augmentation=AugmentationConfig(crop=0.04, warp=0.01, colour=0.2),
        ),
        helpers=HelpersConfig(perceptual=WORLD, identity=WORLD),
        discriminator=DiscriminatorConfig(width=16, layers=3, scales=2),
        discriminator_optimiser=OptimiserConfig(learning_rate=2e-4, b1=0.5, weight_decay=0.0),
        discriminator_every=2,
        data=PortraitWorld(clips=2400, frames=10, performed=4, poses=2, randomisation=Randomisation(share=0.5)),
        frames_per_sample=4,
        other_frames_per_sample=1,
        optimiser=OptimiserConfig(
            learning_rate=4e-4,
            final_learning_rate=1e-5,
            warmup=100,
            b2=0.99,
            freeze=("autoencoder/(pose_encoder|dynamics_encoder)/.*",),
        ),
        steps=2400,
        batch_size=4,
        ema=0.995,
        log_every=20,
        pictures_every=500,
        eval_every=500,
        judge_every=500,
        save_every=50,
    )
