"""The four main workloads of the BlendServe paper, by generators that stand in for its traces.

- `chat` for BurstGPT: long prompts, short answers.
- `video` for OpenVid: prompts of 30-200 tokens, answers of frames x 256 tokens, normalised to a mean of 16 K, which are
  known up front.
- `exam` for MMLU: 57 subjects, each with 5 examples of its own in front of the question; the answer is one letter.

How many requests of each kind a mix has follows from its density and its sharing by compute: three linear equations.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from made_prompts import Prompts, random_prefixes, random_prompts
from numpy.typing import NDArray

# Llama-3.1-8B on one A100: parameters, layers x width of the query heads, layers x width of the K heads.
PARAMETERS, LAYERS_X_WIDTH, LAYERS_X_KV_WIDTH = 8.03e9, 32 * 4096, 32 * 1024
COMPUTE, BANDWIDTH = 312e12, 2039e9
NUM_SUBJECTS, MEAN_FRAMES = 57, 102
SAMPLED = 0.01  # of the requests run first, so their output lengths are known
# name -> density, sharing by compute
MIXES = {"#1": (1.4, 0.35), "#2": (0.9, 0.35), "#3": (1.4, 0.05), "#4": (0.9, 0.05)}

Lengths = NDArray[np.int64]


@dataclass(frozen=True)
class Mix:
    prompts: Prompts
    output_lengths: Lengths  # what the requests turn out to write
    known_lengths: Lengths  # what is known before the run, -1 where nothing is
    evidence_weights: Lengths  # 0 for videos, whose lengths say nothing about the other requests


def make_mix(name: str, num_requests: int, seed: int = 0) -> Mix:
    rng = np.random.default_rng(seed)
    subjects = np.clip(rng.lognormal(np.log(560), 0.45, NUM_SUBJECTS), 150, 2500).astype(np.int64)
    counts = _counts(*MIXES[name], num_requests, subjects, rng)
    kind = rng.permutation(np.repeat(np.arange(3), counts))
    prompt_len, output_len, group = (np.zeros(num_requests, np.int64) for _ in range(3))
    for index in range(3):
        rows = np.flatnonzero(kind == index)
        prompt_len[rows], output_len[rows], group[rows] = _lengths(index, len(rows), subjects, rng)
    prompts = random_prompts(prompt_len, group, random_prefixes(subjects.tolist(), rng), rng)
    is_known = (kind == 1) | (rng.random(num_requests) < SAMPLED)
    return Mix(prompts, output_len, np.where(is_known, output_len, -1), (kind != 1).astype(np.int64))


def _lengths(kind: int, count: int, subjects: Lengths, rng: np.random.Generator) -> tuple[Lengths, Lengths, Lengths]:
    """Prompt length, output length and group of requests of one kind: 0 chat, 1 video, 2 exam."""
    alone = np.full(count, -1)
    if kind == 0:
        prompt = np.clip(rng.lognormal(np.log(450), 0.9, count), 16, 8000)
        return prompt.astype(np.int64), np.clip(rng.lognormal(np.log(30), 0.8, count), 1, 1000).astype(np.int64), alone
    if kind == 1:
        frames = np.clip(rng.lognormal(np.log(MEAN_FRAMES) - 0.125, 0.5, count), 16, 600).round()
        return rng.integers(30, 201, count), (frames * (16_384 / MEAN_FRAMES)).astype(np.int64), alone
    subject = rng.integers(0, NUM_SUBJECTS, count)
    return subjects[subject] + rng.integers(30, 170, count), np.ones(count, np.int64), subject


def _counts(
    density: float, sharing: float, num_requests: int, subjects: Lengths, rng: np.random.Generator
) -> NDArray[np.int64]:
    compute, memory, shared = np.zeros(3), np.zeros(3), np.zeros(3)
    for kind in range(3):
        prompt, output, _ = _lengths(kind, 20_000, subjects, rng)
        compute[kind] = compute_s(prompt, output).mean()
        memory[kind] = memory_s(prompt, output).mean()
    shared[2] = compute_s(subjects, np.zeros_like(subjects)).mean()
    equations = np.stack([np.ones(3), shared - sharing * compute, (1 - sharing) * compute - density * memory])
    fractions = np.linalg.solve(equations, [1.0, 0.0, 0.0])
    counts = np.round(fractions * num_requests).astype(np.int64)
    counts[0] = num_requests - counts[1:].sum()
    return counts


def compute_s(prompt: Lengths, output: Lengths) -> NDArray[np.float64]:
    return (2 * (prompt + output) * PARAMETERS + 4.0 * prompt**2 * LAYERS_X_WIDTH) / COMPUTE


def memory_s(prompt: Lengths, output: Lengths) -> NDArray[np.float64]:
    return (prompt * output + output**2 / 2) * (4.0 * LAYERS_X_KV_WIDTH / BANDWIDTH)
