"""A contact sheet of the randomised world: people to train on, each with a look of its own, at one glance."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8
from PIL import Image

from vasa_jax.synthetic import film
from vasa_jax.synthetic.identity import Identity, sample_identity
from vasa_jax.synthetic.looks import Look, Randomisation, framed, look_key, randomise
from vasa_jax.synthetic.render import render
from vasa_jax.synthetic.state import State, random_state

ROWS = 8
"""Pictures in a row, and rows."""
COLOURS = 256
"""Of a sheet, which thereby is a third as large as a file."""


@jax.jit
def _cast(seeds: Int[Array, " n"]) -> tuple[Identity, Look, State]:
    """Every seed's person, look and a state of it."""

    def draw(seed: Array) -> tuple[Identity, Look, State]:
        person = sample_identity(jax.random.fold_in(jax.random.key(0), seed))
        person, look = randomise(look_key(seed), Randomisation(share=1.0), person)
        state = random_state(jax.random.fold_in(jax.random.key(1), seed))
        return person, look, state

    people, looks, states = jax.vmap(draw)(seeds)
    return people, looks, framed(looks, states)


def strangers(seeds: Int[Array, " n"], size: int) -> Float[Array, "n h w 3"]:
    """One picture of every seed, in a random state and a random look, 0..1."""
    people, looks, states = _cast(seeds)
    return film.finish(looks, render(people, states, size, looks), jax.vmap(look_key)(seeds))


def contact_sheet(first: int, size: int) -> Image.Image:
    """ROWS x ROWS pictures of `size` x `size` pixels, of the seeds from `first` on, in COLOURS colours."""
    pictures = np.asarray(strangers(jnp.arange(first, first + ROWS**2), size))
    tiles: UInt8[np.ndarray, "r c h w 3"] = (
        np.round(255.0 * pictures).astype(np.uint8).reshape(ROWS, ROWS, size, size, 3)
    )
    sheet = Image.fromarray(tiles.swapaxes(1, 2).reshape(ROWS * size, ROWS * size, 3))
    return sheet.quantize(palette=sheet.quantize(COLOURS), dither=Image.Dither.FLOYDSTEINBERG)
