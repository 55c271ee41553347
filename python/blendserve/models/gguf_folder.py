"""Writes a Llama model that is packed in one GGUF file as a folder in the Hugging Face format."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFReader, TokenType
from gguf.quants import dequantize
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import save_file
from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE

from blendserve.errors import ModelError

__all__ = ["write_gguf_as_folder"]

_TENSOR_NAMES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def write_gguf_as_folder(gguf_path: Path, model_dir: Path) -> None:
    """Fills the empty folder `model_dir`: settings, tokenizer with chat template, weights dequantized to float32.

    Knows the Llama architecture with SmolLM's byte-level tokenizer; raises `ModelError` for anything else,
    OSError when the folder cannot be written.
    """
    reader = GGUFReader(gguf_path)
    for key, expected in {
        "general.architecture": "llama",
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "smollm",
    }.items():
        if _value(reader, key) != expected:
            raise ModelError(f"{gguf_path}: {key} is {_value(reader, key)!r}, but only {expected!r} can be converted")
    weights = dict(_weights(reader))
    _write_settings(reader, model_dir, tied="lm_head.weight" not in weights)
    _write_tokenizer(reader, model_dir)
    try:
        save_file(weights, model_dir / "model.safetensors", metadata={"format": "pt"})
    except SafetensorError as error:
        raise OSError(f"writing model.safetensors failed: {error}") from error


def _value(reader: GGUFReader, key: str) -> Any:
    field = reader.get_field(key)
    if field is None:
        raise ModelError(f"the GGUF file has no field {key!r}")
    return field.contents()


def _number(reader: GGUFReader, key: str) -> float:
    """The shortest decimal that is this float32."""
    return float(str(np.float32(_value(reader, key))))


def _weights(reader: GGUFReader) -> Iterator[tuple[str, NDArray[np.float32]]]:
    heads_of = {
        "attn_q": _value(reader, "llama.attention.head_count"),
        "attn_k": _value(reader, "llama.attention.head_count_kv"),
    }
    for tensor in reader.tensors:
        *block, kind, suffix = tensor.name.split(".")
        weight = dequantize(tensor.data, tensor.tensor_type)
        if kind in heads_of:
            weight = _half_rotation_rows(weight, heads_of[kind])
        prefix = f"model.layers.{block[1]}." if block else ""
        yield f"{prefix}{_TENSOR_NAMES[kind]}.{suffix}", np.ascontiguousarray(weight)


def _half_rotation_rows(weight: NDArray[np.float32], num_heads: int) -> NDArray[np.float32]:
    """GGUF interleaves the two halves of each head's rows, [d0, d0 + h, d1, d1 + h, ...]; back to [d0, d1, ...]."""
    num_rows, num_columns = weight.shape
    pairs = weight.reshape(num_heads, num_rows // num_heads // 2, 2, num_columns)
    rows: NDArray[np.float32] = pairs.swapaxes(1, 2).reshape(num_rows, num_columns)
    return rows


def _write_settings(reader: GGUFReader, model_dir: Path, *, tied: bool) -> None:
    tokens = {
        "bos_token_id": _value(reader, "tokenizer.ggml.bos_token_id"),
        "eos_token_id": _value(reader, "tokenizer.ggml.eos_token_id"),
        "pad_token_id": _value(reader, "tokenizer.ggml.padding_token_id"),
    }
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": _value(reader, "llama.vocab_size"),
        "hidden_size": _value(reader, "llama.embedding_length"),
        "intermediate_size": _value(reader, "llama.feed_forward_length"),
        "num_hidden_layers": _value(reader, "llama.block_count"),
        "num_attention_heads": _value(reader, "llama.attention.head_count"),
        "num_key_value_heads": _value(reader, "llama.attention.head_count_kv"),
        "head_dim": _value(reader, "llama.rope.dimension_count"),
        "hidden_act": "silu",
        "max_position_embeddings": _value(reader, "llama.context_length"),
        "rms_norm_eps": _number(reader, "llama.attention.layer_norm_rms_epsilon"),
        "rope_theta": _number(reader, "llama.rope.freq_base"),
        "tie_word_embeddings": tied,
        "attention_bias": False,
        "mlp_bias": False,
        "torch_dtype": "float32",
        **tokens,
    }
    _write_json(model_dir / "config.json", config)
    _write_json(model_dir / "generation_config.json", tokens)


def _write_tokenizer(reader: GGUFReader, model_dir: Path) -> None:
    tokens: list[str] = _value(reader, "tokenizer.ggml.tokens")
    kinds: list[int] = _value(reader, "tokenizer.ggml.token_type")
    merges: list[str] = _value(reader, "tokenizer.ggml.merges")

    vocab = {token: index for index, token in enumerate(tokens)}
    pairs = [(first, second) for first, second in (merge.split(" ") for merge in merges)]
    tokenizer = Tokenizer(BPE(vocab=vocab, merges=pairs))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    control = [token for token, kind in zip(tokens, kinds, strict=True) if kind == TokenType.CONTROL]
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in control])
    tokenizer.save(str(model_dir / "tokenizer.json"))

    _write_json(
        model_dir / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": tokens[_value(reader, "tokenizer.ggml.bos_token_id")],
            "eos_token": tokens[_value(reader, "tokenizer.ggml.eos_token_id")],
            "pad_token": tokens[_value(reader, "tokenizer.ggml.padding_token_id")],
            "unk_token": tokens[_value(reader, "tokenizer.ggml.unknown_token_id")],
            "model_max_length": _value(reader, "llama.context_length"),
            "clean_up_tokenization_spaces": False,
            "chat_template": _value(reader, "tokenizer.chat_template"),
        },
    )


def _write_json(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
