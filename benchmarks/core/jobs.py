"""Whole jobs: a million requests, and the paper's mixes."""

from __future__ import annotations

import functools
import time
from dataclasses import asdict

from checks import check_plan
from made_prompts import half_shared
from measure import median_times_s, peak_extra_bytes
from paper_mixes import MIXES, make_mix
from workload import Options, Report, beside, plan, sizes


def one_million(options: Options) -> Report:
    prompts = half_shared(options.scaled(1_000_000), prefix_len=600, tail_len=(20, 180), unique_len=(50, 750))
    report = sizes(prompts) | {"check": check_plan(prompts, plan(prompts))}
    for threads in options.threads:
        run = functools.partial(plan, prompts, threads)
        seconds = median_times_s({"sum": prompts.tokens.sum, "plan": run}, options.repeats)
        extra = peak_extra_bytes(run)
        report[f"threads {threads}"] = {
            "sum_s": seconds["sum"],
            "plan_s": seconds["plan"],
            "plan / sum": beside(seconds["plan"] / seconds["sum"], "<= 6"),
            "tokens/s": beside(len(prompts.tokens) / seconds["plan"], ">= 300e6"),
            "peak bytes a request": beside(extra / len(prompts), "<= 200"),
            "stages": asdict(run().report)["preprocess_s"],
        }
    return report


def paper_mixes(options: Options) -> Report:
    """The predicted run has the real output lengths; the plan that is timed knows 1 % of them, and the videos'."""
    report: Report = {}
    for name, (density, sharing) in MIXES.items():
        mix = make_mix(name, options.scaled(400_000))
        run = functools.partial(plan, mix.prompts, lengths=mix.known_lengths, evidence_weights=mix.evidence_weights)
        check = check_plan(mix.prompts, run())
        told = plan(mix.prompts, lengths=mix.output_lengths).report
        started = time.perf_counter()
        estimated = run().report
        seconds = time.perf_counter() - started
        report[name] = {
            **sizes(mix.prompts),
            "check": check,
            "density": beside(told.density, f"about {density}"),
            "sharing of tokens": beside(told.sharing_ratio_optimal, f"about {sharing} by compute"),
            "density, estimated lengths": estimated.density,
            "sharing kept": estimated.sharing_ratio_planned / estimated.sharing_ratio_optimal,
            "preprocess_s": seconds,
            "practical_s": told.practical_s,
            "share of the run": beside(seconds / told.practical_s, "< 0.01"),
        }
    return report
