"""A real run as one HTML page that needs nothing else: beside its bound and its prediction, and where the time went."""

from __future__ import annotations

from collections.abc import Mapping

from blendserve.recording.run_report import RunReport
from blendserve.report.page import Bar, facts, note, page, section, table
from blendserve.report.run_charts import run_charts
from blendserve.report.units import correction_text, duration

__all__ = ["run_page"]

_STAGES = {
    "reading": "reading and tokenizing",
    "loading": "loading the model",
    "checking": "the self-check",
    "planning": "planning and queueing",
    "schedule": "schedule(): what runs in a step",
    "step": "waiting for the step",
    "update": "update(): what the step changed",
    "answers": "putting answers together",
    "writing": "writing results",
    "progress": "showing progress",
    "windows": "waiting for more requests",
    "model": "the model",
    "sampling": "sampling",
}

_HOW_TO_READ = (
    "A step runs matrix products (compute) and then reads the KV cache for decoding (memory). Predicted is what the "
    "performance model says of the very steps that ran; measured is the time from the end of one step to the end of "
    "the next, everything between them included. A good schedule keeps compute and memory level until the end. No "
    "order of the requests can end before the practical optimum, by the same figures of the device: where those are "
    "not the machine's own, compare the shapes of the curves and not their heights."
)


def run_page(report: RunReport) -> str:
    """HTML, without scripts and without anything from elsewhere."""
    settings = report.settings
    title = f"{report.num_sequences:,} sequences, {settings['model']} on {settings['device']}"
    course = section("The steps", f"{report.steps:,} in {duration(report.total_s)}", run_charts(report))
    stages = section("Where the time went", duration(sum(report.stage_s.values())), _stages(report.stage_s))
    in_steps = section("In the steps", duration(sum(report.step_stage_s.values())), _stages(report.step_stage_s))
    footer = note([_HOW_TO_READ, f"Run by blendserve {settings['version']}, seed {settings['seed']}."])
    return page(title, _verdict(report), f"{_facts(report)}{_comparison(report)}{footer}{course}{stages}{in_steps}")


def _verdict(report: RunReport) -> str:
    loop_s = report.total_s
    return (
        f"{report.settings['schedule']} reached {report.practical_optimal_fraction:.1%} of the practical optimum. Its "
        f"steps took {loop_s / report.predicted_s:.2f} times as long as predicted for {report.settings['device']}; "
        f"{report.step_stage_s['model'] / loop_s:.1%} of their time was the model's."
    )


def _facts(report: RunReport) -> str:
    settings = report.settings
    return facts(
        {
            "Prompt tokens": f"{report.prompt_tokens:,}",
            "Output tokens": f"{report.output_tokens:,}",
            "Reachable sharing": f"{report.sharing_ratio_reachable:.1%}",
            "Compute / memory time": f"{report.density:.3g}",
            "Least compute time": duration(report.bound.t_comp_s),
            "Least memory time": duration(report.bound.t_mem_s),
            "KV cache": f"{report.kv_capacity_tokens:,} tokens",
            "Width of a step": f"{settings['max_batch_tokens']:,} tokens",
            "Precision": f"{settings['dtype']}, KV cache {settings['kv_dtype']}",
            "Paced by": correction_text(report.correction),
        }
    )


def _comparison(report: RunReport) -> str:
    """The run beside what is predicted of it and what bounds it."""
    names = ["", "Time", "Of the practical optimum", "", "Tokens/s", "Sharing kept", "Preemptions"]
    what_it_kept = [f"{report.sharing_fraction_of_optimal:.1%}", f"{report.preemptions:,}"]
    rows = [
        [*_times(report, f"this run ({report.settings['schedule']})", report.total_s), *what_it_kept],
        [*_times(report, "its steps as predicted", report.predicted_s), *what_it_kept],
        [*_times(report, "practical optimum", report.bound.practical_s), "100.0%", "0"],
    ]
    return table(names, rows, is_best=[True, False, False])


def _times(report: RunReport, name: str, seconds: float) -> list[str | Bar]:
    share = report.bound.practical_s / seconds
    tokens = report.prompt_tokens + report.output_tokens
    return [name, duration(seconds), f"{share:.1%}", Bar(min(share, 1.0)), f"{tokens / seconds:,.0f}"]


def _stages(stage_s: Mapping[str, float]) -> str:
    total_s, most_s = sum(stage_s.values()), max(stage_s.values())
    rows: list[list[str | Bar]] = [
        [_STAGES.get(stage, stage), duration(seconds), f"{seconds / total_s:.1%}", Bar(seconds / total_s)]
        for stage, seconds in stage_s.items()
    ]
    return table(["Stage", "Time", "Of all", ""], rows, is_best=[seconds == most_s for seconds in stage_s.values()])
