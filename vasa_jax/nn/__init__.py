"""Linen blocks that know no faces: convolutions, normalisation, residual blocks, ResNets, resizing, and what they cost."""
