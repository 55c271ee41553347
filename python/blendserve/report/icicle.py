"""The icicle picture: what a plan did to a job's prefix tree, before and after, one above the other."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from blendserve.errors import UserError
from blendserve.planning.tree_view import TreeView
from blendserve.report.density_colours import COLOUR_SPAN, colours_of, log2_density
from blendserve.report.icicle_image import strip_image, tree_image
from blendserve.report.length_scale import LengthScale
from blendserve.report.shared_boxes import mark_shared_boxes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw_icicle"]

DPI = 150
WIDTH, HEIGHT = 1720, 1330  # of the picture, in pixels; all lengths below too
LEFT, TREE_WIDTH = 150, 1500
TREE_HEIGHT, STRIP_HEIGHT = 350, 30
BEFORE_TOP, AFTER_TOP = 205, 705

HOW_TO_READ = """\
Each request is a column; its prompt runs downwards. A strong, outlined box is a piece of prompt that all requests
in its width share: it is computed once. The pale rest is a prompt's own. Orange requests keep the arithmetic units busy
(long prompts, short answers), blue ones the memory (long answers). The plan sorts from orange to blue and keeps the
boxes whole; the engine then takes requests from both ends at once."""


def draw_icicle(before: TreeView, after: TreeView, path: str | Path, *, title: str, root_density: float) -> None:
    """Writes the picture; the suffix of `path` says in which format. `root_density` is the whole job's."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise UserError(f"a picture needs {error.name}: pip install 'blendserve[plan]'") from error
    if len(before.rows) == 0:
        raise UserError("a job without requests has no picture: give at least one request")
    figure = Figure(figsize=(WIDTH / DPI, HEIGHT / DPI), dpi=DPI)
    suffixes = FigureCanvasAgg(figure).get_supported_filetypes()
    if Path(path).suffix[1:] not in suffixes:
        raise UserError(f"{path}: a picture's name must end in one of .{', .'.join(sorted(suffixes))}")
    figure.text(LEFT / WIDTH, 1 - 45 / HEIGHT, title, parse_math=False, fontsize=13, weight="bold")
    figure.text(LEFT / WIDTH, 1 - 147 / HEIGHT, HOW_TO_READ, fontsize=8.5, color="0.25", linespacing=1.4)
    scale = LengthScale.of(before.leaf_len)
    _draw_panel(figure, before, scale, BEFORE_TOP, "Before (prompts in token order)")
    _draw_panel(figure, after, scale, AFTER_TOP, "After (as planned)")
    _draw_legend(figure, root_density)
    figure.savefig(path)


def _draw_panel(figure: Figure, view: TreeView, scale: LengthScale, top: int, name: str) -> None:
    from matplotlib.ticker import MaxNLocator

    n = len(view.rows)
    tree = _axes(figure, top, TREE_HEIGHT)
    tree.imshow(
        tree_image(view, scale, TREE_WIDTH, TREE_HEIGHT), extent=(0, n, 1, 0), aspect="auto", interpolation="nearest"
    )
    tree.set_title(f"{name}: {view.sharing_ratio:.1%} of all prompt tokens are shared", loc="left", fontsize=10)
    tree.set_ylabel("prompt position (tokens)", fontsize=8.5)
    ticks = scale.ticks()
    tree.set_yticks(scale(np.array(ticks)).tolist(), [f"{tick:,}" for tick in ticks])
    tree.set_xticks([])
    mark_shared_boxes(tree, view, scale, TREE_WIDTH, TREE_HEIGHT)
    strip = _axes(figure, top + TREE_HEIGHT + 8, STRIP_HEIGHT)
    strip.imshow(
        strip_image(view.leaf_density, TREE_WIDTH, STRIP_HEIGHT),
        extent=(0, n, 1, 0),
        aspect="auto",
        interpolation="nearest",
    )
    strip.set_yticks([0.5], ["each request"])
    strip.xaxis.set_major_locator(MaxNLocator(integer=True))
    strip.xaxis.set_major_formatter(lambda x, _: f"{x:,.0f}")
    strip.set_xlabel(f"{n:,} requests, in the order of the tree" if n > 1 else "1 request", fontsize=8.5)
    for axes in (tree, strip):
        axes.tick_params(labelsize=8)


def _axes(figure: Figure, top: int, height: int, left: int = LEFT, width: int = TREE_WIDTH) -> Axes:
    """Axes of exactly so many pixels, counted from the picture's upper left corner."""
    return figure.add_axes((left / WIDTH, 1 - (top + height) / HEIGHT, width / WIDTH, height / HEIGHT))


def _draw_legend(figure: Figure, root_density: float) -> None:
    axes = _axes(figure, HEIGHT - 92, 22, left=LEFT + TREE_WIDTH // 4, width=TREE_WIDTH // 2)
    gradient = colours_of(np.linspace(-COLOUR_SPAN, COLOUR_SPAN, 512))[None]
    axes.imshow(gradient, extent=(-COLOUR_SPAN, COLOUR_SPAN, 1, 0), aspect="auto")
    axes.set_yticks([])
    axes.set_xticks([-6, -4, -2, 0, 2, 4, 6], ["≤ 1/64", "1/16", "1/4", "1", "4", "16", "≥ 64"], fontsize=8)
    axes.set_xlabel("compute time / memory time (density)", fontsize=8.5)
    axes.text(-0.01, 0.5, "memory-heavy", transform=axes.transAxes, ha="right", va="center", fontsize=9)
    axes.text(1.01, 0.5, "compute-heavy", transform=axes.transAxes, ha="left", va="center", fontsize=9)
    axes.text(0, 0.5, "balanced", ha="center", va="center", fontsize=8)
    mark = float(log2_density(np.array(root_density)))
    axes.plot([mark], [-0.3], marker="v", color="black", markersize=6, clip_on=False, scaley=False)
    axes.text(
        mark,
        -0.7,
        f"whole job: {root_density:.3g}, requests weighted by their time",
        ha="center",
        va="bottom",
        fontsize=8.5,
    )
