"""Charts over time as HTML: the curves are an SVG that stretches with the page, the words beside it do not."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["CHART_STYLE", "Axis", "Mark", "Series", "chart"]

Floats = NDArray[np.float64]

WIDTH, HEIGHT = 1000, 100  # of the SVG's own coordinates

CHART_STYLE = """
.chart { margin: 0; min-width: 0; }
.chart figcaption { display: flex; flex-wrap: wrap; gap: .1rem .9rem; align-items: baseline; margin-bottom: .35rem; }
.chart .name { font-weight: 600; }
.chart .key { color: var(--soft); font-size: .8rem; white-space: nowrap; }
.chart .key i { display: inline-block; width: 1.1rem; margin-right: .35rem; vertical-align: middle; }
.chart .key i.line { border-top: 2px solid; }
.chart .key i.area { height: .7rem; opacity: .75; background: currentColor; }
.chart .key i.mark { border-top: 2px dashed; }
.plot { position: relative; margin-left: 3.2rem; padding-bottom: 1.3rem; font-size: .75rem; color: var(--soft); }
.plot svg { display: block; width: 100%; height: var(--height); overflow: visible; }
.plot .y, .plot .x { position: absolute; font-variant-numeric: tabular-nums; white-space: nowrap; }
.plot .y { right: calc(100% + .4rem); transform: translateY(-50%); }
.plot .x { bottom: 0; transform: translateX(-50%); }
.plot path { vector-effect: non-scaling-stroke; fill: none; stroke-width: 1.5; stroke: currentColor; }
.plot path.grid { color: var(--grid); stroke-width: 1; }
.plot path.area { fill: currentColor; stroke: none; opacity: .75; }
.plot path.mark { stroke-dasharray: 5 4; }
"""


@dataclass(frozen=True, slots=True)
class Axis:
    """From 0 to `end`; `text` words a tick."""

    end: float
    ticks: tuple[float, ...]
    text: Callable[[float], str]

    @classmethod
    def to(cls, end: float, text: Callable[[float], str] = "{:,.10g}".format, *, num_ticks: int = 4) -> Axis:
        """About so many ticks at round numbers, 0 among them."""
        end = end if end > 0 else 1.0
        rough = end / num_ticks
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough * 0.999)
        count = int(end / step + 1e-9)
        return cls(end, tuple(round(index * step, 12) for index in range(count + 1)), text)

    def share(self, value: float) -> float:
        return value / self.end


@dataclass(frozen=True, slots=True)
class Series:
    """`values` [n], one for each stretch of time; colour is a CSS variable."""

    name: str
    values: Floats
    colour: str
    kind: Literal["line", "area"] = "line"


@dataclass(frozen=True, slots=True)
class Mark:
    """A dashed line across the chart at a value of the y axis, or down at a time."""

    name: str
    at: float
    colour: str
    is_time: bool = False


def chart(
    name: str, edges: Floats, series: Sequence[Series], *, x: Axis, y: Axis, marks: Sequence[Mark] = (), height: str
) -> str:
    """A figure. edges: [n + 1] times between which the values hold. Areas are stacked in their order; values beyond the
    axis are cut off. `height` is a CSS length."""
    shapes = [_grid(y)]
    base = np.zeros(len(edges) - 1)
    for one in series:
        top = one.values + base if one.kind == "area" else one.values
        shapes.append(_shape(one, edges, base, top, x, y))
        if one.kind == "area":
            base = top
    shapes += [_mark(mark, x, y) for mark in marks]
    words = ", ".join([*(one.name for one in series), *(mark.name for mark in marks)])
    return (
        f'<figure class="chart"><figcaption><span class="name">{escape(name)}</span>{_keys(series, marks)}</figcaption>'
        f'<div class="plot" style="--height: {height}">'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" preserveAspectRatio="none" role="img" '
        f'aria-label="{escape(name)} over time: {escape(words)}">{"".join(shapes)}</svg>'
        f"{_tick_words(x, y, height)}</div></figure>"
    )


def _keys(series: Sequence[Series], marks: Sequence[Mark]) -> str:
    entries: list[tuple[str, str, str]] = [(one.kind, one.colour, one.name) for one in series]
    entries += [("mark", mark.colour, mark.name) for mark in marks]
    if len(entries) == 1:
        return ""
    return "".join(
        f'<span class="key"><i class="{kind}" style="color: var({colour})"></i>{escape(name)}</span>'
        for kind, colour, name in entries
    )


def _grid(y: Axis) -> str:
    lines = "".join(f"M0 {_y(y, tick):.2f}H{WIDTH}" for tick in y.ticks)
    return f'<path class="grid" d="{lines}"/>'


def _shape(one: Series, edges: Floats, base: Floats, top: Floats, x: Axis, y: Axis) -> str:
    path = _steps(edges, top, x, y)
    if one.kind == "area":
        path += "L" + _steps(edges[::-1], base[::-1], x, y)[1:] + "Z"
    return f'<path class="{one.kind}" style="color: var({one.colour})" d="{path}"/>'


def _steps(edges: Floats, values: Floats, x: Axis, y: Axis) -> str:
    at = [f"{edge / x.end * WIDTH:.1f}" for edge in edges]
    first, *rest = [f"{_y(y, value):.2f}" for value in values]
    return (
        f"M{at[0]} {first}"
        + "".join(f"H{edge}V{value}" for edge, value in zip(at[1:-1], rest, strict=True))
        + f"H{at[-1]}"
    )


def _mark(mark: Mark, x: Axis, y: Axis) -> str:
    path = f"M{mark.at / x.end * WIDTH:.1f} 0V{HEIGHT}" if mark.is_time else f"M0 {_y(y, mark.at):.2f}H{WIDTH}"
    return f'<path class="mark" style="color: var({mark.colour})" d="{path}"/>'


def _y(y: Axis, value: float) -> float:
    return HEIGHT * (1 - min(max(y.share(value), 0.0), 1.0))


def _tick_words(x: Axis, y: Axis, height: str) -> str:
    return "".join(
        [
            *(
                f'<span class="y" style="top: calc({height} * {1 - y.share(tick):.4f})">{escape(y.text(tick))}</span>'
                for tick in y.ticks
            ),
            *(f'<span class="x" style="left: {x.share(tick):.2%}">{escape(x.text(tick))}</span>' for tick in x.ticks),
        ]
    )
