"""VGG19 and IResNet against torch itself, at their real sizes, on random weights.

The references are written from the published layouts, with the names of torchvision and of arcface_torch. Both sides
compute in float32; they differ by the order of sums, which gives a few 1e-7 of an output's range for each layer in
depth: the bar of all parity, 1e-5, holds for both whole networks.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch import nn

from tests.parity import fixtures
from tests.parity.agreement import agree
from vasa_jax.checkpoint import flatten
from vasa_jax.convert import convert, to_torch
from vasa_jax.convert.registry import find
from vasa_jax.pretrained import arcface, vgg

COUNTERS = "num_batches_tracked"


class Torchvision(nn.Module):
    """The stack of a VGG with its classifier, whose weights are left out."""

    def __init__(self, blocks=(2, 2, 4, 4, 4), widths=(64, 128, 256, 512, 512)):
        super().__init__()
        layers, before = [], 3
        for count, width in zip(blocks, widths, strict=True):
            for _ in range(count):
                layers += [nn.Conv2d(before, width, 3, padding=1), nn.ReLU()]
                before = width
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Linear(4, 4))

    def forward(self, pictures):
        """What lies behind the first ReLU of every block."""
        mean, deviation = (torch.tensor(x)[:, None, None] for x in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
        x, found, wanted = (pictures - mean) / deviation, [], True
        for layer in self.features:
            x = layer(x)
            if isinstance(layer, nn.ReLU) and wanted:
                found.append(x)
            wanted = isinstance(layer, nn.MaxPool2d) or (wanted and isinstance(layer, nn.Conv2d))
        return found


class Residual(nn.Module):
    """A block of an improved ResNet."""

    def __init__(self, before, width, stride):
        super().__init__()
        self.bn1, self.bn2, self.bn3 = (nn.BatchNorm2d(n) for n in (before, width, width))
        self.conv1 = nn.Conv2d(before, width, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.prelu = nn.PReLU(width)
        skip = nn.Conv2d(before, width, 1, stride, bias=False)
        self.downsample = nn.Sequential(skip, nn.BatchNorm2d(width)) if stride > 1 else None

    def forward(self, x):
        y = self.bn3(self.conv2(self.prelu(self.bn2(self.conv1(self.bn1(x))))))
        return y + (x if self.downsample is None else self.downsample(x))


class IResNet(nn.Module):
    """Of arcface_torch, in its names."""

    def __init__(self, stages):
        super().__init__()
        self.conv1, self.bn1, self.prelu = nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64), nn.PReLU(64)
        before = 64
        for stage, blocks in enumerate(stages):
            width = 64 * 2**stage
            parts = [Residual(width if block else before, width, 1 if block else 2) for block in range(blocks)]
            setattr(self, f"layer{stage + 1}", nn.Sequential(*parts))
            before = width
        self.bn2, self.fc, self.features = nn.BatchNorm2d(512), nn.Linear(512 * 49, 512), nn.BatchNorm1d(512)

    def forward(self, pictures):
        """Four maps, and codes."""
        x = self.prelu(self.bn1(self.conv1((pictures - 0.5) / 0.5)))
        maps = []
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
            maps.append(x)
        return maps, self.features(self.fc(self.bn2(x).flatten(1)))


def random_weights(module, seed):
    """Numbers that reach every branch and keep the variance, in evaluation mode."""
    random = np.random.default_rng(seed)
    state = {}
    for name, leaf in module.state_dict().items():
        shape = tuple(leaf.shape)
        if name.endswith(COUNTERS):
            value = np.asarray(7)
        elif name.endswith("running_var") or (name.endswith("weight") and len(shape) == 1):
            value = random.uniform(0.2, 0.4, shape) if "prelu" in name else random.uniform(0.6, 1.5, shape)
            value = (
                0.5 * value if "bn3" in name and name.endswith("weight") else value
            )  # sums of many blocks stay small
        elif len(shape) == 1:
            value = 0.1 * random.normal(size=shape)
        else:
            value = random.normal(size=shape, scale=np.sqrt(2.0 / np.prod(shape[1:])))
        state[name] = value if name.endswith(COUNTERS) else value.astype(np.float32)
    module.load_state_dict({name: torch.from_numpy(np.asarray(value)) for name, value in state.items()})
    module.eval()
    return state


def channels_first(pictures):
    return torch.from_numpy(np.array(pictures)).permute(0, 3, 1, 2)


def back_again(name, tensors, variables, left_out):
    """What `to_torch` gives has torch's names but for those left out, bit for bit."""
    back = to_torch(name, variables)
    assert set(back) == {key for key in tensors if left_out not in key}
    for key, value in back.items():
        np.testing.assert_array_equal(value, tensors[key])


def test_every_layer_of_vgg19(record_property):
    theirs = Torchvision()
    tensors = random_weights(theirs, 1)
    variables = convert("vgg19", tensors)
    pictures = np.stack([fixtures.image(seed, 64)[0].transpose(1, 2, 0) for seed in (1, 2)])
    with torch.no_grad():
        wanted = theirs(channels_first(pictures))
    with jax.default_matmul_precision("highest"):
        found = jax.jit(lambda v, x: vgg.features(vgg.VGG19, v, x))(variables, jnp.asarray(pictures))
    assert len(found) == len(wanted) == 5
    for name, ours, other in zip(vgg.VGG19.layers, found, wanted, strict=True):
        agree(record_property, f"vgg19 {name}", jnp.moveaxis(ours, -1, 1), other.numpy())
    back_again("vgg19", tensors, variables, "classifier")


def test_vgg16_and_vggface_are_one_network_under_two_names():
    theirs = Torchvision((2, 2, 3, 3, 3), (64, 128, 256, 512, 512))
    numbered = {name: leaf.numpy() for name, leaf in theirs.state_dict().items()}
    kinds = {"weight": 4, "bias": 1}
    places = [f"conv{block}_{i}" for block, count in enumerate((2, 2, 3, 3, 3), 1) for i in range(1, count + 1)]
    named = {}
    for kind, axes in kinds.items():
        leaves = [leaf for name, leaf in numbered.items() if name.startswith("features") and leaf.ndim == axes]
        named |= {f"{place}.{kind}": leaf for place, leaf in zip(places, leaves, strict=True)}
    named |= {"fc6.weight": np.zeros((4, 4)), "fc6.bias": np.zeros(4)}
    jax.tree.map(np.testing.assert_array_equal, convert("vgg16", numbered), convert("vggface", named))


def test_iresnet_50(record_property):
    theirs = IResNet((3, 4, 14, 3))
    tensors = random_weights(theirs, 2)
    variables = convert("arcface.iresnet50", tensors)
    pictures = np.stack([fixtures.image(seed, 112)[0].transpose(1, 2, 0) for seed in (1, 2)])
    with torch.no_grad():
        maps, codes = theirs(channels_first(pictures))
    network = arcface.ArcFace(arcface.IRESNET_50)

    @jax.jit
    def both(v, x):
        return network.apply(v, x, capture_intermediates=lambda module, _: isinstance(module, arcface.Trunk))

    with jax.default_matmul_precision("highest"):
        found, kept = both(variables, jnp.asarray(pictures))
    for stage, (ours, other) in enumerate(zip(kept["intermediates"]["trunk"]["__call__"][0], maps, strict=True), 1):
        agree(record_property, f"iresnet50 stage {stage}", jnp.moveaxis(ours, -1, 1), other.numpy())
    agree(record_property, "iresnet50 code", found, codes.numpy())
    back_again("arcface.iresnet50", tensors, variables, COUNTERS)


@pytest.mark.parametrize("name, stages, millions", [("50", (3, 4, 14, 3), 43.59), ("100", (3, 13, 30, 3), 65.16)])
def test_names_and_shapes_are_arcface_torchs(name, stages, millions):
    """In bytes, so that nothing large is made."""
    with torch.device("meta"):
        theirs = IResNet(stages)
    wanted = {key: tuple(x.shape) for key, x in theirs.state_dict().items() if COUNTERS not in key}
    shapes = find(f"arcface.iresnet{name}").shapes()
    variables = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.int8), shapes)
    assert {key: x.shape for key, x in to_torch(f"arcface.iresnet{name}", variables).items()} == wanted
    total = sum(x.size for x in flatten(variables["params"]).values())
    assert total == sum(x.numel() for x in theirs.parameters())
    np.testing.assert_allclose(total / 1e6, millions, atol=0.01)
