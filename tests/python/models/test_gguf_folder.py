from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from blendserve import LLM, SamplingParams
from blendserve.errors import ModelError
from blendserve.models import ModelConfig, resolve_model
from blendserve.models.gguf_folder import write_gguf_as_folder
from blendserve.models.rope_config import RopeConfig
from blendserve.models.rotary import inverse_frequencies
from blendserve.models.weights import Checkpoint
from blendserve.text.tokenizer import Tokenizer
from gguf import GGMLQuantizationType, GGUFWriter, RopeScalingType, TokenType
from gguf.quants import dequantize, quantize
from safetensors.torch import load_file
from tiny_families import build_family
from tiny_models import CHAT_TEMPLATE, SPECIAL_TOKENS, VOCAB_SIZE, build_llama, build_tokenizer, edit_json
from tokenizers import Tokenizer as Backend

GGUF_NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
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


def write_gguf(
    path: Path, model_dir: Path, *, architecture: str = "llama", quantize_up: bool = True, **fields: Any
) -> Path:
    """`fields` come last, by the names of the writer's methods without `add_`."""
    config = ModelConfig.from_dir(model_dir)
    writer = GGUFWriter(path, architecture)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_block_count(config.num_layers)
    writer.add_head_count(config.num_heads)
    writer.add_head_count_kv(config.num_kv_heads)
    writer.add_key_length(config.head_dim)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(config.rope.theta)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    _add_tokenizer(writer, model_dir)
    for name, value in fields.items():
        getattr(writer, f"add_{name}")(value)
    heads_of = {"attn_q": config.num_heads, "attn_k": config.num_kv_heads} if architecture == "llama" else {}
    for name, tensor in load_file(model_dir / "model.safetensors").items():
        block, _, rest = name.removeprefix("model.layers.").partition(".") if ".layers." in name else ("", "", name)
        stem, _, suffix = rest.rpartition(".")
        kind = GGUF_NAMES[stem]
        weight = interleaved(tensor, heads_of[kind]) if kind in heads_of else tensor
        gguf_name = f"blk.{block}.{kind}.{suffix}" if block else f"{kind}.{suffix}"
        if kind == "ffn_up" and quantize_up:
            quantized = quantize(weight.numpy(), GGMLQuantizationType.Q4_1)
            writer.add_tensor(gguf_name, quantized, raw_dtype=GGMLQuantizationType.Q4_1)
        else:
            writer.add_tensor(gguf_name, weight.numpy())
    if config.rope.rope_type == "llama3":
        plain = inverse_frequencies(RopeConfig(config.rope.theta), config.head_dim)
        writer.add_tensor("rope_freqs.weight", (plain / inverse_frequencies(config.rope, config.head_dim)).numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add_tokenizer(writer: GGUFWriter, model_dir: Path) -> None:
    model = json.loads((model_dir / "tokenizer.json").read_text())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].get)
    tokens += [f"[unused{index}]" for index in range(len(tokens), VOCAB_SIZE)]
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


def convert(source: Path, **options: Any) -> Path:
    """The folder made of a file made of the folder `source`."""
    made = source.with_name("made")
    made.mkdir()
    write_gguf_as_folder(write_gguf(source.with_name("model.gguf"), source, **options), made)
    return made


def build(directory: Path, family: str) -> Path:
    return build_tokenizer(build_family(directory, family))


@pytest.mark.parametrize("tie", [True, False])
def test_a_gguf_file_gives_the_folder_it_was_made_from(tmp_path: Path, tie: bool) -> None:
    source = build_llama(tmp_path / "source", kv_heads=2, tie=tie, rope_theta=100_000.0, with_tokenizer=True)
    made = convert(source)
    assert ModelConfig.from_dir(made) == ModelConfig.from_dir(source)
    checkpoint, expected = Checkpoint(made), load_file(source / "model.safetensors")
    assert set(json.loads((made / "model.safetensors.index.json").read_text())["weight_map"]) == expected.keys()
    for name, wanted in expected.items():
        if "up_proj" in name:
            packed = quantize(wanted.numpy(), GGMLQuantizationType.Q4_1)
            wanted = torch.from_numpy(dequantize(packed, GGMLQuantizationType.Q4_1))
        tensor = torch.empty(wanted.shape)
        checkpoint.read_into(tensor, name)
        assert torch.equal(tensor, wanted), name


@pytest.mark.parametrize(
    ("family", "architecture"),
    [("mistral without windows, tied", "llama"), ("llama", "llama"), ("qwen2", "qwen2"), ("qwen3", "qwen3")],
)
def test_a_gguf_file_answers_as_the_folder_it_was_made_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, family: str, architecture: str
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    source = build(tmp_path / "source", family)
    path = write_gguf(tmp_path / "model.gguf", source, architecture=architecture, quantize_up=False)
    answers = [
        LLM(model, device="cpu", kv_memory="2MiB", self_check=False).generate(
            [[5, 9, 200, 31, 77]], SamplingParams(temperature=0, max_tokens=12, ignore_eos=True)
        )[0]
        for model in (source, path, path)
    ]
    assert answers[0].token_ids == answers[1].token_ids == answers[2].token_ids
    (folder,) = [each for each in (tmp_path / "cache/blendserve/models").iterdir() if each.is_dir()]
    assert folder.name.startswith("model-")


def test_another_content_is_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    source = build_llama(tmp_path / "source", with_tokenizer=True)
    path = write_gguf(tmp_path / "model.gguf", source)
    first = resolve_model(str(path))
    assert resolve_model(str(path)) == first
    write_gguf(path, source, quantize_up=False)
    assert resolve_model(str(path)) != first


def test_the_rope_of_llama_3_is_known_by_its_factors(tmp_path: Path) -> None:
    source = build_llama(tmp_path / "source", rope="llama3", with_tokenizer=True, head_dim=64)
    original = {"original_max_position_embeddings": 8192}
    edit_json(source / "config.json", lambda values: values["rope_parameters"].update(original))
    assert ModelConfig.from_dir(convert(source)).rope == ModelConfig.from_dir(source).rope
    edit_json(source / "config.json", lambda values: values["rope_parameters"].update(low_freq_factor=2.0))
    (tmp_path / "made").rename(tmp_path / "before")
    with pytest.raises(ModelError, match=r"the factors in tensor 'rope_freqs.weight' are not those of Llama 3"):
        convert(source)


def test_scaled_rope_is_read(tmp_path: Path) -> None:
    source = build_llama(tmp_path / "source", with_tokenizer=True)
    yarn = {
        "rope_scaling_type": RopeScalingType.YARN,
        "rope_scaling_factor": 4.0,
        "rope_scaling_orig_ctx_len": 256,
    }
    rope = ModelConfig.from_dir(convert(source, **yarn)).rope
    assert (rope.rope_type, rope.factor, rope.original_max_position_embeddings) == ("yarn", 4.0, 256)


def test_the_tokenizer_is_smollms_with_its_chat_template(tmp_path: Path) -> None:
    source = build_llama(tmp_path / "source", with_tokenizer=True)
    made, original = Tokenizer.load(convert(source)), Tokenizer.load(source)
    assert made is not None
    assert original is not None
    text = "The quick brown fox — naïve 日本語"
    assert made.encode(text) == original.encode(text, add_special_tokens=False)
    messages = [{"role": "user", "content": "Hi"}]
    assert made.encode_chat(messages, {}) == original.encode_chat(messages, {})
    digits = made.encode("a  42")
    assert [made.token_text(token) for token in digits[-2:]] == ["4", "2"]


@pytest.mark.parametrize(
    ("pre", "pieces"),
    [("llama-bpe", ["<s>", "123", "4"]), ("qwen2", ["1", "2", "3", "4"]), ("gpt-2", ["1234"])],
)
def test_numbers_are_split_as_the_model_had_them(tmp_path: Path, pre: str, pieces: list[str]) -> None:
    source = build_llama(tmp_path / "source", with_tokenizer=True)
    made = convert(source, tokenizer_pre=pre)
    backend = Backend.from_file(str(made / "tokenizer.json"))
    assert backend.pre_tokenizer is not None
    assert [piece for piece, _ in backend.pre_tokenizer.pre_tokenize_str("1234")] == pieces[
        -len(pieces) + ("<s>" in pieces) :
    ]
    assert (backend.encode("1234").tokens[0] == "<s>") == ("<s>" in pieces)


def test_a_sentencepiece_tokenizer_merges_by_score(tmp_path: Path) -> None:
    source = build_llama(tmp_path / "source", with_tokenizer=True)
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    words = ["\u2581", *"abchelo", "\u2581h", "lo", "el", "\u2581hel", "ab"]
    scores = [0.0] * len(tokens) + [-1000.0 - index for index in range(8)] + [-1.0, -2.0, -3.0, -4.0, -5.0]
    kinds = [TokenType.UNKNOWN, TokenType.CONTROL, TokenType.CONTROL] + [TokenType.BYTE] * 256
    kinds += [TokenType.NORMAL] * len(words)
    made = convert(
        source,
        tokenizer_model="llama",
        token_list=tokens + words,
        token_scores=scores,
        token_types=kinds,
        bos_token_id=1,
        eos_token_id=2,
    )
    backend = Backend.from_file(str(made / "tokenizer.json"))
    assert backend.encode("hello").tokens == ["<s>", "\u2581hel", "lo"]
    assert backend.encode("ab\u00e9").tokens == ["<s>", "\u2581", "ab", "<0xC3>", "<0xA9>"]
    assert backend.decode(backend.encode("hello ab\u00e9").ids) == "hello ab\u00e9"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"architecture": "falcon"},
            "general.architecture is 'falcon'; supported: llama, qwen2, qwen3. Use the model's",
        ),
        ({"tokenizer_model": "bert"}, "tokenizer.ggml.model is 'bert'; supported: gpt2, llama"),
        ({"tokenizer_pre": "tekken"}, "tokenizer.ggml.pre is 'tekken'; supported: gpt-2, smollm, llama-bpe, qwen2"),
        ({"rope_dimension_count": 4}, "only 4 of a head's 8 elements are rotated"),
    ],
)
def test_what_cannot_be_converted_is_named(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    source = build_llama(tmp_path / "source", with_tokenizer=True)
    with pytest.raises(ModelError, match=message):
        convert(source, **options)


@pytest.mark.parametrize("content", [b"", b"GGUF", b"no such format at all, and long enough to be read"])
def test_a_broken_file_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=f"{path} is not a whole GGUF file"):
        write_gguf_as_folder(path, tmp_path)
