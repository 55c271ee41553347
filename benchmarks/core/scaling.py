"""How the time of a plan grows with the job."""

from __future__ import annotations

import functools
from collections.abc import Callable

from checks import check_plan
from made_prompts import Prompts, half_shared, one_prefix
from measure import cpu_times_s, median_times_s
from workload import Options, Report, beside, plan, sizes


def ten_million(options: Options) -> Report:
    def short_prompts(num_requests: int) -> Prompts:
        return half_shared(num_requests, prefix_len=32, tail_len=(32, 32), unique_len=(64, 64))

    return many_fold(options, short_prompts, options.scaled(1_000_000), 10, "<= 12")


def long_prefix(options: Options) -> Report:
    def long_prompts(num_requests: int) -> Prompts:
        return one_prefix(num_requests, prefix_len=32_000, tail_len=(16, 64))

    return many_fold(options, long_prompts, options.scaled(10_000), 2, "<= 2.5")


def many_fold(options: Options, make: Callable[[int], Prompts], num_requests: int, factor: int, target: str) -> Report:
    """The plan of `factor` times as many requests beside that of num_requests; the sum tells of noise."""
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
        (few_user, few_system), (many_user, many_system) = (cpu_times_s(calls[f"plan {count}"]) for count in jobs)
        report[f"threads {threads}"] = {
            "plan_s, fewer": few,
            "plan_s, all": many,
            "all / fewer": beside(many / few, target),
            "numpy's sum, all / fewer": many_sum / few_sum,
            "user_s and system_s, fewer": [few_user, few_system],
            "user_s and system_s, all": [many_user, many_system],
        }
    return report
