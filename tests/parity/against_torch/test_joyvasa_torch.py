"""JoyVASA and the speech encoders against torch itself, on random weights: the transformers package's HuBERT and
wav2vec 2.0, and JoyVASA's network written in plain torch with the masks and tables that ours does without."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers
from torch.nn import functional

from tests.compiling import OPTIMISED
from tests.parity import fixtures
from tests.parity.agreement import agree
from vasa_jax.audio.speech import pad_audio, resize
from vasa_jax.convert import build, convert, to_torch
from vasa_jax.joyvasa import POSITION_MODES, sample

NAME = "joyvasa.motion_generator"
BAR_OF_A_SAMPLE = 1e-4
MODELS = {
    "hubert": (transformers.HubertModel, transformers.HubertConfig),
    "wav2vec2": (transformers.Wav2Vec2Model, transformers.Wav2Vec2Config),
}


def tensor(array):
    return torch.from_numpy(np.array(array))


def load(module, tensors):
    """Strictly; the tables that torch stores and ours computes are the module's own."""
    module.load_state_dict(dict(module.named_buffers()) | {name: tensor(x) for name, x in tensors.items()})
    return module.eval()


def randomise(module, seed):
    """Numbers that reach every branch: scales around 1, biases around 0, matrices that keep the variance."""
    random = np.random.default_rng(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            shape = tuple(parameter.shape)
            if name.endswith("original0") or (name.endswith("weight") and len(shape) == 1):
                value = random.uniform(0.6, 1.5, shape)
            else:
                value = random.normal(size=shape) * (0.1 if len(shape) == 1 else 1.1 / np.sqrt(np.prod(shape[1:])))
            parameter.copy_(tensor(value.astype(np.float32)))


@pytest.mark.parametrize("name, seed", [("hubert", 11), ("wav2vec2", 12)])
def test_every_layer_of_the_speech_encoders(name, seed, record_property):
    kind, config = MODELS[name]
    theirs = kind(config()).eval()
    randomise(theirs, seed)
    tensors = {key: value.numpy() for key, value in theirs.state_dict().items()}
    variables = convert(name, tensors)
    audio = np.concatenate([fixtures.speech(seed, 12_345), fixtures.speech(seed + 10, 12_345)])
    with torch.no_grad():
        expected = theirs(tensor(audio), output_hidden_states=True).hidden_states
    with jax.default_matmul_precision("highest"):
        ours = jax.jit(build(name).apply)(variables, jnp.asarray(audio))
    assert len(ours) == len(expected) == 13
    for layer, (mine, other) in enumerate(zip(ours, expected, strict=True)):
        agree(record_property, f"{name} layer {layer:2d}", mine, other.numpy())
    back = to_torch(name, variables)
    assert set(back) == set(tensors)
    again = load(kind(config()), back)
    conv = "encoder.pos_conv_embed.conv"
    torch.testing.assert_close(
        again.get_submodule(conv).weight, theirs.get_submodule(conv).weight, rtol=1e-6, atol=1e-6 * 0.1
    )
    for key, value in back.items():
        if "parametrizations" not in key:
            np.testing.assert_array_equal(value, tensors[key])
    jax.tree.map(np.testing.assert_array_equal, convert(name, back), variables)


def test_resize_is_torchs_interpolation():
    x = np.random.default_rng(0).normal(size=(2, 38, 3)).astype(np.float32)
    for frames in (19, 25, 38, 77):
        theirs = functional.interpolate(tensor(x).mT, size=frames, mode="linear", align_corners=False).mT
        np.testing.assert_allclose(resize(jnp.asarray(x), frames), theirs, atol=2e-5)


class Table(torch.nn.Module):
    def __init__(self, length):
        super().__init__()
        self.register_buffer("pe", tensor(fixtures.sinusoidal_table(length, 256)))


class DenoisingNet(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.TE, self.PE = Table(501), Table(600)
        self.diff_step_map = torch.nn.Sequential(torch.nn.Linear(256, 256), torch.nn.GELU(), torch.nn.Linear(256, 256))
        self.feature_proj = torch.nn.Linear(73, 256)
        layer = torch.nn.TransformerDecoderLayer(256, 8, 1024, activation="gelu", batch_first=True)
        self.transformer = torch.nn.TransformerDecoder(layer, 8)
        self.motion_dec = torch.nn.Sequential(torch.nn.Linear(256, 128), torch.nn.GELU(), torch.nn.Linear(128, 73))
        self.register_buffer("alignment_mask", ~torch.eye(110, dtype=torch.bool))

    def forward(self, x, audio, previous_motion, previous_audio, step, mode):
        h = self.feature_proj(torch.cat([previous_motion, x], 1))
        h = h + (self.PE.pe[:, 110:111] if mode == "constant" else self.PE.pe[:, :110])
        h = h + self.diff_step_map(self.TE.pe[0, step])[:, None]
        memory = torch.cat([previous_audio, audio], 1)
        return self.motion_dec(self.transformer(h, memory, memory_mask=self.alignment_mask))


class JoyVASA(torch.nn.Module):
    """The names of the public checkpoint, the arithmetic of its description."""

    def __init__(self):
        super().__init__()
        self.start_audio_feat = torch.nn.Parameter(torch.zeros(1, 10, 256))
        self.start_motion_feat = torch.nn.Parameter(torch.zeros(1, 10, 73))
        self.null_audio_feat = torch.nn.Parameter(torch.zeros(1, 1, 256))
        self.audio_encoder = transformers.HubertModel(transformers.HubertConfig())
        self.audio_feature_map = torch.nn.Linear(768, 256)
        self.denoising_net = DenoisingNet()

    def audio_features(self, audio):
        for _ in range(2):
            audio = functional.pad(audio, (20, 20), mode="reflect")
        hidden = self.audio_encoder(audio).last_hidden_state
        half = functional.interpolate(hidden.mT, size=100, mode="linear", align_corners=False)
        return self.audio_feature_map(half.mT)

    def sample(self, audio, start_noise, step_noise, mode, guidance):
        angle = (torch.arange(51, dtype=torch.float64) / 50 + 0.008) / 1.008 * torch.pi / 2
        left = angle.cos() ** 2
        beta = (1 - left[1:] / left[:-1]).clamp(1e-4, 0.999)
        alpha = torch.cat([torch.ones(1), 1 - beta])
        abar = alpha.cumprod(0)
        both = torch.cat([self.null_audio_feat.expand_as(audio), audio])
        motion, before = (part.expand(2, -1, -1) for part in (self.start_motion_feat, self.start_audio_feat))
        x = start_noise
        for t in range(50, 0, -1):
            out = self.denoising_net(x.expand(2, -1, -1), both, motion, before, torch.tensor([t, t]), mode)[:, 10:]
            x0 = out[:1] + guidance * (out[1:] - out[:1])
            rest = 1 - abar[t]
            mean = (1 - abar[t - 1]) * alpha[t].sqrt() / rest * x + (1 - alpha[t]) * abar[t - 1].sqrt() / rest * x0
            x = mean.float()
            if t > 1:
                x = x + ((1 - abar[t - 1]) / rest * (1 - alpha[t])).sqrt().float() * step_noise[t - 1]
        return x


@pytest.fixture(scope="module", params=[2, 3])
def pair(request):
    """A seed, its weights as ours and, through the converter and back, as torch's."""
    variables = convert(NAME, fixtures.state_dict(NAME, request.param))
    return request.param, jax.device_put(variables), load(JoyVASA(), to_torch(NAME, variables))


@pytest.fixture(scope="module")
def apply():
    """Our network, compiled once for all seeds."""
    network = build(NAME)
    with jax.default_matmul_precision("highest"):
        yield {
            "audio_features": jax.jit(lambda v, x: network.apply(v, x, method="audio_features")),
            "denoise": jax.jit(lambda v, x: [network.apply(v, *x, mode, method="denoise") for mode in POSITION_MODES]),
            "sample": jax.jit(sample, static_argnames="position_mode", compiler_options=OPTIMISED),
        }


def test_padding_is_torchs():
    audio = fixtures.speech(4)
    theirs = functional.pad(functional.pad(tensor(audio), (20, 20), mode="reflect"), (20, 20), mode="reflect")
    np.testing.assert_array_equal(pad_audio(audio), theirs)


def test_audio_features(pair, apply, record_property):
    seed, variables, theirs = pair
    audio = fixtures.speech(seed)
    with torch.no_grad():
        expected = theirs.audio_features(tensor(audio)).numpy()
    ours = apply["audio_features"](variables, jnp.asarray(audio))
    agree(record_property, f"joyvasa audio features seed {seed}", ours, expected)


def test_denoiser(pair, apply, record_property):
    seed, variables, theirs = pair
    shapes = {"x": (3, 100, 73), "audio": (3, 100, 256), "motion": (3, 10, 73), "previous": (3, 10, 256)}
    inputs = [fixtures.gaussian(seed, name, shape) for name, shape in shapes.items()] + [np.array([50, 23, 1])]
    ours = apply["denoise"](variables, [jnp.asarray(x) for x in inputs])
    for mode, answer in zip(POSITION_MODES, ours, strict=True):
        with torch.no_grad():
            expected = theirs.denoising_net(*map(tensor, inputs), mode).numpy()
        agree(record_property, f"joyvasa denoised {mode} seed {seed}", answer, expected)


def test_sample(pair, apply, record_property):
    """Both position modes over the two seeds; `previous` left out."""
    seed, variables, theirs = pair
    mode = POSITION_MODES[seed % 2]
    audio = fixtures.gaussian(seed, "features", (1, 100, 256))
    noise = fixtures.gaussian(seed, "x_T", (1, 100, 73)), fixtures.gaussian(seed, "z", (50, 1, 100, 73))
    with torch.no_grad():
        expected = theirs.sample(tensor(audio), *map(tensor, noise), mode, 2.8).numpy()
    ours = apply["sample"](variables, jnp.asarray(audio), *map(jnp.asarray, noise), position_mode=mode)
    agree(record_property, f"joyvasa sample {mode} seed {seed}", ours, expected, BAR_OF_A_SAMPLE)
