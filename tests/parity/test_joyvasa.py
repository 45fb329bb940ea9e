"""JoyVASA's motion generator against the answers of the original network."""

import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.compiling import OPTIMISED
from tests.parity import fixtures
from tests.parity.agreement import BAR, agree
from vasa_jax.audio.speech import pad_audio
from vasa_jax.convert import build, convert, to_torch
from vasa_jax.joyvasa import POSITION_MODES, sample

NAME = "joyvasa.motion_generator"
GOLDEN = Path(__file__).with_name("golden_joyvasa_seed1.npz")
BAR_OF_A_SAMPLE = 1e-4
WINDOW, STEPS, PREVIOUS = (1, 100, 73), 50, 10


def gaussian(name, *shape):
    return jnp.asarray(fixtures.gaussian(1, name, shape))


def step_noise(window):
    """That of step t at index t - 1; step 1 has none."""
    drawn = [gaussian(f"z_window{window}_step{t}", *WINDOW) for t in range(2, STEPS + 1)]
    return jnp.stack([jnp.zeros(WINDOW), *drawn])


@pytest.fixture(scope="module")
def checkpoint():
    tensors = fixtures.state_dict(NAME, 1)
    return tensors, convert(NAME, tensors)


@pytest.fixture(scope="module")
def answers(checkpoint):
    """Everything the golden file holds, by its names, from our network."""
    network, variables = build(NAME), jax.device_put(checkpoint[1])

    @functools.partial(jax.jit, compiler_options=OPTIMISED)
    def encode(variables, audio):
        def both(self, audio):
            return self.audio_encoder(pad_audio(audio), 200)[-1], self.audio_features(audio)

        return network.apply(variables, audio, method=both)

    @jax.jit
    def denoise(variables, *inputs):
        return [network.apply(variables, *inputs, mode, method="denoise") for mode in POSITION_MODES]

    draw = jax.jit(sample, static_argnames="position_mode", compiler_options=OPTIMISED)
    x, motion, audio = (
        gaussian(*spec) for spec in (("x", 2, 100, 73), ("prev_motion", 2, 10, 73), ("prev_audio", 2, 10, 256))
    )
    with jax.default_matmul_precision("highest"):
        hubert, feature = encode(variables, jnp.asarray(fixtures.speech(1)))
        found = {"hubert": hubert[:, ::2, ::4], "audio_feature": feature}
        denoised = denoise(variables, x, jnp.repeat(feature, 2, 0), motion, audio, jnp.array([50, 7]))
        for mode, answer in zip(POSITION_MODES, denoised, strict=True):
            found[f"denoised_{mode}"] = answer
            previous = variables["params"]["start_motion"], variables["params"]["start_audio"]
            for window in (0, 1):
                noise = gaussian("x_T", *WINDOW), step_noise(window)
                motions = draw(variables, feature, *noise, previous, position_mode=mode)
                found[f"sample_{mode}_window{window}"] = motions
                previous = motions[:, -PREVIOUS:], feature[:, -PREVIOUS:]
    return {name: np.asarray(answer) for name, answer in found.items()}


@pytest.mark.parametrize(
    "name",
    [
        "hubert",
        "audio_feature",
        *(f"denoised_{mode}" for mode in POSITION_MODES),
        *(f"sample_{mode}_window{window}" for mode in POSITION_MODES for window in (0, 1)),
    ],
)
def test_every_answer_is_the_original_one(answers, name, record_property):
    with np.load(GOLDEN) as golden:
        assert set(golden) == set(answers)
        expected = golden[name]
    bar = BAR_OF_A_SAMPLE if name.startswith("sample") else BAR
    agree(record_property, f"joyvasa {name}", answers[name], expected, bar)


def test_there_and_back(checkpoint):
    """Bit for bit, but for the folded weight norm, whose effective weight is the same."""
    tensors, variables = checkpoint
    back = to_torch(NAME, variables)
    assert set(back) == set(tensors)
    conv = "audio_encoder.encoder.pos_conv_embed.conv.parametrizations.weight.original"
    for name, value in back.items():
        if not name.startswith(conv):
            np.testing.assert_array_equal(value, tensors[name])

    def weight(of):
        length, direction = of[f"{conv}0"], of[f"{conv}1"]
        return length * direction / np.linalg.norm(direction.astype(np.float64), axis=(0, 1))

    np.testing.assert_allclose(weight(back), weight(tensors), rtol=1e-6)
    jax.tree.map(np.testing.assert_array_equal, convert(NAME, back), variables)
