"""Many rectangles as one small image: what a pixel is covered by, averaged by area."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["rasterise"]

Floats = NDArray[np.float64]


def rasterise(
    left: Floats, right: Floats, top: Floats, bottom: Floats, value: Floats, *, width: int, height: int
) -> tuple[Floats, Floats]:
    """Coverage and mean value of every pixel of a [height, width] image; 0 and 0 where nothing covers it.

    The rectangles are in pixel units, lie inside the image and do not overlap. Each corner adds to a second difference
    of the image, which two running sums turn into areas, so the cost does not depend on how large the rectangles are.
    """
    shape = (height + 2, width + 2)  # corners at the far edges spill over by two
    area = np.zeros(shape[0] * shape[1])
    weighted = np.zeros_like(area)
    for y, y_sign in ((top, 1.0), (bottom, -1.0)):
        for x, x_sign in ((left, 1.0), (right, -1.0)):
            for row, row_share in _edge(y):
                for column, column_share in _edge(x):
                    weight = row_share * column_share * (y_sign * x_sign)
                    cell = row * shape[1] + column
                    area += np.bincount(cell, weight, area.size)
                    weighted += np.bincount(cell, weight * value, area.size)
    coverage, total = (_running_sums(d.reshape(shape))[:height, :width] for d in (area, weighted))
    covered = coverage > 1e-6
    mean = np.divide(total, coverage, out=np.zeros_like(total), where=covered)
    return np.where(covered, np.minimum(coverage, 1.0), 0.0), mean


def _edge(x: Floats) -> tuple[tuple[NDArray[np.int64], Floats], tuple[NDArray[np.int64], Floats]]:
    """Where [x, inf) begins: the pixel that holds x is covered in part, all later ones in full."""
    pixel = np.floor(x).astype(np.int64)
    part = x - pixel
    return (pixel, 1.0 - part), (pixel + 1, part)


def _running_sums(difference: Floats) -> Floats:
    return difference.cumsum(axis=0).cumsum(axis=1)
