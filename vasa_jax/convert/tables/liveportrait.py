"""LivePortrait: four plain state dicts, and one file that holds the three correctors."""

from functools import partial

from vasa_jax.convert.folds import joined, spectral_norm
from vasa_jax.convert.network import Network, batch_norm, counters, layer, layer_norm
from vasa_jax.convert.rules import CONVOLUTION_2D, CONVOLUTION_3D, Rule
from vasa_jax.liveportrait.appearance import AppearanceFeatureExtractor
from vasa_jax.liveportrait.generator import SpadeGenerator
from vasa_jax.liveportrait.motion_extractor import HEADS, MotionExtractor
from vasa_jax.liveportrait.stitching import RETARGET_EYE, RETARGET_LIP, STITCHING, Corrector
from vasa_jax.liveportrait.warping import WarpingModule

_IMAGE = (1, 256, 256, 3)


def _convolution_norm(torch: str, flax: str, transform=CONVOLUTION_2D) -> list[Rule]:
    return layer(f"{torch}.conv", f"{flax}/conv", transform) + batch_norm(f"{torch}.norm", f"{flax}/norm")


def _appearance() -> list[Rule]:
    block = "resblocks_3d.3dr{i}", "resblocks_{i}"
    table = _convolution_norm("first", "first") + _convolution_norm("down_blocks.{i}", "down_blocks_{i}")
    table += layer("second", "second", CONVOLUTION_2D)
    for i in (1, 2):
        table += layer(f"{block[0]}.conv{i}", f"{block[1]}/conv{i}", CONVOLUTION_3D)
        table += batch_norm(f"{block[0]}.norm{i}", f"{block[1]}/norm{i}")
    return table


def _motion() -> list[Rule]:
    block = "detector.stages.{i}.{j}", "stages_{i}_{j}"
    table = layer(f"{block[0]}.dwconv", f"{block[1]}/dwconv", CONVOLUTION_2D)
    table += layer_norm(f"{block[0]}.norm", f"{block[1]}/norm")
    table += [Rule(f"{block[0]}.grn.{{name}}", f"params/{block[1]}/grn/{{name}}")]
    for name in ("pwconv1", "pwconv2"):
        table += layer(f"{block[0]}.{name}", f"{block[1]}/{name}")
    for i in range(4):  # the first convolution comes before its norm, the others behind
        places = ("conv", "norm") if i == 0 else ("norm", "conv")
        for place, name in enumerate(places):
            torch, flax = f"detector.downsample_layers.{i}.{place}", f"downsample_{i}_{name}"
            table += layer(torch, flax, CONVOLUTION_2D) if name == "conv" else layer_norm(torch, flax)
    table += layer_norm("detector.norm", "norm")
    for name in HEADS:
        table += layer(f"detector.fc_{name}", f"fc_{name}")
    return table


def _warping() -> list[Rule]:
    dense, hourglass = "dense_motion_network", "dense_motion_network.hourglass"
    block = partial(_convolution_norm, transform=CONVOLUTION_3D)
    table = block(f"{hourglass}.encoder.down_blocks.{{i}}", "hourglass/down_{i}")
    table += block(f"{hourglass}.decoder.up_blocks.{{i}}", "hourglass/up_{i}")
    table += block(f"{hourglass}.decoder", "hourglass/out")
    table += layer(f"{dense}.compress", "compress", CONVOLUTION_3D) + batch_norm(f"{dense}.norm", "compress_norm")
    table += layer(f"{dense}.mask", "mask", CONVOLUTION_3D) + layer(f"{dense}.occlusion", "occlusion", CONVOLUTION_2D)
    return table + _convolution_norm("third", "third") + layer("fourth", "fourth", CONVOLUTION_2D)


_BLOCKS = {f"G_middle_{i}": f"middle_{i}" for i in range(6)} | {f"up_{i}": f"up_{i}" for i in range(2)}


def _norms(block: str) -> tuple[str, ...]:
    return ("norm_0", "norm_1", "norm_s") if block.startswith("up") else ("norm_0", "norm_1")


def _generator() -> list[Rule]:
    table = layer("fc", "fc", CONVOLUTION_2D) + layer("conv_img.0", "out", CONVOLUTION_2D)
    for torch, flax in _BLOCKS.items():
        for i in range(2):
            table += layer(f"{torch}.conv_{i}", f"{flax}/conv_{i}", CONVOLUTION_2D)
        if "norm_s" in _norms(torch):
            table += [Rule(f"{torch}.conv_s.weight", f"params/{flax}/conv_s/kernel", CONVOLUTION_2D)]
        for norm in _norms(torch):
            shared = f"{torch}.{norm}.mlp_shared.0", f"params/{flax}/{norm}/shared"
            table += [
                Rule(f"{shared[0]}.weight", f"{shared[1]}_kernel", CONVOLUTION_2D),
                Rule(f"{shared[0]}.bias", f"{shared[1]}_bias"),
                *layer(f"{torch}.{norm}.modulation", f"{flax}/{norm}/modulation", CONVOLUTION_2D),
            ]
    return table


_NORMALISED = [f"{block}.conv_{i}" for block in _BLOCKS for i in ("0", "1", "s")[: len(_norms(block))]]
_SPADES = [f"{block}.{norm}" for block in _BLOCKS for norm in _norms(block)]


def _corrector(widths: tuple[int, ...], inputs: int, inside: str) -> Network:
    table = [rule for i in range(len(widths)) for rule in layer(f"mlp.{2 * i}", f"layers_{i}")]
    return Network(partial(Corrector, widths), ((1, inputs),), table, inside=inside)


NETWORKS = {
    "liveportrait.appearance_feature_extractor": Network(
        AppearanceFeatureExtractor,
        (_IMAGE,),
        _appearance(),
        ignored=counters("first.norm", "down_blocks.{i}.norm", "resblocks_3d.{i}.norm1", "resblocks_3d.{i}.norm2"),
    ),
    "liveportrait.motion_extractor": Network(MotionExtractor, (_IMAGE,), _motion()),
    "liveportrait.warping_module": Network(
        WarpingModule,
        ((1, 16, 64, 64, 32), (1, 21, 3), (1, 21, 3)),
        _warping(),
        ignored=counters(
            "third.norm",
            "dense_motion_network.norm",
            "dense_motion_network.hourglass.decoder.norm",
            "dense_motion_network.hourglass.{part}.{blocks}.{i}.norm",
        ),
    ),
    "liveportrait.spade_generator": Network(
        SpadeGenerator,
        ((1, 64, 64, 256),),
        _generator(),
        folds=[spectral_norm(*_NORMALISED), joined(("mlp_gamma", "mlp_beta"), "modulation", *_SPADES)],
    ),
    "liveportrait.stitching": _corrector(STITCHING, 126, "retarget_shoulder"),
    "liveportrait.retarget_lip": _corrector(RETARGET_LIP, 65, "retarget_mouth"),
    "liveportrait.retarget_eye": _corrector(RETARGET_EYE, 66, "retarget_eye"),
}
