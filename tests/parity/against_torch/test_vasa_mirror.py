"""Our own two networks against a mirror in plain torch: outputs, weights there and back, and ten steps of training."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from jax.flatten_util import ravel_pytree

from tests.motion.tiny import ANCHORED
from tests.parity.against_torch import mirror_autoencoder, mirror_motion
from tests.parity.agreement import agree
from tests.tiny import AUTOENCODER as TINY_AUTOENCODER
from vasa_jax.arrays import EMOTIONS, Motion
from vasa_jax.audio.front_end import AudioEncoderConfig
from vasa_jax.autoencoder.config import demo_model as demo_autoencoder
from vasa_jax.autoencoder.losses import contrastive, multi_scale_l1
from vasa_jax.checkpoint import flatten, unflatten
from vasa_jax.convert import build, convert, to_torch
from vasa_jax.convert.registry import find
from vasa_jax.motion.conditions import Conditions, audio_shape
from vasa_jax.motion.config import demo_model as demo_motion
from vasa_jax.nn import convolution
from vasa_jax.training.config import OptimiserConfig
from vasa_jax.training.optimiser import make_optimiser

TRAINING_BAR = 1e-9
STEPS = 10
OPTIMISER = OptimiserConfig(learning_rate=1e-4, final_learning_rate=1e-5, warmup=4, weight_decay=0.1)
"""At ten times the rate, a change of 1e-15 in the first weights moves the last losses of torch alone by 4e-8."""
MIRRORS = {"vasa.autoencoder": mirror_autoencoder.Autoencoder, "vasa.motion": mirror_motion.Denoiser}


@functools.cache
def shapes_of(name, config):
    """The tree of variables; tracing the autoencoder takes seconds."""
    return find(name, config).shapes()


def random_variables(name, config, dtype=np.float32):
    """Every leaf random, also those that start at zero; kernels keep the scale of their input."""
    random = np.random.default_rng(3)

    def draw(path, leaf):
        x = random.standard_normal(leaf.shape)
        kind = path[-1].key
        x = x / math.sqrt(math.prod(leaf.shape[:-1])) if kind == "kernel" else 0.3 * x
        return (1 + x if kind == "scale" else x).astype(dtype)

    return jax.tree_util.tree_map_with_path(draw, shapes_of(name, config))


def mirror(name, config, variables):
    """The mirror with converted weights, loaded strictly."""
    module = MIRRORS[name](config)
    tensors = {key: torch.from_numpy(x) for key, x in to_torch(name, variables).items()}
    module.to(next(iter(tensors.values())).dtype).load_state_dict(tensors, strict=True)
    return module


def first(x):
    """Channels last to torch's channels first."""
    return torch.from_numpy(np.moveaxis(np.asarray(x), -1, 1).copy())


def last(x):
    return np.moveaxis(x.detach().numpy(), 1, -1)


def pictures(count, size, dtype=np.float32):
    """Smooth random pictures, each its own, in 0..1."""
    coarse = torch.from_numpy(np.random.default_rng(1).uniform(size=(count, 3, 6, 6)))
    fine = torch.nn.functional.interpolate(coarse, (size, size), mode="bicubic").clamp(0, 1)
    return last(fine).astype(dtype)


def test_every_method_of_the_autoencoder_agrees(record_property):
    config = demo_autoencoder()
    variables = random_variables("vasa.autoencoder", config)
    for x in variables["params"]["pose_encoder"]["head"].values():
        x *= 0.2  # heads turn less than random numbers
    model, theirs = build("vasa.autoencoder", config), mirror("vasa.autoencoder", config, variables)
    image = pictures(2, config.image_size)
    crop = pictures(2, config.dynamics_size)[::-1].copy()
    random = np.random.default_rng(4)
    given = Motion(*(0.3 * random.standard_normal((2, n), np.float32) for n in (6, config.dynamics_dim)))
    many = Motion(*(0.3 * random.standard_normal((4, n), np.float32) for n in (6, config.dynamics_dim)))

    @jax.jit
    def run(variables, image, crop, given, many):
        call = functools.partial(model.apply, variables)
        known = call(image, given, method="encode")
        return {
            "pose": call(image, method="pose"),
            "dynamics": call(crop, method="dynamics"),
            "motion": call(image, method="motion").dynamics,
            "identity": known.identity,
            "encode, given motion": known.volume,
            "encode": call(image, method="encode").volume,
            "drive": call(known, many, method="drive"),
            "render": call(known, many, method="render"),
        }

    with jax.default_matmul_precision("highest"):
        ours = run(variables, image, crop, given, many)
    with torch.no_grad():
        x, motion = first(image), Motion(*map(torch.from_numpy, given))
        portrait, driven = theirs.encode(x, motion), Motion(*map(torch.from_numpy, many))
        expected = {
            "pose": theirs.pose(x).numpy(),
            "dynamics": theirs.dynamics(first(crop)).numpy(),
            "motion": theirs.motion(x).dynamics.numpy(),
            "identity": last(portrait.identity),
            "encode, given motion": last(portrait.volume),
            "encode": last(theirs.encode(x).volume),
            "drive": last(theirs.drive(portrait, driven)),
            "render": last(theirs.render(portrait, driven)),
        }
    for name in expected:
        agree(record_property, f"vasa.autoencoder demo {name}", ours[name], expected[name])


def conditions_of(config, dtype, seed):
    """Random conditions, each known now and then; labels that are not known are NaN."""
    random = np.random.default_rng(seed)
    frame, batch = audio_shape(config), 3
    shapes = {
        "previous_motion": (config.context, config.motion_dim),
        "previous_audio": (config.context, *frame),
        "audio": (config.window, *frame),
        "gaze": (2,),
        "distance": (1,),
        "emotion": (len(EMOTIONS),),
    }
    values = {}
    for name, shape in shapes.items():
        value = random.standard_normal((batch, *shape)).astype(dtype)
        mask = random.uniform(size=value.shape[: 1 if len(shape) == 1 else 2]) < 0.6
        values |= {name: np.where(mask.reshape(*mask.shape, *(1,) * (value.ndim - mask.ndim)), value, np.nan)}
        values |= {f"{name}_mask": mask}
    x = random.standard_normal((2, batch, config.window, config.motion_dim)).astype(dtype)
    level = (random.uniform(size=batch) * config.timesteps).astype(dtype)
    return x[0], x[1], level, Conditions(**values)


@pytest.mark.parametrize(
    "config", [dataclasses.replace(ANCHORED, audio=AudioEncoderConfig(block=1)), demo_motion()], ids=["tiny", "demo"]
)
def test_the_denoiser_agrees(config, record_property, request):
    variables = random_variables("vasa.motion", config)
    model, theirs = build("vasa.motion", config), mirror("vasa.motion", config, variables)
    _, noisy, level, conditions = conditions_of(config, np.float32, 5)
    with jax.default_matmul_precision("highest"):
        ours = jax.jit(model.apply)(variables, noisy, level, conditions)
    with torch.no_grad():
        told = Conditions(*map(torch.from_numpy, conditions))
        expected = theirs(torch.from_numpy(noisy), torch.from_numpy(level), told).numpy()
    agree(record_property, f"vasa.motion {request.node.callspec.id} denoise", ours, expected)


@pytest.mark.parametrize(
    ("name", "config"), [("vasa.autoencoder", TINY_AUTOENCODER), ("vasa.motion", ANCHORED)], ids=MIRRORS
)
def test_a_state_dict_comes_back_bit_for_bit(name, config):
    """The other direction is in `tests/convert/test_vasa_tables.py`."""
    random = np.random.default_rng(6)
    state = MIRRORS[name](config).state_dict()
    tensors = {key: random.standard_normal(x.shape, np.float32) for key, x in state.items()}
    back = to_torch(name, convert(name, tensors, config))
    assert set(back) == set(tensors)
    for key, x in back.items():
        np.testing.assert_array_equal(x, tensors[key])


def rate(step):
    """The learning rate of `vasa_jax.training.optimiser`, rewritten."""
    high, low = OPTIMISER.learning_rate, OPTIMISER.final_learning_rate
    cosine = low + 0.5 * (high - low) * (1 + math.cos(math.pi * step / STEPS))
    return cosine * min(1, (step + 1) / OPTIMISER.warmup)


def train_ours(loss, variables, batches):
    """Losses and parameters after a step on each batch, by the optimiser of the package.

    It gets all kernels as one vector and the rest as another: to AdamW that is the same, and it compiles sooner.
    """
    leaves = flatten(variables["params"])
    kernels = {path: x for path, x in leaves.items() if path.endswith("kernel")}
    kernel, of_kernel = ravel_pytree(kernels)
    rest, of_rest = ravel_pytree({path: x for path, x in leaves.items() if path not in kernels})
    optimiser = make_optimiser(OPTIMISER, STEPS)

    def tree(vectors):
        return unflatten(of_kernel(vectors["kernel"]) | of_rest(vectors["rest"]))

    @jax.jit
    def step(vectors, state, batch):
        value, gradients = jax.value_and_grad(lambda vectors: loss(tree(vectors), batch))(vectors)
        updates, state = optimiser.update(gradients, state, vectors)
        return optax.apply_updates(vectors, updates), state, value

    vectors, losses = {"kernel": kernel, "rest": rest}, []
    state = optimiser.init(vectors)
    for batch in batches:
        vectors, state, value = step(vectors, state, batch)
        assert value.dtype == jnp.float64
        losses.append(float(value))
    return losses, {"params": jax.device_get(tree(vectors))}


def train_theirs(loss, module, batches):
    """The same with torch's AdamW, which decays what Flax calls kernels."""
    named = list(module.named_parameters())
    kernels = [x for name, x in named if x.ndim > 1 and name.endswith("weight")]
    others = [x for name, x in named if not (x.ndim > 1 and name.endswith("weight"))]
    optimiser = torch.optim.AdamW(
        [{"params": kernels, "weight_decay": OPTIMISER.weight_decay}, {"params": others, "weight_decay": 0.0}],
        betas=(OPTIMISER.b1, OPTIMISER.b2),
    )
    losses = []
    for step, batch in enumerate(batches):
        for group in optimiser.param_groups:
            group["lr"] = rate(step)
        optimiser.zero_grad()
        value = loss(module, batch)
        value.backward()
        norm = torch.sqrt(sum(x.grad.square().sum() for _, x in named))
        for _, x in named:
            x.grad *= torch.clamp(OPTIMISER.clip / norm, max=1.0)
        optimiser.step()
        losses.append(value.item())
    return losses, {name: x.numpy() for name, x in module.state_dict().items()}


def train_both(name, config, our_loss, their_loss, batches, record_property):
    """Ten steps on either side from the same weights; losses and every parameter agree, relative to their size."""
    variables = random_variables(name, config, np.float64)
    their_losses, tensors = train_theirs(their_loss, mirror(name, config, variables), batches)
    with jax.enable_x64(True):
        our_losses, trained = train_ours(our_loss, variables, batches)
    before, after = to_torch(name, variables), to_torch(name, trained)
    moved = [np.abs(after[key] - x).max() > 1e-5 for key, x in before.items()]
    assert np.mean(moved) > 0.9  # the rest lies behind a ReLU that is shut
    errors = {key: float(np.abs(after[key] - x).max() / np.abs(x).max()) for key, x in tensors.items()}
    loss_error = max(abs(a - b) / abs(b) for a, b in zip(our_losses, their_losses, strict=True))
    record_property("parity", (f"{name} losses of {STEPS} steps", loss_error, TRAINING_BAR))
    record_property("parity", (f"{name} parameters after {STEPS} steps", max(errors.values()), TRAINING_BAR))
    assert loss_error < TRAINING_BAR
    assert max(errors.values()) < TRAINING_BAR, max(errors, key=errors.__getitem__)


def test_ten_steps_of_the_autoencoder_agree(record_property, monkeypatch):
    """Multi-scale L1 of rendered drivers, and the contrastive cosine on codes.

    Convolutions take the form of accelerators, which compiles sooner; the test above takes that of CPUs.
    """
    monkeypatch.setattr(convolution, "convolve_3d", convolution.convolve_3d_direct)
    model = build("vasa.autoencoder", TINY_AUTOENCODER)
    images = pictures(3 * STEPS, TINY_AUTOENCODER.image_size, np.float64).reshape(STEPS, 3, 32, 32, 3)

    def ours(params, image):
        call = functools.partial(model.apply, {"params": params})
        motion = call(image, method="motion")
        portrait = call(image[:1], Motion(motion.pose[:1], motion.dynamics[:1]), method="encode")
        picture = call(portrait, Motion(motion.pose[1:], motion.dynamics[1:]), method="render")
        terms = multi_scale_l1(picture, image[1:], jnp.ones((2, 32, 32, 1)), 2)
        source, positive, negative = motion.dynamics[:1], motion.dynamics[1:2], motion.dynamics[None, 2:]
        return sum(term.mean() for term in terms) + contrastive(source, positive, negative).mean()

    def theirs(module, image):
        image = first(image)
        motion = module.motion(image)
        portrait = module.encode(image[:1], Motion(motion.pose[:1], motion.dynamics[:1]))
        picture = module.render(portrait, Motion(motion.pose[1:], motion.dynamics[1:]))
        error, total = picture - image[1:], torch.zeros((), dtype=torch.float64)
        for _ in range(2):
            changes = error.diff(dim=2).abs().sum() + error.diff(dim=3).abs().sum()
            total = total + error.abs().mean() / 2 + changes / error.numel() / 2
            error = torch.nn.functional.avg_pool2d(error, 2)
        length = torch.sqrt(motion.dynamics.square().sum(1) + 1e-8)
        cosine = motion.dynamics[1:] @ motion.dynamics[0] / (length[1:] * length[0])
        near, far = 5 * (cosine[0] - 0.2), 5 * cosine[1]
        return total + torch.logaddexp(near, far) - near

    train_both("vasa.autoencoder", TINY_AUTOENCODER, ours, theirs, images, record_property)


def test_ten_steps_of_the_denoiser_agree(record_property):
    """The squared error of x0 at given levels, noise and masks."""
    model = build("vasa.motion", ANCHORED)
    batches = [conditions_of(ANCHORED, np.float64, seed) for seed in range(STEPS)]

    def ours(params, batch):
        clean, noisy, level, conditions = batch
        return jnp.square(model.apply({"params": params}, noisy, level, conditions) - clean).mean()

    def theirs(module, batch):
        clean, noisy, level = map(torch.from_numpy, batch[:3])
        return (module(noisy, level, Conditions(*map(torch.from_numpy, batch[3]))) - clean).square().mean()

    train_both("vasa.motion", ANCHORED, ours, theirs, batches, record_property)
