"""One layout of a prefix tree as plain arrays, for pictures and reports."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["TreeView"]


@dataclass(frozen=True, slots=True)
class TreeView:
    """A prefix tree's n leaves (requests) from left to right and its m shared segments (inner nodes).

    A density is compute time / memory time of what lies below: > 0, +inf without memory time.
    """

    rows: NDArray[np.int32]  # [n] request at each leaf position
    leaf_len: NDArray[np.int32]  # [n] prompt tokens
    leaf_parent: NDArray[np.int32]  # [n] inner node above each leaf
    leaf_density: NDArray[np.float64]  # [n]
    parent: NDArray[np.int32]  # [m] -1 at the root
    begin: NDArray[np.int32]  # [m] leaf positions begin..end lie below the node
    end: NDArray[np.int32]  # [m]
    depth: NDArray[np.int32]  # [m] tokens from the root to the end of the node's segment
    density: NDArray[np.float64]  # [m] of the node's subtree

    @property
    def segment_start(self) -> NDArray[np.int32]:
        """[m] tokens from the root to the start of each node's segment."""
        return np.where(self.parent >= 0, self.depth[self.parent], 0).astype(np.int32)

    @property
    def shared_len(self) -> NDArray[np.int32]:
        """[n] tokens of each leaf's prompt that lie in inner nodes."""
        return self.depth[self.leaf_parent]

    @property
    def sharing_ratio(self) -> float:
        """1 - unique tree tokens / all prompt tokens, with the segments as often as this layout has them."""
        total = int(self.leaf_len.sum(dtype=np.int64))
        shared = int((self.depth - self.segment_start).sum(dtype=np.int64))
        unshared = total - int(self.shared_len.sum(dtype=np.int64))
        return 1.0 - (shared + unshared) / total if total else 0.0
