"""What `blendserve plan` shows: the figures of a plan, each with its meaning."""

from __future__ import annotations

from typing import Any

from blendserve.report.units import duration

__all__ = ["plan_table"]

_BALANCED = (0.8, 1.25)  # densities whose two resources are both busy at least four fifths of the time


def plan_table(figures: dict[str, Any]) -> str:
    """One line each. `figures` are those of `--json`."""
    return "\n".join(f"{name:<15} {value}" for name, value in _rows(figures).items())


def _rows(figures: dict[str, Any]) -> dict[str, str]:
    tokenizer = f", tokenizer of {figures['tokenizer']}" if figures["tokenizer"] not in (None, figures["model"]) else ""
    rows = {
        "model": f"{figures['model']}{tokenizer}",
        "hardware": f"{figures['hardware']}, {figures['tp']} device{'s' if figures['tp'] > 1 else ''}",
        "requests": f"{figures['num_requests']:,} from {figures['num_rows'] - figures['num_failed']:,} rows"
        + (f", {figures['num_failed']:,} rows failed" if figures["num_failed"] else ""),
        "prompt tokens": f"{figures['prompt_tokens']:,}, of them unique {figures['unique_prompt_tokens']:,}",
        "output lengths": _length_sources(figures["length_sources"], figures["mean_output"]),
        "prefix sharing": f"{figures['sharing_ratio_planned']:.1%} in the planned order, "
        f"{figures['sharing_ratio_optimal']:.1%} at best ({figures['num_splits']:,} splits)",
        "density": f"{figures['density']:.3g}: {_bound(figures['density'])}",
        "compute": duration(figures["t_comp_s"]),
        "memory": f"{duration(figures['t_mem_s'])} of reading the KV cache",
        "ideal": f"{duration(figures['ideal_s'])}, both at once and perfectly overlapped",
        "practical": f"{duration(figures['practical_s'])}, the best that overlapping reaches, "
        "weights read in every step",
    }
    if figures["predicted_cost"] is not None:
        rows["cost"] = f"{_amount(figures['predicted_cost'])} at {figures['price_per_hour']:g} per hour"
    stages = ", ".join(f"{name} {seconds:.2f}" for name, seconds in figures["preprocess_s"].items())
    rows["preprocessing"] = f"{stages} s"
    return rows


def _bound(density: float) -> str:
    low, high = _BALANCED
    if density > high:
        return "compute-bound (the memory would wait)"
    return "memory-bound (the arithmetic would wait)" if density < low else "balanced"


def _length_sources(counts: dict[str, int], mean_output: float) -> str:
    words = {
        "hint": "{:,} by hint",
        "forced": "{:,} forced by ignore_eos and max_tokens",
        "mean_output": "{:,} unknown, taken as {:g} (--mean-output) or max_tokens",
        "default": "{:,} unknown, taken as {:g} or max_tokens",
    }
    return "; ".join(words[source].format(count, mean_output) for source, count in counts.items())


def _amount(cost: float) -> str:
    return f"{cost:,.2f}" if cost >= 1 else f"{cost:.2g}"
