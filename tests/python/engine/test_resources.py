from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import torch
from blendserve import EngineConfig, StepScheduler, UserError
from blendserve.models import ModelConfig
from blendserve.resources import kv_bytes_per_token, resolve
from tiny_models import build_llama

BYTES_PER_TOKEN = 2 * 2 * 2 * 8 * 4  # K and V, 2 layers, 2 KV heads, head size 8, float32


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ModelConfig:
    return ModelConfig.from_dir(build_llama(tmp_path_factory.mktemp("model")))


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine of 8 MB, half of them free."""
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(total=8_000_000, available=4_000_000))


def test_a_token_takes_keys_and_values_of_all_layers(model: ModelConfig) -> None:
    assert kv_bytes_per_token(model, torch.float32) == BYTES_PER_TOKEN
    assert kv_bytes_per_token(model, torch.bfloat16) == BYTES_PER_TOKEN // 2
    assert kv_bytes_per_token(model, torch.float8_e4m3fn) == BYTES_PER_TOKEN // 4


@pytest.mark.usefixtures("no_gpu", "memory")
def test_everything_left_open_is_decided(model: ModelConfig) -> None:
    config = resolve(EngineConfig(), model)
    assert (config.device, config.dtype, config.schedule) == (torch.device("cpu"), torch.float32, "blend")
    assert (config.max_batch_tokens, config.max_batch_requests) == (512, 256)
    # A quarter of what is free.
    assert config.num_blocks == 1_000_000 // (16 * BYTES_PER_TOKEN) == 244
    assert config.kv_capacity == 244 * 16


@pytest.mark.usefixtures("no_gpu", "memory")
def test_a_job_caps_the_automatic_cache_only(model: ModelConfig) -> None:
    assert resolve(EngineConfig(), model, kv_tokens_needed=100).num_blocks == 8
    assert resolve(EngineConfig(), model, kv_tokens_needed=0).num_blocks == 1
    assert resolve(EngineConfig(), model, kv_tokens_needed=10**9).num_blocks == 244
    assert resolve(EngineConfig(kv_memory="1MB"), model, kv_tokens_needed=100).num_blocks == 244


@pytest.mark.usefixtures("no_gpu", "memory")
@pytest.mark.parametrize("num_requests", [1, 2, 99, 100, 200])
def test_a_cache_sized_for_a_job_runs_all_of_it_at_once(model: ModelConfig, num_requests: int) -> None:
    num_blocks = resolve(EngineConfig(), model, kv_tokens_needed=16 * num_requests).num_blocks
    scheduler = StepScheduler(num_blocks=num_blocks)
    for token in range(num_requests):
        scheduler.add_request([token], max_new_tokens=15)
    step = scheduler.schedule()
    assert step is not None
    assert len(step.request_ids) == num_requests


@pytest.mark.usefixtures("no_gpu", "memory")
def test_kv_memory_is_cut_into_whole_blocks(model: ModelConfig) -> None:
    block = 16 * BYTES_PER_TOKEN
    assert resolve(EngineConfig(kv_memory=3 * block - 1), model).num_blocks == 2
    assert resolve(EngineConfig(kv_memory=block, device="cpu"), model).num_blocks == 1
    assert resolve(EngineConfig(kv_memory=block, dtype="bfloat16"), model).num_blocks == 2
    assert resolve(EngineConfig(kv_memory=block, block_size=1), model).num_blocks == 16


@pytest.mark.usefixtures("no_gpu", "memory")
def test_kv_memory_that_holds_no_block_or_is_not_there_is_refused(model: ModelConfig) -> None:
    with pytest.raises(UserError, match=r"kv_memory 4k is less than one block of 16 tokens, which takes 4096 bytes"):
        resolve(EngineConfig(kv_memory="4k"), model)
    with pytest.raises(UserError, match=r"kv_memory 9MB is more than the 8000000 bytes of memory on cpu"):
        resolve(EngineConfig(kv_memory="9MB"), model)


@pytest.mark.usefixtures("no_gpu")
def test_devices_and_dtypes_that_cannot_run_are_refused(model: ModelConfig) -> None:
    with pytest.raises(UserError, match='device is "cuda", but no NVIDIA GPU is usable here; choose --device cpu'):
        resolve(EngineConfig(device="cuda"), model)
    with pytest.raises(UserError, match='dtype "float16" runs on a GPU only; choose float32 or bfloat16'):
        resolve(EngineConfig(dtype="float16"), model)


@pytest.mark.usefixtures("no_gpu", "memory")
def test_the_cache_holds_more_tokens_in_a_narrower_dtype_of_its_own(model: ModelConfig) -> None:
    narrow = resolve(EngineConfig(kv_dtype="bfloat16"), model)
    assert (narrow.dtype, narrow.kv_dtype, narrow.num_blocks) == (torch.float32, torch.bfloat16, 488)
    assert resolve(EngineConfig(dtype="bfloat16"), model).kv_dtype == torch.bfloat16
    assert resolve(EngineConfig(dtype="bfloat16", kv_dtype="float32"), model).num_blocks == 244
    narrowest = resolve(EngineConfig(kv_dtype="fp8_e4m3", attention="torch_ref"), model)
    assert (narrowest.kv_dtype, narrowest.kv_dtype_name, narrowest.num_blocks) == (
        torch.float8_e4m3fn,
        "fp8_e4m3",
        976,
    )


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize(
    ("settings", "kept"),
    [
        ({"kv_dtype": "fp8_e4m3"}, "native_cpu attention of a model in float32 keeps float32 or bfloat16"),
        ({"kv_dtype": "float16"}, "native_cpu attention of a model in float32 keeps float32 or bfloat16"),
        (
            {"kv_dtype": "float32", "dtype": "bfloat16", "attention": "native_cuda"},
            "native_cuda attention of a model in bfloat16 keeps bfloat16 or fp8_e4m3",
        ),
    ],
)
def test_a_cache_that_the_attention_backend_lacks_is_refused(
    model: ModelConfig, settings: dict[str, Any], kept: str
) -> None:
    with pytest.raises(UserError, match=f"kv_dtype is '{settings['kv_dtype']}', but {kept}; .* torch_ref"):
        resolve(EngineConfig(**settings), model)


@pytest.mark.parametrize(
    ("tokens", "requests", "expected"),
    [
        (None, None, (512, 256)),
        (100, None, (100, 100)),
        (None, 1000, (1000, 1000)),
        (None, 8, (512, 8)),
        (9, 3, (9, 3)),
    ],
)
@pytest.mark.usefixtures("no_gpu")
def test_an_open_batch_limit_fits_the_other(
    model: ModelConfig, tokens: int | None, requests: int | None, expected: tuple[int, int]
) -> None:
    config = resolve(EngineConfig(max_batch_tokens=tokens, max_batch_requests=requests), model)
    assert (config.max_batch_tokens, config.max_batch_requests) == expected


def test_the_memory_of_this_machine_is_asked_for(tmp_path: Path) -> None:
    model = ModelConfig.from_dir(build_llama(tmp_path))
    config = resolve(EngineConfig(device="cpu"), model)
    cache_bytes = config.kv_capacity * BYTES_PER_TOKEN
    assert 0 < cache_bytes <= 0.25 * psutil.virtual_memory().total
