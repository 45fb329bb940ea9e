"""JoyVASA's motion generator (Cao et al. 2024, arXiv 2411.09209): from sound to LivePortrait's motion, public weights.

A window of 4 s of sound becomes 100 frames of motion by 50 steps of diffusion, windows are chained by ten frames, and a
template turns the normalised motion into LivePortrait's::

    noise = gaussian_noise(jax.random.key(0))
    motion = smooth(denormalise(generate(variables, audio, noise), template))
"""

from vasa_jax.joyvasa.denoiser import POSITION_MODES
from vasa_jax.joyvasa.motion_generator import MotionGenerator, MotionGeneratorConfig
from vasa_jax.joyvasa.sampling import sample
from vasa_jax.joyvasa.template import FaceMotion, denormalise, smooth
from vasa_jax.joyvasa.windows import Noise, gaussian_noise, generate, next_window, split_audio, start

__all__ = [
    "POSITION_MODES",
    "FaceMotion",
    "MotionGenerator",
    "MotionGeneratorConfig",
    "Noise",
    "denormalise",
    "gaussian_noise",
    "generate",
    "next_window",
    "sample",
    "smooth",
    "split_audio",
    "start",
]
