"""The motion transformer H: noisy motion and conditions to clean motion (VASA-1 section 3.2, figure 3b).

Tokens, concatenated along time (124 for K = 10, W = 50):

    [ X_pre (K) | X_t (W) | A_pre (K) | A (W) | gaze | distance | emotion | time ]               (1)

A token is its content's embedding (or a learned null, where the content is unknown) plus one of eight type embeddings;
motion and audio tokens of the same frame also share that frame's position embedding, of index -K..W-1. The W motion
tokens are read out, as x0. Time is one token, without adaptive norms.

What joins windows is ours, and off in a config that does not name it. With `head_cutoff` the tokens of context are read
out too, and the pose of all K + W answers passes the smoother of `motion.smoothing`, which training's targets passed.
With `anchor` the answer at the last frame of context, y_{-1}, is compared with what that frame is known to be, x_{-1},

    x0_k = y_k + h_k (x_{-1} - y_{-1}),        h learned for each frame and component, first exp(-k / 15),       (2)

and where that frame is unknown, nothing is added. What the network misses there it misses at frame 0 too, so a window
leaves from where the last one ended; no loss asks for y_{-1} itself.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from vasa_jax.audio.log_mel import BANDS, MELS_PER_FRAME
from vasa_jax.motion.conditions import Conditions, empty
from vasa_jax.motion.config import MotionConfig
from vasa_jax.motion.smoothing import smooth_head
from vasa_jax.nn.attention import Encoder
from vasa_jax.nn.embedding import TwoLayer, sinusoids
from vasa_jax.nn.gathering import Dense

MEL_CENTRE, MEL_SCALE = -4.0, 4.0
"""Log-mel of speech runs from -11.5 (floor) to about 5: this brings it to -1.9 .. 2.2."""
TOKEN_TYPES = ("previous_motion", "motion", "previous_audio", "audio", "gaze", "distance", "emotion", "time")
"""Kinds of token, in the order of equation (1) and of the table of type embeddings."""
NULLABLE = ("previous_motion", "previous_audio", "audio", "gaze", "distance", "emotion")
"""Kinds of token that can be unknown, in the order of the table of null embeddings."""
POSITION_SCALE = 1.5
"""Deviation of fresh position embeddings. They are what ties a frame's motion to its sound: at the usual 0.02 they
drown in the content. Beside content of deviation 1 a fresh layer, whose queries are its keys, gives a motion token's
own frame of sound about a tenth of its attention instead of an equal share of all tokens."""
GAZE_UNIT, DISTANCE_UNIT = 0.25, 0.2
"""Radians of gaze and log distance that enter the network as 1: about the spread of people who talk to a camera."""

HOLD_FRAMES = 15.0
"""Frames in which a fresh anchor fades to 1/e."""


class Denoiser(nn.Module):
    """H(x_t, t, C) -> x0, all sizes from a config. The result has the dtype of `noisy`."""

    config: MotionConfig

    @nn.compact
    def __call__(
        self, noisy: Float[Array, "b w d"], level: Float[Array, " b"], conditions: Conditions
    ) -> Float[Array, "b w d"]:
        """Predict clean motion.

        Args:
            noisy: normalised motion at `level`, (b, W, 6 + z).
            level: in 0..T.
            conditions: see `Conditions`; values under a False mask may be anything, NaN too.
        """
        config, c, dtype = self.config, conditions, self.config.compute_dtype
        frames, always = config.context + config.window, jnp.ones(noisy.shape[:2], bool)
        motion_mask = jnp.concatenate([c.previous_motion_mask, always], axis=1)
        audio_mask = jnp.concatenate([c.previous_audio_mask, c.audio_mask], axis=1)
        motion = known(jnp.concatenate([c.previous_motion, noisy], axis=1), motion_mask)
        audio = known(jnp.concatenate([c.previous_audio, c.audio], axis=1), audio_mask)
        if config.audio.kind == "mel":
            audio = MelEncoder(config.audio.feature_dim, dtype, name="mel_encoder")(audio)

        def vector(name: str, hidden: int, value: Array) -> Array:
            return TwoLayer(hidden, config.width, dtype, name=f"{name}_embedding")(value)[:, None]

        content = [
            Dense(config.width, dtype=dtype, name="motion_embedding")(motion),
            Dense(config.width, dtype=dtype, name="audio_embedding")(audio),
            vector("gaze", config.width, known(c.gaze, c.gaze_mask) / GAZE_UNIT),
            vector("distance", config.width, known(c.distance, c.distance_mask) / DISTANCE_UNIT),
            vector("emotion", config.width, known(c.emotion, c.emotion_mask)),
            vector("time", config.ffn, sinusoids(level, config.width).astype(noisy.dtype)),
        ]
        single = [mask[:, None] for mask in (c.gaze_mask, c.distance_mask, c.emotion_mask)]
        mask = jnp.concatenate([motion_mask, audio_mask, *single, always[:, :1]], axis=1)

        small = nn.initializers.normal(0.02)
        positions = self.param("positions", nn.initializers.normal(POSITION_SCALE), (frames, config.width))
        types = self.param("types", small, (len(TOKEN_TYPES), config.width))
        nulls = self.param("nulls", small, (len(NULLABLE), config.width))
        kind = np.repeat(range(len(TOKEN_TYPES)), [config.context, config.window] * 2 + [1] * 4)
        row = np.array([NULLABLE.index(name) if name in NULLABLE else 0 for name in TOKEN_TYPES])  # 0 is then unused
        place = jnp.concatenate([positions, positions, jnp.zeros_like(positions[:4])]) + types[kind]
        tokens = jnp.concatenate(content, axis=1)
        tokens = jnp.where(mask[..., None], tokens, nulls[row[kind]].astype(tokens.dtype)[None])
        tokens = tokens + place.astype(tokens.dtype)[None]
        tokens = Encoder(config.num_layers, config.num_heads, config.ffn, dtype, name="encoder")(tokens)
        readout = Dense(config.motion_dim, dtype=dtype, name="readout")
        if not config.anchor and not config.head_cutoff:
            return readout(tokens[:, config.context : frames]).astype(noisy.dtype)
        out = readout(tokens[:, :frames]).astype(noisy.dtype)
        if config.head_cutoff:
            out = smooth_head(config.head_cutoff, out)
        last, out = out[:, config.context - 1], out[:, config.context :]
        if config.anchor:
            hold = self.param("hold", _fading, (config.window, config.motion_dim)).astype(out.dtype)
            missed = known(c.previous_motion[:, -1] - last, c.previous_motion_mask[:, -1])
            out = out + hold[None] * missed[:, None]  # equation (2)
        return out


class MelEncoder(nn.Module):
    """Log-mel of one video frame to features, (b, t, 4, 80) -> (b, t, c). It sees no other frame, so that sound a
    stream has not heard yet reaches nothing but its own, masked, token.
    """

    width: int
    dtype: Any = None

    @nn.compact
    def __call__(self, mel: Float[Array, "b t mels bands"]) -> Float[Array, "b t c"]:
        flat = mel.reshape(*mel.shape[:2], MELS_PER_FRAME * BANDS)
        return TwoLayer(self.width, self.width, self.dtype, name="layers")((flat - MEL_CENTRE) / MEL_SCALE)


def _fading(key: Array, shape: tuple[int, int], dtype: Any = jnp.float32) -> Array:
    """h of equation (2) in a fresh network, exp(-k / HOLD_FRAMES) at frame k."""
    del key
    return jnp.broadcast_to(jnp.exp(-jnp.arange(shape[0], dtype=dtype) / HOLD_FRAMES)[:, None], shape)


def known(value: Float[Array, "*shape"], mask: Array) -> Float[Array, "*shape"]:
    """Zero what is unknown, so that nothing under a mask (NaN labels too) reaches a value or a gradient."""
    return jnp.where(jnp.reshape(mask, mask.shape + (1,) * (value.ndim - mask.ndim)), value, 0)


def initialise(config: MotionConfig, key: Key[Array, ""]) -> dict[str, Any]:
    """Fresh parameters of the denoiser, float32."""
    noisy = jnp.zeros((1, config.window, config.motion_dim))
    return jax.jit(Denoiser(config).init)(key, noisy, jnp.zeros((1,)), empty(config, 1))["params"]


def predict(
    config: MotionConfig,
    params: dict[str, Any],
    noisy: Float[Array, "b w d"],
    level: Float[Array, " b"],
    conditions: Conditions,
) -> Float[Array, "b w d"]:
    """H as a plain function of its parameters; arguments as in `Denoiser`."""
    return jnp.asarray(Denoiser(config).apply({"params": params}, noisy, level, conditions))
