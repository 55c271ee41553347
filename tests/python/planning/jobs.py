"""Devices, models and small jobs to plan."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import blendserve as bs
import numpy as np
from blendserve import DeviceSpec, ModelSpec
from planning.naive_trie import Prompt, arrays_of

LLAMA = ModelSpec.named("llama-3.1-8b")
A100 = DeviceSpec.named("a100-sxm-80gb")

# A token of compute, and 100 tokens of KV read, take a second; a square token of prefill 1/1000 s; 3,200 tokens of KV.
TOY = ModelSpec(name="toy", num_layers=1, attention_width=0.0005, kv_width=1, num_params=1.0)
TOY_CASCADE = ModelSpec(TOY, cascade_attention=True)
TOY_DEVICE = DeviceSpec(
    name="toy",
    flops_4_byte=2.0,
    flops_2_byte=2.0,
    flops_1_byte=2.0,
    bandwidth=400.0,
    memory_bytes=1e6,
    kv_memory_bytes=4 * 3200.0,
)
TARGETS = [(LLAMA, A100), (TOY, TOY_DEVICE), (TOY_CASCADE, TOY_DEVICE)]


def plan_of(
    prompts: list[Any] | list[Prompt],
    output_lengths: Any = None,
    *,
    model: ModelSpec = TOY,
    device: DeviceSpec = TOY_DEVICE,
    **options: Any,
) -> bs.Plan:
    return bs.plan(*arrays_of(prompts), output_lengths, model=model, device=device, **options)


@dataclass(frozen=True)
class MixedJob:
    """Requests that share one of a few prefixes, with short outputs, and memory-heavy ones that share nothing; in each
    shared tree a few with long outputs are out of place."""

    prompts: list[list[int]]
    lengths: list[int]

    @classmethod
    def random(cls, num_requests: int, seed: int = 0) -> MixedJob:
        rng = np.random.default_rng(seed)
        prompts, lengths = [], []
        for _ in range(num_requests):
            is_heavy = rng.random() < 0.15
            is_out_of_place = not is_heavy and rng.random() < 0.02
            prefix = [] if is_heavy else [int(rng.integers(1, 6))] * 40
            prompts.append([*prefix, *rng.integers(10, 10_000, rng.integers(3, 40)).tolist()])
            is_long = is_heavy or is_out_of_place
            lengths.append(int(rng.integers(150, 400) if is_long else rng.integers(1, 20)))
        return cls(prompts, lengths)

    def plan(self, **options: Any) -> bs.Plan:
        return plan_of(self.prompts, self.lengths, **options)
