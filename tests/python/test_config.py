from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from blendserve import EngineConfig, UserError
from blendserve.config import parse_size


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (1, 1),
        (2**40 + 1, 2**40 + 1),
        ("1073741824", 2**30),
        ("4GiB", 4 * 2**30),
        ("4gib", 4 * 2**30),
        (" 500 MB ", 500 * 10**6),
        ("1.5g", 1_500_000_000),
        ("1.k", 1000),
        ("0.5KiB", 512),
        ("2t", 2 * 10**12),
        ("3 B", 3),
        ("9007199254740993", 2**53 + 1),
        ("0.3g", 300_000_000),
        ("9" * 400, 10**400 - 1),
    ],
)
def test_sizes_are_read_exactly(size: int | str, expected: int) -> None:
    assert parse_size(size) == expected


@pytest.mark.parametrize("size", ["", "GiB", "four", "1e9", "-1", "4 GiB RAM", "1.5.2g", "4Gi B", "inf", "nan"])
def test_a_size_that_is_no_number_with_a_unit_is_refused(size: str) -> None:
    with pytest.raises(UserError, match=f'size "{size}" is not understood; write bytes or a number with a unit'):
        parse_size(size)


@pytest.mark.parametrize("size", [0, -5, True, 1.5, None, "0", "0.1"])
def test_a_size_that_is_no_positive_number_of_bytes_is_refused(size: Any) -> None:
    with pytest.raises(UserError, match=r"size .* must be a positive number of bytes"):
        parse_size(size)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"schedule": "lifo"}, "schedule is 'lifo'; it must be one of blend, paper, dfs, random, fcfs"),
        ({"schedule": None}, "schedule is None; it must be one of"),
        ({"schedule": ["fcfs"]}, r"schedule is \['fcfs'\]; it must be one of"),
        ({"device": "tpu"}, "device is 'tpu'; it must be one of auto, cpu, cuda"),
        ({"dtype": "int8"}, "dtype is 'int8'; it must be one of auto, float32, bfloat16, float16"),
        ({"weight_dtype": "int4"}, "weight_dtype is 'int4'; it must be one of auto, float32, bfloat16, int8"),
        (
            {"kv_dtype": "int8"},
            "kv_dtype is 'int8'; it must be one of auto, float32, bfloat16, float16, fp8_e4m3",
        ),
        ({"max_batch_tokens": 0}, "max_batch_tokens is 0; it must be a positive integer"),
        ({"max_batch_requests": -1}, "max_batch_requests is -1; it must be a positive integer"),
        ({"max_batch_requests": 1.0}, "max_batch_requests is 1.0; it must be a positive integer"),
        ({"block_size": True}, "block_size is True; it must be a positive integer"),
        ({"block_size": None}, "block_size is None; it must be a positive integer"),
        ({"seed": 1.5}, "seed is 1.5; it must be an integer"),
        ({"seed": None}, "seed is None; it must be an integer"),
        ({"async_scheduling": "no"}, "async_scheduling is 'no'; it must be True or False"),
        ({"stop_runaways": 1}, "stop_runaways is 1; it must be True or False"),
        ({"hardware": 5}, "hardware is 5; it must be a device's name, a .json file or a DeviceSpec"),
        ({"kv_memory": "lots"}, 'size "lots" is not understood'),
        ({"kv_memory": 0}, "size 0 must be a positive number of bytes"),
        (
            {"max_batch_tokens": 8, "max_batch_requests": 9},
            r"max_batch_requests is 9, more than max_batch_tokens \(8\); .*: raise max_batch_tokens or lower",
        ),
    ],
)
def test_a_bad_setting_is_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        EngineConfig(**settings)


def test_a_config_is_frozen_and_knows_its_fields() -> None:
    config = EngineConfig(max_batch_tokens=8, max_batch_requests=8, seed=-(2**70))
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.seed = 1  # type: ignore[misc]
    with pytest.raises(TypeError, match="unexpected keyword argument 'batch'"):
        EngineConfig(batch=3)  # type: ignore[call-arg]


def test_an_attention_backend_that_is_none_is_refused_before_anything_is_read() -> None:
    with pytest.raises(
        UserError, match="attention is 'fast'; it must be one of auto, flashinfer, native_cpu, native_cuda, torch_ref"
    ):
        EngineConfig(attention="fast")  # type: ignore[arg-type]
