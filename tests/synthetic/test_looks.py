"""The randomised world: everything looks otherwise, and nothing that is true changes."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vasa_jax.errors import UserError
from vasa_jax.synthetic import film, sheet
from vasa_jax.synthetic.identity import identity_from_seed, sample_identity
from vasa_jax.synthetic.looks import SCENES, STYLES, Randomisation, framed, look_key, plain_look, randomise
from vasa_jax.synthetic.render import labels, render
from vasa_jax.synthetic.state import neutral_state

COUNT, SIZE = sheet.ROWS**2, 32
LINE = np.linspace(-1.0, 1.0, SIZE)


@pytest.fixture(scope="module")
def cast():
    """People, looks, framed states and finished pictures, of as many seeds as stand on a sheet."""
    seeds = jnp.arange(COUNT)
    return *sheet._cast(seeds), np.asarray(sheet.strangers(seeds, SIZE))


def crowd():
    return jax.vmap(lambda seed: sample_identity(jax.random.fold_in(jax.random.key(0), seed)))(jnp.arange(COUNT))


def everybody(tree):
    return jax.tree.map(lambda x: jnp.broadcast_to(x, (COUNT, *x.shape)), tree)


def test_the_truth_is_that_of_the_plain_world(cast):
    _, looks, states, _ = cast
    people, plain = cast[0], crowd()
    near = looks._replace(reach=jnp.ones(COUNT))
    true, known = labels(plain, states), labels(people, states, near)
    for name, value in true.items():
        np.testing.assert_allclose(known[name], value, atol=1e-6, err_msg=name)
    seen = labels(people, states, looks)
    for name in ("pose", "gaze", "mouth", "lids"):
        np.testing.assert_array_equal(seen[name], true[name], err_msg=name)
    assert float(jnp.abs(seen["regions"] - true["regions"]).max()) > 0.01  # perspective is seen, and known


def test_the_mouth_opens_where_the_label_says_whatever_the_camera():
    person = everybody(identity_from_seed(3))
    look = everybody(plain_look())._replace(
        reach=jnp.linspace(0.6, 1.6, COUNT),
        offset=jnp.stack([jnp.linspace(-0.12, 0.12, COUNT), jnp.linspace(0.1, -0.1, COUNT)], -1),
        scale=jnp.linspace(-0.2, 0.1, COUNT),
    )
    closed = framed(look, neutral_state((COUNT,)))
    opened = closed._replace(jaw=jnp.ones(COUNT))
    darker = np.maximum(np.asarray(render(person, closed, SIZE, look) - render(person, opened, SIZE, look)).sum(-1), 0)
    for weight, (cx, cy, rx, ry) in zip(darker, np.asarray(labels(person, opened, look)["regions"][:, 2]), strict=True):
        inside = ((LINE[None] - cx) / rx) ** 2 + ((LINE[:, None] - cy) / ry) ** 2 <= 1.7
        weight = weight * inside
        found = np.array([(weight * LINE[None]).sum(), (weight * LINE[:, None]).sum()]) / weight.sum()
        np.testing.assert_allclose(found, [cx, cy], atol=0.09)


def test_the_plain_look_is_the_plain_world(cast):
    _, _, states, _ = cast
    people, plain = crowd(), everybody(plain_look())
    people = people._replace(light_warmth=jnp.zeros(COUNT))  # which a look has in its own light
    drawn = render(people, states, SIZE, plain)
    np.testing.assert_allclose(drawn, render(people, states, SIZE), atol=0.01)
    keys = jax.random.split(jax.random.key(0), COUNT)
    np.testing.assert_array_equal(film.finish(plain, drawn, keys), drawn)


def test_every_style_and_scene_appears_and_no_two_pictures_are_alike(cast):
    _, looks, _, pictures = cast
    assert np.isfinite(pictures).all() and pictures.min() >= 0.0 and pictures.max() <= 1.0
    assert set(np.asarray(looks.style)) == set(range(len(STYLES)))
    assert set(np.asarray(looks.scene)) == set(range(len(SCENES)))
    for name in ("shade", "fabric", "grain", "blur", "loss", "noise"):
        values = np.asarray(getattr(looks, name))
        assert (values > 0.0).any() and (values >= 0.0).all(), name
    for name in ("reach", "gamma", "hardness", "scale"):
        assert np.asarray(getattr(looks, name)).std() > 0.05, name
    apart = np.abs(pictures[:, None, ::4, ::4] - pictures[None, :, ::4, ::4]).mean((2, 3, 4)) + np.eye(COUNT)
    assert apart.min() > 0.02


def test_statues_have_one_hue(cast):
    people, looks, states, _ = cast
    stones = np.asarray(looks.style) == STYLES.index("stone")
    clean = looks._replace(sky=jnp.ones((COUNT, 3)), sun=jnp.ones((COUNT, 3)))
    pictures = np.asarray(render(people, states, SIZE, clean))
    regions = np.asarray(labels(people, states, looks)["regions"][:, 2])
    for picture, look, (cx, cy, _, _) in zip(
        pictures[stones], np.asarray(looks.ground)[stones], regions[stones], strict=True
    ):
        at = picture[np.abs(LINE - cy).argmin(), np.abs(LINE - cx).argmin()]
        lit = (at - at.min()) / np.maximum(at.max(), 0.05)
        np.testing.assert_allclose(lit, (look - look.min()) / look.max(), atol=0.12)


def test_a_seed_has_one_look_and_a_share_of_them_is_plain():
    people = crowd()

    def plain(share):
        keys = jax.vmap(look_key)(jnp.arange(COUNT))
        draw = jax.jit(jax.vmap(lambda key, person: randomise(key, Randomisation(share=share), person)))
        first, again = draw(keys, people), draw(keys, people)
        jax.tree.map(np.testing.assert_array_equal, first, again)
        same = np.asarray(first[0].light == people.light).all(-1)
        np.testing.assert_array_equal(same, np.asarray(first[1].gamma == 1.0))
        return same.mean()

    assert plain(0.0) == 1.0 and 0.3 < plain(0.5) < 0.7


def test_brush_pen_and_codec():
    flat = jnp.full((SIZE, SIZE, 3), 0.6)
    ramp = jnp.broadcast_to(jnp.asarray(LINE, jnp.float32)[None, :, None] * 0.3 + 0.5, (SIZE, SIZE, 3))
    edge = jnp.where(ramp > 0.5, 0.9, 0.2)
    np.testing.assert_allclose(film.paint(flat), flat, atol=1e-5)
    np.testing.assert_allclose(film.paint(edge), edge, atol=1e-5)  # patches keep their borders
    look = plain_look()._replace(paper=jnp.array([1.0, 0.9, 0.8]))
    page = film.draw(look, jnp.repeat(jnp.repeat(edge, 4, 0), 4, 1))
    np.testing.assert_allclose(page[:, -9:], jnp.broadcast_to(look.paper, (4 * SIZE, 9, 3)), atol=1e-5)
    assert float(page[:, 2 * SIZE - 1].mean()) < 0.2  # a line of ink on the dark side
    for loss, most in ((1e-4, 2e-3), (0.02, 0.05)):
        error = jnp.abs(film.compress(ramp, jnp.float32(loss)) - ramp)
        assert float(error.max()) < most
    np.testing.assert_allclose(film.compress(flat, jnp.float32(0.01)), flat, atol=0.01)
    blurred = film.gaussian(edge, jnp.float32(1.2))
    np.testing.assert_allclose(blurred.mean(), edge.mean(), atol=0.02)
    assert float(jnp.abs(jnp.diff(blurred, axis=1)).max()) < 0.35


def test_a_sheet_shows_them_all(cast, tmp_path):
    path = tmp_path / "sheet.png"
    picture = sheet.contact_sheet(0, SIZE)
    picture.save(path)
    assert picture.size == (sheet.ROWS * SIZE, sheet.ROWS * SIZE)
    shown = np.asarray(picture.convert("RGB"), np.float32)[:SIZE, :SIZE] / 255.0
    assert np.abs(shown - cast[3][0]).mean() < 0.08


@pytest.mark.parametrize(
    "fields, message",
    [({"share": 1.5}, "share=1.5"), ({"recorded": -0.1}, "recorded"), ({"painted": 0.7, "stone": 0.4}, "sum")],
)
def test_shares_that_are_none_are_refused(fields, message):
    with pytest.raises(UserError, match=message):
        dataclasses.replace(Randomisation(), **fields)
