"""The face autoencoder at the smallest sizes that build every kind of block: 32x32 pictures, all widths about 4."""

from vasa_jax.autoencoder.config import AutoencoderConfig

AUTOENCODER = AutoencoderConfig(
    image_size=32,
    volume_stride=4,
    volume_channels=4,
    volume_depth=2,
    dynamics_dim=8,
    groups=2,
    appearance_stem=4,
    appearance_widths=(4, 4, 8),
    appearance_blocks=1,
    identity_image_size=32,
    identity_width=4,
    identity_stages=(1,),
    identity_channels=4,
    pose_size=32,
    dynamics_size=32,
    motion_width=4,
    motion_stages=(1, 1),
    warp_channels=4,
    warp_depth=2,
    warp_widths=(4, 4),
    warp_upsampling=((1, 2, 2), (1, 1, 1)),
    canonical_widths=(4, 4, 4),
    canonical_depth_factor=1,
    decoder_width=4,
    decoder_blocks=1,
    decoder_widths=(4, 4, 4),
)
