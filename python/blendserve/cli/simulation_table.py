"""What `blendserve simulate` shows: the workload, the bound, and every schedule against it."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from blendserve.report.units import duration
from blendserve.simulation import SimulatedRun, SimulationReport, binding, verdict

__all__ = ["print_simulation"]

_BINDINGS = {
    "compute": "compute-bound: the memory would wait",
    "memory": "memory-bound: the arithmetic would wait",
    "both": "balanced: both resources bind",
    "steps": "bound by its steps: the weights are read in each",
}


def print_simulation(report: SimulationReport, console: Console) -> None:
    for name, value in _facts(report).items():
        console.print(f"{name:<10} {value}", markup=False, highlight=False, soft_wrap=True)
    console.print(_table(report))
    console.print(verdict(report), markup=False, highlight=False, soft_wrap=True)


def _facts(report: SimulationReport) -> dict[str, str]:
    workload, bound, settings = report.workload, report.bound, report.settings
    facts = {
        "model": f"{settings['model']} on {_hardware(report)}, {report.kv_capacity_tokens:,} tokens of KV cache"
        + (" each" if settings["dp"] > 1 else ""),
        "workload": f"{workload.num_requests:,} requests, {workload.prompt_tokens:,} prompt and "
        f"{workload.output_tokens:,} output tokens",
    }
    if workload.dropped_rows:
        facts["dropped"] = f"{workload.dropped_rows:,} of the rows read, which are no requests"
    if workload.skipped_requests:
        facts["left out"] = f"{workload.skipped_requests:,} of the requests, which do not fit the KV cache even alone"
    if workload.over_context_requests:
        facts["context"] = f"exceeded by {workload.over_context_requests:,} of the requests, and not applied"
    facts["lengths"] = _lengths(report)
    facts["density"] = f"{workload.density:.3g}; {_BINDINGS[binding(report)]}"
    facts["sharing"] = (
        f"{workload.sharing_ratio_optimal:.1%} of the prompt tokens at best, {workload.sharing_ratio_reachable:.1%} in "
        "whole blocks"
    )
    facts["bound"] = (
        f"{duration(bound.t_comp_s)} of compute, {duration(bound.t_mem_s)} of memory; practical optimum "
        f"{duration(bound.practical_s)}"
    )
    return facts


def _hardware(report: SimulationReport) -> str:
    settings = report.settings
    tp = f", tp {settings['tp']}" if settings["tp"] > 1 else ""
    dp = f", {settings['dp']} replicas" if settings["dp"] > 1 else ""
    return f"{settings['hardware']}{tp}{dp}"


def _lengths(report: SimulationReport) -> str:
    workload = report.workload
    samples = f"{workload.num_samples:,} samples, {workload.num_samples / workload.num_requests:.1%} of the requests"
    return {
        "sampled": f"unknown but for {samples}",
        "hinted": f"of requests marked as known, and of {samples}",
        "known": "all known before the run",
    }[report.settings["lengths"]]


def _table(report: SimulationReport) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for name in ("schedule", "execution"):
        table.add_column(name)
    first = report.runs[0]
    for name in ("time", "tokens/s", "of the optimum", "sharing kept", "preemptions", f"vs {_name(report, first)}"):
        table.add_column(name, justify="right")
    best = min(run.total_s for run in report.runs)
    for run in report.runs:
        table.add_row(*_cells(run, first), style="bold" if run.total_s == best else None)
    return table


def _name(report: SimulationReport, run: SimulatedRun) -> str:
    is_one_execution = len({other.execution for other in report.runs}) == 1
    return run.schedule if is_one_execution else f"{run.schedule} {run.execution}"


def _cells(run: SimulatedRun, first: SimulatedRun) -> list[str]:
    return [
        run.schedule,
        run.execution,
        duration(run.total_s),
        f"{run.throughput_tok_s:,.0f}",
        f"{run.practical_optimal_fraction:.1%}",
        f"{run.sharing_fraction_of_optimal:.1%}",
        f"{run.preemptions:,}",
        f"{first.total_s / run.total_s:.2f}x",
    ]
