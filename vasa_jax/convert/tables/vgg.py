"""VGG's convolutions: torchvision's `vgg19` and `vgg16`, and VGGFace under the names of its Caffe layers."""

from vasa_jax.convert.network import Network, layer
from vasa_jax.convert.rules import CONVOLUTION_2D, Ignored, Rule
from vasa_jax.pretrained.vgg import VGG, VGG16, VGG19, VGGFACE, VGGConfig


def _numbered(config: VGGConfig) -> list[Rule]:
    """`features.N`, where a convolution, its ReLU and every maximum have a number each."""
    table, place = [], 0
    for block, count in enumerate(config.blocks, 1):
        for convolution in range(1, count + 1):
            table += layer(f"features.{place}", f"conv{block}_{convolution}", CONVOLUTION_2D)
            place += 2
        place += 1
    return table


def _network(config: VGGConfig, rules: list[Rule], classifier: str) -> Network:
    ignored = [Ignored(f"{classifier}.{kind}", "the classifier") for kind in ("weight", "bias")]
    side = 2 ** (len(config.blocks) - 1)
    return Network(lambda: VGG(config), ((1, side, side, 3),), rules, ignored=ignored)


_NAMED = layer("conv{block}_{i}", "conv{block}_{i}", CONVOLUTION_2D)

NETWORKS = {
    "vgg16": _network(VGG16, _numbered(VGG16), "classifier.{i}"),
    "vgg19": _network(VGG19, _numbered(VGG19), "classifier.{i}"),
    "vggface": _network(VGGFACE, _NAMED, "fc{i}"),
}
