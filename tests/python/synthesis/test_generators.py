"""Generators beside the traces that they stand in for."""

from __future__ import annotations

import numpy as np
import pytest
from blendserve.synthesis import GENERATORS, synthesize

# By the paper: prefix sharing by compute and density, Llama-3.1-8B on an A100.
PAPER = {
    "sharegpt": (0.02, 3.12),
    "wildchat": (0.19, 2.13),
    "azure": (0.01, 33.2),
    "openvid": (0.00, 0.05),
    "burstgpt": (0.02, 17.78),
    "mmlu": (0.86, 54.91),
}


@pytest.mark.parametrize("name", PAPER)
def test_density_and_sharing_are_those_of_the_papers_trace(name: str) -> None:
    sharing, density = PAPER[name]
    figures = synthesize([name], num_requests=20_000, seed=1).figures
    assert figures.sharing == pytest.approx(sharing, abs=0.01)
    assert figures.density == pytest.approx(density, rel=0.07)


def test_there_is_a_generator_for_every_trace_of_the_papers_table() -> None:
    assert set(GENERATORS) == set(PAPER)


def test_videos_have_known_lengths_around_sixteen_thousand() -> None:
    trace = GENERATORS["openvid"].draw("v", 50_000, np.random.default_rng(0))
    assert trace.is_known.all()
    assert (trace.prompt_lens.min(), trace.prompt_lens.max()) == (30, 200)
    assert trace.output_lengths.mean() == pytest.approx(16_384, rel=0.01)


def test_only_videos_have_known_lengths() -> None:
    assert [name for name, generator in GENERATORS.items() if generator.is_known] == ["openvid"]


def test_exams_have_the_same_subjects_for_every_seed() -> None:
    first, second = (GENERATORS["mmlu"].draw("e", 5000, np.random.default_rng(seed)) for seed in (1, 2))
    subjects = [set(zip(t.prefix_group.tolist(), t.prefix_lens.tolist(), strict=True)) for t in (first, second)]
    assert subjects[0] == subjects[1]
    assert len(subjects[0]) == 57


def test_chats_answer_two_hundred_and_fifty_six_tokens_on_average() -> None:
    trace = GENERATORS["wildchat"].draw("w", 50_000, np.random.default_rng(0))
    assert trace.output_lengths.mean() == pytest.approx(256, rel=0.02)
