"""LivePortrait once more, in plain torch functions of a state dict: an oracle for seeds without golden answers.

Written from the published description, on the checkpoint's own names and layouts (channels first); it shares no line
with the Flax modules. It is itself held to the golden answers of the original.
"""

import torch
from torch.nn import functional as F

CONV = {4: F.conv2d, 5: F.conv3d}


def tensors(state):
    return {name: torch.from_numpy(value) for name, value in state.items()}


def conv(w, at, x, **options):
    weight = w[f"{at}.weight"]
    options = {"padding": weight.shape[-1] // 2} | options
    return CONV[weight.ndim](x, weight, w.get(f"{at}.bias"), **options)


def norm(w, at, x):
    parts = (w[f"{at}.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
    return F.batch_norm(x, *parts, training=False, eps=1e-5)


def conv_norm(w, at, x):
    return norm(w, f"{at}.norm", conv(w, f"{at}.conv", x))


def appearance(w, image):
    x = torch.relu(conv_norm(w, "first", image))
    for i in range(2):
        x = F.avg_pool2d(torch.relu(conv_norm(w, f"down_blocks.{i}", x)), 2)
    x = conv(w, "second", x)
    x = x.view(len(x), 32, 16, *x.shape[2:])
    for i in range(6):
        at, y = f"resblocks_3d.3dr{i}", x
        for j in (1, 2):
            y = conv(w, f"{at}.conv{j}", torch.relu(norm(w, f"{at}.norm{j}", y)))
        x = x + y
    return x


def channel_norm(w, at, x):
    last = x.movedim(1, -1)
    return F.layer_norm(last, last.shape[-1:], w[f"{at}.weight"], w[f"{at}.bias"], 1e-6).movedim(-1, 1)


def motion(w, image):
    w = {name.removeprefix("detector."): value for name, value in w.items()}
    x = image
    for stage, depth in enumerate((3, 3, 9, 3)):
        at, stride = f"downsample_layers.{stage}", 4 if stage == 0 else 2
        if stage == 0:
            x = channel_norm(w, f"{at}.1", conv(w, f"{at}.0", x, stride=stride, padding=0))
        else:
            x = conv(w, f"{at}.1", channel_norm(w, f"{at}.0", x), stride=stride, padding=0)
        for i in range(depth):
            at = f"stages.{stage}.{i}"
            y = channel_norm(w, f"{at}.norm", conv(w, f"{at}.dwconv", x, groups=x.shape[1])).movedim(1, -1)
            y = F.gelu(F.linear(y, w[f"{at}.pwconv1.weight"], w[f"{at}.pwconv1.bias"]))
            g = torch.linalg.vector_norm(y, dim=(1, 2), keepdim=True)
            y = w[f"{at}.grn.gamma"] * (y * (g / (g.mean(-1, keepdim=True) + 1e-6))) + w[f"{at}.grn.beta"] + y
            x = x + F.linear(y, w[f"{at}.pwconv2.weight"], w[f"{at}.pwconv2.bias"]).movedim(-1, 1)
    x = F.layer_norm(x.mean((2, 3)), (768,), w["norm.weight"], w["norm.bias"], 1e-6)
    heads = ("pitch", "yaw", "roll", "t", "exp", "scale", "kp")
    return {head: F.linear(x, w[f"fc_{head}.weight"], w[f"fc_{head}.bias"]) for head in heads}


def sample(volume, grid):
    return F.grid_sample(volume, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def warping(w, volume, driving, source):
    net = "dense_motion_network"
    small = torch.relu(norm(w, f"{net}.norm", conv(w, f"{net}.compress", volume)))
    z, y, x = torch.meshgrid(*(torch.arange(n) * 2.0 / (n - 1) - 1 for n in small.shape[2:]), indexing="ij")
    grid = torch.stack([x, y, z], -1)
    spread = (slice(None), slice(None), None, None, None)
    shifts = torch.cat([grid[None, None], grid - driving[spread] + source[spread]], 1)[0]
    moved = sample(small.expand(22, *small.shape[1:]), shifts)
    heat = [torch.exp(-0.5 * (grid - points[spread]).square().sum(-1) / 0.01) for points in (driving, source)]
    heat = torch.cat([torch.zeros_like(heat[0][:, :1]), heat[0] - heat[1]], 1)[0]
    kept = [torch.cat([heat[:, None], moved], 1).flatten(0, 1)[None]]
    for i in range(5):
        step = torch.relu(conv_norm(w, f"{net}.hourglass.encoder.down_blocks.{i}", kept[-1]))
        kept.append(F.avg_pool3d(step, (1, 2, 2)))
    x = kept.pop()
    for i in range(5):
        x = F.interpolate(x, scale_factor=(1, 2, 2))
        x = torch.cat([torch.relu(conv_norm(w, f"{net}.hourglass.decoder.up_blocks.{i}", x)), kept.pop()], 1)
    x = torch.relu(conv_norm(w, f"{net}.hourglass.decoder", x))
    share = torch.softmax(conv(w, f"{net}.mask", x), 1)[0]
    deformation = (share[..., None] * shifts).sum(0)[None]
    occlusion = torch.sigmoid(conv(w, f"{net}.occlusion", x.flatten(1, 2)))
    warped = F.leaky_relu(conv_norm(w, "third", sample(volume, deformation).flatten(1, 2)), 0.01)
    return {"features": conv(w, "fourth", warped) * occlusion, "deformation": deformation, "occlusion": occlusion}


def spectral(w, at, x):
    weight = w[f"{at}.weight_orig"]
    sigma = w[f"{at}.weight_u"] @ weight.flatten(1) @ w[f"{at}.weight_v"]
    return F.conv2d(x, weight / sigma, w.get(f"{at}.bias"), padding=weight.shape[-1] // 2)


def spade(w, at, x, seg):
    seg = F.interpolate(seg, size=x.shape[2:], mode="nearest")
    hidden = torch.relu(conv(w, f"{at}.mlp_shared.0", seg))
    return F.instance_norm(x, eps=1e-5) * (1 + conv(w, f"{at}.mlp_gamma", hidden)) + conv(w, f"{at}.mlp_beta", hidden)


def generator(w, features):
    def block(at, x):
        y = spectral(w, f"{at}.conv_0", F.leaky_relu(spade(w, f"{at}.norm_0", x, features), 0.2))
        y = spectral(w, f"{at}.conv_1", F.leaky_relu(spade(w, f"{at}.norm_1", y, features), 0.2))
        if f"{at}.conv_s.weight_orig" in w:
            x = spectral(w, f"{at}.conv_s", spade(w, f"{at}.norm_s", x, features))
        return x + y

    x = conv(w, "fc", features)
    for i in range(6):
        x = block(f"G_middle_{i}", x)
    for i in range(2):
        x = block(f"up_{i}", F.interpolate(x, scale_factor=2))
    return torch.sigmoid(F.pixel_shuffle(conv(w, "conv_img.0", F.leaky_relu(x, 0.2)), 2))
