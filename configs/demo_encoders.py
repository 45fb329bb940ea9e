"""The two motion encoders of the bundled demo model, on the labels of the randomised world alone.

    vasa-train demo_encoders --workdir runs/encoders --init-from runs/autoencoder

VASA-1 takes head poses from a network that was trained before. Here it is its own pose encoder, and that of the facial
dynamics learns what is labelled (mouth, lids, gaze, lip corners and brows): nothing is rendered, so a step looks at
many more frames than one of `demo_autoencoder_randomised`, which goes on from here.
"""

import dataclasses

from vasa_jax import config as configs
from vasa_jax.autoencoder.objective import TERMS
from vasa_jax.training.config import AutoencoderExperiment, HelpersConfig, OptimiserConfig


def get_config() -> AutoencoderExperiment:
    """The experiment."""
    whole = configs.load("demo_autoencoder_randomised")
    nothing = dict.fromkeys((term.name for term in TERMS), 0.0)
    return dataclasses.replace(
        whole,
        objective=dataclasses.replace(whole.objective, **nothing | {"pose": 0.03, "labels": 0.05}),
        helpers=HelpersConfig(),
        frames_per_sample=4,
        other_frames_per_sample=0,
        optimiser=OptimiserConfig(
            learning_rate=2e-3,
            final_learning_rate=2e-4,
            warmup=100,
            b2=0.99,
            freeze=("autoencoder/(?!pose_encoder|dynamics_encoder).*",),
        ),
        steps=1500,
        batch_size=16,
        ema=0.98,
        log_every=25,
        judge_every=500,
        pictures_every=1500,
        eval_every=500,
        save_every=100,
    )
