from __future__ import annotations

from typing import Any

import pytest
import torch
from blendserve.attention import AttentionSpec, create_backend
from blendserve.errors import UserError


def spec(**changes: Any) -> AttentionSpec:
    fields: dict[str, Any] = {
        "num_layers": 3,
        "num_heads": 8,
        "num_kv_heads": 2,
        "head_dim": 64,
        "num_blocks": 4,
        "block_size": 16,
        "dtype": torch.bfloat16,
        "device": torch.device("cpu"),
    }
    return AttentionSpec(**{**fields, **changes})


def test_scores_are_scaled_by_the_root_of_the_head_size_unless_told() -> None:
    assert spec().scale == 0.125
    assert spec(scale=0.5).scale == 0.5


def test_windows_are_told_for_every_layer_or_for_none() -> None:
    assert [spec().window(layer) for layer in range(3)] == [0, 0, 0]
    assert [spec(windows=(0, 7, 0)).window(layer) for layer in range(3)] == [0, 7, 0]
    with pytest.raises(UserError, match="windows has 2 entries; it must have one for each of 3 layers"):
        spec(windows=(0, 7))


def test_scales_of_an_8_bit_cache_are_told_for_every_layer_or_for_none() -> None:
    fp8 = torch.float8_e4m3fn
    assert spec(dtype=fp8).kv_scale(2) == (1.0, 1.0)
    assert spec(dtype=fp8, kv_scales=((1.0, 2.0), (0.5, 1.0), (3.0, 0.25))).kv_scale(2) == (3.0, 0.25)
    assert spec(kv_scales=((1.0, 1.0),) * 3).kv_scale(0) == (1.0, 1.0)
    with pytest.raises(UserError, match="kv_scales has 1 pairs; it must have one for each of 3 layers"):
        spec(dtype=fp8, kv_scales=((1.0, 1.0),))
    for scale in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(UserError, match="scales must be positive"):
            spec(dtype=fp8, kv_scales=((1.0, scale),) * 3)
    with pytest.raises(UserError, match=r"for a cache in torch\.bfloat16; scales must be positive, and 1 unless"):
        spec(kv_scales=((1.0, 2.0),) * 3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"head_dim": 72}, "head_dim is 72, but native_cuda attention has multiples of 16"),
        ({"head_dim": 272}, "head_dim is 272, but native_cuda attention has multiples of 16 .* up to 256"),
        ({"dtype": torch.float32}, "KV cache is torch.float32"),
    ],
)
@pytest.mark.parametrize("backend", ["native_cuda", "flashinfer"])
def test_the_cuda_backends_name_what_they_lack(backend: str, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        create_backend(backend, spec(device=torch.device("cuda"), **changes))
