"""End-to-end throughput of the engine on a model with random weights: checks the answers, then times.

    python benchmarks/e2e/throughput.py                                          # 56 M parameters, on a CPU
    python benchmarks/e2e/throughput.py --shape llama-3.1-8b --scale 4 --out F   # on a GPU

The workload is half long prompts that share a prefix and have short answers (512 tokens in, 400 of them shared, 32
out), half short prompts with long answers (32 in, 512 out); `--scale` multiplies the number of requests, 200. Every
request runs to its full length. The check: greedy answers equal those of the slow reference attention, except from a
position on where the two likeliest tokens are closer than `--tolerance` in log-probability.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import blendserve as bs
import torch
from greedy_answers import ReferenceAnswers, checked_requests
from mixed_requests import GreedyRequests
from random_model import SHAPES, write_random_model


def main() -> None:
    arguments = parse_arguments()
    with tempfile.TemporaryDirectory() as folder:
        write_random_model(Path(folder), arguments.shape, seed=0, device=arguments.device)
        report = describe(arguments)
        report["check"] = check(folder, arguments)
        print(json.dumps(report["check"]), flush=True)
        report["runs"] = []
        for schedule in arguments.schedules:
            report["runs"].append(measure(folder, schedule, arguments))
            print(json.dumps(report["runs"][-1]), flush=True)
            if arguments.out:
                arguments.out.write_text(json.dumps(report, indent=2) + "\n")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="llama-56m")
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--schedules", nargs="+", default=["fcfs", "dfs"])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--tolerance", type=float, default=1e-3, help="bfloat16 needs about 0.1")
    parser.add_argument("--attention", default="auto")
    parser.add_argument("--kv-dtype", default="auto", help="fp8_e4m3 needs a --tolerance of about 0.5")
    parser.add_argument("--commit", help="to report where the checkout has no git")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    arguments.device = "cuda" if torch.cuda.is_available() else "cpu"
    return arguments


def describe(arguments: argparse.Namespace) -> dict[str, Any]:
    on_gpu = arguments.device == "cuda"
    git = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return {
        "command": " ".join(sys.argv),
        "commit": arguments.commit or git.stdout.strip(),
        "device": torch.cuda.get_device_name() if on_gpu else f"{platform.processor() or platform.machine()} CPU",
        "num_threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "blendserve": bs.__version__,
        "shape": arguments.shape,
        "kv_dtype": arguments.kv_dtype,
    }


def check(folder: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Raises AssertionError where an answer differs from the reference's and is no near tie."""
    requests = checked_requests(SHAPES[arguments.shape]["vocab_size"])
    reference = ReferenceAnswers.of(folder, requests, kv_dtype=arguments.kv_dtype)
    llm = bs.LLM(folder, attention=arguments.attention, kv_memory="1GiB", kv_dtype=arguments.kv_dtype)
    answers = [output.token_ids for output in llm.generate(requests.prompts, requests.params())]
    return {
        "num_tokens_equal": reference.num_equal_tokens(answers, arguments.tolerance),
        "num_tokens": sum(requests.max_tokens),
    }


def measure(folder: str, schedule: str, arguments: argparse.Namespace) -> dict[str, Any]:
    requests = GreedyRequests.mixed(2 * int(100 * arguments.scale), SHAPES[arguments.shape]["vocab_size"])
    seconds = []
    for _ in range(arguments.repeats):
        llm = bs.LLM(folder, schedule=schedule, attention=arguments.attention, kv_dtype=arguments.kv_dtype)
        started = time.perf_counter()
        outputs = llm.generate(requests.prompts, requests.params())
        seconds.append(time.perf_counter() - started)
        assert sum(len(o.prompt_token_ids) + len(o.token_ids) for o in outputs) == requests.num_tokens
        stats = llm.stats
        del llm
    return {
        "schedule": schedule,
        "num_requests": len(requests.prompts),
        "num_tokens": requests.num_tokens,
        "seconds": seconds,
        "throughput_tok_s": requests.num_tokens / statistics.median(seconds),
        "sharing_ratio": stats.num_cached_tokens / stats.num_prompt_tokens,
        "steps": stats.num_steps,
        "preemptions": stats.num_preemptions,
    }


if __name__ == "__main__":
    main()
