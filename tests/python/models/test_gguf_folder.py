from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from blendserve.errors import ModelError
from blendserve.models import ModelConfig
from blendserve.models.gguf_folder import write_gguf_as_folder
from blendserve.text.tokenizer import Tokenizer
from gguf import GGMLQuantizationType, GGUFWriter, TokenType
from gguf.quants import dequantize, quantize
from safetensors.torch import load_file
from tiny_models import CHAT_TEMPLATE, SPECIAL_TOKENS, VOCAB_SIZE, build_llama

GGUF_NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def interleaved(weight: torch.Tensor, num_heads: int) -> torch.Tensor:
    """The row order of llama.cpp's converter: each row of a head's first half beside its partner of the second."""
    rows = []
    for head in weight.chunk(num_heads):
        first_half, second_half = head.chunk(2)
        for pair in zip(first_half, second_half, strict=True):
            rows += pair
    return torch.stack(rows)


def write_gguf(path: Path, model_dir: Path, *, architecture: str = "llama") -> Path:
    config = ModelConfig.from_dir(model_dir)
    model = json.loads((model_dir / "tokenizer.json").read_text())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].get)
    writer = GGUFWriter(path, architecture)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_block_count(config.num_layers)
    writer.add_head_count(config.num_heads)
    writer.add_head_count_kv(config.num_kv_heads)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(config.rope.theta)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([TokenType.CONTROL if token in SPECIAL_TOKENS else TokenType.NORMAL for token in tokens])
    writer.add_token_merges([" ".join(merge) for merge in model["merges"]])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    writer.add_unk_token_id(0)
    writer.add_pad_token_id(1)
    writer.add_chat_template(CHAT_TEMPLATE)
    heads_of = {"attn_q": config.num_heads, "attn_k": config.num_kv_heads}
    for name, tensor in load_file(model_dir / "model.safetensors").items():
        block, _, rest = name.removeprefix("model.layers.").partition(".") if ".layers." in name else ("", "", name)
        stem, _, suffix = rest.rpartition(".")
        kind = GGUF_NAMES[stem]
        weight = interleaved(tensor, heads_of[kind]) if kind in heads_of else tensor
        gguf_name = f"blk.{block}.{kind}.{suffix}" if block else f"{kind}.{suffix}"
        if kind == "ffn_up":
            quantized = quantize(weight.numpy(), GGMLQuantizationType.Q4_1)
            writer.add_tensor(gguf_name, quantized, raw_dtype=GGMLQuantizationType.Q4_1)
        else:
            writer.add_tensor(gguf_name, weight.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize("tie", [True, False])
def test_a_gguf_file_gives_the_folder_it_was_made_from(tmp_path: Path, tie: bool) -> None:
    source = build_llama(tmp_path / "source", kv_heads=2, tie=tie, rope_theta=100_000.0, with_tokenizer=True)
    (tmp_path / "made").mkdir()
    write_gguf_as_folder(write_gguf(tmp_path / "model.gguf", source), tmp_path / "made")

    assert ModelConfig.from_dir(tmp_path / "made") == ModelConfig.from_dir(source)
    weights, expected = (load_file(tmp_path / name / "model.safetensors") for name in ("made", "source"))
    assert weights.keys() == expected.keys()
    for name, tensor in weights.items():
        wanted = expected[name]
        if "up_proj" in name:
            packed = quantize(wanted.numpy(), GGMLQuantizationType.Q4_1)
            wanted = torch.from_numpy(dequantize(packed, GGMLQuantizationType.Q4_1))
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, wanted), name


def test_the_tokenizer_is_smollms_with_its_chat_template(tmp_path: Path) -> None:
    source = build_llama(tmp_path / "source", with_tokenizer=True)
    (tmp_path / "made").mkdir()
    write_gguf_as_folder(write_gguf(tmp_path / "model.gguf", source), tmp_path / "made")
    made, original = Tokenizer.load(tmp_path / "made"), Tokenizer.load(source)
    assert made is not None
    assert original is not None
    assert made.vocab_size == original.vocab_size <= VOCAB_SIZE
    text = "The quick brown fox — naïve 日本語"
    assert made.encode(text) == original.encode(text, add_special_tokens=False)
    messages = [{"role": "user", "content": "Hi"}]
    assert made.encode_chat(messages, {}) == original.encode_chat(messages, {})
    digits = made.encode("a  42")
    assert [made.token_text(token) for token in digits[-2:]] == ["4", "2"]


def test_another_architecture_is_refused(tmp_path: Path) -> None:
    source = build_llama(tmp_path / "source", with_tokenizer=True)
    gguf_path = write_gguf(tmp_path / "model.gguf", source, architecture="falcon")
    with pytest.raises(ModelError, match=r"general.architecture is 'falcon', but only 'llama' can be converted"):
        write_gguf_as_folder(gguf_path, tmp_path)
