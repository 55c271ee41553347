"""The simulator schedules the very steps that the engine runs, when output lengths are the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import blendserve as bs
import numpy as np
import pytest
from blendserve import _core
from blendserve.engine import EngineRequest, WindowPlanner
from blendserve.engine.arrivals import Arrivals
from paged_executor import PagedExecutor
from step_plans import described, recorded_steps
from tiny_models import build_llama

COST = _core.CostModel(bs.ModelSpec.named("llama-3.1-8b"), bs.DeviceSpec.named("a100-sxm-80gb"))
WIDTH: dict[str, Any] = {"block_size": 4, "max_batch_tokens": 32, "max_batch_requests": 8, "seed": 3}
SCHEDULER: dict[str, Any] = {**WIDTH, "num_blocks": 40}


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


@pytest.mark.parametrize("schedule", ["blend", "paper", "dfs", "random", "fcfs"])
def test_as_the_cpu_engine(schedule: Any, tmp_path: Path) -> None:
    prompts, lengths = job(1)
    model_dir = build_llama(tmp_path)
    llm = bs.LLM(str(model_dir), schedule=schedule, kv_memory=60_000, deterministic_schedule=True, **WIDTH)
    params = [bs.SamplingParams(max_tokens=int(length), ignore_eos=True, temperature=0.0) for length in lengths]
    with recorded_steps() as engine_steps:
        llm.generate(prompts, params)
    assert len(engine_steps) > 40

    settings = {**WIDTH, "num_blocks": llm.engine.scheduler.num_blocks, "schedule": schedule}
    if schedule in ("blend", "paper"):
        requests = [
            EngineRequest(np.array(prompt, np.int32), each, "") for prompt, each in zip(prompts, params, strict=True)
        ]
        planner = WindowPlanner.of(model_dir, llm.model_config, llm.config)
        planned = planner.plan(Arrivals.of(requests, lengths.tolist()))
        scheduler = bs.StepScheduler(
            planned.plan, max_new_tokens=lengths, first_rows=planned.first_rows, execution="sequential", **settings
        )
    else:
        scheduler = bs.StepScheduler(**settings)
        for prompt, length in zip(prompts, lengths, strict=True):
            scheduler.add_request(prompt, max_new_tokens=int(length))
    assert simulated_steps(scheduler, lengths) == engine_steps


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
