"""The examples of docs/conversion.md run, and a network can be added once."""

import re
from pathlib import Path

import numpy as np
import pytest

from vasa_jax.convert import add, networks
from vasa_jax.convert.registry import _NETWORKS, find

TEXT = Path("docs/conversion.md").read_text(encoding="utf-8")


def test_the_examples_run(monkeypatch):
    monkeypatch.setattr("vasa_jax.convert.registry._NETWORKS", dict(_NETWORKS))
    names: dict = {}
    for block in re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL):
        exec(compile(block, "docs/conversion.md", "exec"), names)
    assert names["answer"].shape == (1, 5)
    assert set(names["back"]) == set(names["tensors"]) - {"stem.num_batches_tracked"}
    for name, value in names["back"].items():
        np.testing.assert_array_equal(value, names["tensors"][name])


def test_a_name_is_given_once():
    with pytest.raises(ValueError, match="knows a network 'syncnet' already"):
        add("syncnet", find("syncnet"))


def test_every_network_is_in_the_table():
    for name in networks():
        family, _, member = name.partition(".")
        assert f"`{name}`" in TEXT or (f"`{family}." in TEXT and f"`.{member}`" in TEXT), name
