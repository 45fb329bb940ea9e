"""Geometry of the head and of sampling grids: rotations, rigid head transforms, gaze, grids and the 3-D grid sample.

Axes everywhere: x to the right, y down, z into the picture; a grid's coordinates run from -1 at the centre of the
first cell to 1 at the centre of the last one (section 3.1 of MegaPortraits and of VASA-1 leaves the convention open).
"""
