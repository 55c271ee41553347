"""The colour of a density: blue memory-heavy, grey balanced, orange compute-heavy; safe for colour-blind eyes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["COLOUR_SPAN", "colours_of", "log2_density"]

COLOUR_SPAN = 6.0  # densities of 1/64 to 64; one scale for all pictures, so that they can be compared
ANCHORS = np.array([[8, 64, 129], [43, 140, 190], [203, 203, 203], [240, 129, 36], [140, 45, 4]]) / 255.0


def log2_density(density: NDArray[np.float64]) -> NDArray[np.float64]:
    """Clipped to the scale's ends, so that an infinite density can be averaged with others."""
    return np.clip(np.log2(density), -COLOUR_SPAN, COLOUR_SPAN)


def colours_of(log2: NDArray[np.float64]) -> NDArray[np.float64]:
    """RGB, in a new last axis."""
    anchors = np.linspace(-COLOUR_SPAN, COLOUR_SPAN, len(ANCHORS))
    return np.stack([np.interp(log2, anchors, channel) for channel in ANCHORS.T], axis=-1)
