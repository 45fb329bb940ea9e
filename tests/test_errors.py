"""What only the machine can refuse."""

import jax
import pytest

from vasa_jax.errors import UserError, check_devices


@pytest.mark.parametrize("kind", [RuntimeError, AssertionError])
@pytest.mark.parametrize(
    "flag, message",
    [
        ("--platform tpu", r"^--platform tpu: JAX finds no such device; install vasa-jax\[tpu\]"),
        ("--platform gpu", r"^--platform gpu: JAX finds no such device; install vasa-jax\[cuda\]"),
        ("", r"^JAX_PLATFORMS=cuda: JAX finds no such device; install vasa-jax\[cuda\]"),
    ],
)
def test_a_device_that_is_not_there_is_named(monkeypatch, kind, flag, message):
    def nowhere():
        raise kind

    monkeypatch.setattr(jax, "devices", nowhere)
    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    with pytest.raises(UserError, match=message):
        check_devices(flag)


def test_devices_that_are_there():
    check_devices()
