"""Linen blocks that know no faces: convolution, norms, residual blocks, ResNets, attention, and what they cost."""
