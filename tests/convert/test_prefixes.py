"""What stands before all names: taken off where it is known, named where it is not."""

import numpy as np
import pytest

from tests.parity import fixtures
from vasa_jax.checkpoint import flatten
from vasa_jax.convert import convert
from vasa_jax.convert.prefixes import shared, without_prefix
from vasa_jax.errors import UserError

NAME = "liveportrait.retarget_lip"
PREFIXES = (
    "_orig_mod.",
    "module.",
    "module.module.",
    "module._orig_mod.",
    "_orig_mod.module.model.",
    "model.",
    "net.",
    "generator.",
    "model.generator._orig_mod.",
    "_fsdp_wrapped_module.net.",
    "retarget_mouth.",
)


@pytest.fixture(scope="module")
def tensors():
    return fixtures.state_dict(NAME, 5)


@pytest.mark.parametrize("prefix", PREFIXES)
def test_known_beginnings_are_taken_off(tensors, prefix):
    ours = flatten(convert(NAME, {f"{prefix}{name}": value for name, value in tensors.items()}))
    wanted = flatten(convert(NAME, tensors))
    assert ours.keys() == wanted.keys()
    for name, leaf in wanted.items():
        np.testing.assert_array_equal(ours[name], leaf)


def test_wrapped_parts_are_taken_out_of_the_middle(tensors):
    inner = {name.replace("mlp.", "mlp._orig_mod.module."): value for name, value in tensors.items()}
    assert flatten(convert(NAME, inner)).keys() == flatten(convert(NAME, tensors)).keys()


@pytest.mark.parametrize("prefix", ["talker.", "talker.face.", "module.talker."])
def test_an_unknown_beginning_is_named(tensors, prefix):
    with pytest.raises(UserError, match=r"^all names begin with '(module\.)?talker\..*'.* take it off; the tables"):
        convert(NAME, {f"{prefix}{name}": value for name, value in tensors.items()})


def test_what_not_all_names_share_stays(tensors):
    mixed = {f"module.{name}": value for name, value in tensors.items()} | {"epoch": np.zeros(1)}
    with pytest.raises(UserError, match="epoch: no rule"):
        convert(NAME, mixed)


def test_names_that_fit_are_kept():
    """Though they begin as a wrapper's do, and though two of them would become one without it."""
    own = {"model.weight": np.zeros(1), "model.module.weight": np.ones(1)}
    assert without_prefix(own, lambda names: sum(name in own for name in names)) == own
    assert shared({"a.b.c": np.zeros(1), "a.b": np.zeros(1)}) == "a."
    assert shared({"alpha": np.zeros(1), "alpine": np.zeros(1)}) == "" == shared({})
