"""Runs a job of engine_job.py on this engine; its answer has more: the check against the reference, the roofline."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import blendserve as bs
from blendserve import LLM, _core  # LLM before torch: it says how torch's threads wait
from engine_job import Answers, read_job, write_answer
from greedy_answers import num_equal_tokens, token_gaps
from mixed_requests import GreedyRequests
from roofline import Rates, StepMeter

sys.path.append(str(Path(__file__).parents[1] / "kernels"))
import torch
from cpu_attention import matmul_flops, read_bandwidth


def main() -> None:
    job = read_job()
    if job["num_threads"] is not None:
        _core.set_num_threads(job["num_threads"])
        torch.set_num_threads(job["num_threads"])
    answer = check(job["model"], GreedyRequests(**job["checked"]), job["tolerance"])
    rates = Rates(flops=matmul_flops(), bandwidth=read_bandwidth())
    runs = [measure(job["model"], GreedyRequests(**job["timed"]), rates) for _ in range(job["repeats"])]
    reports = [report for report, _ in runs]
    answer["timed"] = runs[-1][1]
    answer["seconds"] = [report["seconds"] for report in reports]
    answer["versions"] = {"blendserve": bs.__version__, "torch": torch.__version__}
    answer["settings"] = {"num_threads": _core.num_threads(), "isa": _core.isa()}
    write_answer(answer | {"rates": vars(rates), "runs": reports})


def check(model: str, requests: GreedyRequests, tolerance: float) -> dict[str, Any]:
    """Answers of the engine that equal those of the reference attention, and the reference's gaps."""
    got, expected = (
        LLM(model, attention=attention, kv_memory="1GiB").generate(requests.prompts, requests.params(logprobs=2))
        for attention in ("auto", "torch_ref")
    )
    gaps = [token_gaps(output) for output in expected]
    num_equal = sum(
        num_equal_tokens(one.token_ids, other.token_ids, gaps_of_one, tolerance)
        for one, other, gaps_of_one in zip(got, expected, gaps, strict=True)
    )
    return {
        "checked": [list(output.token_ids) for output in got],
        "gaps": [token_gaps(output) for output in got],
        "num_tokens_equal_to_reference": num_equal,
    }


def measure(model: str, requests: GreedyRequests, rates: Rates) -> tuple[dict[str, float], Answers]:
    llm = LLM(model)
    meter = StepMeter(llm.model_config, llm.config.dtype.itemsize)
    with meter.watching():
        started = time.perf_counter()
        outputs = llm.generate(requests.prompts, requests.params())
        seconds = time.perf_counter() - started
    sharing_ratio = llm.stats.num_cached_tokens / llm.stats.num_prompt_tokens
    answers = [list(output.token_ids) for output in outputs]
    return meter.report(seconds, rates) | {"sharing_ratio": sharing_ratio}, answers


if __name__ == "__main__":
    main()
