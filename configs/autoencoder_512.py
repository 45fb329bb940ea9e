"""Stage 1 at paper size, 512x512: 199.38M parameters; a frame costs 309.7 GMAC, 303.2 of them in the decoder.

    vasa-train autoencoder_512 --workdir runs/autoencoder_512 --dry-run

The dry run builds everything abstractly and prints the tables. The paper trained for about a week on four RTX A6000s,
with 500,000 clips of real people; MegaPortraits' schedule is 200,000 steps of 24 samples at 256x256, then 300,000 of 16
at 512x512. The data named here are the synthetic world at 512x512, so the file runs as it is, as a check of the code
and not as a recipe for real faces. No number is to be expected yet: this configuration has not been trained.
"""

from vasa_jax.autoencoder.config import paper_model
from vasa_jax.training.config import AutoencoderExperiment, OptimiserConfig, PortraitWorld


def get_config() -> AutoencoderExperiment:
    """The experiment."""
    return AutoencoderExperiment(
        model=paper_model(),
        data=PortraitWorld(clips=100_000),
        optimiser=OptimiserConfig(learning_rate=2e-4, final_learning_rate=1e-6, b1=0.5, b2=0.999),
        steps=300_000,
        batch_size=16,
    )
