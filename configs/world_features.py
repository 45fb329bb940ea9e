"""The feature network that helps stage 1 on the synthetic world."""

from vasa_jax.training.config import FeaturesExperiment, OptimiserConfig, PeopleWorld


def get_config() -> FeaturesExperiment:
    """The experiment."""
    return FeaturesExperiment(
        data=PeopleWorld(clips=5000, frames=4, validation_clips=64),
        optimiser=OptimiserConfig(learning_rate=2e-3, final_learning_rate=2e-5, warmup=50, b2=0.99),
        steps=1200,
        batch_size=6,
        ema=0.99,
        log_every=50,
        pictures_every=1000,
        eval_every=250,
        save_every=250,
    )
