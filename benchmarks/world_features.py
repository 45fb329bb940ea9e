"""What does the world's feature network know? Its accuracies on people of the "test" split, which it never met.

    python -m benchmarks.world_features [--helper world_features] [--model demo] [--people 100] [--json OUT]

(a) Who, at 64 and 128 pixels: pictures of each person in four states, each with another light, background and clothes;
equal error rate, area under the curve, rank 1, and mean cosines of one person's and of two persons' pictures.
(b) Mean absolute errors of the head pose, and R^2 of each number of the expression.
(c) What a perceptual term sees: the distance of the maps between a picture and its change, as a share of the maps' mean
size, beside the mean absolute difference of the pixels; five changes.
(d) What an identity term sees: cosines of faces that a face model has drawn with the person of its portrait, A, and of
its driver, B.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import timing
from vasa_jax.autoencoder.config import AutoencoderConfig
from vasa_jax.checkpoint import load_release
from vasa_jax.config import from_json
from vasa_jax.data.pictures import reduce_picture
from vasa_jax.geometry.picture import face_crop
from vasa_jax.metrics import transfer
from vasa_jax.metrics.recognition import explained, verification
from vasa_jax.pretrained.helper import Helper, load_helper
from vasa_jax.pretrained.world_features import EXPRESSION
from vasa_jax.synthetic.splits import seeds
from vasa_jax.synthetic.state import state_pose
from vasa_jax.training import features

SIZES = (64, 128)
POSE = ("pitch, degrees", "yaw, degrees", "roll, degrees", "tx", "ty", "log distance")
PICTURES = 4
"""Of each person."""


def accuracies(helper: Helper, params: Any, people: int, size: int) -> dict[str, float]:
    """Parts (a) and (b): pictures are rendered at the largest of `SIZES` and averaged down to `size`."""
    frames, truth = features.photograph_people(seeds("test")[:people], PICTURES, max(SIZES))
    told = np.asarray(features.expression(truth)).reshape(-1, len(EXPRESSION))
    pose = truth["pose"].reshape(-1, 6)
    pictures = np.stack([reduce_picture(frame, size) for frame in frames.reshape(-1, *frames.shape[2:])])
    codes, poses, expressions = features.look_at(helper.config, params, pictures, pose)
    found = dict(verification(codes.reshape(people, PICTURES, -1))._asdict())
    errors = np.abs(poses - pose).mean(0)
    errors[:3] = np.degrees(errors[:3])
    squares = explained(expressions, told)
    return found | dict(zip(POSE, errors.tolist(), strict=True)) | dict(zip(EXPRESSION, squares.tolist(), strict=True))


def changes(helper: Helper, params: Any, people: int, size: int) -> dict[str, tuple[float, float]]:
    """Part (c): name of a change to the distance of the maps, and of the pixels."""
    members = seeds("test")[:people]
    who, states = transfer.people_of(members), transfer.random_states(members, 0)
    states = states._replace(lids=np.maximum(states.lids, 0.6))
    true = transfer.photograph(who, states, size)
    jaw = np.where(states.jaw > 0.4, states.jaw - 0.4, states.jaw + 0.4).astype(np.float32)
    theta = states.gaze + np.where(states.gaze[:, :1] > 0.0, -0.35, 0.35) * np.asarray([[1.0, 0.0]], np.float32)
    others = transfer.people_of(seeds("test")[people : 2 * people])
    changed = {
        "blurred by a grid of 2 pixels": np.asarray(jax.vmap(lambda x: features.softened(x, 2))(true)),
        "blurred by a grid of 4 pixels": np.asarray(jax.vmap(lambda x: features.softened(x, 4))(true)),
        "jaw moved by 0.4": transfer.photograph(who, states._replace(jaw=jaw), size),
        "eyes turned by 20 degrees": transfer.photograph(who, states._replace(gaze=np.float32(theta)), size),
        "another person": transfer.photograph(others, states, size),
    }
    look = jax.jit(helper.features)

    def distance(picture: np.ndarray) -> float:
        pairs = zip(look(params, jnp.asarray(picture)), look(params, jnp.asarray(true)), strict=True)
        return float(np.mean([jnp.abs(a - b).mean() / jnp.abs(b).mean() for a, b in pairs]))

    return {name: (distance(picture), float(np.abs(picture - true).mean())) for name, picture in changed.items()}


def cosines(helper: Helper, params: Any, model: str, people: int) -> dict[str, tuple[float, float]]:
    """Part (d): name of what is drawn to its mean cosine with A and with B, both photographed in another state."""
    release = load_release(model)
    config = from_json(json.dumps(release.config["autoencoder"]), AutoencoderConfig)
    face, size = transfer.network_face(config, release.tensors["autoencoder"]), config.image_size
    members = seeds("test")[:people], seeds("test")[people : 2 * people]
    a, b = (transfer.people_of(part) for part in members)
    source, other, driver, apart = (transfer.random_states(part, i) for i, part in enumerate((*members, *members)))
    pictures = [transfer.photograph(*pair, size) for pair in ((a, source), (a, driver), (b, other), (b, apart))]
    source_picture, own_driver, b_driver, b_apart = (jnp.asarray(picture) for picture in pictures)
    poses = [np.asarray(state_pose(states)) for states in (source, driver, other, apart)]
    embed = jax.jit(
        lambda params, pictures, pose: (
            helper.embed(params, face_crop(pictures, pose, helper.crop, helper.reach)) if helper.embed else None
        )
    )
    portrait = jax.jit(face.encode)(source_picture)
    drawn = {
        "A, true": (own_driver, poses[1]),
        "B, true": (b_driver, poses[2]),
        "A driven by A": (face.render(portrait, face.motion(own_driver)), poses[1]),
        "A driven by B": (face.render(portrait, face.motion(b_driver)), poses[2]),
    }
    who = [embed(params, picture, pose) for picture, pose in ((source_picture, poses[0]), (b_apart, poses[3]))]
    codes = {name: embed(params, *seen) for name, seen in drawn.items()}
    with_a, with_b = ({name: float((code * one).sum(-1).mean()) for name, code in codes.items()} for one in who)
    return {name: (with_a[name], with_b[name]) for name in codes}


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    timing.add_platform_flag(parser)
    parser.add_argument("--helper", default="world_features", help="release of the feature network")
    parser.add_argument("--model", default="demo", help="release whose face model is judged in (d)")
    parser.add_argument("--people", type=timing.positive, default=100, help="people behind every number")
    parser.add_argument("--json", default="", help="file for the numbers")
    options = parser.parse_args()
    timing.start(options)
    helper, params, _ = load_helper(options.helper)
    read = {size: accuracies(helper, params, options.people, size) for size in SIZES}
    print(f"{options.people} people in {PICTURES} pictures each\n")
    print(f"| | {' | '.join(f'{size} pixels' for size in SIZES)} |")
    print("|---|---|---|")
    for name in read[SIZES[0]]:
        print(f"| {name} | {' | '.join(f'{read[size][name]:.3f}' for size in SIZES)} |")
    seen = {size: changes(helper, params, options.people, size) for size in SIZES}
    print(f"\n| change | {' | '.join(f'maps, {size} | pixels, {size}' for size in SIZES)} |")
    print("|---|---|---|---|---|")
    for name in seen[SIZES[0]]:
        print(f"| {name} | {' | '.join('{:.3f} | {:.4f}'.format(*seen[size][name]) for size in SIZES)} |")
    who = cosines(helper, params, options.model, options.people)
    print("\n| picture | cosine with A | cosine with B |")
    print("|---|---|---|")
    for name, (with_a, with_b) in who.items():
        print(f"| {name} | {with_a:.3f} | {with_b:.3f} |", flush=True)
    if options.json:
        rows = {"accuracies": read, "changes": seen, "cosines": who}
        Path(options.json).write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
