"""JoyVASA's network: a HuBERT of its own, the denoiser, and the learned tokens around them.

Sound of one window goes through the encoder alone, without the windows around it; its 200 frames of features become
100, one a frame of video (25 a second), each the mean of two, and a linear layer makes them as wide as the denoiser.
Before the first window there are learned frames of motion and sound; guidance replaces the sound by a learned null.
"""

import dataclasses

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from vasa_jax.arrays import SAMPLES_PER_FRAME
from vasa_jax.audio.speech import SpeechConfig, SpeechEncoder, pad_audio, resize
from vasa_jax.errors import UserError
from vasa_jax.joyvasa.denoiser import Denoiser


@dataclasses.dataclass(frozen=True, kw_only=True)
class MotionGeneratorConfig:
    """Sizes; the defaults are those of the released weights."""

    motion: int = 73  # numbers of a frame of motion; the first 70 mean something
    window: int = 100  # frames
    previous: int = 10  # frames that a window sees of the one before
    width: int = 256  # of every token of the denoiser
    heads: int = 8
    layers: int = 8
    steps: int = 50  # of diffusion
    speech: SpeechConfig = SpeechConfig()

    def __post_init__(self):
        if self.width % self.heads or self.width % 2:
            raise UserError(f"{self.width=} must be even and a multiple of {self.heads=}")
        if not 1 <= self.previous <= self.window:
            raise UserError(f"{self.previous=} must be between 1 and {self.window=}")


RELEASED = MotionGeneratorConfig()


class MotionGenerator(nn.Module):
    """The whole network; call `apply(variables, ..., method="audio_features" | "denoise")`."""

    config: MotionGeneratorConfig = RELEASED

    def setup(self):
        """Name the parts."""
        config, normal = self.config, nn.initializers.normal(1.0)
        self.audio_encoder = SpeechEncoder(config.speech)
        self.audio_map = nn.Dense(config.width)
        self.denoiser = Denoiser(config.motion, config.width, config.heads, config.layers, config.steps)
        self.start_motion = self.param("start_motion", normal, (1, config.previous, config.motion))
        self.start_audio = self.param("start_audio", normal, (1, config.previous, config.width))
        self.null_audio = self.param("null_audio", normal, (1, 1, config.width))

    def __call__(self, audio: Float[Array, "b n"], x: Float[Array, "b w d"]) -> Float[Array, "b tokens d"]:
        """The first window's prediction from noise at step T; `init` needs it to reach every parameter."""
        batch = len(x)
        motion, previous_audio = (jnp.repeat(token, batch, 0) for token in (self.start_motion, self.start_audio))
        step = jnp.full((batch,), self.config.steps)
        return self.denoise(x, self.audio_features(audio), motion, previous_audio, step, "constant")

    def audio_features(self, audio: Float[Array, "b n"]) -> Float[Array, "b w c"]:
        """Features of one window of sound, one a frame of video.

        Args:
            audio: 640 samples a frame, 64,000 of them: 16 kHz, in [-1, 1], not normalised.

        Raises:
            UserError: sound that is not one window long.
        """
        window = self.config.window
        if audio.shape[1] != window * SAMPLES_PER_FRAME:
            raise UserError(f"{audio.shape[1]} samples are not a window of {window * SAMPLES_PER_FRAME}")
        features = self.audio_encoder(pad_audio(audio), 2 * window)[-1]
        return self.audio_map(resize(features, window))

    def denoise(
        self,
        x: Float[Array, "b w d"],
        audio: Float[Array, "b w c"],
        previous_motion: Float[Array, "b p d"],
        previous_audio: Float[Array, "b p c"],
        step: Int[Array, " b"],
        position_mode: str,
    ) -> Float[Array, "b n d"]:
        """Predict clean motion (x0) of the p previous frames and the window; the last w rows are the window.

        Args:
            x: noisy motion at `step`.
            audio: of `audio_features`.
            previous_motion: clean motion before the window, normalised.
            previous_audio: features before the window.
            step: in 1..T.
            position_mode: "constant", as the released weights were trained, or "per_position".

        Raises:
            UserError: another position mode.
        """
        return self.predict(x, previous_motion, self.cross_attention(audio, previous_audio), step, position_mode)

    def cross_attention(
        self, audio: Float[Array, "b w c"], previous_audio: Float[Array, "b p c"]
    ) -> Float[Array, "l b n c"]:
        """The part of `denoise` that is the same at every step: what the sound adds to the tokens, layer by layer."""
        return self.denoiser.cross_attention(audio, previous_audio)

    def predict(
        self,
        x: Float[Array, "b w d"],
        previous_motion: Float[Array, "b p d"],
        crossed: Float[Array, "l b n c"],
        step: Int[Array, " b"],
        position_mode: str,
    ) -> Float[Array, "b n d"]:
        """`denoise` from the answer of `cross_attention`."""
        return self.denoiser(x, previous_motion, crossed, step, position_mode)
