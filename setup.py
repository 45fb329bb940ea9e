"""The packages of an installation: those of `vasa_jax`, and `configs/` inside of it, where `vasa_jax.config` looks."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["vasa_jax*"]), "vasa_jax.configs"],
    package_dir={"vasa_jax.configs": "configs"},
)
