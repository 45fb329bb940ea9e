"""Stage 1 at paper size, 512x512: 199.38M parameters; a frame costs 309.7 GMAC, 303.2 of them in the decoder.

    vasa-train autoencoder_512 --workdir runs/autoencoder_512 --init-from runs/autoencoder_256

The second part of MegaPortraits' schedule: 300,000 steps of 16 samples, from the weights of `autoencoder_256`, whose
terms and helpers it keeps (the networks are convolutional: every parameter has the same shape). The paper trained for
about a week on four RTX A6000s, with 500,000 clips of real people. The data named here are the synthetic world, so the
file runs as it is, as a check of the code and not as a recipe for real faces. No number is to be expected yet: this
configuration has not been trained. `--dry-run` builds everything abstractly and prints the tables.
"""

import dataclasses

from vasa_jax import config
from vasa_jax.autoencoder.config import paper_model
from vasa_jax.training.config import AutoencoderExperiment


def get_config() -> AutoencoderExperiment:
    """The experiment."""
    half: AutoencoderExperiment = config.load("autoencoder_256")
    objective = dataclasses.replace(half.objective, adversarial_start=0)
    return dataclasses.replace(half, model=paper_model(), objective=objective, steps=300_000, batch_size=16)
