"""Our own two networks, in torch's words: those of the plain torch mirror in `tests/parity/against_torch`.

Blocks in a row are numbered (`decoder.blocks.0`; equal ones are stacked here), maps of two layers are `Sequential`s,
and the transformer has the names of `torch.nn.TransformerEncoder`, whose packed `in_proj` is our `qkv`. One table
serves every size: the numbers are placeholders.
"""

import dataclasses

import jax

from vasa_jax.autoencoder.config import AutoencoderConfig, paper_model
from vasa_jax.autoencoder.model import Autoencoder
from vasa_jax.convert.network import Family, Network, layer, layer_norm
from vasa_jax.convert.rules import CONVOLUTION_2D, CONVOLUTION_3D, LINEAR, Rule, Transform
from vasa_jax.motion.conditions import empty
from vasa_jax.motion.config import MotionConfig
from vasa_jax.motion.denoiser import Denoiser


def _block(torch: str, flax: str, transform: Transform, adaptive: bool = False) -> list[Rule]:
    """A residual block, the layer on its skip included."""
    norm = f"{torch}.norm_{{j}}", f"{flax}/norm_{{j}}"
    table = layer(f"{norm[0]}.style", f"{norm[1]}/style") if adaptive else layer_norm(*norm)
    table += layer(f"{torch}.conv_{{j}}", f"{flax}/conv_{{j}}", transform)
    return table + layer(f"{torch}.skip", f"{flax}/skip", transform)


def _output(torch: str, flax: str, transform: Transform) -> list[Rule]:
    """The end of a stack."""
    return layer_norm(f"{torch}.norm", f"{flax}/norm") + layer(f"{torch}.conv", f"{flax}/conv", transform)


def _resnet_block(torch: str, flax: str) -> list[Rule]:
    """A block of a ResNet, the layers on its skip included."""
    kernel = Rule(f"{torch}.conv_{{j}}.weight", f"params/{flax}/conv_{{j}}/kernel", CONVOLUTION_2D)
    return [kernel, *layer_norm(f"{torch}.norm_{{j}}", f"{flax}/norm_{{j}}")]


def _autoencoder() -> list[Rule]:
    first = "{encoder}.resnet.stages.{s}.0", "{encoder}/resnet/stage_{s}_first"
    rest = "{encoder}.resnet.stages.{s}.{i}", "{encoder}/resnet/stage_{s}_rest"
    table = [
        *layer("appearance.stem", "appearance/stem", CONVOLUTION_2D),
        *_block("appearance.blocks.{i}", "appearance/block_{i}", CONVOLUTION_2D),
        *layer_norm("appearance.norm", "appearance/norm"),
        *layer("appearance.to_volume", "appearance/to_volume", CONVOLUTION_2D),
        *_block("appearance.volume_blocks.{i}", "appearance/volume_blocks", CONVOLUTION_3D),
        Rule("{encoder}.resnet.stem.weight", "params/{encoder}/resnet/stem/kernel", CONVOLUTION_2D),
        *layer_norm("{encoder}.resnet.stem_norm", "{encoder}/resnet/stem_norm"),
        *_resnet_block(*first),
        *(dataclasses.replace(rule, first=1) for rule in _resnet_block(*rest)),
        *layer("identity.head", "identity/head", CONVOLUTION_2D),
        *layer("{kind}_encoder.head", "{kind}_encoder/head"),
        *layer("projection", "projection"),
        *_block("canonical.{name}", "canonical/{name}", CONVOLUTION_3D),
        *_output("canonical.output", "canonical/output", CONVOLUTION_3D),
        *layer("decoder.from_volume", "decoder/from_volume", CONVOLUTION_2D),
        *_block("decoder.blocks.{i}", "decoder/blocks", CONVOLUTION_2D),
        *_block("decoder.up.{i}", "decoder/up_{i}", CONVOLUTION_2D),
        *_output("decoder.output", "decoder/output", CONVOLUTION_2D),
    ]
    for warp in ("canonical_warp", "driven_warp"):
        table += layer(f"{warp}.start", f"{warp}/start", CONVOLUTION_2D)
        table += _block(f"{warp}.blocks.{{i}}", f"{warp}/block_{{i}}", CONVOLUTION_3D, adaptive=True)
        table += _output(f"{warp}.output", f"{warp}/output", CONVOLUTION_3D)
    return table


def _two_layer(torch: str, flax: str) -> list[Rule]:
    """Linear, SiLU, Linear."""
    return layer(f"{torch}.0", f"{flax}/inner") + layer(f"{torch}.2", f"{flax}/outer")


def _motion() -> list[Rule]:
    table = [Rule(name, f"params/{name}") for name in ("positions", "types", "nulls", "hold")]
    for name in ("motion_embedding", "audio_embedding", "readout"):
        table += layer(name, name)
    table += _two_layer("{kind}_embedding", "{kind}_embedding") + _two_layer("mel_encoder", "mel_encoder/layers")
    torch, flax = "encoder.layers.{i}", "encoder/blocks"
    table += layer_norm(f"{torch}.norm1", f"{flax}/attention_norm") + layer_norm(f"{torch}.norm2", f"{flax}/ffn_norm")
    table += [
        Rule(f"{torch}.self_attn.in_proj_weight", f"params/{flax}/attention/qkv/kernel", LINEAR),
        Rule(f"{torch}.self_attn.in_proj_bias", f"params/{flax}/attention/qkv/bias"),
    ]
    table += layer(f"{torch}.self_attn.out_proj", f"{flax}/attention/out")
    table += layer(f"{torch}.linear1", f"{flax}/ffn_in") + layer(f"{torch}.linear2", f"{flax}/ffn_out")
    return table + layer_norm("encoder.norm", "encoder/norm")


def autoencoder(config: AutoencoderConfig) -> Network:
    """Stage 1 of a size."""
    image = (1, config.image_size, config.image_size, 3)
    return Network(lambda: Autoencoder(config), (image, image), _autoencoder())


def motion(config: MotionConfig) -> Network:
    """Stage 2 of a size."""
    noisy = (1, config.window, config.motion_dim)
    conditions = jax.eval_shape(lambda: empty(config, 1))
    return Network(lambda: Denoiser(config), (noisy, (1,), conditions), _motion())


NETWORKS = {"vasa.autoencoder": Family(paper_model(), autoencoder), "vasa.motion": Family(MotionConfig(), motion)}
