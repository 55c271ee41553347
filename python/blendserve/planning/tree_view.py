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

    def verify(self) -> None:
        """Raises RuntimeError at the first invariant that does not hold."""
        num_leaves, num_nodes = len(self.rows), len(self.parent)
        leaf, at = np.arange(num_leaves), self.leaf_parent
        _require(np.sort(self.rows) == leaf, "rows are a permutation")
        _require(self.parent < num_nodes, "parents are nodes")
        _require((at >= 0) & (at < num_nodes), "leaves hang on nodes")
        _require((self.begin >= 0) & (self.begin <= self.end) & (self.end <= num_leaves), "nodes hold leaves")
        child = np.flatnonzero(self.parent >= 0)
        above = self.parent[child]
        _require(len(child) == num_nodes - 1, "there is one root")
        _require(self.begin[child] >= self.begin[above], "nodes begin within their parents")
        _require(self.end[child] <= self.end[above], "nodes end within their parents")
        _require(self.depth[child] >= self.depth[above], "nodes are as deep as their parents")
        _require((leaf >= self.begin[at]) & (leaf < self.end[at]), "leaves lie within their nodes")
        _require(self.leaf_len >= self.depth[at], "leaves are no shorter than what they share")
        _require(self.leaf_density > 0, "densities are positive")
        _require(self.density > 0, "densities are positive")


def _require(holds: NDArray[np.bool_] | bool, invariant: str) -> None:
    if not np.all(holds):
        raise RuntimeError(f"TreeView: it does not hold that {invariant}")
