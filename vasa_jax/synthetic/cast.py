"""Portraits of the world: a person as a camera shows it, and as a painter, a draughtsman or a sculptor would.

A look is that of the character's seed (`looks`), drawn for the style that is asked for, with the head where neutral
portraits have it and without blur, noise and compression: the picture that somebody would give to be animated.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, UInt8, UInt32

from vasa_jax.errors import UserError
from vasa_jax.synthetic import film
from vasa_jax.synthetic.identity import Identity, sample_identity
from vasa_jax.synthetic.looks import Look, Randomisation, look_key, plain_look, randomise
from vasa_jax.synthetic.render import render
from vasa_jax.synthetic.state import neutral_state

STYLES = ("plain", "painted", "drawn", "stone")
"""How a character is shown; "plain" is the world without a look."""


class Character(NamedTuple):
    """seed: of the person, and of the look. style: one of `STYLES`."""

    seed: int
    style: str


def portraits(cast: Sequence[Character], size: int) -> UInt8[np.ndarray, "n h w 3"]:
    """Neutral, frontal pictures of one or more characters, `size` pixels a side, at least 8.

    Raises:
        UserError: an unknown style, or a seed outside 0 .. 2**32 - 1.
    """
    for seed, style in cast:
        if style not in STYLES:
            raise UserError(f"style {style!r} is unknown; choose {', '.join(STYLES)}")
        if not 0 <= seed < 2**32:
            raise UserError(f"{seed=} must be in 0 .. 2**32 - 1")
    seeds = jnp.asarray(np.array([seed for seed, _ in cast], np.uint32))
    people, looks = _dress(seeds, tuple(style for _, style in cast))
    pictures = render(people, neutral_state((len(cast),)), size, looks)
    finished = film.finish(looks, pictures, jax.vmap(look_key)(seeds))
    return np.asarray(jnp.round(255.0 * finished).astype(jnp.uint8))


@partial(jax.jit, static_argnames="styles")
def _dress(seeds: UInt32[Array, " n"], styles: tuple[str, ...]) -> tuple[Identity, Look]:
    """People and looks of seeds, each in its style."""
    people = jax.vmap(lambda seed: sample_identity(jax.random.fold_in(jax.random.key(0), seed)))(seeds)
    dressed = []
    for number, style in enumerate(styles):
        person, look = jax.tree.map(lambda leaf, number=number: leaf[number], people), plain_look()
        if style != "plain":
            shares: dict[str, Any] = {name: float(style == name) for name in STYLES[1:]}
            person, look = randomise(look_key(seeds[number]), Randomisation(share=1.0, recorded=0.0, **shares), person)
        still = look._replace(offset=0.0 * look.offset, scale=0.0 * look.scale, noise=0.0 * look.noise)
        dressed.append((person, still))
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *dressed)
