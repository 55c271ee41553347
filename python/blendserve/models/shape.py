"""What the engine needs to know of a model, whoever computes its forward pass."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blendserve.errors import ModelError
from blendserve.models.json_fields import JsonFields

__all__ = ["ModelShape", "read_config_json", "token_fields"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelShape:
    """`dtype` is the one the folder names (None if it names none); `eos_token_ids` may be empty."""

    architecture: str
    vocab_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    num_parameters: int  # input embedding included, counted once if tied
    max_position_embeddings: int
    bos_token_id: int | None
    eos_token_ids: tuple[int, ...]
    dtype: str | None
    attention_scale: float  # of the scores before softmax
    attention_softcap: float = 0.0  # scores become cap * tanh(score / cap); 0: as they are
    windows: tuple[int, ...]  # one per layer: how many positions a token sees, itself included; 0: all


def read_config_json(model_dir: Path) -> JsonFields:
    """Raises `ModelError` where there is none, or where it is that of quantized weights."""
    path = model_dir / "config.json"
    if not path.is_file():
        raise ModelError(f"{model_dir} has no config.json: a folder in the Hugging Face format is expected")
    fields = JsonFields.read(path)
    if "quantization_config" in fields:
        method = fields.child("quantization_config").values.get("quant_method", "unknown")
        raise ModelError(
            f"{fields.source}: `quantization_config` (quant_method {method!r}) is not supported;"
            " use the model's unquantized weights"
        )
    return fields


def token_fields(fields: JsonFields, model_dir: Path) -> dict[str, Any]:
    """The fields of `ModelShape` that every family states alike; generation_config.json says best where answers end."""
    generation_path = model_dir / "generation_config.json"
    generation = JsonFields.read(generation_path) if generation_path.is_file() else JsonFields("", {})
    bos_token_ids = fields.token_ids("bos_token_id") or generation.token_ids("bos_token_id")
    return {
        "bos_token_id": bos_token_ids[0] if bos_token_ids else None,
        "eos_token_ids": generation.token_ids("eos_token_id") or fields.token_ids("eos_token_id"),
        "dtype": next((fields.text(key) for key in ("dtype", "torch_dtype") if key in fields), None),
    }
