"""HuBERT and wav2vec 2.0 base: state dicts of `HubertModel` and `Wav2Vec2Model` of the transformers package.

A file of a model around them (for recognition, or as it was pre-trained) has their names behind a prefix, and a head.
"""

from vasa_jax.audio.speech import SpeechEncoder
from vasa_jax.convert.folds import Fold, weight_norm
from vasa_jax.convert.network import Network, layer, layer_norm
from vasa_jax.convert.rules import CONVOLUTION_1D, Ignored, Rule, Tensors

_ATTENTION = {"q_proj": "query", "k_proj": "key", "v_proj": "value", "out_proj": "out"}
_FEED_FORWARD = {"intermediate_dense": "inner", "output_dense": "outer"}
_HEADS = ("lm_head.{name}", "quantizer.codevectors", "quantizer.weight_proj.{name}", "project_{which}.{name}")


def encoder_rules(torch: str = "", flax: str = "") -> list[Rule]:
    """The encoder's rows below a torch prefix ("audio_encoder.") and a Flax one ("audio_encoder/")."""
    convolutions, stack = f"{torch}feature_extractor.conv_layers", f"{torch}encoder.layers.{{i}}"
    table = [
        Rule(f"{torch}masked_spec_embed", f"params/{flax}mask"),
        Rule(f"{convolutions}.{{i}}.conv.weight", f"params/{flax}conv_{{i}}/kernel", CONVOLUTION_1D),
    ]
    table += layer_norm(f"{convolutions}.0.layer_norm", f"{flax}conv_norm")
    table += layer_norm(f"{torch}feature_projection.layer_norm", f"{flax}projection_norm")
    table += layer(f"{torch}feature_projection.projection", f"{flax}projection")
    table += layer(f"{torch}encoder.pos_conv_embed.conv", f"{flax}position", CONVOLUTION_1D)
    table += layer_norm(f"{torch}encoder.layer_norm", f"{flax}norm")
    for name, ours in _ATTENTION.items():
        table += layer(f"{stack}.attention.{name}", f"{flax}layers/attention/{ours}")
    for name, ours in _FEED_FORWARD.items():
        table += layer(f"{stack}.feed_forward.{name}", f"{flax}layers/ffn/{ours}")
    table += layer_norm(f"{stack}.layer_norm", f"{flax}layers/attention_norm")
    return table + layer_norm(f"{stack}.final_layer_norm", f"{flax}layers/ffn_norm")


def encoder_fold(torch: str = "") -> Fold:
    """The positional convolution, with a length for every tap."""
    return weight_norm(f"{torch}encoder.pos_conv_embed.conv", axis=2, spelling="new")


def _without_prefix(prefix: str) -> Fold:
    """Names as those of the bare model; they come back bare."""

    def do(tensors: Tensors, _: str) -> None:
        for name in [name for name in tensors if name.startswith(prefix)]:
            tensors[name.removeprefix(prefix)] = tensors.pop(name)

    return Fold(("",), do, lambda tensors, _: None)


NETWORKS = {
    name: Network(
        SpeechEncoder,
        ((1, 1040),),
        encoder_rules(),
        folds=[_without_prefix(f"{name}."), encoder_fold()],
        ignored=[Ignored(head, "a head for pre-training or recognition") for head in _HEADS],
    )
    for name in ("hubert", "wav2vec2")
}
