"""A simulation as one HTML page that needs nothing else: the table against the bound, and the course of every run."""

from __future__ import annotations

from blendserve.report.page import Bar, facts, note, page, section, table
from blendserve.report.simulation_charts import RunCharts
from blendserve.report.units import duration
from blendserve.simulation import SimulatedRun, SimulationReport, verdict

__all__ = ["simulation_page"]

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
    sections = "".join(section(_name(report, run), _detail(run), charts.html(run)) for run in report.runs)
    return page(title, verdict(report), f"{_facts(report)}{_table(report)}{_notes(report)}{sections}")


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
    values = {
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
    return facts(values)


def _table(report: SimulationReport) -> str:
    first = report.runs[0]
    names = [
        "Schedule", "Time", f"Speed-up over {_name(report, first)}", "Of the practical optimum", "", "Tokens/s",
        "Sharing kept", "Preemptions",
    ]  # fmt: skip
    best_s = min(run.total_s for run in report.runs)
    rows = [_row(report, run, first) for run in report.runs]
    return table(names, rows, is_best=[run.total_s == best_s for run in report.runs])


def _row(report: SimulationReport, run: SimulatedRun, first: SimulatedRun) -> list[str | Bar]:
    return [
        _name(report, run),
        duration(run.total_s),
        f"{first.total_s / run.total_s:.2f}x",
        f"{run.practical_optimal_fraction:.1%}",
        Bar(run.practical_optimal_fraction),
        f"{run.throughput_tok_s:,.0f}",
        f"{run.sharing_fraction_of_optimal:.1%}",
        f"{run.preemptions:,}",
    ]


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
    return note(notes)


def _detail(run: SimulatedRun) -> str:
    return (
        f"{duration(run.total_s)}, {run.practical_optimal_fraction:.1%} of the practical optimum, {run.steps:,} steps"
    )
