"""The simulator schedules the very steps that the engine runs, when output lengths are the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import blendserve as bs
import numpy as np
import pytest
from blendserve import _core
from paged_executor import PagedExecutor
from tiny_models import build_llama

# What an executor is told to compute; token ids are left out, for the simulator's are its own.
FIELDS = (
    "request_ids",
    "qo_indptr",
    "positions",
    "slot_mapping",
    "kv_lens",
    "block_indptr",
    "block_table",
    "logit_rows",
    "sample_ids",
    "sample_positions",
)
COST = _core.CostModel(bs.ModelSpec.named("llama-3.1-8b"), bs.DeviceSpec.named("a100-sxm-80gb"))
SCHEDULER = {"num_blocks": 40, "block_size": 4, "max_batch_tokens": 32, "max_batch_requests": 8, "seed": 3}


def described(plan: bs.StepPlan) -> list[list[int]]:
    return [getattr(plan, field).tolist() for field in FIELDS]


def job(seed: int) -> tuple[list[list[int]], np.ndarray]:
    """Prompts of which many share a prefix, and how many tokens each generates."""
    rng = np.random.default_rng(seed)
    prefixes = [rng.integers(1, 90, 18).tolist() for _ in range(3)]
    prompts = [
        prefixes[int(rng.integers(3))][: int(rng.integers(19))] + rng.integers(1, 90, int(rng.integers(1, 12))).tolist()
        for _ in range(40)
    ]
    return prompts, rng.integers(1, 30, 40).astype(np.int32)


def simulated_steps(scheduler: bs.StepScheduler, lengths: np.ndarray) -> list[list[list[int]]]:
    steps: list[list[list[int]]] = []
    _core.simulate(scheduler, COST, lengths, on_step=lambda plan: steps.append(described(plan)))
    return steps


@pytest.mark.parametrize("schedule", ["dfs", "random", "fcfs"])
def test_as_the_cpu_engine(schedule: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine_steps: list[list[list[int]]] = []

    class Recorded(bs.StepScheduler):
        def schedule(self) -> Any:
            plan = super().schedule()
            if plan is not None:
                engine_steps.append(described(plan))
            return plan

    monkeypatch.setattr("blendserve.engine.schedulers.StepScheduler", Recorded)
    prompts, lengths = job(1)
    llm = bs.LLM(
        str(build_llama(tmp_path)),
        schedule=schedule,
        seed=3,
        max_batch_tokens=32,
        max_batch_requests=8,
        block_size=4,
        kv_memory=60_000,
    )
    llm.generate(
        prompts, [bs.SamplingParams(max_tokens=int(length), ignore_eos=True, temperature=0.0) for length in lengths]
    )
    scheduler = bs.StepScheduler(**{**SCHEDULER, "num_blocks": llm.engine.scheduler.num_blocks}, schedule=schedule)
    for prompt, length in zip(prompts, lengths, strict=True):
        scheduler.add_request(prompt, max_new_tokens=int(length))
    assert simulated_steps(scheduler, lengths) == engine_steps
    assert len(engine_steps) > 40


@pytest.mark.parametrize("schedule", ["blend", "paper", "dfs"])
def test_as_an_executor_that_reads_the_blocks(schedule: str) -> None:
    prompts, lengths = job(2)
    tokens = np.concatenate([np.array(prompt, np.int32) for prompt in prompts])
    offsets = np.cumsum([0, *map(len, prompts)])
    plan = bs.plan(tokens, offsets, lengths, model=COST.model, device=COST.device)

    def scheduler() -> bs.StepScheduler:
        return bs.StepScheduler(plan, **SCHEDULER, schedule=schedule, max_new_tokens=lengths)

    real, executed = scheduler(), []
    executor = PagedExecutor(real, 4)
    while step := real.schedule():
        executed.append(described(step))
        real.update(step, executor.run(step))
    assert simulated_steps(scheduler(), lengths) == executed
