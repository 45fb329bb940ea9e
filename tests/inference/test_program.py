"""Programs: what is compiled, when, and how often."""

from collections.abc import Iterator
from contextlib import contextmanager

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.inference.tiny import MOTION
from vasa_jax.audio.log_mel import slice_samples
from vasa_jax.errors import UserError
from vasa_jax.faces.box import Box
from vasa_jax.inference.controls import make_controls
from vasa_jax.inference.pair import Options
from vasa_jax.inference.program import KEPT, Program
from vasa_jax.inference.session import session_start
from vasa_jax.inference.stream import Sitting, Stream


class Scale:
    """x * factor, and how often it was traced."""

    def __init__(self):
        self.traced = []

    def __call__(self, x, factor):
        self.traced.append(factor)
        return x * factor


@contextmanager
def compilations() -> Iterator[list[str]]:
    """Names of the functions that XLA compiles inside, or finds in a cache."""
    names = []

    def listen(event: str, seconds: float, **details: str) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            names.append(details["fun_name"])

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield names
    jax.monitoring.unregister_event_duration_listener(listen)


def test_a_program_is_compiled_once_for_each_shape_and_option():
    scale = Scale()
    program = Program(scale, static=("factor",))
    for size, factor in [(2, 3), (2, 3), (4, 3), (4, 5), (2, 3)]:
        np.testing.assert_array_equal(program(jnp.ones(size), factor=factor), np.full(size, factor))
    assert scale.traced == [3, 3, 5]
    assert program.waited > 0


def test_what_was_prepared_is_not_compiled_again():
    scale = Scale()
    program = Program(scale, static=("factor",), rare=True)
    program.prepare(jax.ShapeDtypeStruct((3,), "float32"), factor=2)
    with compilations() as compiled:
        np.testing.assert_array_equal(program(np.ones(3, np.float32), factor=2), np.full(3, 2))
        program.prepare(np.ones(3, np.float32), factor=2)
        np.testing.assert_array_equal(program(jnp.ones(3), factor=2), np.full(3, 2))
    assert scale.traced == [2] and len(compiled) <= 2  # that of `ones`, and the program if it was not ready yet


def test_the_oldest_forms_are_forgotten():
    scale = Scale()
    program = Program(scale, static=("factor",))
    for factor in (*range(KEPT + 1), 0):
        program(np.ones(2, np.float32), factor=factor)
    assert len(program._forms) == KEPT
    assert scale.traced == list(range(KEPT + 1))  # JAX itself still knows the trace


def test_a_function_that_cannot_be_compiled_is_explained():
    def explain():
        raise UserError("these numbers do not fit")

    def broken(x):
        return x @ jnp.ones((5, 5))

    for program in (Program(broken, explain=explain), Program(broken)):
        program.prepare(np.ones((2, 2)))
        with pytest.raises(UserError if program._explain is explain else TypeError, match="fit|shape"):
            program(np.ones((2, 2)))


def test_other_numbers_compile_nothing(model):
    """Scales, seeds, directions and distances are arguments; which branches guidance has decides a program."""
    sound = jnp.zeros(slice_samples(MOTION.window))

    def step(seed=0, guidance=None, **controls):
        carry, asked = session_start(MOTION, jax.random.key(seed)), make_controls(**controls)
        options = Options(7, tuple({"gaze": 0.0, **(guidance or {"audio": 1.0})}.items()))
        return np.asarray(model.motion.step(carry, sound, MOTION.window, MOTION.window, asked, options)[1].pose)

    first = step()
    with compilations() as compiled:
        for guidance in ({"audio": 0.3}, {"audio": -2.0, "gaze": 0.0}):
            assert (step(guidance=guidance) != first).any()
        step(seed=2**32 - 1, gaze="10,-5", distance=1.3, emotion="happy:0.2")
        assert not compiled
        step(guidance={"audio": 0.3, "gaze": 0.5})
    assert any("session_step" in name for name in compiled)


FACE = {"image": np.full((32, 32, 3), 128, np.uint8), "box": Box(16, 16, 32)}


def forms(model):
    programs = model.face.programs | model.motion.programs
    return {(name, form) for name, program in programs.items() for form in program._forms}


def test_what_a_model_prepares_is_what_it_runs(model):
    model.pair.prepare(Options(2, (("gaze", 0.0),)))
    prepared = forms(model)
    list(model.animate(audio=np.zeros(640, np.float32), steps=2, guidance_gaze=0.0, **FACE))
    assert forms(model) == prepared


def test_another_hop_is_prepared_before_a_frame_is_asked_for(model):
    frames = model.animate(audio=np.zeros(640, np.float32), steps=2, guidance_gaze=0.0, hop=2, **FACE)
    prepared = forms(model)
    list(frames)
    assert forms(model) == prepared


def test_a_sitting_prepares_what_its_streams_run(model):
    """Frames are drawn by the hop, not by the batch of videos."""
    wishes = {"hop": 3, "steps": 2, "sampler": "dpm++", "guidance_gaze": 0.0}
    sitting = Sitting(model, **FACE, **wishes)
    prepared = forms(model)
    stream = Stream(model, sitting, **wishes)
    stream.push(np.zeros(640 * 4, np.float32))
    assert len(stream.pull().frames) == 3
    assert forms(model) == prepared
