"""The feature network that helps stage 1 on the synthetic world: perceptual, face, gaze and identity helper.

    vasa-train world_features --workdir runs/features

About 35 minutes of one CPU core, after four minutes in which 5000 people are drawn in four pictures each. The numbers
to expect are in `vasa_jax/models/world_features/model_card.md`.
"""

from vasa_jax.training.config import FeaturesExperiment, OptimiserConfig, PeopleWorld


def get_config() -> FeaturesExperiment:
    """The experiment."""
    return FeaturesExperiment(
        data=PeopleWorld(clips=5000, frames=4, validation_clips=64),
        optimiser=OptimiserConfig(learning_rate=2e-3, final_learning_rate=2e-5, warmup=50, b2=0.99),
        steps=6000,
        batch_size=6,
        ema=0.99,
        log_every=50,
        pictures_every=1000,
        eval_every=250,
        save_every=250,
    )
