"""What everything but the model costs: a file of token ids through reading, planning, scheduling and writing.

    python benchmarks/e2e/stub_throughput.py                        # 1,000,000 requests; a minute, 3 GB of disk
    python benchmarks/e2e/stub_throughput.py --requests 100000 --schedule dfs
    python benchmarks/e2e/stub_throughput.py --window 1000000       # all of it one plan

Prompts of 64 to 128 tokens, half of them behind shared prefixes; answers of 4 to 16 tokens, forced; all of it goes the
way that `blendserve run` takes, with a stand-in for the model that answers at once and no tokenizer. Every answer is
known beforehand (stub_job.py) and checked before a time is shown: one for every custom_id, its length and its tokens.

Stages are CPU seconds of the threads that work on them, `plan` wall seconds, so they may add up to more than `wall`.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ParamSpec, TypeVar

import blendserve as bs
import numpy as np
import torch
from blendserve._core import SchedulerStats
from blendserve.batch.answering import Answering, PreparedWindow, prepare_window
from blendserve.batch.garbage import rare_collections
from blendserve.batch.progress import JobProgress
from blendserve.batch.tally import Tally
from blendserve.batch.tokenize import tokenize_rows
from blendserve.batch.windows import OneAhead, row_windows
from blendserve.config import DEFAULT_WINDOW, PLANNED_SCHEDULES
from blendserve.engine import Engine, WindowPlanner
from blendserve.io.batch_input import read_requests
from blendserve.io.result_writer import ResultWriter
from blendserve.resources import ResolvedConfig
from numpy.typing import NDArray
from stub_job import CONTEXT_LEN, VOCAB_SIZE, StubJob, next_tokens

sys.path.append(str(Path(__file__).parents[1]))
from machine import describe

TARGET_REQUESTS_PER_S = 20_000
KV_BLOCKS, BLOCK_SIZE = 28_000, 16  # what an 8B model leaves on a GPU of 80 GB

P = ParamSpec("P")
T = TypeVar("T")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--schedule", choices=("blend", "dfs", "fcfs"), default="blend")
    parser.add_argument("--window", type=int, default=DEFAULT_WINDOW, help="rows planned together")
    parser.add_argument("--max-batch-tokens", type=int, default=2048)
    parser.add_argument("--max-batch-requests", type=int, default=1024)
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--out", type=Path, help="a JSON file for the results")
    arguments = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: arguments.cores])
    with tempfile.TemporaryDirectory() as folder:
        source, results = Path(folder, "requests.jsonl"), Path(folder, "results.jsonl")
        job = StubJob.write(source, arguments.requests)
        rss_before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        timed = run(source, results, arguments)
        job.check(results)
        report = {
            "machine": describe(),
            "config": vars(arguments) | {"out": None, "kv_blocks": KV_BLOCKS, "block_size": BLOCK_SIZE},
            "input_bytes": source.stat().st_size,
            **timed,
            "peak_rss_before_bytes": 1024 * rss_before,
        }
    show(report)
    if arguments.out:
        arguments.out.write_text(json.dumps(report, indent=2) + "\n")


class StubRunner:
    """Stands where `ModelRunner` does. It has no logits: every request must be greedy, without edits."""

    model_config: Any = SimpleNamespace(vocab_size=VOCAB_SIZE, max_position_embeddings=CONTEXT_LEN)

    def most_likely(self, plan: bs.StepPlan) -> NDArray[np.int32]:
        return next_tokens(plan)


class StubLLM:
    """What `Answering` uses of an `LLM`."""

    tokenizer = None

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    @property
    def stats(self) -> SchedulerStats:
        return self.engine.stats


class Silent:
    def phase(self, description: str) -> None: ...

    def warning(self, text: str) -> None: ...

    def progress(self, progress: JobProgress) -> None: ...


class Stopwatch:
    """CPU seconds of the calling threads, by stage."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)

    def call(self, stage: str, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        started = time.thread_time()
        try:
            return function(*args, **kwargs)
        finally:
            self.seconds[stage] += time.thread_time() - started

    def items(self, stage: str, items: Iterable[T]) -> Iterator[T]:
        """The same items, made some in advance."""
        iterator = iter(items)
        while chunk := self.call(stage, lambda: list(islice(iterator, 1024))):
            yield from chunk


def run(source: Path, results: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """As `BatchJob.run` does it."""
    watch = Stopwatch()
    engine = stub_engine(arguments)
    engine.step = lambda: watch.call("steps", Engine.step, engine)  # type: ignore[method-assign]
    started, cpu_started = time.perf_counter(), time.process_time()
    with rare_collections(), source.open("rb") as file, ResultWriter(str(results), resume=False) as writer:
        stopped = threading.Event()
        rows = watch.items("read and check", read_requests(file, "stub"))
        windows = row_windows(watch.items("tokenize (nothing)", tokenize_rows(rows, None)), arguments.window, stopped)

        def prepared() -> Iterator[PreparedWindow]:
            for window in windows:
                yield watch.call("add", prepare_window, engine, window, 1.0)

        with OneAhead(prepared(), stopped) as ahead:
            answering = Answering(StubLLM(engine), Tally(writer), Silent(), "stub")  # type: ignore[arg-type]
            watch.call("write", answering.run, ahead)
    wall_s, cpu_s = time.perf_counter() - started, time.process_time() - cpu_started
    watch.seconds["write"] -= watch.seconds["steps"]
    stats = engine.stats
    return {
        "wall_s": wall_s,
        "cpu_s": cpu_s,
        "requests_per_s": {"measured": arguments.requests / wall_s, "target": f">= {TARGET_REQUESTS_PER_S}"},
        "peak_rss_bytes": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
        "stages_s": {**watch.seconds, "plan": engine.planning_s},
        "windows": engine.num_windows,
        "steps": stats.num_steps,
        "prompt_tokens": stats.num_prompt_tokens,
        "cached_tokens": stats.num_cached_tokens,
        "output_tokens": stats.num_output_tokens,
    }


def stub_engine(arguments: argparse.Namespace) -> Engine:
    device = bs.DeviceSpec.named("a100-sxm-80gb")
    config = ResolvedConfig(
        schedule=arguments.schedule,
        device=torch.device("cpu"),
        dtype=torch.float32,
        kv_dtype=torch.float32,
        weight_dtype="auto",
        attention="none",
        num_blocks=KV_BLOCKS,
        block_size=BLOCK_SIZE,
        max_batch_tokens=arguments.max_batch_tokens,
        max_batch_requests=arguments.max_batch_requests,
        max_prompt_logits=1,
        async_scheduling=False,
        stop_runaways=False,
        hardware=device,
        seed=0,
    )
    planner = None
    if arguments.schedule in PLANNED_SCHEDULES:
        planner = WindowPlanner(bs.ModelSpec.named("llama-3.1-8b"), device, arguments.max_batch_tokens, seed=0)
    return Engine(StubRunner(), config, (), None, planner)  # type: ignore[arg-type]


def show(report: dict[str, Any]) -> None:
    num_requests = report["config"]["requests"]
    print(json.dumps(report["machine"] | report["config"]))
    for stage, seconds in report["stages_s"].items():
        print(f"{stage:20} {seconds:7.2f} s {1e6 * seconds / num_requests:7.2f} us a request")
    rate = report["requests_per_s"]
    print(f"{'CPU, all threads':20} {report['cpu_s']:7.2f} s {1e6 * report['cpu_s'] / num_requests:7.2f} us a request")
    print(f"{'wall':20} {report['wall_s']:7.2f} s  {rate['measured']:.0f} requests/s (target {rate['target']})")
    print(
        f"{report['steps']} steps in {report['windows']} windows, {report['output_tokens']} output tokens; "
        f"peak RSS {report['peak_rss_bytes'] / 2**20:.0f} MiB"
    )


if __name__ == "__main__":
    main()
