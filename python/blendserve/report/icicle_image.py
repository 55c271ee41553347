"""The pixels of an icicle picture: a layout of a prefix tree of any size as two images of a fixed size."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from blendserve.planning.tree_view import TreeView
from blendserve.report.density_colours import colours_of, log2_density
from blendserve.report.length_scale import LengthScale
from blendserve.report.raster import rasterise

__all__ = ["strip_image", "tree_image"]

Floats = NDArray[np.float64]
UNSHARED_STRENGTH = 0.5  # the part of a prompt that nobody shares is drawn paler than a shared segment


def tree_image(view: TreeView, scale: LengthScale, width: int, height: int) -> Floats:
    """RGB [height, width, 3]. Where a pixel stands for many requests, it has the mean of their densities on the log
    scale, and is as strong as the share of them that reach so far down."""
    shared, shared_log2 = _covered(
        view.begin, view.end, view.segment_start, view.depth, view.density, scale, width, height, len(view.rows)
    )
    leaf = np.arange(len(view.rows))
    unshared, unshared_log2 = _covered(
        leaf, leaf + 1, view.shared_len, view.leaf_len, view.leaf_density, scale, width, height, len(view.rows)
    )
    unshared = unshared * UNSHARED_STRENGTH
    paper = np.clip(1.0 - shared - unshared, 0.0, 1.0)[..., None]
    image = paper + shared[..., None] * colours_of(shared_log2) + unshared[..., None] * colours_of(unshared_log2)
    return np.clip(image, 0.0, 1.0)


def _covered(
    begin: NDArray[np.integer],
    end: NDArray[np.integer],
    start: NDArray[np.int32],
    stop: NDArray[np.int32],
    density: Floats,
    scale: LengthScale,
    width: int,
    height: int,
    num_leaves: int,
) -> tuple[Floats, Floats]:
    """Coverage and mean log2 density of boxes over the leaves begin..end and the tokens start..stop."""
    column = width / num_leaves
    return rasterise(
        (begin * column).astype(np.float64),
        (end * column).astype(np.float64),
        scale(start) * height,
        scale(stop) * height,
        log2_density(density),
        width=width,
        height=height,
    )


def strip_image(leaf_density: Floats, width: int, height: int) -> Floats:
    """RGB [height, width, 3] of the leaves' own densities: a column shows all its requests, the densest on top.

    So a column of unlike requests shows as a two-coloured one, not as their mean.
    """
    num_leaves = len(leaf_density)
    first = np.arange(width) * num_leaves // width
    column = np.searchsorted(first, np.arange(num_leaves), side="right")
    log2 = log2_density(leaf_density)
    log2 = log2[np.lexsort((-log2, column))]
    count = np.maximum(1, np.diff(first, append=num_leaves))
    rank = ((np.arange(height)[:, None] + 0.5) / height * count).astype(np.int64)
    return colours_of(log2[first + rank])
