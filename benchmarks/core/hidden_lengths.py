"""Plans with hidden output lengths, of which a sample is known, beside the plan with all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import blendserve as bs
import numpy as np
from blendserve.synthesis.costs import memory_s
from blendserve.traces import Trace
from numpy.typing import NDArray
from workload import COST, Report

METHODS = ("uniform", "memory_variance")
SAMPLED = 0.01


def estimates(trace: Trace, told: bs.Plan, num_seeds: int) -> Report:
    """By method: estimated / true over the seeds. "without samples": every length is bs.plan's prior."""
    return {
        "without samples": ratios(plan_again(told, None, None), told),
        **{method: by_method(trace, told, method, num_seeds) for method in METHODS},
    }


def by_method(trace: Trace, told: bs.Plan, method: str, num_seeds: int) -> Report:
    counts: list[int] = []
    found: dict[str, list[float]] = {}
    for seed in range(num_seeds):
        rows, weights = bs.choose_samples(told.tree, rate=SAMPLED, seed=seed, method=method)
        lengths, evidence = np.full(told.num_requests, -1), np.zeros(told.num_requests)
        lengths[rows], evidence[rows] = trace.output_lengths[rows], weights
        counts.append(len(rows))
        of_seed = ratios(plan_again(told, lengths, evidence), told)
        of_seed["memory, mean alone"] = memory_by_mean(trace, rows, weights) / told.report.memory_s
        of_seed["memory, weighted samples"] = memory_by_weights(trace, rows, weights) / told.report.memory_s
        for name, ratio in of_seed.items():
            found.setdefault(name, []).append(ratio)
    return {"samples": int(np.median(counts)), **{name: spread(values) for name, values in found.items()}}


def plan_again(told: bs.Plan, lengths: Any, evidence_weights: Any) -> bs.Plan:
    return bs.plan(told.tree, None, lengths, model=told.model, device=told.device, evidence_weights=evidence_weights)


def ratios(estimated: bs.Plan, told: bs.Plan) -> dict[str, float]:
    return {
        "density": estimated.density / told.density,
        "memory": estimated.report.memory_s / told.report.memory_s,
        "practical": estimated.report.practical_s / told.report.practical_s,
    }


def memory_by_mean(trace: Trace, rows: NDArray[np.int32], weights: NDArray[np.float64]) -> float:
    """The memory time if every request wrote as many tokens as the sampled ones do on average: no second moment."""
    mean = np.full(trace.num_requests, np.average(trace.output_lengths[rows], weights=weights))
    return float(memory_s(COST, trace.prompt_lens, mean).sum())


def memory_by_weights(trace: Trace, rows: NDArray[np.int32], weights: NDArray[np.float64]) -> float:
    """The samples' own memory times, each for as many requests as it stands for: unbiased, whatever the lengths do."""
    prompt_len = trace.prompt_lens[rows]
    return float(weights @ memory_s(COST, prompt_len, trace.output_lengths[rows]))


def memory_of_independent(trace: Trace) -> float:
    """The memory time if output lengths had nothing to do with prompt lengths: their true mean and second moment."""
    shuffled_s = memory_s(COST, np.full(1, trace.prompt_lens.mean()), np.full(1, trace.output_lengths.mean()))
    variance_s = memory_s(COST, np.zeros(1), np.full(1, trace.output_lengths.std()))
    return float((shuffled_s + variance_s)[0]) * trace.num_requests


def spread(values: Sequence[float]) -> Report:
    low, median, high = np.percentile(values, [5, 50, 95])
    return {"p5": float(low), "median": float(median), "p95": float(high)}
