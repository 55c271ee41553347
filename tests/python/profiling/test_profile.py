"""A profile of this machine on a tiny model: what it holds, not how fast that is."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from batch_jobs import invoke
from blendserve import LLM, SamplingParams, UserError
from blendserve.config import EngineConfig
from blendserve.devices import device_fields, read_device
from blendserve.profiling import profile_device
from blendserve.profiling.made_steps import BLOCK_SIZE, made_step
from blendserve.profiling.rate_curve import ROWS, rate_curve
from blendserve.profiling.timing import median_times_s
from tiny_models import build_llama


@pytest.mark.parametrize(
    ("dtype", "kv_dtype", "element_bytes"),
    [("float32", "auto", 4), ("float32", "bfloat16", 4), ("bfloat16", "auto", 2)],
)
def test_a_profile_is_a_device_that_plans_and_runs(
    tmp_path: Path, dtype: Any, kv_dtype: Any, element_bytes: int
) -> None:
    config = EngineConfig(device="cpu", dtype=dtype, weight_dtype="int8", kv_dtype=kv_dtype)
    device = profile_device(build_llama(tmp_path / "model"), config, seconds=0)
    rates = device.measured
    assert rates is not None
    assert rates.element_bytes == element_bytes
    assert [rows for rows, _ in rates.layers] == [rows for rows, _ in rates.head] == list(ROWS)
    assert min(rates.step_s, rates.prefill_attention_flops, rates.decode_attention_bandwidth) > 0
    assert 0 <= device.beta <= 1
    path = tmp_path / "device.json"
    path.write_text(json.dumps(device_fields(device)))
    assert read_device(path) == device
    llm = LLM(tmp_path / "model", device="cpu", schedule="blend", kv_memory="1MiB", hardware=str(path))
    (output,) = llm.generate([[1, 2, 3]], SamplingParams(max_tokens=4, ignore_eos=True))
    assert len(output.token_ids) == 4


def test_the_command_refuses_an_output_before_it_measures(tmp_path: Path) -> None:
    path = tmp_path / "gone" / "device.json"
    ended = invoke("profile", "-o", path)
    assert ended.code == 2
    assert f"output {path} cannot be written: folder {path.parent} does not exist; create it first" in ended.log
    assert "measuring" not in ended.log
    ended = invoke("profile", "-o", "-")
    assert (ended.code, "give a file" in ended.log) == (2, True)


def test_the_command_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "blendserve.profiling", None)
    ended = invoke("profile", "-o", tmp_path / "device.json")
    assert ended.code == 2
    assert "`profile` needs blendserve.profiling: pip install 'blendserve[engine]'" in ended.log


def test_a_gpu_is_not_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _device: "NVIDIA L4")
    monkeypatch.setattr("blendserve.resources._total_bytes", lambda _device: 80 * 10**9)
    with pytest.raises(UserError, match="device is cuda, which `profile` cannot measure; give --device cpu"):
        profile_device(build_llama(tmp_path), EngineConfig(device="cuda"))


def test_a_made_step_has_its_lengths_and_shares_no_block() -> None:
    step = made_step([1, 5, 40], [33, 5, 48])
    assert step.qo_indptr.tolist() == [0, 1, 6, 46]
    assert step.block_indptr.tolist() == [0, 3, 4, 7]
    assert sorted(step.block_table.tolist()) == list(range(7))
    assert step.positions.tolist() == [32, *range(5), *range(8, 48)]
    assert len(np.unique(step.slot_mapping)) == 46
    assert step.slot_mapping[0] == step.block_table[2] * BLOCK_SIZE


def test_a_curve_never_gets_faster_with_more_rows() -> None:
    seconds = [1.0] * len(ROWS)
    seconds[2], seconds[3] = 3.0, 2.0
    curve = rate_curve(seconds, num_weights=10)
    assert curve[:4] == [(1, 20), (2, 40), (4, pytest.approx(80 / 3)), (8, pytest.approx(160 / 3))]


def test_calls_take_turns_and_are_made_at_least_three_times() -> None:
    order: list[str] = []
    times = median_times_s([lambda: order.append("a"), lambda: order.append("b")], seconds=0)
    assert order == ["a", "b"] * 4
    assert len(times) == 2
