"""What the pages of a report have in common: HTML, without scripts and without anything from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from blendserve.report.html_chart import CHART_STYLE

__all__ = ["Bar", "facts", "note", "page", "section", "table"]

_STYLE = """
:root {
  color-scheme: light dark;
  --paper: #fff; --card: #f7f7f5; --ink: #1c1c1c; --soft: #5c5c5c; --grid: #d9d9d6;
  --compute: #d55e00; --memory: #0072b2; --plain: #6b6b6b;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #15171a; --card: #1d2024; --ink: #ececec; --soft: #a8a8a8; --grid: #3a3e44;
    --compute: #f08c3c; --memory: #56b4e9; --plain: #a9adb3;
  }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 75rem; padding: 1.5rem clamp(.8rem, 3vw, 2rem) 3rem; background: var(--paper);
  color: var(--ink); font: 1rem/1.5 system-ui, sans-serif; }
h1 { font-size: 1.45rem; line-height: 1.25; margin: 0 0 .3rem; }
h2 { font-size: 1.1rem; margin: 0 0 .8rem; }
h2 small { font-weight: 400; color: var(--soft); font-size: .9rem; }
.verdict { font-size: 1.1rem; margin: .2rem 0 1.2rem; }
.note { color: var(--soft); font-size: .85rem; max-width: 62rem; }
dl { display: grid; grid-template-columns: repeat(auto-fit, minmax(9rem, 1fr)); gap: .8rem 1.2rem;
  margin: 0 0 1.4rem; }
dt { color: var(--soft); font-size: .8rem; }
dd { margin: 0; font-variant-numeric: tabular-nums; }
.wide { overflow-x: auto; margin-bottom: .6rem; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .35rem .7rem; white-space: nowrap; border-bottom: 1px solid var(--grid); }
th { white-space: normal; font-size: .8rem; color: var(--soft); font-weight: 600; vertical-align: bottom; }
th:first-child, td:first-child { text-align: left; padding-left: 0; position: sticky; left: 0;
  background: var(--paper); }
tr.best td { font-weight: 600; }
td.bar { min-width: 9rem; }
td.bar div { height: .45rem; background: var(--grid); border-radius: .2rem; overflow: hidden; }
td.bar div i { display: block; height: 100%; background: var(--plain); }
tr.best td.bar div i { background: var(--ink); }
section { --paper: var(--card); background: var(--card);
  border-radius: .5rem; padding: 1rem clamp(.7rem, 2vw, 1.2rem); margin-top: 1.2rem; }
.row { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(14rem, 100%), 1fr)); gap: 1.1rem 1.6rem;
  margin-top: 1.1rem; }
.row .name { flex-basis: 100%; }
.row figcaption { min-height: 3rem; align-content: start; }
"""


@dataclass(frozen=True, slots=True)
class Bar:
    """A cell of a table: how much of the whole, 0 to 1."""

    share: float


def page(title: str, verdict: str, body: str) -> str:
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}{CHART_STYLE}</style></head><body>"
        f'<h1>{escape(title)}</h1><p class="verdict">{escape(verdict)}</p>{body}</body></html>\n'
    )


def facts(values: Mapping[str, str]) -> str:
    entries = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in values.items())
    return f"<dl>{entries}</dl>"


def table(names: Sequence[str], rows: Sequence[Sequence[str | Bar]], *, is_best: Sequence[bool]) -> str:
    """The best rows stand out."""
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    body = "".join(_row(cells, best) for cells, best in zip(rows, is_best, strict=True))
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def section(name: str, detail: str, body: str) -> str:
    return f"<section><h2>{escape(name)} <small>{escape(detail)}</small></h2>{body}</section>"


def note(sentences: Sequence[str]) -> str:
    return f'<p class="note">{escape(" ".join(sentences))}</p>'


def _row(cells: Sequence[str | Bar], is_best: bool) -> str:
    return f"<tr{' class=best' if is_best else ''}>{''.join(map(_cell, cells))}</tr>"


def _cell(content: str | Bar) -> str:
    if isinstance(content, Bar):
        return f'<td class="bar"><div><i style="width: {content.share:.1%}"></i></div></td>'
    return f"<td>{escape(content)}</td>"
