"""Stage 1 of the bundled demo model, fitted to the codes of `demo_encoders`, in every look of the randomised world.

    vasa-train demo_autoencoder_randomised --workdir runs/face --init-from runs/encoders

The motion encoders stay as they are: they judge what is rendered, and stage 2 can learn their codes meanwhile. The run
is short, for the rest of the network knows pictures already and learns only what the codes have come to mean: a longer
one blurred plain faces more (docs/training.md). l_consist and the game are left out for their cost.
"""

from vasa_jax.autoencoder.augmentation import AugmentationConfig
from vasa_jax.autoencoder.config import demo_model
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
        model=demo_model(),
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
            consistency=0.0,
            canonical=0.0,
            cross_identity=0.1,
            augmentation=AugmentationConfig(crop=0.04, warp=0.01, colour=0.2),
        ),
        helpers=HelpersConfig(perceptual=WORLD, identity=WORLD),
        data=PortraitWorld(clips=2400, frames=10, performed=4, poses=2, randomisation=Randomisation(share=0.5)),
        frames_per_sample=4,
        other_frames_per_sample=1,
        optimiser=OptimiserConfig(
            learning_rate=3e-4,
            final_learning_rate=1e-5,
            warmup=20,
            b2=0.99,
            freeze=("autoencoder/(pose_encoder|dynamics_encoder)/.*",),
        ),
        steps=300,
        batch_size=4,
        ema=0.995,
        log_every=20,
        pictures_every=300,
        eval_every=300,
        judge_every=300,
        save_every=50,
    )
