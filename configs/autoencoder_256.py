"""Stage 1 at paper size, on 256x256 pictures: the first part of MegaPortraits' schedule, with every term on.

    vasa-train autoencoder_256 --workdir runs/autoencoder_256 --dry-run

200,000 steps of 24 samples, then `autoencoder_512` goes on from it. Weights are those that MegaPortraits prints where
it prints them (perceptual 20, face 4, gaze 5, adversarial 1, feature matching 40, contrastive 2); VASA-1 prints none
for its own two terms. The data named here are the synthetic world, and the helper that plays all four parts is the one
that was trained on it; for real faces name records with --data.path, and helpers that have seen photographs
(docs/conversion.md) with --helpers.perceptual.weights and its sisters. No number is to be expected yet: this
configuration has not been trained.
"""

from vasa_jax.autoencoder.config import AutoencoderConfig
from vasa_jax.autoencoder.discriminator import DiscriminatorConfig
from vasa_jax.autoencoder.objective import ObjectiveConfig
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
        model=AutoencoderConfig(image_size=256),
        objective=ObjectiveConfig(
            perceptual=20.0,
            face=4.0,
            gaze=5.0,
            contrastive=2.0,
            consistency=1.0,
            cross_identity=1.0,
            adversarial=1.0,
            matching=40.0,
            adversarial_start=5_000,
        ),
        helpers=HelpersConfig(perceptual=WORLD, face=WORLD, gaze=WORLD, identity=WORLD),
        discriminator=DiscriminatorConfig(scales=3),
        data=PortraitWorld(clips=100_000),
        other_frames_per_sample=1,
        optimiser=OptimiserConfig(learning_rate=2e-4, final_learning_rate=1e-6, b1=0.5, b2=0.999),
        steps=200_000,
        batch_size=24,
        keep_every=20_000,
        export_every=20_000,
    )
