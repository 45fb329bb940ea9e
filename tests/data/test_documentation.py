"""The example of docs/data.md runs, and its numbers are those of the world's pictures."""

import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vasa_jax.data.labels import LABELS
from vasa_jax.geometry.picture import FACE_CENTRE
from vasa_jax.synthetic import head
from vasa_jax.synthetic.identity import Identity, sample_identity
from vasa_jax.synthetic.render import render
from vasa_jax.synthetic.state import neutral_state

TEXT = Path("docs/data.md").read_text(encoding="utf-8")


def test_the_example_trains_two_steps(tmp_path):
    """In a process of its own, on one device."""
    script = tmp_path / "example.py"
    blocks = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)
    script.write_text("\n".join([*blocks, "assert (result.step, result.stopped) == (2, 'enough')"]))
    environment = os.environ | {"PYTHONPATH": str(Path.cwd()), "TMPDIR": str(tmp_path)}
    run = subprocess.run([sys.executable, script], env=environment, check=False, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def test_every_label_is_in_the_table_with_its_shape():
    for name, shape in LABELS.items():
        sizes = ", ".join(map(str, shape)) + ("," if len(shape) == 1 else "")
        assert f"| {name} | ({sizes}) |" in TEXT, name


def said(row):
    """The number of a row of the table of the head."""
    return float(re.search(rf"\| {re.escape(row)}.* \| (\d\.\d\d) \|", TEXT)[1])


@pytest.fixture(scope="module")
def person() -> Identity:
    return sample_identity(jax.random.fold_in(jax.random.key(0), 10))


def eyes_in_pictures(person, poses):
    """Where the eyes are in pictures at poses (n, 6), as (n, eye, xy) in crop units: what changes when a lid shuts."""
    poses = np.repeat(np.asarray(poses, np.float32), 3, 0)
    lids = np.tile(np.float32([[0.75, 0.75], [0.0, 0.75], [0.75, 0.0]]), (len(poses) // 3, 1))
    states = neutral_state((len(poses),))._replace(
        rotation=jnp.asarray(poses[:, :3]),
        translation=jnp.asarray(poses[:, 3:5]),
        log_distance=jnp.asarray(poses[:, 5]),
        lids=jnp.asarray(lids),
    )
    pictures = np.asarray(render(person, states, 128)).reshape(-1, 3, 128, 128, 3)
    changed = np.abs(pictures[:, 1:] - pictures[:, :1]).sum(-1)
    changed[changed < 0.1] = 0.0
    axis = np.linspace(-1.0, 1.0, 128)
    x, y = (changed * axis).sum((2, 3)), (changed * axis[:, None]).sum((2, 3))
    return np.stack([x, y], -1) / changed.sum((2, 3))[..., None]


def test_the_heads_centre_is_what_it_turns_about_and_where_tx_and_ty_are(person):
    """The middle of the eyes circles about (tx, ty), at the depth and the height that the table says."""
    turns = [[0] * 6, [0, 0.3, 0, 0, 0, 0], [0, -0.3, 0, 0, 0, 0], [0.3, 0, 0, 0, 0, 0], [-0.3, 0, 0, 0, 0, 0]]
    moves = [[0, 0, 1, 0, 0, 0], [0, 0, 0, 0.2, -0.1, 0], [0, 0, 0, 0, 0, 0.25]]
    eyes = eyes_in_pictures(person, turns + moves)
    front, left, right, down, up, rolled, moved, far = eyes.mean(1)
    above, before = (
        said("the middle of the eyes above the centre"),
        said("the middle of the eyes in front of the centre"),
    )
    assert front == pytest.approx([0.0, -above], abs=0.03)
    assert (right - left)[0] / (2 * np.sin(0.3)) == pytest.approx(before, abs=0.06)
    assert (down - up)[1] / (2 * np.sin(0.3)) == pytest.approx(before, abs=0.06)
    assert rolled == pytest.approx([-front[1] * np.sin(1.0), front[1] * np.cos(1.0)], abs=0.02)
    assert moved - front == pytest.approx([0.2, -0.1], abs=0.02)
    apart = [np.linalg.norm(pair[1] - pair[0]) for pair in eyes[[0, -1]]]
    assert apart[1] / apart[0] == pytest.approx(np.exp(-0.25), abs=0.02)


def test_a_head_at_log_distance_0_is_as_large_as_the_table_says(person):
    axis = jnp.linspace(-1.0, 1.0, 81)
    y, z = jnp.meshgrid(axis, axis, indexing="ij")
    inside = np.asarray(head.skin_distance((jnp.zeros_like(y), y, z), person, neutral_state())) < 0.0
    rows = np.flatnonzero(inside.any(1))
    assert -axis[rows[0]] == pytest.approx(said("the crown, without hair, above the centre"), abs=0.04)
    assert axis[rows[-1]] == pytest.approx(said("the chin below the centre"), abs=0.04)
    assert said("the point between nose and mouth below the centre") == FACE_CENTRE[1]
    assert said("the same in front of the centre") == -FACE_CENTRE[2]
