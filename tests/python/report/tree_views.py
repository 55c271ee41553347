"""Small and large `TreeView`s for the pictures: groups of requests, each with at most one shared prefix."""

from __future__ import annotations

import numpy as np
from blendserve.planning.tree_view import TreeView


def tree_view(*groups: tuple[int, list[int], list[float]]) -> TreeView:
    """Each group is (tokens its prompts share, their lengths, their densities), left to right below an empty root."""
    sizes = np.array([len(lengths) for _, lengths, _ in groups])
    ends = np.concatenate([[0], np.cumsum(sizes)])
    densities = [np.asarray(group[2], np.float64) for group in groups]
    shared = [i for i, (prefix, _, _) in enumerate(groups) if prefix > 0]
    node_of = np.zeros(len(groups), np.int64)
    node_of[shared] = np.arange(1, len(shared) + 1)
    everything = np.concatenate(densities)
    return TreeView(
        rows=np.arange(ends[-1], dtype=np.int32),
        leaf_len=np.concatenate([np.asarray(group[1]) for group in groups]).astype(np.int32),
        leaf_parent=np.repeat(node_of, sizes).astype(np.int32),
        leaf_density=everything,
        parent=np.array([-1] + [0] * len(shared), np.int32),
        begin=np.array([0, *ends[:-1][shared]], np.int32),
        end=np.array([ends[-1], *ends[1:][shared]], np.int32),
        depth=np.array([0] + [groups[i][0] for i in shared], np.int32),
        density=np.array([d.mean() if d.size else 1.0 for d in [everything, *(densities[i] for i in shared)]]),
    )


def random_view(num_requests: int, seed: int = 0) -> TreeView:
    """Half the requests in groups with a shared prefix, half without."""
    rng = np.random.default_rng(seed)
    num_groups = max(1, min(50, num_requests // 4))
    size = num_requests // (2 * num_groups)
    groups = []
    for _ in range(num_groups):
        lengths = 600 + rng.integers(1, 300, size)
        groups.append((600, lengths.tolist(), np.exp2(rng.normal(2, 1, size)).tolist()))
    rest = num_requests - size * num_groups
    groups.append((0, rng.integers(0, 750, rest).tolist(), np.exp2(rng.normal(-2, 1, rest)).tolist()))
    return tree_view(*groups)
