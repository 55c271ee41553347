"""What the workloads of preprocess.py have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import blendserve as bs
from blendserve._core import CostModel
from made_prompts import Prompts
from sglang_radix import REQUIREMENT

Report = dict[str, Any]

MODEL = bs.ModelSpec.named("llama-3.1-8b")
DEVICE = bs.DeviceSpec.named("a100-sxm-80gb")
COST = CostModel(MODEL, DEVICE)


@dataclass(frozen=True)
class Options:
    scale: float = 1.0
    repeats: int = 5
    threads: tuple[int, ...] = (1, 2)
    sglang: str = REQUIREMENT

    def scaled(self, num_requests: int) -> int:
        return max(10, int(num_requests * self.scale))


def plan(prompts: Prompts, num_threads: int = 0, lengths: Any = None, evidence_weights: Any = None) -> bs.Plan:
    return bs.plan(
        prompts.tokens,
        prompts.offsets,
        lengths,
        model=MODEL,
        device=DEVICE,
        evidence_weights=evidence_weights,
        num_threads=num_threads,
    )


def sizes(prompts: Prompts) -> Report:
    return {"num_requests": len(prompts), "prompt_tokens": len(prompts.tokens)}


def beside(value: float, target: str) -> Report:
    return {"measured": float(value), "target": target}
