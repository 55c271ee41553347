from __future__ import annotations

import struct
import sys
from pathlib import Path

import numpy as np
import pytest
from blendserve import UserError
from blendserve.planning.tree_view import TreeView
from blendserve.report.icicle import HEIGHT, WIDTH, draw_icicle
from report.tree_views import random_view, tree_view


def draw(view: TreeView, path: Path, title: str = "a job") -> None:
    draw_icicle(view, view, path, title=title, root_density=1.25)


def png_size(path: Path) -> tuple[int, int]:
    header = path.read_bytes()[:24]
    assert header[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", header[16:24])
    return width, height


@pytest.mark.parametrize(
    "view",
    [
        pytest.param(tree_view((0, [100], [2.0])), id="one request"),
        pytest.param(tree_view((0, [0], [1.0])), id="one empty prompt"),
        pytest.param(random_view(10), id="ten requests"),
        pytest.param(tree_view((30, [30] * 4000, [0.5] * 4000)), id="nothing but a chat template"),
        pytest.param(
            tree_view((0, [1, 100_000, 7], [np.inf, 1e-9, 1.0])), id="no sharing, extreme lengths and densities"
        ),
        pytest.param(random_view(200_000), id="many requests"),
    ],
)
def test_a_picture_is_written_in_its_size(view: TreeView, tmp_path: Path) -> None:
    draw(view, tmp_path / "tree.png")
    assert png_size(tmp_path / "tree.png") == (WIDTH, HEIGHT)


def test_an_infinite_density_of_the_whole_job_can_be_drawn(tmp_path: Path) -> None:
    view = random_view(10)
    draw_icicle(view, view, tmp_path / "tree.png", title="scoring", root_density=np.inf)
    assert (tmp_path / "tree.png").exists()


def test_a_vector_picture_says_in_words_what_it_shows_and_takes_any_title(tmp_path: Path) -> None:
    draw(
        tree_view((300, [400] * 6, [8.0] * 6), (0, [50], [0.1])), tmp_path / "tree.svg", title="price: $5, $6 & <more>"
    )
    text = (tmp_path / "tree.svg").read_text()
    words = (
        "compute-heavy",
        "balanced",
        "memory-heavy",
        "whole job: 1.25",
        "300 tokens shared by 6",
        "61.2%",
        "$5, $6",
    )
    assert [word for word in words if word not in text] == []


def test_an_unknown_kind_of_picture_names_those_that_are_known(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"tree\.bmpx: .* must end in one of .*\.png"):
        draw(random_view(10), tmp_path / "tree.bmpx")


def test_no_requests_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="at least one request"):
        draw(tree_view((0, [], [])), tmp_path / "tree.png")


def test_without_matplotlib_the_error_names_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("matplotlib")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UserError, match=r"pip install 'blendserve\[plan\]'"):
        draw(random_view(10), tmp_path / "tree.png")
