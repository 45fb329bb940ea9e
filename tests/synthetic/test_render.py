"""The renderer, judged by its pictures: what moves, where to, and what stays. One call draws all its frames."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vasa_jax.geometry.picture import face_crop_grid, in_plane_grid, sample_2d
from vasa_jax.geometry.rotation import apply_pose
from vasa_jax.synthetic.identity import identity_from_seed, sample_identity
from vasa_jax.synthetic.render import GAZE_LIMIT, labels, render
from vasa_jax.synthetic.state import State, neutral_state, random_state, state_pose

SIZE = 64
RANDOM = 16
LINE = np.linspace(-1.0, 1.0, SIZE)


def turned(pitch=0.0, yaw=0.0, roll=0.0, tx=0.0, ty=0.0, log_distance=0.0, theta=0.0, phi=0.0, lid=0.75, **controls):
    """A neutral state with some controls changed; angles in degrees."""
    state = neutral_state()._replace(
        rotation=jnp.radians(jnp.array([pitch, yaw, roll])),
        translation=jnp.array([tx, ty]),
        log_distance=jnp.array(log_distance),
        gaze=jnp.radians(jnp.array([theta, phi])),
        lids=jnp.array([lid, lid]),
    )
    return state._replace(**{name: jnp.array(value) for name, value in controls.items()})


SCENES = {
    "neutral": turned(),
    **{f"jaw {j}": turned(jaw=j) for j in (0.25, 0.5, 0.75, 1.0)},
    **{f"lid {v}": turned(lid=v) for v in (0.0, 0.25, 0.5, 1.0)},
    "gaze right": turned(theta=25.0),
    "gaze left": turned(theta=-25.0),
    "gaze up": turned(phi=15.0),
    "gaze down": turned(phi=-15.0),
    **{
        f"{name} {end}": turned(**{"jaw": jaw, name: value})
        for name, value in (("yaw", 25.0), ("pitch", 18.0), ("roll", 20.0), ("tx", 0.15), ("ty", 0.15))
        for end, jaw in (("closed", 0.0), ("open", 1.0))
    },
    "wide": turned(lip_width=1.0),
    "narrow": turned(lip_width=-1.0),
    "round": turned(rounding=1.0),
    "smile": turned(corner_pull=1.0),
    "sad": turned(corner_pull=-1.0),
    "teeth": turned(teeth=1.0),
    "brows up": turned(brow_raise=1.0),
    "brows drawn": turned(brow_furrow=1.0),
    "far": turned(log_distance=0.25),
}
NAMES = list(SCENES)


@pytest.fixture(scope="module")
def scene():
    """Identities, states, pictures and labels: the named scenes with one person, then random people and states."""
    states = jax.tree.map(lambda *x: jnp.stack(x).astype(jnp.float32), *SCENES.values())
    varied = jax.vmap(random_state)(jax.random.split(jax.random.key(1), RANDOM))
    states = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), states, varied)
    person = identity_from_seed(3)
    crowd = jax.vmap(sample_identity)(jax.random.split(jax.random.key(2), RANDOM))
    people = jax.tree.map(lambda a, b: jnp.concatenate([jnp.broadcast_to(a, (len(NAMES), *a.shape)), b]), person, crowd)
    return people, states, np.asarray(render(people, states, SIZE)), labels(people, states)


@pytest.fixture(scope="module")
def picture(scene):
    return lambda name: scene[2][NAMES.index(name)]


def inside(region):
    """Mask of the pixels in an ellipse (cx, cy, rx, ry)."""
    cx, cy, rx, ry = np.asarray(region)
    return ((LINE[None, :] - cx) / rx) ** 2 + ((LINE[:, None] - cy) / ry) ** 2 <= 1.0


def centroid(weight):
    """Mean (x, y) in crop units of a non-negative weight over the picture."""
    return np.array([(weight * LINE[None, :]).sum(), (weight * LINE[:, None]).sum()]) / weight.sum()


def moved(one, two):
    """Where two pictures differ, as a weight."""
    return np.abs(one - two).sum(-1)


def test_pictures_are_finite_and_in_range(scene):
    _, _, pictures, truth = scene
    assert pictures.shape == (len(NAMES) + RANDOM, SIZE, SIZE, 3) and pictures.dtype == np.float32
    assert np.isfinite(pictures).all() and pictures.min() >= 0.0 and pictures.max() <= 1.0
    assert all(np.isfinite(value).all() and value.dtype == jnp.float32 for value in truth.values())


def test_a_frame_depends_on_nothing_but_itself(scene):
    people, states, pictures, _ = scene
    back = jax.tree.map(lambda x: x[::-1], (people, states))
    np.testing.assert_array_equal(np.asarray(render(*back, SIZE))[::-1], pictures)


def test_one_frame_equals_its_place_in_a_batch(scene):
    people, states, pictures, truth = scene
    one = jax.tree.map(lambda x: x[-1], (people, states))
    np.testing.assert_allclose(render(*one, SIZE), pictures[-1], atol=2e-3)
    for name, value in labels(*one).items():
        np.testing.assert_allclose(value, truth[name][-1], atol=1e-5, err_msg=name)


def test_one_person_serves_many_states(scene):
    people, states, _, truth = scene
    person, few = (
        jax.tree.map(lambda x: x[0], people),
        jax.tree.map(lambda x: x[:6].reshape(2, 3, *x.shape[1:]), states),
    )
    regions = labels(person, few)["regions"]
    assert regions.shape == (2, 3, 3, 4)
    np.testing.assert_allclose(regions.reshape(6, 3, 4), truth["regions"][:6], atol=1e-6)


@pytest.mark.parametrize(
    "move, axis, sign",
    [("yaw", 0, -1), ("pitch", 1, 1), ("tx", 0, 1), ("ty", 1, 1), ("roll", 0, -1)],
    ids=lambda x: str(x),
)
def test_the_mouth_moves_as_the_conventions_say(picture, scene, move, axis, sign):
    # The dark inside of the opening mouth lies where the label says, and the label moves the way of the convention.
    truth, index = np.asarray(scene[3]["regions"][:, 2]), NAMES.index
    darker = np.maximum(picture(f"{move} closed").sum(-1) - picture(f"{move} open").sum(-1), 0.0)
    region = truth[index(f"{move} open")]
    found = centroid(darker * inside(region * np.array([1, 1, 1.3, 1.3])))
    np.testing.assert_allclose(found, region[:2], atol=0.09)
    assert sign * (truth[index(f"{move} closed")] - truth[index("neutral")])[axis] > 0.04


def test_the_iris_follows_the_gaze(picture, scene):
    for dark, light, axis, sign in (("gaze right", "gaze left", 0, 1), ("gaze up", "gaze down", 1, -1)):
        change = picture(dark).sum(-1) - picture(light).sum(-1)
        for eye in scene[3]["regions"][0, :2]:
            here = change * inside(eye)
            assert sign * (centroid(np.maximum(-here, 0)) - centroid(np.maximum(here, 0)))[axis] > 0.05, dark


@pytest.mark.parametrize("one, two", [("gaze right", "gaze left"), ("gaze up", "gaze down"), ("lid 0.0", "lid 1.0")])
def test_eyes_change_only_eyes(picture, scene, one, two):
    change = moved(picture(one), picture(two))
    eyes = inside(scene[3]["regions"][0, 0] * jnp.array([1, 1, 1.2, 1.2])) | inside(
        scene[3]["regions"][0, 1] * jnp.array([1, 1, 1.2, 1.2])
    )
    assert change[~eyes].max() < 1e-4 and change[eyes].max() > 0.3


def test_the_jaw_leaves_the_upper_face_alone(picture, scene):
    change = moved(picture("jaw 1.0"), picture("neutral"))
    eyes = float(scene[3]["regions"][0, 0, 1])
    # The face widens a little under the eyes as it lengthens; above them only its shading can tell.
    assert change[LINE < eyes].max() < 0.05
    assert change[inside(scene[3]["regions"][NAMES.index("jaw 1.0"), 2])].mean() > 0.2


def test_mouth_and_lids_are_monotone(picture, scene):
    truth = scene[3]
    for names, label in (
        (["neutral", "jaw 0.25", "jaw 0.5", "jaw 0.75", "jaw 1.0"], truth["mouth"]),
        (["lid 0.0", "lid 0.25", "lid 0.5", "neutral", "lid 1.0"], truth["lids"][:, :1]),
    ):
        change = [moved(picture(name), picture(names[0])).sum() for name in names]
        assert (np.diff(change) > 0).all(), change
        known = np.array([label[NAMES.index(name), 0] for name in names])
        assert (np.diff(known) > 0).all() and known[0] == 0.0 and known[-1] <= 1.0


def test_the_mouth_label_is_one_at_the_widest():
    state = turned(jaw=1.0, teeth=1.0)
    np.testing.assert_allclose(labels(identity_from_seed(3), state)["mouth"], [1.0], atol=1e-6)


def test_every_mouth_shape_and_brow_shows(picture):
    shapes = ["neutral", "wide", "narrow", "round", "smile", "sad", "teeth", "jaw 0.5", "brows up", "brows drawn"]
    frames = np.stack([picture(name) for name in shapes])
    apart = np.abs(frames[:, None] - frames[None]).sum((-3, -2, -1)) + 1e9 * np.eye(len(shapes))
    assert apart.min() > 4.0, apart.min()


def test_the_head_projects_to_its_pose(scene):
    _, states, _, truth = scene
    pose, regions = truth["pose"], truth["regions"]
    np.testing.assert_allclose(pose, state_pose(states), atol=1e-6)
    eyes, lips = regions[:, :2, :2].mean(1), regions[:, 2, :2]
    rest = jnp.concatenate([jnp.stack([eyes[0], lips[0]]), jnp.full((2, 1), -0.4)], axis=-1) * 0.93
    posed = apply_pose(jnp.broadcast_to(rest[:, None], (2, len(pose), 3)).swapaxes(0, 1), pose)
    plain = np.arange(len(pose)) < NAMES.index("wide")  # the neutral mouth; perspective is worth a few per cent
    np.testing.assert_allclose(eyes[plain], posed[plain, 0, :2], atol=0.05)
    far, near = NAMES.index("far"), 0
    ratio = regions[near, :, 2:] / regions[far, :, 2:]
    np.testing.assert_allclose(ratio, (6 * np.exp(0.25) - 0.38) / (6 - 0.38), rtol=2e-3)


def test_gaze_keeps_its_target_until_the_eyes_can_turn_no_further():
    people = identity_from_seed(3)
    free = labels(people, turned(yaw=20.0, theta=10.0, phi=5.0))["gaze"]
    np.testing.assert_allclose(np.degrees(free), [10.0, 5.0], atol=1e-3)
    held = labels(people, turned(theta=80.0, phi=-60.0))["gaze"]
    np.testing.assert_allclose(np.degrees(held), [GAZE_LIMIT[0], -GAZE_LIMIT[1]], atol=1e-3)


def test_a_tiny_picture_is_refused():
    with pytest.raises(ValueError, match="size=4"):
        render(identity_from_seed(0), neutral_state(), 4)


def test_states_are_a_pytree_of_floats():
    assert isinstance(turned(), State) and all(x.dtype == jnp.float32 for x in neutral_state((2,)))


@pytest.mark.parametrize("name", ["tx closed", "ty closed", "far"])
def test_a_picture_can_be_moved_in_its_plane(picture, name):
    """The neutral picture, moved as a similarity, shows the face of a head that has moved: the nose lies before the
    plane of the head's centre, which is 7 % of the move and no more."""
    still, true = (jnp.asarray(picture(scene))[None] for scene in ("neutral", name))
    pose = jnp.stack([state_pose(SCENES[scene]) for scene in ("neutral", name)])
    moved = sample_2d(still, in_plane_grid(pose[:1], pose[1:], SIZE))
    face = face_crop_grid(pose[1:], 24, 0.3)
    error, before = (float(jnp.abs(sample_2d(shown - true, face)).mean()) for shown in (moved, still))
    assert error < 0.3 * before, (error, before)
