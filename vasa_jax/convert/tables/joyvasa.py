"""JoyVASA's motion generator: `model` of its checkpoint (the arguments beside it do not describe the network)."""

from vasa_jax.convert.folds import packed_attention
from vasa_jax.convert.network import Network, layer, layer_norm
from vasa_jax.convert.rules import Ignored, Rule
from vasa_jax.convert.tables.speech import encoder_fold, encoder_rules
from vasa_jax.joyvasa.motion_generator import RELEASED, MotionGenerator

_NET, _STACK = "denoising_net", "denoising_net.transformer.layers"
_ATTENTIONS = {"self_attn": "decoder/attention", "multihead_attn": "cross"}


def _motion_generator() -> list[Rule]:
    table = encoder_rules("audio_encoder.", "audio_encoder/") + layer("audio_feature_map", "audio_map")
    table += [Rule(f"{name}_feat", f"params/{name}") for name in ("start_motion", "start_audio", "null_audio")]
    table += layer(f"{_NET}.feature_proj", "denoiser/motion_in")
    for torch, flax in (("diff_step_map", "step"), ("motion_dec", "out")):
        table += layer(f"{_NET}.{torch}.0", f"denoiser/{flax}_inner")
        table += layer(f"{_NET}.{torch}.2", f"denoiser/{flax}_outer")
    for torch, flax in _ATTENTIONS.items():
        for part in ("query", "key", "value"):
            table += layer(f"{_STACK}.{{i}}.{torch}.{part}", f"denoiser/{flax}/{part}")
        table += layer(f"{_STACK}.{{i}}.{torch}.out_proj", f"denoiser/{flax}/out")
    for i, name in ((1, "inner"), (2, "outer")):
        table += layer(f"{_STACK}.{{i}}.linear{i}", f"denoiser/decoder/ffn/{name}")
    for i in (1, 2, 3):
        table += layer_norm(f"{_STACK}.{{i}}.norm{i}", f"denoiser/decoder/norm_{i}")
    return table


NETWORKS = {
    "joyvasa.motion_generator": Network(
        MotionGenerator,
        ((1, 64_000), (1, RELEASED.window, RELEASED.motion)),
        _motion_generator(),
        folds=[
            encoder_fold("audio_encoder."),
            packed_attention(*(f"{_STACK}.{i}.{name}" for i in range(RELEASED.layers) for name in _ATTENTIONS)),
        ],
        ignored=[
            Ignored(f"{_NET}.alignment_mask", "token i sees element i alone: the cross-attention is linear"),
            Ignored(f"{_NET}.{{table}}.pe", "sinusoids of positions and steps are computed"),
            Ignored("diffusion_sched.{name}", "the noise schedule is computed"),
        ],
        inside="model",
    ),
}
