"""Small workloads, and devices that they fill."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from blendserve import DeviceSpec, ModelSpec, Trace
from blendserve._core import CostModel, MeasuredRates

MODEL = ModelSpec.named("llama-3.1-8b")
DEVICE = DeviceSpec.named("a100-sxm-80gb")
# The rates of two CPU cores, rounded.
MEASURED = DeviceSpec(
    name="measured",
    flops_4_byte=250e9,
    flops_2_byte=250e9,
    flops_1_byte=250e9,
    bandwidth=30e9,
    memory_bytes=80e9,
    beta=0.9,
    token_tile=1,
    measured=MeasuredRates(
        element_bytes=2,
        layers=[(1, 15e9), (16, 130e9), (64, 200e9), (512, 250e9)],
        head=[(1, 30e9), (16, 300e9), (512, 320e9)],
        prefill_attention_flops=180e9,
        decode_attention_bandwidth=23e9,
        step_s=1e-3,
    ),
)
COST = CostModel(MODEL, DEVICE)
SCHEDULES = ("blend", "paper", "dfs", "random", "fcfs")


def trace_of(
    prompt_lens: Sequence[int],
    output_lengths: Sequence[int],
    *,
    shared_lens: Sequence[int] | None = None,
    known: Sequence[bool] | None = None,
) -> Trace:
    """Prompts that begin with so many tokens of one common text (by default none); the rest of each is its own."""
    num_requests = len(prompt_lens)
    prompts = []
    for row, length in enumerate(prompt_lens):
        shared = 0 if shared_lens is None else shared_lens[row]
        common = np.arange(shared) + 10_000_000
        own = np.arange(length - shared) + 100_000 * (row + 1)
        prompts.append(np.concatenate([common, own]).astype(np.int32))
    return Trace(
        tokens=np.concatenate(prompts),
        offsets=np.cumsum([0, *prompt_lens], dtype=np.int64),
        output_lengths=np.array(output_lengths, dtype=np.int32),
        is_known=np.array([False] * num_requests if known is None else known, dtype=np.bool_),
        sources=("made",),
        source=np.zeros(num_requests, dtype=np.int16),
    )
