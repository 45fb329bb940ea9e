"""How far two answers are apart, in units of the wanted one's range; the table at the end of a run shows it."""

import numpy as np

BAR = 1e-5


def agree(record_property, name, ours, wanted, bar=BAR):
    """Record the largest error for the table of parity, and hold it to the bar. A single number is its own range."""
    ours, wanted = np.asarray(ours), np.asarray(wanted)
    assert ours.shape == wanted.shape, name
    scale = float(np.ptp(wanted)) if wanted.size > 1 else float(np.abs(wanted).max())
    error = float(np.abs(ours - wanted).max()) / scale
    record_property("parity", (name, error, bar))
    assert error < bar, name
