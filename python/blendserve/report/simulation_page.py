"""A simulation as one HTML page that needs nothing else: the table against the bound, and the course of every run."""

from __future__ import annotations

from html import escape

from blendserve.report.html_chart import CHART_STYLE
from blendserve.report.simulation_charts import RunCharts
from blendserve.report.units import duration
from blendserve.simulation import SimulatedRun, SimulationReport, verdict

__all__ = ["simulation_page"]

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
section { background: var(--card); border-radius: .5rem; padding: 1rem clamp(.7rem, 2vw, 1.2rem); margin-top: 1.2rem; }
.row { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(14rem, 100%), 1fr)); gap: 1.1rem 1.6rem;
  margin-top: 1.1rem; }
.row .name { flex-basis: 100%; }
.row figcaption { min-height: 3rem; align-content: start; }
"""

_HOW_TO_READ = (
    "A step runs matrix products (compute) and reads the KV cache for decoding (memory); overlapped, it takes about as "
    "long as the longer of the two. A good schedule keeps both lines level and close to each other until the end. No "
    "schedule can end before the practical optimum. All runs have the same axes, but for the time of a step."
)


def simulation_page(report: SimulationReport) -> str:
    """HTML, without scripts and without anything from elsewhere."""
    settings, workload = report.settings, report.workload
    title = f"{workload.num_requests:,} requests, {settings['model']} on {_hardware(report)}"
    charts = RunCharts.of(report)
    sections = "".join(f"<section>{_heading(report, run)}{charts.html(run)}</section>" for run in report.runs)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}{CHART_STYLE}</style></head><body>"
        f'<h1>{escape(title)}</h1><p class="verdict">{escape(verdict(report))}</p>'
        f"{_facts(report)}{_table(report)}{_notes(report)}{sections}</body></html>\n"
    )


def _hardware(report: SimulationReport) -> str:
    settings = report.settings
    tp = f", tensor parallel {settings['tp']}" if settings["tp"] > 1 else ""
    return f"{settings['hardware']}{tp}" + (f", {settings['dp']} replicas" if settings["dp"] > 1 else "")


def _facts(report: SimulationReport) -> str:
    workload, bound, settings = report.workload, report.bound, report.settings
    samples = f"{workload.num_samples:,} sampled"
    told = {
        "sampled": samples,
        "hinted": f"hints, {samples}",
        "known": "all known",
    }
    facts = {
        "Prompt tokens": f"{workload.prompt_tokens:,}",
        "Output tokens": f"{workload.output_tokens:,}",
        "Output lengths": told[settings["lengths"]],
        "Reachable sharing": f"{workload.sharing_ratio_reachable:.1%}",
        "Compute / memory time": f"{workload.density:.3g}",
        "Least compute time": duration(bound.t_comp_s),
        "Least memory time": duration(bound.t_mem_s),
        "Practical optimum": duration(bound.practical_s),
        "KV cache" + (" of a replica" if settings["dp"] > 1 else ""): f"{report.kv_capacity_tokens:,} tokens",
    }
    entries = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in facts.items())
    return f"<dl>{entries}</dl>"


def _table(report: SimulationReport) -> str:
    first = report.runs[0]
    names = [
        "Schedule", "Time", f"Speed-up over {_name(report, first)}", "Of the practical optimum", "", "Tokens/s",
        "Sharing kept", "Preemptions",
    ]  # fmt: skip
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    best = min(run.total_s for run in report.runs)
    rows = "".join(_row(report, run, first, is_best=run.total_s == best) for run in report.runs)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'


def _row(report: SimulationReport, run: SimulatedRun, first: SimulatedRun, *, is_best: bool) -> str:
    share = f"{run.practical_optimal_fraction:.1%}"
    cells = [
        f"<td>{escape(_name(report, run))}</td>",
        f"<td>{duration(run.total_s)}</td>",
        f"<td>{first.total_s / run.total_s:.2f}x</td>",
        f"<td>{share}</td>",
        f'<td class="bar"><div><i style="width: {share}"></i></div></td>',
        f"<td>{run.throughput_tok_s:,.0f}</td>",
        f"<td>{run.sharing_fraction_of_optimal:.1%}</td>",
        f"<td>{run.preemptions:,}</td>",
    ]
    return f"<tr{' class=best' if is_best else ''}>{''.join(cells)}</tr>"


def _name(report: SimulationReport, run: SimulatedRun) -> str:
    is_one_execution = len({other.execution for other in report.runs}) == 1
    return run.schedule if is_one_execution else f"{run.schedule}, {run.execution}"


def _notes(report: SimulationReport) -> str:
    workload = report.workload
    notes = [_HOW_TO_READ]
    if workload.skipped_requests:
        notes.append(
            f"Left out, because they do not fit the KV cache even alone: {workload.skipped_requests:,} requests."
        )
    if workload.over_context_requests:
        notes.append(
            f"Longer than the model's context, which is not applied: {workload.over_context_requests:,} requests."
        )
    if report.settings["dp"] > 1:
        notes.append("The charts show the slowest replica of each run.")
    notes.append(f"Simulated by blendserve {report.settings['version']}, seed {report.settings['seed']}.")
    return f'<p class="note">{escape(" ".join(notes))}</p>'


def _heading(report: SimulationReport, run: SimulatedRun) -> str:
    return (
        f"<h2>{escape(_name(report, run))} <small>{duration(run.total_s)}, "
        f"{run.practical_optimal_fraction:.1%} of the practical optimum, {run.steps:,} steps</small></h2>"
    )
