"""Outlines and words for the shared segments of an icicle picture that are large enough for them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from blendserve.planning.tree_view import TreeView
from blendserve.report.density_colours import log2_density
from blendserve.report.length_scale import LengthScale

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["mark_shared_boxes"]

MAX_OUTLINES, MAX_LABELS = 500, 12
OUTLINED_SIZE = (6, 3)  # least width and height in pixels
LABEL_HEIGHT, LETTER_WIDTH = 20, 9.5  # pixels
DARK_LOG2 = 4.0  # beyond it, black letters cannot be read on the colour of a density


def mark_shared_boxes(axes: Axes, view: TreeView, scale: LengthScale, width: int, height: int) -> None:
    """`axes` are width x height pixels, over the leaf positions and 0..1."""
    boxes = _visible_boxes(view, scale, width, height)
    _outline(axes, boxes)
    _label(axes, boxes, len(view.rows) / width, height)


@dataclass(frozen=True, slots=True)
class _Boxes:
    """The shared segments to mark, the largest first, in the units of the axes."""

    left: NDArray[np.int32]
    right: NDArray[np.int32]
    top: NDArray[np.float64]
    bottom: NDArray[np.float64]
    num_tokens: NDArray[np.int32]
    log2: NDArray[np.float64]


def _visible_boxes(view: TreeView, scale: LengthScale, width: int, height: int) -> _Boxes:
    start = view.segment_start
    top, bottom = scale(start), scale(view.depth)
    columns = (view.end - view.begin) * (width / len(view.rows))
    lines = (bottom - top) * height
    seen = np.flatnonzero((columns >= OUTLINED_SIZE[0]) & (lines >= OUTLINED_SIZE[1]))
    node = seen[np.argsort(-(columns * lines)[seen], kind="stable")][:MAX_OUTLINES]
    return _Boxes(
        left=view.begin[node],
        right=view.end[node],
        top=top[node],
        bottom=bottom[node],
        num_tokens=(view.depth - start)[node],
        log2=log2_density(view.density[node]),
    )


def _outline(axes: Axes, boxes: _Boxes) -> None:
    from matplotlib.collections import PolyCollection

    x = np.stack([boxes.left, boxes.right, boxes.right, boxes.left], axis=1)
    y = np.stack([boxes.top, boxes.top, boxes.bottom, boxes.bottom], axis=1)
    corners = list(np.stack([x, y], axis=2))
    axes.add_collection(PolyCollection(corners, facecolors="none", edgecolors="0.1", linewidths=0.5))


def _label(axes: Axes, boxes: _Boxes, leaves_per_pixel: float, height: int) -> None:
    """Writes into the largest boxes that have the room what they are."""
    num_leaves = boxes.right - boxes.left
    texts = [
        f"{tokens:,} tokens shared by {leaves:,}" for tokens, leaves in zip(boxes.num_tokens, num_leaves, strict=True)
    ]
    wide = num_leaves >= [LETTER_WIDTH * len(text) * leaves_per_pixel for text in texts]
    high = (boxes.bottom - boxes.top) * height >= LABEL_HEIGHT
    for i in np.flatnonzero(wide & high)[:MAX_LABELS]:
        middle = ((boxes.left[i] + boxes.right[i]) / 2, (boxes.top[i] + boxes.bottom[i]) / 2)
        colour = "white" if abs(boxes.log2[i]) > DARK_LOG2 else "black"
        axes.text(*middle, texts[i], ha="center", va="center", fontsize=7, color=colour)
