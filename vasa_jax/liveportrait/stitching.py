"""S and R, the small networks that correct keypoints (LivePortrait section 3.3): linear layers with ReLU between.

* S, stitching: [source (63), driving (63)] to 63 offsets of the driving keypoints and 2 of all their x and y.
* R_lip: [source (63), the source's lip ratio, the wanted one] to 63 offsets.
* R_eye: [source (63), the source's two eye ratios, the wanted one] to 63 offsets.
"""

import flax.linen as nn
from jaxtyping import Array, Float

STITCHING = (128, 128, 64, 65)
RETARGET_LIP = (128, 128, 64, 63)
RETARGET_EYE = (256, 256, 128, 128, 64, 63)


class Corrector(nn.Module):
    """A multi-layer perceptron of the given widths; the last is the output's."""

    widths: tuple[int, ...]

    @nn.compact
    def __call__(self, x: Float[Array, "b k"]) -> Float[Array, "b n"]:
        """The correction for flat vectors."""
        for i, width in enumerate(self.widths):
            x = nn.Dense(width, name=f"layers_{i}")(nn.relu(x) if i else x)
        return x
