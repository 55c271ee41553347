"""Writes a model that is packed in one GGUF file as a folder in the Hugging Face format."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gguf.quants import dequantize
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import save_file

from blendserve.errors import ModelError
from blendserve.models.gguf_file import GgufFile
from blendserve.models.gguf_tokenizer import write_gguf_tokenizer
from blendserve.models.rope_config import RopeConfig
from blendserve.models.rotary import inverse_frequencies

__all__ = ["write_gguf_as_folder"]

# By llama.cpp's name; Mistral's files are called llama there, and have lost their window.
_ARCHITECTURES = {"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM", "qwen3": "Qwen3ForCausalLM"}
_INTERLEAVED = ("llama",)  # the architectures whose rows of queries and keys are not in the order of the folder
_TENSOR_NAMES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_ROPE_FACTORS = "rope_freqs.weight"


def write_gguf_as_folder(gguf_path: Path, model_dir: Path) -> None:
    """Fills the empty folder `model_dir`: settings, tokenizer with chat template, weights dequantized to float32.

    Raises `ModelError` for an architecture, a tokenizer or a quantization that is not known, OSError when the folder
    cannot be written.
    """
    gguf = GgufFile(gguf_path)
    if gguf.architecture not in _ARCHITECTURES:
        raise ModelError(
            f"{gguf_path}: general.architecture is {gguf.architecture!r}; supported: {', '.join(_ARCHITECTURES)}. Use"
            " the model's folder in the Hugging Face format"
        )
    _write_settings(gguf, model_dir)
    write_gguf_tokenizer(gguf, model_dir)
    try:
        _write_weights(gguf, model_dir)
    except SafetensorError as error:
        raise OSError(f"writing the weights failed: {error}") from error


def _write_weights(gguf: GgufFile, model_dir: Path) -> None:
    """One file a layer, so that no more than a layer is held in memory."""
    by_part = defaultdict(list)
    for tensor in gguf.tensors:
        if tensor.name != _ROPE_FACTORS:
            by_part[tensor.name.split(".")[1] if tensor.name.startswith("blk.") else "ends"].append(tensor)
    weight_map = {}
    for part, tensors in by_part.items():
        file_name = f"model-{part}.safetensors"
        weights = dict(_weight(gguf, tensor) for tensor in tensors)
        save_file(weights, model_dir / file_name, metadata={"format": "pt"})
        weight_map.update(dict.fromkeys(weights, file_name))
    _write_json(model_dir / "model.safetensors.index.json", {"metadata": {}, "weight_map": weight_map})


def _weight(gguf: GgufFile, tensor: Any) -> tuple[str, NDArray[np.float32]]:
    """Its name in the folder, and its elements."""
    *block, kind, suffix = tensor.name.split(".")
    if kind not in _TENSOR_NAMES:
        raise ModelError(f"{gguf.path}: tensor {tensor.name!r} belongs to a layout that is not supported")
    try:
        weight = dequantize(tensor.data, tensor.tensor_type)
    except (NotImplementedError, KeyError) as error:
        raise ModelError(
            f"{gguf.path}: {tensor.name!r} has the quantization {tensor.tensor_type.name}, which is not"
            " supported; give a file with another"
        ) from error
    if kind in ("attn_q", "attn_k") and gguf.architecture in _INTERLEAVED:
        heads = gguf.of_model("attention.head_count" if kind == "attn_q" else "attention.head_count_kv")
        weight = _half_rotation_rows(weight, heads)
    prefix = f"model.layers.{block[1]}." if block else ""
    return f"{prefix}{_TENSOR_NAMES[kind]}.{suffix}", np.ascontiguousarray(weight)


def _half_rotation_rows(weight: NDArray[np.float32], num_heads: int) -> NDArray[np.float32]:
    """GGUF interleaves the two halves of each head's rows, [d0, d0 + h, d1, d1 + h, ...]; back to [d0, d1, ...]."""
    pairs = weight.reshape(num_heads, len(weight) // num_heads // 2, 2, -1)
    rows: NDArray[np.float32] = pairs.swapaxes(1, 2).reshape(weight.shape)
    return rows


def _write_settings(gguf: GgufFile, model_dir: Path) -> None:
    names = {tensor.name for tensor in gguf.tensors}
    token_ids = {
        f"{name}_token_id": gguf.get(f"tokenizer.ggml.{key}_token_id")
        for name, key in {"bos": "bos", "eos": "eos", "pad": "padding"}.items()
    }
    num_heads, hidden_size = gguf.of_model("attention.head_count"), gguf.of_model("embedding_length")
    rotated = gguf.of_model("rope.dimension_count", hidden_size // num_heads)
    head_dim = gguf.of_model("attention.key_length", rotated)
    if rotated != head_dim:
        raise ModelError(
            f"{gguf.path}: only {rotated} of a head's {head_dim} elements are rotated; it is not supported"
        )
    config = {
        "architectures": [_ARCHITECTURES[gguf.architecture]],
        "model_type": gguf.architecture,
        "vocab_size": len(gguf.value("tokenizer.ggml.tokens")),
        "hidden_size": hidden_size,
        "intermediate_size": gguf.of_model("feed_forward_length"),
        "num_hidden_layers": gguf.of_model("block_count"),
        "num_attention_heads": num_heads,
        "num_key_value_heads": gguf.of_model("attention.head_count_kv"),
        "head_dim": head_dim,
        "hidden_act": "silu",
        "max_position_embeddings": gguf.of_model("context_length"),
        "rms_norm_eps": gguf.of_model("attention.layer_norm_rms_epsilon"),
        "rope_theta": gguf.of_model("rope.freq_base", 10_000.0),
        "rope_scaling": _rope_scaling(gguf, head_dim),
        "tie_word_embeddings": "output.weight" not in names,
        "attention_bias": "blk.0.attn_output.bias" in names,
        "mlp_bias": "blk.0.ffn_down.bias" in names,
        "torch_dtype": "float32",
        **token_ids,
    }
    _write_json(model_dir / "config.json", config)
    _write_json(model_dir / "generation_config.json", token_ids)


def _rope_scaling(gguf: GgufFile, head_dim: int) -> dict[str, Any] | None:
    factors = next((tensor for tensor in gguf.tensors if tensor.name == _ROPE_FACTORS), None)
    if factors is not None:
        return _llama3_scaling(gguf, np.array(factors.data), head_dim)
    kind = gguf.get(f"{gguf.architecture}.rope.scaling.type", "none")
    if kind == "none":
        return None
    scaling = {"rope_type": kind, "factor": gguf.of_model("rope.scaling.factor")}
    original = gguf.of_model("rope.scaling.original_context_length", 0)
    return scaling | {"original_max_position_embeddings": original} if original else scaling


def _llama3_scaling(gguf: GgufFile, factors: NDArray[np.float32], head_dim: int) -> dict[str, Any]:
    """The settings behind these factors of the wavelengths; Llama 3 models differ in `factor` only."""
    theta = gguf.of_model("rope.freq_base", 10_000.0)
    rope = RopeConfig(theta, "llama3", float(factors.max()), 1.0, 4.0, 8192)
    frequencies = inverse_frequencies(RopeConfig(theta), head_dim) / torch.from_numpy(factors)
    if not torch.allclose(inverse_frequencies(rope, head_dim), frequencies, rtol=1e-3, atol=0):
        raise ModelError(f"{gguf.path}: the factors in tensor {_ROPE_FACTORS!r} are not those of Llama 3")
    return {
        "rope_type": rope.rope_type,
        "factor": rope.factor,
        "low_freq_factor": rope.low_freq_factor,
        "high_freq_factor": rope.high_freq_factor,
        "original_max_position_embeddings": rope.original_max_position_embeddings,
    }


def _write_json(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
