"""The figures of a plan, as `plan --json` has them."""

from __future__ import annotations

import dataclasses
from typing import Any

from blendserve.io.token_files import is_token_file
from blendserve.plan_job.job import PlanJob, PlannedJob
from blendserve.plan_job.output_lengths import DEFAULT_OUTPUT_LEN

__all__ = ["plan_figures"]

_SECONDS_PER_HOUR = 3600.0


def plan_figures(
    planned: PlannedJob, job: PlanJob, *, hardware: str, tp: int, price_per_hour: float | None
) -> dict[str, Any]:
    """The planner's own, what the input says, what the job will cost, and the settings they hold for.

    `price_per_hour` is that of all devices together.
    """
    assert planned.plan is not None, "nothing was planned"
    report, prompts = planned.plan.report, planned.prompts
    hours = report.practical_s / _SECONDS_PER_HOUR
    return {
        **dataclasses.asdict(report),
        "preprocess_s": {**report.preprocess_s, "tokenize": planned.tokenize_s},
        "num_rows": prompts.num_rows,
        "num_failed": len(prompts.bad_rows),
        "lengths_source": prompts.lengths_source,
        "length_sources": prompts.length_sources,
        "mean_output": job.mean_output or DEFAULT_OUTPUT_LEN,
        "predicted_hours": hours,
        "price_per_hour": price_per_hour,
        "predicted_cost": None if price_per_hour is None else hours * price_per_hour,
        "model": job.model.name,
        "tokenizer": None if is_token_file(job.input) else job.model.tokenizer_name,
        "kv_bytes": job.model.spec.kv_bytes,
        "hardware": hardware,
        "tp": tp,
        "split_budget": job.split_budget,
    }
