"""The workloads of preprocess.py: each checks its answer, then times it, and reports what it measured."""

from __future__ import annotations

import functools
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import blendserve as bs
import sglang_radix
from checks import check_plan, check_sample
from measure import median_times_s, peak_extra_bytes
from paper_mixes import MIXES, make_mix
from prompts import Prompts, half_shared, one_prefix

Report = dict[str, Any]


@dataclass(frozen=True)
class Options:
    scale: float = 1.0
    repeats: int = 5
    threads: tuple[int, ...] = (1, 2)
    sglang: str = sglang_radix.REQUIREMENT

    def scaled(self, num_requests: int) -> int:
        return max(10, int(num_requests * self.scale))


def plan(prompts: Prompts, num_threads: int = 0, lengths: Any = None) -> bs.Plan:
    return bs.plan(
        prompts.tokens,
        prompts.offsets,
        lengths,
        model=bs.ModelSpec.named("llama-3.1-8b"),
        device=bs.DeviceSpec.named("a100-sxm-80gb"),
        num_threads=num_threads,
    )


def one_million(options: Options) -> Report:
    prompts = half_shared(options.scaled(1_000_000), prefix_len=600, tail_len=(20, 180), unique_len=(50, 750))
    report = sizes(prompts) | {"check": check_plan(prompts, plan(prompts))}
    for threads in options.threads:
        calls = {"sum": prompts.tokens.sum, "plan": lambda threads=threads: plan(prompts, threads)}
        seconds = median_times_s(calls, options.repeats)
        extra = peak_extra_bytes(lambda threads=threads: plan(prompts, threads))
        report[f"threads {threads}"] = {
            "sum_s": seconds["sum"],
            "plan_s": seconds["plan"],
            "plan / sum": beside(seconds["plan"] / seconds["sum"], "<= 6"),
            "tokens/s": beside(len(prompts.tokens) / seconds["plan"], ">= 300e6"),
            "peak bytes a request": beside(extra / len(prompts), "<= 200"),
            "stages": asdict(plan(prompts, threads).report)["preprocess_s"],
        }
    return report


def ten_million(options: Options) -> Report:
    def short_prompts(num_requests: int) -> Prompts:
        return half_shared(num_requests, prefix_len=32, tail_len=(32, 32), unique_len=(64, 64))

    return many_fold(options, short_prompts, options.scaled(1_000_000), 10, "<= 12")


def long_prefix(options: Options) -> Report:
    def long_prompts(num_requests: int) -> Prompts:
        return one_prefix(num_requests, prefix_len=32_000, tail_len=(16, 64))

    return many_fold(options, long_prompts, options.scaled(10_000), 2, "<= 2.5")


def many_fold(options: Options, make: Callable[[int], Prompts], num_requests: int, factor: int, target: str) -> Report:
    """The plan of `factor` times as many requests beside that of num_requests; the sum shows how noisy the machine is."""
    jobs = {count: make(count) for count in (num_requests, factor * num_requests)}
    report: Report = {
        f"{count} requests": sizes(prompts) | {"check": check_plan(prompts, plan(prompts))}
        for count, prompts in jobs.items()
    }
    for threads in options.threads:
        calls: dict[str, Callable[[], object]] = {}
        for count, prompts in jobs.items():
            calls[f"sum {count}"] = prompts.tokens.sum
            calls[f"plan {count}"] = functools.partial(plan, prompts, threads)
        seconds = median_times_s(calls, options.repeats)
        few, many = (seconds[f"plan {count}"] for count in jobs)
        few_sum, many_sum = (seconds[f"sum {count}"] for count in jobs)
        report[f"threads {threads}"] = {
            "plan_s, fewer": few,
            "plan_s, all": many,
            "all / fewer": beside(many / few, target),
            "numpy's sum, all / fewer": many_sum / few_sum,
        }
    return report


def against_sglang(options: Options) -> Report:
    prompts = half_shared(options.scaled(20_000), prefix_len=256, tail_len=(256, 256), unique_len=(512, 512))
    report = sizes(prompts) | {"check": check_sample(prompts)}
    with tempfile.TemporaryDirectory() as folder:
        try:
            peer = sglang_radix.RadixCache(sglang_radix.fetch(options.sglang, Path(folder)))
        except sglang_radix.NotInstalled as error:
            return report | {"sglang": f"not measured: {error}"}
    inputs = peer.inputs(prompts)
    unique = bs.PrefixTree.build(prompts.tokens, prompts.offsets).num_unique_tokens
    assert peer.insert(inputs) == unique, "SGLang's cache holds another number of tokens"
    calls = {
        "sglang_s": lambda: peer.insert(inputs),
        "sglang_with_keys_s": lambda: peer.insert(peer.inputs(prompts)),
        **{
            f"build_s, threads {threads}": lambda threads=threads: bs.PrefixTree.build(
                prompts.tokens, prompts.offsets, num_threads=threads
            )
            for threads in options.threads
        },
    }
    seconds = median_times_s(calls, options.repeats)
    build_s = seconds[f"build_s, threads {options.threads[-1]}"]
    return report | {
        "sglang": Path(options.sglang).name,
        **seconds,
        "sglang tokens/s": len(prompts.tokens) / seconds["sglang_s"],
        "build tokens/s": len(prompts.tokens) / build_s,
        "sglang / build": beside(seconds["sglang_s"] / build_s, ">= 30"),
        "sglang with keys / build": seconds["sglang_with_keys_s"] / build_s,
    }


def paper_mixes(options: Options) -> Report:
    """The predicted run has the real output lengths; the plan that is timed knows 1 % of them, and the videos'."""
    report: Report = {}
    for name, (density, sharing) in MIXES.items():
        mix = make_mix(name, options.scaled(400_000))
        check = check_plan(mix.prompts, plan(mix.prompts, lengths=mix.known_lengths))
        told = plan(mix.prompts, lengths=mix.output_lengths).report
        started = time.perf_counter()
        estimated = plan(mix.prompts, lengths=mix.known_lengths).report
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


def sizes(prompts: Prompts) -> Report:
    return {"num_requests": len(prompts), "prompt_tokens": len(prompts.tokens)}


def beside(value: float, target: str) -> Report:
    return {"measured": float(value), "target": target}


WORKLOADS: dict[str, Callable[[Options], Report]] = {
    "1m": one_million,
    "10m": ten_million,
    "prefix": long_prefix,
    "sglang": against_sglang,
    "paper": paper_mixes,
}
