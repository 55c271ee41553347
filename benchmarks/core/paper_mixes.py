"""The four main workloads of the BlendServe paper: `bs.synthesize` with its default mix (docs/traces.md)."""

from __future__ import annotations

from dataclasses import dataclass

import blendserve as bs
import numpy as np
from made_prompts import Prompts
from numpy.typing import NDArray

SAMPLED = 0.01  # of the requests run first, so their output lengths are known
# name -> density, sharing by compute
MIXES = {"#1": (1.4, 0.35), "#2": (0.9, 0.35), "#3": (1.4, 0.05), "#4": (0.9, 0.05)}


@dataclass(frozen=True)
class Mix:
    prompts: Prompts
    output_lengths: NDArray[np.int32]  # what the requests turn out to write
    known_lengths: NDArray[np.int64]  # what is known before the run, -1 where nothing is
    evidence_weights: NDArray[np.int64]  # 0 for videos, whose lengths say nothing about the other requests


def make_mix(name: str, num_requests: int, seed: int = 0) -> Mix:
    density, sharing = MIXES[name]
    trace = bs.synthesize(num_requests=num_requests, density=density, sharing=sharing, seed=seed).trace
    is_known = trace.is_known | (np.random.default_rng(seed).random(num_requests) < SAMPLED)
    return Mix(
        Prompts(trace.tokens, trace.offsets),
        trace.output_lengths,
        np.where(is_known, trace.output_lengths, -1).astype(np.int64),
        (~trace.is_known).astype(np.int64),
    )
