"""Traces small enough to write down."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from blendserve.traces import LengthTrace, Trace
from blendserve.traces.length_trace import NO_GROUP


def trace_of(*prompts: list[int], outputs: list[int] | None = None, name: str = "small") -> Trace:
    lengths = [len(prompt) for prompt in prompts]
    return Trace(
        tokens=np.array([token for prompt in prompts for token in prompt], dtype=np.int32),
        offsets=np.cumsum([0, *lengths], dtype=np.int64),
        output_lengths=np.array(outputs or [1] * len(prompts), dtype=np.int32),
        is_known=np.zeros(len(prompts), dtype=np.bool_),
        sources=(name,),
        source=np.zeros(len(prompts), dtype=np.int16),
    )


def lengths_of(
    *prompt_lens: int,
    groups: list[int] | None = None,
    prefix_lens: list[int] | None = None,
    name: str = "small",
    token_seed: int = 0,
) -> LengthTrace:
    num_requests = len(prompt_lens)
    return LengthTrace(
        prompt_lens=np.array(prompt_lens, dtype=np.int32),
        output_lengths=np.arange(1, num_requests + 1, dtype=np.int32),
        is_known=np.arange(num_requests) % 2 == 1,
        prefix_group=np.array(groups or [NO_GROUP] * num_requests, dtype=np.int32),
        prefix_lens=np.array(prefix_lens or [0] * num_requests, dtype=np.int32),
        sources=(name,),
        source=np.zeros(num_requests, dtype=np.int16),
        token_seed=token_seed,
    )


def prompts_of(trace: Trace) -> list[list[int]]:
    return [prompt.tolist() for prompt in np.split(trace.tokens, trace.offsets[1:-1])]


def common_len(first: list[int], second: list[int]) -> int:
    """How many tokens two prompts share at their beginning."""
    pairs = zip(first, second, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(first), len(second)))


def write_csv(path: Path, header: str, *rows: str) -> str:
    path.write_text("".join(f"{line}\n" for line in (header, *rows)))
    return str(path)


def write_json_lines(path: Path, *rows: dict[str, Any]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def mooncake_row(input_length: Any, output_length: Any, hash_ids: Any) -> dict[str, Any]:
    return {"timestamp": 0, "input_length": input_length, "output_length": output_length, "hash_ids": hash_ids}
