"""Judges of stage 1: does a face keep its identity and take everything else from its driver?

Besides transfer gains and reconstruction (`metrics.transfer`) there are two numbers that losses of VASA-1 section 3.1
exist for. With D the decoder, V and id of one frame, pose and dyn of another:

    swap       PSNR of D(V_i, id_i, pose_i, dyn_j) against the world's own picture of exactly that: the head of frame i
               with the expression and the gaze in the head of frame j. Two frames of one person: l_consist          (1)
    identity   cosine of a face helper between D(V_s, id_s, pose_d, dyn_d) and a true picture of s; d is another
               frame of s, or, crossed, of somebody else: l_cross_id                                               (2)

Of two people's clips three more pictures are made, each with one factor of the other's: pose, dynamics or identity.
The world draws exactly that combination, so each is compared with the truth (`exchange`).

Models of different sizes are compared at 128 pixels (`at_128`): what a model draws is brought there by Lanczos' filter
and held against the world's own picture of that size. Sharpness is there the energy of the finest octave of the
Laplacian pyramid within the face, over that of the truth. Gains are smaller there than at 64 pixels: fine detail moves
too.

The identity helper sees the upright face crop at the pose that the picture should have.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from vasa_jax.arrays import Motion
from vasa_jax.geometry.picture import face_crop, resample
from vasa_jax.geometry.rotation import gaze_angles, gaze_direction, gaze_in_head, pose_rotation
from vasa_jax.metrics.judges.protocol import Judge, Row, ratio, row
from vasa_jax.metrics.transfer import (
    Face,
    batched,
    face_disc,
    finest_octave,
    gain_products,
    masked_psnr,
    people_of,
    photograph,
    picture_psnr,
    random_states,
    reconstructions,
    world_pairs,
)
from vasa_jax.pretrained.helper import Helper
from vasa_jax.synthetic.render import labels
from vasa_jax.synthetic.splits import seeds
from vasa_jax.synthetic.state import State, state_pose, with_head_pose

PEOPLE = seeds("test")
"""Who is looked at: the first of them."""
FIRST, SECOND = 5, 6
"""Which of a person's random states are swapped; `transfer` and the probe use those before."""

COMMON_SIZE = 128
"""Side in pixels at which models of different sizes are compared."""
FACTORS = ("pose", "dynamics", "identity")
"""What is exchanged between two people's clips."""


class Rebuilt(NamedTuple):
    """`transfer.reconstructions`, and PSNR by region of two rivals: the source itself, and the true pose with the
    source's expression."""

    model: dict[str, np.ndarray]
    source: dict[str, np.ndarray]
    pose_only: dict[str, np.ndarray]


class Enlarged(NamedTuple):
    """Self-driven reconstruction at `COMMON_SIZE`, a number a person (n,).

    psnr, face: in dB, of the whole picture and of the face. made, true: energy of the finest octave within the face.
    gains: both products of a transfer gain by control.
    """

    psnr: np.ndarray
    face: np.ndarray
    made: np.ndarray
    true: np.ndarray
    gains: dict[str, tuple[np.ndarray, np.ndarray]]


class Exchanged(NamedTuple):
    """PSNR in dB by region, of pictures with one factor of somebody else's clip, and of the picture that gives the
    looks, left as it is; by factor."""

    psnr: dict[str, dict[str, np.ndarray]]
    left: dict[str, dict[str, np.ndarray]]


class Swapped(NamedTuple):
    """PSNR in dB by region of (1), of frame i left as it is against the same picture, and, over whole pictures, of (1)
    against D(V_j, id_j, pose_i, dyn_j)."""

    psnr: dict[str, np.ndarray]
    left: dict[str, np.ndarray]
    agreement: np.ndarray


class Alike(NamedTuple):
    """Cosines (n,) of (2).

    own, crossed: of the model. true, true_crossed: of the world's own picture of s in the state of the driver.
    strangers: of the driver of `crossed` and s.
    """

    own: np.ndarray
    crossed: np.ndarray
    true: np.ndarray
    true_crossed: np.ndarray
    strangers: np.ndarray


class FaceEvidence:
    """What judges of stage 1 ask for; every attribute is made when it is first read."""

    def __init__(
        self,
        face: Face,
        size: int,
        people: int = 32,
        helper: tuple[Helper, Any] | None = None,
        say: Callable[[str], None] = lambda line: None,
    ):
        """Bind a face model.

        Args:
            face: as three functions.
            size: side of its pictures in pixels.
            people: how many of the split "test" are looked at.
            helper: of identity, with its parameters, for `likenesses`.
            say: told what is under way.
        """
        self.face, self.size, self.people, self.say = face, size, PEOPLE[:people], say
        self._helper = helper

    @functools.cached_property
    def gains(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Both products of a transfer gain by control and person."""
        self.say(f"transfer gains of {len(self.people)} people")
        return gain_products(self.face, self.people, self.size)

    @functools.cached_property
    def rebuilt(self) -> Rebuilt:
        """Self-driven reconstruction."""
        self.say("reconstruction")
        rivals: list[list[dict[str, np.ndarray]]] = [[], []]
        for chunk in batched(self.people):
            pairs = world_pairs(chunk, self.size)
            for rows, picture in zip(rivals, (pairs.source, pairs.copied), strict=True):
                rows.append(picture_psnr(picture, pairs.driver, pairs.regions))
        return Rebuilt(reconstructions(self.face, self.people, self.size), *map(_joined, rivals))

    @functools.cached_property
    def enlarged(self) -> Enlarged:
        """The reconstruction, and what arrives, at the size that all models are compared at."""
        self.say(f"reconstruction and transfer gains at {COMMON_SIZE} pixels")
        columns: list[list[np.ndarray]] = [[] for _ in range(4)]
        for chunk in batched(self.people):
            pairs, truth = world_pairs(chunk, self.size), world_pairs(chunk, COMMON_SIZE).driver
            motion = self.face.motion(jnp.asarray(pairs.driver))
            drawn = self.face.render(self.face.encode(jnp.asarray(pairs.source)), motion)
            picture = np.clip(np.asarray(resample(jnp.asarray(drawn, jnp.float32), COMMON_SIZE), np.float64), 0.0, 1.0)
            disc = face_disc(pairs.pose, COMMON_SIZE)
            everywhere = np.ones_like(disc)
            octaves = ((finest_octave(frames) * disc).sum((1, 2)) / disc.sum((1, 2)) for frames in (picture, truth))
            told = (masked_psnr(picture, truth, everywhere), masked_psnr(picture, truth, disc), *octaves)
            for column, part in zip(columns, told, strict=True):
                column.append(part)
        gains = self.gains if self.size == COMMON_SIZE else gain_products(self._enlarging(), self.people, COMMON_SIZE)
        psnr, within, made, true = map(np.concatenate, columns)
        return Enlarged(psnr, within, made, true, gains)

    def _enlarging(self) -> Face:
        """The model behind a lens: pictures of `COMMON_SIZE` go in and out."""
        seen = lambda picture: resample(picture, self.size)  # noqa: E731
        return Face(
            encode=lambda picture: self.face.encode(seen(picture)),
            motion=lambda picture: self.face.motion(seen(picture)),
            render=lambda portrait, motion: resample(self.face.render(portrait, motion), COMMON_SIZE),
        )

    @functools.cached_property
    def exchanges(self) -> Exchanged:
        """One factor of the next person of the list, the other two of one's own."""
        self.say("exchanges")
        drivers = [*self.people[1:], *self.people[:1]]
        psnr: dict[str, list[dict[str, np.ndarray]]] = {factor: [] for factor in FACTORS}
        left: dict[str, list[dict[str, np.ndarray]]] = {factor: [] for factor in FACTORS}
        for chunk, others in zip(batched(self.people), batched(drivers), strict=True):
            one, other = people_of(chunk), people_of(others)
            here, there = random_states(chunk, FIRST), random_states(others, SECOND)
            pictures = photograph(one, here, self.size), photograph(other, there, self.size)
            own, foreign = (self.face.motion(jnp.asarray(picture)) for picture in pictures)
            combined = {
                "pose": (0, one, swapped_state(one, there, here), Motion(foreign.pose, own.dynamics)),
                "dynamics": (0, one, swapped_state(one, here, there), Motion(own.pose, foreign.dynamics)),
                "identity": (1, other, here, own),
            }
            for factor, (looks, people, wanted, motion) in combined.items():
                truth = photograph(people, wanted, self.size)
                drawn = np.asarray(self.face.render(self.face.encode(jnp.asarray(pictures[looks])), motion))
                psnr[factor].append(_by_region(drawn, truth, people, wanted))
                left[factor].append(_by_region(pictures[looks], truth, people, wanted))
        return Exchanged(*({factor: _joined(rows) for factor, rows in of.items()} for of in (psnr, left)))

    @functools.cached_property
    def swaps(self) -> Swapped:
        """Poses and expressions of two frames of one person, exchanged."""
        self.say("swaps")
        psnr, left, agreement = [], [], []
        for chunk in batched(self.people):
            people = people_of(chunk)
            one, other = random_states(chunk, FIRST), random_states(chunk, SECOND)
            wanted = swapped_state(people, one, other)
            pictures = [photograph(people, state, self.size) for state in (one, other, wanted)]
            here, there = (self.face.motion(jnp.asarray(picture)) for picture in pictures[:2])
            motion = Motion(here.pose, there.dynamics)
            first, second = (
                np.asarray(self.face.render(self.face.encode(jnp.asarray(picture)), motion), np.float64)
                for picture in pictures[:2]
            )
            psnr.append(_by_region(first, pictures[2], people, wanted))
            left.append(_by_region(pictures[0], pictures[2], people, wanted))
            agreement.append(_by_region(first, second, people, wanted)["psnr/all"])
        return Swapped(_joined(psnr), _joined(left), np.concatenate(agreement))

    @functools.cached_property
    def likenesses(self) -> Alike:
        """Who is recognised. Sources are driven by themselves, and by the next person of the list."""
        assert self._helper is not None
        self.say("identity")
        drivers = [*self.people[1:], *self.people[:1]]
        columns: list[list[np.ndarray]] = [[] for _ in Alike._fields]
        for chunk, others in zip(batched(self.people), batched(drivers), strict=True):
            one, other = people_of(chunk), people_of(others)
            source = random_states(chunk, FIRST)
            own, crossed = random_states(chunk, SECOND), random_states(others, SECOND)
            pictures = {
                "source": photograph(one, source, self.size),
                "own": photograph(one, own, self.size),
                "stranger": photograph(other, crossed, self.size),
                "crossed": photograph(one, crossed, self.size),
            }
            codes = {
                name: self._embedded(picture, state)
                for (name, picture), state in zip(pictures.items(), (source, own, crossed, crossed), strict=True)
            }
            portrait = self.face.encode(jnp.asarray(pictures["source"]))
            made = [
                self._embedded(self.face.render(portrait, self.face.motion(jnp.asarray(pictures[name]))), state)
                for name, state in (("own", own), ("stranger", crossed))
            ]
            told = (*made, codes["own"], codes["crossed"], codes["stranger"])
            for column, code in zip(columns, told, strict=True):
                column.append((codes["source"] * code).sum(1))
        return Alike(*map(np.concatenate, columns))

    def _embedded(self, picture: Any, state: State) -> np.ndarray:
        assert self._helper is not None
        return np.asarray(
            _embed(self._helper[0], self._helper[1], jnp.asarray(picture, jnp.float32), state_pose(state))
        )


def swapped_state(people: Any, place: State, acting: State) -> State:
    """The head of one state with the expression of another, and the gaze that the other has in its head."""
    looked, pose = labels(people, acting)["gaze"], jnp.asarray(state_pose(place))
    in_head = gaze_direction(gaze_in_head(looked, jnp.asarray(state_pose(acting))))
    turned = gaze_angles(jnp.einsum("bi,bij->bj", in_head, pose_rotation(pose)))
    return with_head_pose(acting, place)._replace(gaze=np.asarray(turned))


@functools.partial(jax.jit, static_argnums=0)
def _embed(helper: Helper, params: Any, picture: Float[Any, "b h w 3"], pose: Float[Any, "b 6"]) -> Any:
    assert helper.embed is not None
    return helper.embed(params, face_crop(picture, pose, helper.crop, helper.reach))


def _by_region(picture: Any, truth: np.ndarray, people: Any, state: State) -> dict[str, np.ndarray]:
    """`picture_psnr` of people in a state, and `psnr/head`, within the face's disc."""
    picture = np.asarray(picture, np.float64)
    known = labels(people, state)
    disc = face_disc(np.asarray(known["pose"]), truth.shape[1])
    return picture_psnr(picture, truth, np.asarray(known["regions"])) | {"psnr/head": masked_psnr(picture, truth, disc)}


def _joined(rows: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: np.concatenate([part[name] for part in rows]) for name in rows[0]}


def _gain(gains: dict[str, tuple[np.ndarray, np.ndarray]], judge: str = "gain") -> list[Row]:
    return [row(f"{judge}/{name}", "", "truth", products, 1.0, statistic=ratio) for name, products in gains.items()]


def _reconstruction(rebuilt: Rebuilt) -> list[Row]:
    rows = []
    for region in ("all", "eyes", "mouth"):
        values, rival = rebuilt.model[f"psnr/{region}"], rebuilt.source[f"psnr/{region}"]
        rows.append(row(f"psnr/{region}", "dB", "high", (values,)))
        rows.append(row(f"psnr/{region}_of_source", "dB", "high", (rival,)))
        rows.append(row(f"psnr/{region}_of_pose_alone", "dB", "high", (rebuilt.pose_only[f"psnr/{region}"],)))
    return rows


def _pose(rebuilt: Rebuilt) -> list[Row]:
    return [
        row(f"pose/{name}", "deg", "zero", (rebuilt.model[f"pose/{name}_deg"],), 0.0)
        for name in ("pitch", "yaw", "roll")
    ]


def _sharpness(rebuilt: Rebuilt) -> list[Row]:
    made, true = 1e4 * rebuilt.model["detail/made"], 1e4 * rebuilt.model["detail/true"]
    return [row("sharpness", "1e-4 of white squared", "truth", (made,), (true,))]


def _swap(swaps: Swapped) -> list[Row]:
    regions = ("all", "eyes", "mouth", "head")
    rows = [row(f"swap/{region}", "dB", "high", (swaps.psnr[f"psnr/{region}"],)) for region in regions]
    left = row("swap/all_of_source", "dB", "high", (swaps.left["psnr/all"],))
    return [*rows, left, row("swap/agreement", "dB", "high", (swaps.agreement,))]


def _exchange(exchanges: Exchanged) -> list[Row]:
    rows = []
    for factor in FACTORS:
        for region in ("mouth", "eyes", "head"):
            for name, psnr in (("", exchanges.psnr), ("_of_source", exchanges.left)):
                values = psnr[factor][f"psnr/{region}"]
                rows.append(row(f"exchange/{factor}/{region}{name}", "dB", "high", (values,)))
    return rows


def _at_128(enlarged: Enlarged) -> list[Row]:
    return [
        row("at_128/psnr", "dB", "high", (enlarged.psnr,)),
        row("at_128/face", "dB", "high", (enlarged.face,)),
        row("at_128/sharpness", "of truth", "truth", (enlarged.made, enlarged.true), 1.0, statistic=ratio),
        *_gain(enlarged.gains, "at_128/gain"),
    ]


def _identity(alike: Alike) -> list[Row]:
    return [
        row("identity/own", "cosine", "high", (alike.own,), (alike.true,)),
        row("identity/crossed", "cosine", "high", (alike.crossed,), (alike.true_crossed,)),
        row("identity/stranger", "cosine", "zero", (alike.strangers,), (alike.strangers,)),
    ]


FACE_JUDGES = (
    Judge("gain", "how much of a driver's change arrives in the picture; 1 is all", "gains", _gain),
    Judge("psnr", "self-driven reconstruction, beside two simple rivals", "rebuilt", _reconstruction),
    Judge("pose", "mean error of the predicted pose", "rebuilt", _pose),
    Judge("sharpness", "high-frequency energy of the picture", "rebuilt", _sharpness),
    Judge("at_128", f"reconstruction, sharpness and gain at {COMMON_SIZE} pixels, of any model", "enlarged", _at_128),
    Judge("exchange", "pictures with pose, dynamics or identity of somebody else's clip", "exchanges", _exchange),
    Judge("swap", "pictures with one frame's pose and another's expression", "swaps", _swap),
    Judge("identity", "likeness of pictures to the person of the source", "likenesses", _identity),
)
"""All of them."""
