"""Plans published traces (Llama-3.1-8B on an A100) and checks what they are known to have.

    python benchmarks/core/real_traces.py --data DIR                               # a minute or two; 3 GB of memory
    python benchmarks/core/real_traces.py --data DIR --traces code mooncake --out results.json

DIR has these files, as their owners publish them:

mmlu      mmlu/{dev,test}/SUBJECT_{dev,test}.csv: question, four choices, number of the right one; asked with 5 examples
code      azure/AzureLLMInferenceTrace_code.csv (lengths), and conv
sharegpt  sharegpt/sharegpt.csv (lengths; clipped to 16,384 and 8,192)
r1        servegen/deepseek_r1_sample20k_seed0.csv (lengths)
mooncake  mooncake/synthetic_trace.jsonl (lengths and hash_ids)

Every plan is made with the output lengths of the trace, then with a sample of them (1 %) over several seeds. The exit
status is 1 if a check fails.
"""

from __future__ import annotations

import argparse
import functools
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import blendserve as bs
import numpy as np
from blendserve.synthesis.costs import compute_s, memory_s
from blendserve.traces import Trace
from blendserve.traces.mooncake import read_mooncake
from checks import check_plan
from hidden_lengths import METHODS, estimates, memory_of_independent
from made_prompts import Prompts
from measure import median_times_s
from trace_files import read_lengths, read_mmlu
from trace_tables import show_checks, show_estimates, show_plans
from workload import COST, Report, plan

sys.path.append(str(Path(__file__).parents[1]))
from machine import describe


@dataclass(frozen=True)
class Source:
    path: str
    read: Callable[[Path, str | None], Trace]
    expected: dict[str, tuple[float, float]]  # figure -> lowest and highest value


def lengths_only(max_prompt_len: int | None = None, max_output_len: int | None = None) -> Callable[..., Trace]:
    return lambda path, _model: read_lengths(path, max_prompt_len, max_output_len)


def about(value: float, tolerance: float) -> tuple[float, float]:
    return value - tolerance, value + tolerance


ONE_TOKEN_SHARED = {"sharing": (0.0, 0.005), "sharing of compute": (0.0, 0.005)}  # the marker of the trace
COMPUTE_BOUND, MEMORY_BOUND = (1.0, np.inf), (0.0, 1.0)
SOURCES = {
    "mmlu": Source(
        "mmlu",
        read_mmlu,
        {"requests": about(14_042, 0), "mean prompt": about(723, 1), "sharing": about(0.864, 0.002)},
    ),
    "code": Source(
        "azure/AzureLLMInferenceTrace_code.csv",
        lengths_only(),
        {"requests": about(8_819, 0), "mean prompt": about(2048, 1), "density": about(31.5, 1.0), **ONE_TOKEN_SHARED},
    ),
    "conv": Source(
        "azure/AzureLLMInferenceTrace_conv.csv",
        lengths_only(),
        {"requests": about(19_366, 0), "mean prompt": about(1155, 1), "density": COMPUTE_BOUND, **ONE_TOKEN_SHARED},
    ),
    "sharegpt": Source(
        "sharegpt/sharegpt.csv",
        lengths_only(16_384, 8_192),
        {"requests": about(58_787, 0), "density": about(2.8, 0.3), **ONE_TOKEN_SHARED},
    ),
    "r1": Source(
        "servegen/deepseek_r1_sample20k_seed0.csv",
        lengths_only(),
        {"requests": about(20_000, 0), "mean prompt": about(1239, 1), "density": MEMORY_BOUND, **ONE_TOKEN_SHARED},
    ),
    "mooncake": Source(
        "mooncake/synthetic_trace.jsonl",
        lambda path, _model: read_mooncake(str(path), "mooncake"),
        {"requests": about(3_993, 0), "mean prompt": about(15_325, 1), "sharing": about(0.65, 0.005)},
    ),
}
ALWAYS = {"sharing kept": (0.99, 1.0), "memory / closed form": about(1.0, 1e-6), "planning / run": (0.0, 0.01)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument("--traces", nargs="+", choices=SOURCES, default=list(SOURCES))
    parser.add_argument("--model", metavar="DIR", help="whose tokenizer reads mmlu [default: the default model]")
    parser.add_argument("--seeds", type=int, default=200, help="samples of output lengths; 0 for none")
    parser.add_argument("--repeats", type=int, default=5, help="of the planning, for the median time")
    parser.add_argument("--out", type=Path, help="a JSON file for the results")
    args = parser.parse_args()
    for name in args.traces:
        if not (args.data / SOURCES[name].path).exists():
            parser.error(f"{args.data / SOURCES[name].path} does not exist; --data is the folder that holds it")
    machine = describe(command="benchmarks/core/real_traces.py --data DIR --traces " + " ".join(args.traces))
    print(", ".join(f"{name} {value}" for name, value in machine.items() if name != "command"))
    report = {name: run(SOURCES[name], args.data, args.model, args.seeds, args.repeats) for name in args.traces}
    show_plans(report)
    if args.seeds:
        show_estimates(report)
    if args.out:
        config = {"seeds": args.seeds, "repeats": args.repeats}
        args.out.write_text(json.dumps({"machine": machine, "config": config, "traces": report}, indent=2) + "\n")
    sys.exit(show_checks(report))


def run(source: Source, data: Path, model: str | None, num_seeds: int, repeats: int) -> Report:
    started = time.perf_counter()
    trace = source.read(data / source.path, model)
    read_s = time.perf_counter() - started
    prompts = Prompts(trace.tokens, trace.offsets)
    make = functools.partial(plan, prompts, lengths=trace.output_lengths)
    told = make()
    check_plan(prompts, told)
    plan_s = median_times_s({"plan": make}, repeats)["plan"]
    figures = {"read_s": read_s, "plan_s": plan_s, **figures_of(trace, told, plan_s)}
    estimated = estimates(trace, told, num_seeds) if num_seeds else {}
    expected = source.expected | ALWAYS
    if num_seeds:
        figures |= {f"run, {method}": estimated[method]["practical"]["median"] for method in METHODS}
        expected |= {f"run, {method}": about(1.0, 0.15) for method in METHODS}
    return {
        "figures": figures,
        "bound": "compute" if told.report.t_comp_s > told.report.t_mem_s else "memory",
        "split_stop": told.report.split_stop,
        "estimates": estimated,
        "checks": {name: check(figures[name], *limits) for name, limits in expected.items()},
    }


def check(measured: float, lowest: float, highest: float) -> Report:
    return {
        "measured": measured,
        "lowest": lowest,
        "highest": None if highest == np.inf else highest,
        "holds": bool(lowest <= measured <= highest),
    }


def figures_of(trace: Trace, told: bs.Plan, plan_s: float) -> dict[str, float]:
    prompt_len, output_len, report = trace.prompt_lens, trace.output_lengths, told.report
    return {
        "requests": len(prompt_len),
        **lengths("prompt", prompt_len),
        **lengths("output", output_len),
        "sharing": report.sharing_ratio_optimal,
        "sharing kept": kept(report.sharing_ratio_planned, report.sharing_ratio_optimal),
        "sharing of compute": 1.0 - report.compute_s / float(compute_s(COST, prompt_len, output_len).sum()),
        "splits": report.num_splits,
        "copied / unique tokens": report.num_copied_tokens / report.unique_prompt_tokens,
        "density": told.density,
        "memory / closed form": report.memory_s / float(memory_s(COST, prompt_len, output_len).sum()),
        "memory, independent": memory_of_independent(trace) / report.memory_s,
        "t_comp_s": report.t_comp_s,
        "t_mem_s": report.t_mem_s,
        "ideal_s": report.ideal_s,
        "practical_s": report.practical_s,
        "tokens/s": float(prompt_len.sum() + output_len.sum()) / report.practical_s,
        "planning / run": plan_s / report.practical_s,
    }


def lengths(name: str, values: Sequence[int]) -> dict[str, float]:
    p50, p99 = np.percentile(values, [50, 99])
    return {f"mean {name}": float(np.mean(values)), f"p50 {name}": float(p50), f"p99 {name}": float(p99)}


def kept(planned: float, optimal: float) -> float:
    return planned / optimal if optimal > 0 else 1.0


if __name__ == "__main__":
    main()
