"""Runs a job of engine_job.py on this engine; adds the reference's answers and each run's roofline."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import blendserve as bs
from blendserve import LLM, _core  # LLM before torch: it says how torch's threads wait
from engine_job import Answers, answer_job, read_job
from greedy_answers import ReferenceAnswers
from mixed_requests import GreedyRequests
from roofline import Rates, StepMeter
from stopwatch import Run, stopwatch

sys.path.append(str(Path(__file__).parents[1] / "kernels"))
import torch
from cpu_workload import MatrixProduct, MemoryRead, median_times_s


def main() -> None:
    job = read_job()
    if job["num_threads"] is not None:
        _core.set_num_threads(job["num_threads"])
        torch.set_num_threads(job["num_threads"])
    reference = ReferenceAnswers.of(job["model"], GreedyRequests(**job["checked"]))
    rates = measured_rates()

    settings = job.get("settings", {})
    counts: dict[str, float] = {}

    def generate(requests: dict[str, Any]) -> tuple[Answers, Run]:
        llm = LLM(job["model"], **settings)
        answers = measure(llm, GreedyRequests(**requests), rates)
        counts.update(counts_of(llm))
        return answers

    answer_job(
        job,
        {"blendserve": bs.__version__, "torch": torch.__version__},
        generate,
        settings=settings | {"num_threads": _core.num_threads(), "isa": _core.isa()},
        counts=counts,
        rates=vars(rates),
        reference=vars(reference),
    )


def measured_rates() -> Rates:
    product, read = MatrixProduct(), MemoryRead()
    product_s, read_s = median_times_s(product, read)
    return Rates(flops=product.work / product_s, bandwidth=read.work / read_s)


def counts_of(llm: LLM) -> dict[str, float]:
    stats = llm.stats
    return {
        "steps": stats.num_steps,
        "sharing_ratio": round(stats.num_cached_tokens / stats.num_prompt_tokens, 4),
        "preemptions": stats.num_preemptions,
        "recomputed_tokens": stats.num_recomputed_tokens,
    }


def measure(llm: LLM, requests: GreedyRequests, rates: Rates) -> tuple[Answers, Run]:
    meter = StepMeter(llm)
    with meter.watching(), stopwatch() as run:
        outputs = llm.generate(requests.prompts, requests.params())
    return [list(output.token_ids) for output in outputs], run | meter.report(run["seconds"], rates)


if __name__ == "__main__":
    main()
