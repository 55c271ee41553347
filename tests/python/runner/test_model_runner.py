from __future__ import annotations

from pathlib import Path

import pytest
import torch
from blendserve.attention import AttentionSpec
from blendserve.attention.torch_ref import TorchReferenceAttention
from blendserve.config import EngineConfig
from blendserve.models import load_model, read_config
from blendserve.resources import resolve
from blendserve.runner import ModelRunner, model_runner
from tiny_families import WINDOW, build_family


@pytest.mark.parametrize(
    ("kv_tokens", "max_positions", "windows"),
    [
        (2 * WINDOW, 1024, (WINDOW, 0, WINDOW, 0)),
        (WINDOW, 1024, (0, 0, 0, 0)),
        (2 * WINDOW, WINDOW, (0, 0, 0, 0)),
        (2 * WINDOW, WINDOW + 1, (WINDOW, 0, WINDOW, 0)),
    ],
)
def test_attention_is_told_of_windows_that_a_sequence_can_outgrow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kv_tokens: int, max_positions: int, windows: tuple[int, ...]
) -> None:
    specs: list[AttentionSpec] = []

    def backend(_: str, spec: AttentionSpec) -> TorchReferenceAttention:
        specs.append(spec)
        return TorchReferenceAttention(spec)

    monkeypatch.setattr(model_runner, "create_backend", backend)
    config = read_config(build_family(tmp_path, "gemma2", max_position_embeddings=max_positions))
    bytes_per_token = 2 * 4 * 2 * 24 * 4  # K and V, 4 layers, 2 heads of 24, float32
    settings = resolve(EngineConfig(device="cpu", kv_memory=kv_tokens * bytes_per_token, block_size=8), config)
    assert settings.kv_capacity == kv_tokens
    ModelRunner(load_model(tmp_path, config, dtype=torch.float32, device=torch.device("cpu")), settings)
    assert [(spec.windows, spec.scale, spec.softcap) for spec in specs] == [(windows, 40**-0.5, 3.0)]
