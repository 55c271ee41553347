"""What the planner is told of a job, and of the machine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from blendserve import LLM, DeviceSpec, SamplingParams, UserError
from blendserve.devices import with_kv_memory
from blendserve.engine import EngineRequest, RequestLimits
from blendserve.engine.arrivals import Arrivals
from blendserve.engine.window_planner import WindowPlanner
from blendserve.random_keys import stream_key
from blendserve.resources import device_spec
from tiny_models import build_llama

LIMITS = RequestLimits(context_len=100, kv_capacity=1000, vocab_size=384, has_tokenizer=True)
STOPS: dict[str, Any] = {"ignore_eos": True, "stop": "x"}


def request(*, hint: int | None = None, prompt_len: int = 3, **params: Any) -> EngineRequest:
    return EngineRequest(np.arange(5, 5 + prompt_len, dtype=np.int32), SamplingParams(**params), "a", hint)


def arrivals_of(requests: Sequence[EngineRequest]) -> Arrivals:
    outcomes = LIMITS.max_new_tokens(requests)
    limits = [outcome for outcome in outcomes if isinstance(outcome, int)]
    assert len(limits) == len(outcomes), outcomes
    return Arrivals.of(requests, limits)


@pytest.mark.parametrize(
    ("told", "length", "is_hinted", "limit"),
    [
        (request(max_tokens=20), -1, False, 20),
        (request(max_tokens=20, ignore_eos=True), 20, False, 20),
        (request(max_tokens=500, ignore_eos=True), 97, False, 97),
        (request(max_tokens=None, ignore_eos=True), 97, False, 97),
        (request(max_tokens=20, **STOPS), -1, False, 20),
        (request(max_tokens=20, min_tokens=20, **STOPS), 20, False, 20),
        (request(max_tokens=1), 1, False, 1),
        (request(max_tokens=0, prompt_logprobs=0), 1, False, 0),
        (request(max_tokens=20, hint=7), 7, True, 20),
        (request(max_tokens=20, hint=30), 20, True, 20),
        (request(max_tokens=20, ignore_eos=True, hint=7), 20, False, 20),
    ],
)
def test_an_answers_length_is_known_said_or_neither(
    told: EngineRequest, length: float, is_hinted: bool, limit: int
) -> None:
    arrivals = arrivals_of([told])
    assert arrivals.output_lengths.tolist() == [length]
    assert arrivals.is_hinted.tolist() == [is_hinted]
    assert arrivals.max_new_tokens.tolist() == [limit]


def test_every_choice_is_a_row_of_its_own() -> None:
    arrivals = arrivals_of([request(n=2, hint=4), request(prompt_len=1, max_tokens=1)])
    assert arrivals.tokens.tolist() == [5, 6, 7, 5, 6, 7, 5]
    assert arrivals.offsets.tolist() == [0, 3, 6, 7]
    assert arrivals.output_lengths.tolist() == [4, 4, 1]
    assert arrivals.column(lambda params: params.n, np.int32).tolist() == [2, 2, 1]


def test_requests_that_were_given_the_same_parameters_share_them() -> None:
    drawn, greedy = SamplingParams(seed=1, top_k=4), SamplingParams(temperature=0.0, seed=1)
    requests = [EngineRequest(np.array([5], np.int32), params, "a") for params in (drawn, greedy, drawn)]
    arrivals = arrivals_of(requests)
    assert list(arrivals.params) == [drawn, greedy]
    assert arrivals.param_places.tolist() == [0, 1, 0]
    columns = arrivals.sampling_columns(requests, job_seed=0)
    assert columns["top_k"].tolist() == [4, 0, 4]
    key = stream_key(request_seed=1, job_seed=0, name="a", choice=0)
    assert columns["key"].tolist() == [key, 0, key]


def test_the_plan_is_made_for_the_engines_cache_and_samples_unknown_lengths(tmp_path: Path) -> None:
    llm = LLM(build_llama(tmp_path), device="cpu", schedule="blend", kv_memory="1MiB", max_batch_tokens=64)
    planner = WindowPlanner.of(tmp_path, llm.model_config, llm.config)
    assert planner.device.kv_memory_bytes == 2**20
    assert planner.model.weight_bytes == planner.model.kv_bytes == 4
    known, unknown = request(max_tokens=20, ignore_eos=True), request(max_tokens=20, prompt_len=9)
    job = planner.plan(arrivals_of([known, unknown, known]))
    assert job.first_rows == [1]
    assert job.plan.expected_output_lengths.tolist() == [20, 20, 20]  # of the second its limit, below the prior


def test_hints_tell_of_others_and_forced_lengths_do_not(tmp_path: Path) -> None:
    llm = LLM(build_llama(tmp_path), device="cpu", schedule="blend", kv_memory="1MiB")
    planner = WindowPlanner.of(tmp_path, llm.model_config, llm.config)
    unknown = request(max_tokens=90)
    for told, least, most in ((request(hint=5, max_tokens=90), 5, 30), (request(max_tokens=1), 80, 90)):
        plan = planner.plan(arrivals_of([told] * 50 + [unknown])).plan
        assert least <= plan.expected_output_lengths[50] <= most


def test_the_device_that_is_named_takes_the_place_of_the_data_sheet(tmp_path: Path) -> None:
    llm = LLM(build_llama(tmp_path), device="cpu", schedule="blend", kv_memory="1MiB", hardware="l4-24gb")
    planner = WindowPlanner.of(tmp_path, llm.model_config, llm.config)
    assert planner.device == with_kv_memory(DeviceSpec.named("l4-24gb"), 2**20)
    with pytest.raises(UserError, match='hardware abacus: no device is named "abacus"'):
        LLM(tmp_path, device="cpu", hardware="abacus")
    with pytest.raises(UserError, match=r"device file .*abacus\.json cannot be read"):
        LLM(tmp_path, device="cpu", hardware=tmp_path / "abacus.json")


@pytest.mark.parametrize(
    ("name", "expected"),
    [("NVIDIA H100 80GB HBM3", "h100-sxm-80gb"), ("NVIDIA L4", "l4-24gb"), ("Some GPU", "a100-sxm-80gb")],
)
def test_a_gpu_is_known_by_its_name(monkeypatch: pytest.MonkeyPatch, name: str, expected: str) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _device: name)
    assert device_spec(torch.device("cuda")).name == expected
    assert device_spec(torch.device("cpu")).name == "cpu"


def test_a_layout_that_the_performance_model_does_not_know_is_taken_for_a_dense_one(tmp_path: Path) -> None:
    llm = LLM(build_llama(tmp_path), device="cpu", kv_memory="1MiB")
    known = WindowPlanner.of(tmp_path, llm.model_config, llm.config).model
    (tmp_path / "config.json").write_text('{"model_type": "gpt2", "n_layer": 2}')
    assumed = WindowPlanner.of(tmp_path, llm.model_config, llm.config).model
    for figure in ("num_layers", "attention_width", "kv_width", "num_params", "weight_bytes", "kv_bytes"):
        assert getattr(assumed, figure) == getattr(known, figure), figure
