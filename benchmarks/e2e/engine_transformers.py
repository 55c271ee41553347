"""Runs a job of engine_job.py on the continuous batching of transformers."""

from __future__ import annotations

import os
from typing import Any

from engine_job import Answers, answer_job, read_job
from stopwatch import Run, stopwatch


def main() -> None:
    job = read_job()
    if job["num_threads"] is not None:
        os.environ["OMP_NUM_THREADS"] = str(job["num_threads"])
    import torch
    import transformers

    model = transformers.AutoModelForCausalLM.from_pretrained(job["model"], dtype=torch.float32)
    greedy = transformers.GenerationConfig(do_sample=False, eos_token_id=-1)

    def generate(requests: dict[str, Any]) -> tuple[Answers, Run]:
        # In its own order: its prefix sharing wants the inputs sorted.
        order = sorted(range(len(requests["prompts"])), key=lambda index: requests["prompts"][index], reverse=True)
        answers: Answers = [[] for _ in order]
        with model.continuous_batching_context_manager(generation_config=greedy) as manager, stopwatch() as run:
            for index in order:
                manager.add_request(
                    requests["prompts"][index],
                    request_id=str(index),
                    max_new_tokens=requests["max_tokens"][index],
                    eos_token_id=-1,
                )
            for _ in order:
                result = manager.get_result()
                if result is None or result.error is not None:
                    raise RuntimeError(f"continuous batching failed: {result and result.error}")
                answers[int(result.request_id)] = result.generated_tokens
        return answers, run

    answer_job(job, {"transformers": transformers.__version__, "torch": torch.__version__}, generate)


if __name__ == "__main__":
    main()
