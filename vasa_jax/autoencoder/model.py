"""The face autoencoder as a whole (VASA-1 section 3.1): encode a portrait once, read a motion off any frame, render.

    Portrait = (V_app, identity map) of a source picture;  Motion = (z_pose, z_dyn) of any picture;
    picture = G2D(warp_driven(V_app; pose, f_d(e))),  e = identity map + Linear(z_dyn)                           (1)

The linear map of equation 1 is shared by both warp generators; everything else has weights of its own.
"""

from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from vasa_jax.arrays import POSE_DIM, Motion, Portrait
from vasa_jax.autoencoder.config import AutoencoderConfig
from vasa_jax.autoencoder.decoder import Decoder
from vasa_jax.autoencoder.encoders import AppearanceEncoder, IdentityEncoder, MotionEncoder, shrink
from vasa_jax.autoencoder.volume import CanonicalNetwork
from vasa_jax.autoencoder.warp import WarpGenerator, warp_to_canonical, warp_to_driven
from vasa_jax.geometry.grid import share_out
from vasa_jax.geometry.picture import face_crop
from vasa_jax.nn.gathering import Dense
from vasa_jax.nn.initialisers import scaled_uniform

FACE_REACH = 0.6
"""Half the side of the dynamics encoder's crop, in canonical head units."""


class Autoencoder(nn.Module):
    """Stage 1. Call `init` with two pictures, then `apply(..., method="encode" | "motion" | "render")`."""

    config: AutoencoderConfig

    def setup(self):
        """Name the submodules."""
        self.appearance = AppearanceEncoder(self.config)
        self.identity = IdentityEncoder(self.config)
        self.pose_encoder = MotionEncoder(self.config, POSE_DIM, scale=0.1)
        self.dynamics_encoder = MotionEncoder(self.config, self.config.dynamics_dim, scale=0.1)
        self.projection = Dense(self.config.identity_channels, kernel_init=scaled_uniform(4.0))
        self.canonical_warp = WarpGenerator(self.config)
        self.canonical = CanonicalNetwork(self.config)
        self.driven_warp = WarpGenerator(self.config)
        self.decoder = Decoder(self.config)

    def __call__(self, source: Float[Array, "b h w 3"], driver: Float[Array, "n h w 3"]) -> Float[Array, "n h w 3"]:
        """Pictures of the sources' people in the drivers' motion; n is a multiple of b, as in `render`."""
        return self.render(self.encode(source), self.motion(driver))

    def pose(self, image: Float[Array, "b h w 3"]) -> Float[Array, "b 6"]:
        """Head pose of pictures in 0..1, float32, in the units of `arrays.Motion`."""
        return self.pose_encoder(shrink(image, self.config.pose_size))

    def dynamics(self, crop: Float[Array, "b s s 3"]) -> Float[Array, "b z"]:
        """Dynamics code of upright face crops in 0..1 (`geometry.picture.face_crop`, side `dynamics_size`), float32."""
        return self.dynamics_encoder(crop)

    def motion(self, image: Float[Array, "b h w 3"]) -> Motion:
        """Pose (b, 6) and, through the face crop at that pose, dynamics (b, z) of pictures in 0..1; both float32."""
        pose = self.pose(image)
        return Motion(pose, self.dynamics(face_crop(image, pose, self.config.dynamics_size, FACE_REACH)))

    def encode(self, image: Float[Array, "b h w 3"], motion: Motion | None = None) -> Portrait:
        """Portraits of pictures in 0..1.

        `motion` is the pictures' own motion where it is known better than the encoders see it (a labelled pose, or
        codes already computed); None reads it off the pictures.
        """
        motion = self.motion(image) if motion is None else motion
        identity = self.identity(image)
        flow = self.canonical_warp(self._code(identity, motion.dynamics))
        volume = warp_to_canonical(self.appearance(image), flow, motion.pose)
        return Portrait(self.canonical(volume), identity)

    def render(self, portrait: Portrait, motion: Motion, owners: Sequence[int] = ()) -> Float[Array, "n h w 3"]:
        """Pictures in 0..1 of b portraits in n motions; portrait i serves motions i n / b to (i + 1) n / b - 1, or
        those that `owners` gives it by `geometry.grid.share_out`.

        Raises:
            ValueError: the portraits cannot be shared out over the motions.
        """
        return self.decoder(self.drive(portrait, motion, owners))

    def drive(self, portrait: Portrait, motion: Motion, owners: Sequence[int] = ()) -> Float[Array, "n d h w c"]:
        """The driven volumes that `render` decodes."""
        flow = self.driven_warp(self._code(portrait.identity, motion.dynamics, owners))
        return warp_to_driven(portrait.volume, flow, motion.pose, owners)

    def _code(
        self, identity: Float[Array, "b 4 4 k"], dynamics: Float[Array, "n z"], owners: Sequence[int] = ()
    ) -> Float[Array, "n 4 4 k"]:
        """e of equation 1, one per motion."""
        groups, owners = share_out(identity.shape[0], dynamics.shape[0], owners)
        cells = identity.shape[1:]
        identity = jnp.take(identity.reshape(groups, -1, *cells), jnp.asarray(owners), axis=1, mode="clip")
        return identity.reshape(-1, *cells) + self.projection(dynamics)[:, None, None]
