"""ModelSpec and DeviceSpec as users make them, and the cost model they feed."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from blendserve import DeviceSpec, ModelError, ModelSpec, _core

LLAMA_8B: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 128256,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "max_position_embeddings": 131072,
    "tie_word_embeddings": False,
}
QWEN25_7B: dict[str, Any] = {
    "model_type": "qwen2",
    "vocab_size": 152064,
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "max_position_embeddings": 131072,
    "tie_word_embeddings": False,
}
QWEN3_0_6B: dict[str, Any] = {
    "model_type": "qwen3",
    "vocab_size": 151936,
    "hidden_size": 1024,
    "intermediate_size": 3072,
    "num_hidden_layers": 28,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "attention_bias": False,
    "max_position_embeddings": 40960,
    "tie_word_embeddings": True,
}
QWEN3_30B_A3B: dict[str, Any] = {
    "model_type": "qwen3_moe",
    "vocab_size": 151936,
    "hidden_size": 2048,
    "intermediate_size": 6144,
    "moe_intermediate_size": 768,
    "num_hidden_layers": 48,
    "num_attention_heads": 32,
    "num_key_value_heads": 4,
    "head_dim": 128,
    "num_experts": 128,
    "num_experts_per_tok": 8,
    "decoder_sparse_step": 1,
    "mlp_only_layers": [],
    "max_position_embeddings": 40960,
    "tie_word_embeddings": False,
}
MIXTRAL: dict[str, Any] = {
    "model_type": "mixtral",
    "vocab_size": 32000,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "num_local_experts": 8,
    "num_experts_per_tok": 2,
    "max_position_embeddings": 32768,
    "tie_word_embeddings": False,
}
DEEPSEEK_V3: dict[str, Any] = {
    "model_type": "deepseek_v3",
    "vocab_size": 129280,
    "hidden_size": 7168,
    "intermediate_size": 18432,
    "moe_intermediate_size": 2048,
    "num_hidden_layers": 61,
    "num_attention_heads": 128,
    "num_key_value_heads": 128,
    "n_routed_experts": 256,
    "n_shared_experts": 1,
    "num_experts_per_tok": 8,
    "first_k_dense_replace": 3,
    "q_lora_rank": 1536,
    "kv_lora_rank": 512,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "v_head_dim": 128,
    "max_position_embeddings": 163840,
    "tie_word_embeddings": False,
}
FAMILIES = {
    "llama-3.1-8b": LLAMA_8B,
    "mistral-7b": LLAMA_8B | {"model_type": "mistral", "vocab_size": 32000, "max_position_embeddings": 32768},
    "mixtral-8x7b": MIXTRAL,
    "qwen2.5-7b": QWEN25_7B,
    "qwen3-0.6b": QWEN3_0_6B,
    "qwen3-30b-a3b": QWEN3_30B_A3B,
    "deepseek-v3": DEEPSEEK_V3,
}
FIELDS = [name for name, value in vars(_core.ModelSpec).items() if isinstance(value, property)]
COUNTED = {"num_params", "active_params", "layer_params", "expert_params"}


def write_config(folder: Path, config: dict[str, Any]) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def num_params(folder: Path, config: dict[str, Any]) -> float:
    return ModelSpec.from_hf(write_config(folder, config)).num_params


def test_specs_say_what_they_are() -> None:
    model, device = ModelSpec.named("llama-3.1-8b"), DeviceSpec.named("a100-sxm-80gb", tp=2)
    assert repr(model) == "ModelSpec(llama-3.1-8b: 8.03 B parameters, 32 layers, 2-byte weights, 2-byte KV cache)"
    assert repr(device) == "DeviceSpec(a100-sxm-80gb: 312 TFLOP/s of 2-byte elements, 2039 GB/s, 80 GB, tp 2)"


@pytest.mark.parametrize("name", FAMILIES)
def test_a_model_read_from_its_folder_is_the_one_of_that_name(tmp_path: Path, name: str) -> None:
    read, named = ModelSpec.from_hf(write_config(tmp_path / name, FAMILIES[name])), ModelSpec.named(name)
    assert set(FIELDS) > COUNTED
    for field in set(FIELDS) - COUNTED:
        assert getattr(read, field) == getattr(named, field), field
    for field in COUNTED:  # published figures are rounded
        assert getattr(read, field) == pytest.approx(getattr(named, field), rel=0.015), field


def test_the_folder_and_its_config_json_are_the_same_model(tmp_path: Path) -> None:
    folder = write_config(tmp_path / "m", LLAMA_8B)
    spec = ModelSpec.from_hf(str(folder / "config.json"), weight_bytes=1, kv_bytes=2, cascade_attention=True)
    assert spec == ModelSpec.from_hf(folder, weight_bytes=1, kv_bytes=2, cascade_attention=True)
    assert (spec.name, spec.weight_bytes, spec.kv_bytes, spec.cascade_attention) == ("m", 1, 2, True)
    assert spec.num_params == 8_030_261_248


def test_tied_embeddings_count_once(tmp_path: Path) -> None:
    tied = num_params(tmp_path, LLAMA_8B | {"tie_word_embeddings": True})
    assert tied == 8_030_261_248 - 128256 * 4096


def test_biases_of_a_llama_layout_count(tmp_path: Path) -> None:
    plain = num_params(tmp_path, LLAMA_8B)
    assert num_params(tmp_path, LLAMA_8B | {"attention_bias": True}) - plain == 32 * (4096 + 2 * 1024 + 4096)
    assert num_params(tmp_path, LLAMA_8B | {"mlp_bias": True}) - plain == 32 * (2 * 14336 + 4096)


def test_gemma_is_tied_with_four_norms_a_layer(tmp_path: Path) -> None:
    gemma2 = {
        "model_type": "gemma2",
        "vocab_size": 256000,
        "hidden_size": 2304,
        "intermediate_size": 9216,
        "num_hidden_layers": 26,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 256,
    }
    assert num_params(tmp_path, gemma2) == 2_614_341_888
    gemma3 = {
        "model_type": "gemma3_text",
        "vocab_size": 262144,
        "hidden_size": 1152,
        "intermediate_size": 6912,
        "num_hidden_layers": 26,
        "num_attention_heads": 4,
        "num_key_value_heads": 1,
        "head_dim": 256,
    }
    assert num_params(tmp_path, gemma3) == 999_885_952


def test_of_a_multimodal_model_the_language_model_counts_with_its_familys_defaults(tmp_path: Path) -> None:
    text = {"model_type": "gemma3_text", "hidden_size": 2560, "intermediate_size": 10240, "num_hidden_layers": 34}
    spec = ModelSpec.from_hf(write_config(tmp_path, {"model_type": "gemma3", "text_config": text}))
    assert (spec.attention_width, spec.kv_width, spec.max_context) == (2048, 1024, None)
    assert spec.num_params == pytest.approx(3.88e9, rel=0.001)


def test_deepseek_v2_lite_does_not_compress_its_queries(tmp_path: Path) -> None:
    lite = DEEPSEEK_V3 | {
        "model_type": "deepseek_v2",
        "vocab_size": 102400,
        "hidden_size": 2048,
        "intermediate_size": 10944,
        "moe_intermediate_size": 1408,
        "num_hidden_layers": 27,
        "num_attention_heads": 16,
        "n_routed_experts": 64,
        "n_shared_experts": 2,
        "num_experts_per_tok": 6,
        "first_k_dense_replace": 1,
        "q_lora_rank": None,
    }
    assert num_params(tmp_path, lite) == 15_706_484_224


def test_qwen3_moe_may_mix_dense_layers_in(tmp_path: Path) -> None:
    mixed = QWEN3_30B_A3B | {"mlp_only_layers": [0, 1], "decoder_sparse_step": 2}
    spec = ModelSpec.from_hf(write_config(tmp_path, mixed))
    assert spec.expert_params == 23 * 128 * 3 * 2048 * 768


def test_an_unknown_dense_model_is_read_as_llamas_layout(tmp_path: Path) -> None:
    assert num_params(tmp_path, LLAMA_8B | {"model_type": "novel"}) == 8_030_261_248
    with pytest.raises(ModelError, match=r"`num_routed_experts` belongs to a layout that is not known .*'novel'"):
        num_params(tmp_path, LLAMA_8B | {"model_type": "novel", "num_routed_experts": 8})


@pytest.mark.parametrize("key", ["vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers"])
def test_a_missing_key_is_named(tmp_path: Path, key: str) -> None:
    folder = write_config(tmp_path, {name: value for name, value in LLAMA_8B.items() if name != key})
    with pytest.raises(ModelError, match=rf"config\.json has no `{key}`"):
        ModelSpec.from_hf(folder)


@pytest.mark.parametrize(
    ("config", "key"), [(MIXTRAL, "num_local_experts"), (QWEN3_30B_A3B, "num_experts"), (DEEPSEEK_V3, "kv_lora_rank")]
)
def test_a_missing_key_of_a_family_is_named(tmp_path: Path, config: dict[str, Any], key: str) -> None:
    with pytest.raises(ModelError, match=f"has no `{key}`"):
        ModelSpec.from_hf(write_config(tmp_path, config | {key: None}))


def test_a_config_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot read"):
        ModelSpec.from_hf(tmp_path)
    with pytest.raises(ModelError, match="`num_hidden_layers` must be a positive integer, not -1"):
        ModelSpec.from_hf(write_config(tmp_path, LLAMA_8B | {"num_hidden_layers": -1}))
    with pytest.raises(ModelError, match=r"experts_per_token is 9; it must be between 1 and num_experts"):
        ModelSpec.from_hf(write_config(tmp_path, MIXTRAL | {"num_experts_per_tok": 9}))


def test_every_listed_name_is_known() -> None:
    assert len(_core.named_models()) >= 20
    for name in _core.named_models():
        assert ModelSpec.named(name).name == name
    for name in _core.named_devices():
        assert DeviceSpec.named(name, tp=2).tp == 2


def test_unknown_names_and_bad_values_are_value_errors() -> None:
    with pytest.raises(ValueError, match=r"no model is named .*llama-3\.1-8b"):
        ModelSpec.named("llama")
    with pytest.raises(ValueError, match=r"no device is named .*a100-sxm-80gb"):
        DeviceSpec.named("a100")
    with pytest.raises(ValueError, match="tp is 0; it must be at least 1"):
        DeviceSpec.named("a100-sxm-80gb", tp=0)
    with pytest.raises(ValueError, match="weight_bytes is 3"):
        ModelSpec.named("llama-3.1-8b", weight_bytes=3)
    with pytest.raises(ValueError, match="kv_bytes is 0"):
        ModelSpec.named("llama-3.1-8b", kv_bytes=0)
    with pytest.raises(ValueError, match="num_layers is 0"):
        ModelSpec(name="m", num_layers=0, attention_width=64, kv_width=64, num_params=1e6)


def test_element_sizes_follow_the_weights_unless_given() -> None:
    assert ModelSpec.named("llama-3.1-8b", weight_bytes=4).kv_bytes == 4
    assert ModelSpec.named("llama-3.1-8b", weight_bytes=4, kv_bytes=2).kv_bytes == 2


def test_the_cost_model_has_the_papers_figures() -> None:
    cost = _core.CostModel(ModelSpec.named("llama-3.1-8b"), DeviceSpec.named("a100-sxm-80gb"))
    assert cost.kv_capacity_tokens() == pytest.approx(411_500, rel=0.001)
    assert (cost.t_tok, cost.t_kv) == pytest.approx((51.5e-6, 64.3e-9), rel=0.001)
    assert cost.weight_read_s() == pytest.approx(7.9e-3, rel=0.005)
    assert _core.density(cost.compute_s(512, 256), cost.memory_s(512, 256)) == pytest.approx(3.73, rel=0.02)
    assert _core.density(cost.compute_s(256, 16384), cost.memory_s(256, 16384)) == pytest.approx(0.096, rel=0.01)
    assert _core.density(1, 0) == math.inf
    assert _core.partition(60, 3.73, 0.096, 1.27) == pytest.approx((19.4, 40.6), rel=0.002)


def test_steps_and_bounds_are_made_of_the_same_constants() -> None:
    cost = _core.CostModel(ModelSpec.named("llama-3.1-8b"), DeviceSpec.named("a100-sxm-80gb"))
    batch = _core.BatchDesc()
    batch.add_chunk(0, 1000)
    batch.add_decode(500)
    sequential = cost.step_time(batch, "sequential")
    compute_s, memory_s = 1024 * cost.t_tok + 1000**2 * cost.t_attn, 500 * cost.t_kv
    assert sequential.total_s == pytest.approx(compute_s + memory_s)
    assert cost.step_time(batch).total_s == pytest.approx(compute_s + 0.5 * memory_s)
    with pytest.raises(ValueError, match='execution is "fast"; it must be sequential or overlapped'):
        cost.step_time(batch, "fast")

    with pytest.raises(ValueError, match="x is 0; it must be at least 1"):
        batch.add_chunk(0, 0)
    with pytest.raises(ValueError, match="len is 0; it must be at least 1"):
        batch.add_decode(0)

    sums = _core.WorkloadSums()
    sums.add_segment(0, 1000)
    sums.add_request(1000, 1000, 101)
    bound = cost.bound(sums)
    assert bound.t_comp_s == pytest.approx(1100 * cost.t_tok + 1000**2 * cost.t_attn)
    assert bound.t_mem_s == pytest.approx((1000 * 100 + 100 * 101 / 2) * cost.t_kv)
    assert bound.ideal_s == max(bound.t_comp_s, bound.t_mem_s)
    assert bound.practical_s == pytest.approx(100 * cost.weight_read_s() + bound.t_mem_s)
