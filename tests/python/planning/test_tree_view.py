from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from blendserve.planning.tree_view import TreeView
from report.tree_views import random_view, tree_view


def with_entry(view: TreeView, field: str, index: int, value: float) -> TreeView:
    changed = getattr(view, field).copy()
    changed[index] = value
    return dataclasses.replace(view, **{field: changed})


def test_the_sharing_ratio_counts_each_segment_once() -> None:
    assert tree_view((4, [6, 4], [1.0, 1.0]), (0, [10], [1.0])).sharing_ratio == 1 - (4 + 2 + 0 + 10) / 20
    assert tree_view((0, [0], [1.0])).sharing_ratio == 0.0


def test_sound_views_are_verified() -> None:
    for num_requests in (1, 10, 1000):
        random_view(num_requests).verify()
    tree_view((0, [3], [np.inf])).verify()


@pytest.mark.parametrize(
    ("field", "index", "value", "message"),
    [
        ("rows", 0, 1, "rows are a permutation"),
        ("parent", 1, -1, "there is one root"),
        ("parent", 1, 9, "parents are nodes"),
        ("leaf_parent", 0, 9, "leaves hang on nodes"),
        ("leaf_parent", 2, 1, "leaves lie within their nodes"),
        ("leaf_len", 0, 3, "leaves are no shorter than what they share"),
        ("end", 1, 9, "nodes hold leaves"),
        ("end", 0, 1, "nodes end within their parents"),
        ("depth", 0, 5, "nodes are as deep as their parents"),
        ("density", 1, 0.0, "densities are positive"),
        ("leaf_density", 2, np.nan, "densities are positive"),
    ],
)
def test_a_broken_view_is_named(field: str, index: int, value: float, message: str) -> None:
    view = with_entry(tree_view((4, [6, 4], [1.0, 1.0]), (0, [10], [1.0])), field, index, value)
    with pytest.raises(RuntimeError, match=message):
        view.verify()
