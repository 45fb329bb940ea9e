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

from typing import Any, NamedTuple, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from vasa_jax.audio.log_mel import BANDS, MELS_PER_FRAME
from vasa_jax.motion.conditions import GUIDED, Conditions, empty
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


class Embedded(NamedTuple):
    """Conditions as they enter the transformer. They hold for every noise, so that one computation serves all steps and
    branches of a sampler.

    tokens: (b, 2 K + W + 3, c), those of equation (1) that are no noise and no time, in its order. absent: the same if
    nothing were known. last (b, 6 + z), last_known (b,): the last frame of context, which equation (2) leaves from.
    """

    tokens: Float[Array, "b n c"]
    absent: Float[Array, "b n c"]
    last: Float[Array, "b d"]
    last_known: Bool[Array, " b"]


class Denoiser(nn.Module):
    """H(x_t, t, C) -> x0, all sizes from a config. The result has the dtype of `noisy`."""

    config: MotionConfig

    def setup(self) -> None:
        """Layers and tables, by the names of their parameters."""
        config, dtype = self.config, self.config.compute_dtype
        if config.audio.kind == "mel":
            self.mel_encoder = MelEncoder(config.audio.feature_dim, dtype)
        self.motion_embedding = Dense(config.width, dtype=dtype)
        self.audio_embedding = Dense(config.width, dtype=dtype)
        self.gaze_embedding = TwoLayer(config.width, config.width, dtype)
        self.distance_embedding = TwoLayer(config.width, config.width, dtype)
        self.emotion_embedding = TwoLayer(config.width, config.width, dtype)
        self.time_embedding = TwoLayer(config.ffn, config.width, dtype)
        frames, small = config.context + config.window, nn.initializers.normal(0.02)
        self.positions = self.param("positions", nn.initializers.normal(POSITION_SCALE), (frames, config.width))
        self.types = self.param("types", small, (len(TOKEN_TYPES), config.width))
        self.nulls = self.param("nulls", small, (len(NULLABLE), config.width))
        self.encoder = Encoder(config.num_layers, config.num_heads, config.ffn, dtype)
        self.readout = Dense(config.motion_dim, dtype=dtype)
        if config.anchor:
            self.hold = self.param("hold", _fading, (config.window, config.motion_dim))

    def __call__(
        self, noisy: Float[Array, "b w d"], level: Float[Array, " b"], conditions: Conditions
    ) -> Float[Array, "b w d"]:
        """Predict clean motion.

        Args:
            noisy: normalised motion at `level`, (b, W, 6 + z).
            level: in 0..T.
            conditions: see `Conditions`; values under a False mask may be anything, NaN too.
        """
        return self.denoise(noisy, level, self.embed(conditions))

    def embed(self, conditions: Conditions) -> Embedded:
        """The part of H that depends on nothing but conditions."""
        c, config = conditions, self.config
        audio_mask = jnp.concatenate([c.previous_audio_mask, c.audio_mask], axis=1)
        audio = known(jnp.concatenate([c.previous_audio, c.audio], axis=1), audio_mask)
        previous_motion = known(c.previous_motion, c.previous_motion_mask)
        if config.audio.kind == "mel":
            audio = self.mel_encoder(audio)
        content = [
            self.motion_embedding(previous_motion),
            self.audio_embedding(audio),
            self.gaze_embedding(known(c.gaze, c.gaze_mask) / GAZE_UNIT)[:, None],
            self.distance_embedding(known(c.distance, c.distance_mask) / DISTANCE_UNIT)[:, None],
            self.emotion_embedding(known(c.emotion, c.emotion_mask))[:, None],
        ]
        single = [mask[:, None] for mask in (c.gaze_mask, c.distance_mask, c.emotion_mask)]
        mask = jnp.concatenate([c.previous_motion_mask, audio_mask, *single], axis=1)
        tokens, rows = jnp.concatenate(content, axis=1), _rows(config)
        place = jnp.concatenate([self.positions[: config.context], self.positions, jnp.zeros_like(self.positions[:3])])
        place = (place + self.types[np.array([TOKEN_TYPES.index(NULLABLE[row]) for row in rows])]).astype(tokens.dtype)
        nulls = self.nulls[rows].astype(tokens.dtype)[None]
        return Embedded(
            jnp.where(mask[..., None], tokens, nulls) + place[None],
            jnp.broadcast_to(nulls + place[None], tokens.shape),
            previous_motion[:, -1],
            c.previous_motion_mask[:, -1],
        )

    def denoise(
        self, noisy: Float[Array, "b w d"], level: Float[Array, " b"], embedded: Embedded
    ) -> Float[Array, "b w d"]:
        """H from conditions that were embedded; other arguments as of `__call__`."""
        config, told = self.config, embedded.tokens
        frames = config.context + config.window
        motion = self.motion_embedding(noisy)
        time = self.time_embedding(sinusoids(level, config.width).astype(noisy.dtype))[:, None]
        here = self.positions[config.context :] + self.types[TOKEN_TYPES.index("motion")][None]
        motion = motion + here.astype(motion.dtype)[None]
        time = time + self.types[TOKEN_TYPES.index("time")].astype(time.dtype)[None, None]
        tokens = jnp.concatenate([told[:, : config.context], motion, told[:, config.context :], time], axis=1)
        tokens = self.encoder(tokens)
        if not config.anchor and not config.head_cutoff:
            return self.readout(tokens[:, config.context : frames]).astype(noisy.dtype)
        out = self.readout(tokens[:, :frames]).astype(noisy.dtype)
        if config.head_cutoff:
            out = smooth_head(config.head_cutoff, out)
        last, out = out[:, config.context - 1], out[:, config.context :]
        if config.anchor:
            missed = known(embedded.last - last, embedded.last_known)
            out = out + self.hold.astype(out.dtype)[None] * missed[:, None]  # equation (2)
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


def embed(config: MotionConfig, params: dict[str, Any], conditions: Conditions) -> Embedded:
    """What H needs of conditions, as a plain function of its parameters."""
    return cast(Embedded, Denoiser(config).apply({"params": params}, conditions, method="embed"))


def without(config: MotionConfig, embedded: Embedded, name: str) -> Embedded:
    """The same conditions with one of `GUIDED` unknown. Without "audio" the context keeps its own sound.

    Raises:
        ValueError: another name.
    """
    if name not in GUIDED:
        raise ValueError(f"guidance knows no condition {name!r}; choose among {', '.join(GUIDED)}")
    hidden = (_rows(config) == NULLABLE.index(name))[None, :, None]
    return embedded._replace(tokens=jnp.where(hidden, embedded.absent, embedded.tokens))


def denoise(
    config: MotionConfig,
    params: dict[str, Any],
    noisy: Float[Array, "b w d"],
    level: Float[Array, " b"],
    embedded: Embedded,
) -> Float[Array, "b w d"]:
    """H from conditions that were embedded, as a plain function; arguments as in `Denoiser`."""
    return jnp.asarray(Denoiser(config).apply({"params": params}, noisy, level, embedded, method="denoise"))


def _rows(config: MotionConfig) -> Int[np.ndarray, " n"]:
    """The kind of each token of `Embedded`, as a row of the table of null embeddings."""
    return np.repeat(range(len(NULLABLE)), [config.context, config.context, config.window, 1, 1, 1])
