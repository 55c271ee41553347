from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from blendserve.errors import ModelError
from blendserve.models import ModelConfig
from blendserve.models.rope_config import RopeConfig
from safetensors import safe_open
from tiny_models import build_llama, edit_json

MINIMAL: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": 100,
    "hidden_size": 64,
    "intermediate_size": 160,
    "num_hidden_layers": 2,
    "num_attention_heads": 8,
    "max_position_embeddings": 1024,
    "rms_norm_eps": 1e-5,
}
LLAMA3 = {
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
    "rope_type": "llama3",
}


def read(model_dir: Path, **changes: Any) -> ModelConfig:
    """The minimal config.json with changes; None removes a key."""
    values = {key: value for key, value in {**MINIMAL, **changes}.items() if value is not None}
    (model_dir / "config.json").write_text(json.dumps(values))
    return ModelConfig.from_dir(model_dir)


def test_a_minimal_file_gets_the_defaults_of_llama(tmp_path: Path) -> None:
    assert read(tmp_path) == ModelConfig(
        architecture="LlamaForCausalLM",
        vocab_size=100,
        hidden_size=64,
        intermediate_size=160,
        num_layers=2,
        num_heads=8,
        num_kv_heads=8,
        head_dim=8,
        max_position_embeddings=1024,
        num_parameters=2 * 100 * 64 + 2 * (4 * 64 * 64 + 3 * 64 * 160 + 2 * 64) + 64,
        rms_norm_eps=1e-5,
        rope=RopeConfig(theta=10_000.0),
        windows=(0, 0),
        attention_scale=8**-0.5,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_ids=(),
        dtype=None,
    )


def test_llama_3_1_as_transformers_4_and_5_write_it_is_the_same_model(tmp_path: Path) -> None:
    version_4 = read(tmp_path, rope_theta=500000.0, rope_scaling=LLAMA3, torch_dtype="bfloat16", pretraining_tp=1)
    version_5 = read(tmp_path, rope_parameters={**LLAMA3, "rope_theta": 500000.0}, dtype="bfloat16")
    assert version_4 == version_5
    assert version_4.dtype == "bfloat16"
    assert version_4.rope == RopeConfig(500000.0, "llama3", 8.0, 1.0, 4.0, 8192)


@pytest.mark.parametrize("style", ["v4", "v5"])
def test_what_transformers_saved_is_read_back(tmp_path: Path, style: Any) -> None:
    build_llama(tmp_path, kv_heads=4, head_dim=24, bias=True, tie=True, config_style=style, eos_token_id=[1, 2])
    config = ModelConfig.from_dir(tmp_path)
    assert (config.num_kv_heads, config.head_dim, config.dtype) == (4, 24, "float32")
    assert config.qkv_bias
    assert config.output_bias
    assert config.mlp_bias
    assert config.tie_word_embeddings
    assert (config.bos_token_id, config.eos_token_ids) == (0, (1, 2))


@pytest.mark.parametrize(
    ("in_config", "in_generation_config", "expected"),
    [
        (2, None, (2,)),
        ([2, 3], None, (2, 3)),
        (2, {"eos_token_id": [128001, 128009]}, (128001, 128009)),
        (2, {"eos_token_id": 7}, (7,)),
        (2, {"do_sample": True}, (2,)),
        (None, {"eos_token_id": None}, ()),
        (0, {"eos_token_id": 0}, (0,)),
    ],
)
def test_end_tokens_of_the_generation_config_win(
    tmp_path: Path, in_config: Any, in_generation_config: Any, expected: tuple[int, ...]
) -> None:
    if in_generation_config is not None:
        (tmp_path / "generation_config.json").write_text(json.dumps(in_generation_config))
    assert read(tmp_path, eos_token_id=in_config).eos_token_ids == expected


def test_the_old_name_of_the_rope_type_is_read(tmp_path: Path) -> None:
    assert read(tmp_path, rope_scaling={"type": "linear", "factor": 2.0}).rope == RopeConfig(10_000.0, "linear", 2.0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architectures": ["OPTForCausalLM"]}, "OPTForCausalLM is none of LlamaForCausalLM, MistralForCausalLM, Qw"),
        ({"architectures": None}, "has no `architectures`"),
        ({"architectures": "LlamaForCausalLM"}, "`architectures` must be a list of names"),
        ({"hidden_size": None}, "config.json has no `hidden_size`"),
        ({"num_hidden_layers": "2"}, "`num_hidden_layers` must be a positive integer, not '2'"),
        ({"vocab_size": 0}, "`vocab_size` must be a positive integer, not 0"),
        ({"rms_norm_eps": True}, "`rms_norm_eps` must be a positive number, not True"),
        ({"tie_word_embeddings": 1}, "`tie_word_embeddings` must be true or false, not 1"),
        ({"num_key_value_heads": 3}, r"`num_attention_heads` \(8\) is not a multiple of `num_key_value_heads` \(3\)"),
        ({"head_dim": 7}, "`head_dim` must be even for rotary embeddings, not 7"),
        ({"hidden_act": "gelu"}, "`hidden_act` 'gelu' is not supported; supported: silu, gelu_pytorch_tanh"),
        ({"quantization_config": {"quant_method": "gptq"}}, "quant_method 'gptq'. is not supported"),
        ({"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "rope_type 'dynamic' is not supported; supported: def"),
        ({"rope_parameters": {"rope_type": "longrope"}}, "rope_type 'longrope' is not supported"),
        ({"rope_parameters": {"rope_type": "yarn"}}, "rope_parameters has no `factor`"),
        (
            {"rope_scaling": {"type": "yarn", "factor": 2.0, "mscale": 1.0}},
            "yarn with `mscale` is not supported; state",
        ),
        ({"rope_scaling": {"rope_type": "linear"}}, "config.json: rope_scaling has no `factor`"),
        ({"rope_scaling": {**LLAMA3, "low_freq_factor": None}}, "rope_scaling has no `low_freq_factor`"),
        ({"rope_parameters": {"partial_rotary_factor": 0.5}}, "`partial_rotary_factor` must be 1.0, not 0.5"),
        ({"rope_scaling": "linear"}, "`rope_scaling` must be an object, not 'linear'"),
        ({"eos_token_id": "</s>"}, "`eos_token_id` must be a token id or a list of token ids, not '</s>'"),
        ({"torch_dtype": 16}, "`torch_dtype` must be a string, not 16"),
    ],
)
def test_what_cannot_be_run_is_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        read(tmp_path, **changes)


def test_a_folder_without_config_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=f"{tmp_path} has no config.json"):
        ModelConfig.from_dir(tmp_path)


@pytest.mark.parametrize(("content", "reason"), [("{", "is not JSON"), ("[]", "must hold a JSON object, not list")])
@pytest.mark.parametrize("name", ["config.json", "generation_config.json"])
def test_a_broken_file_is_named(tmp_path: Path, name: str, content: str, reason: str) -> None:
    read(tmp_path)
    (tmp_path / name).write_text(content)
    with pytest.raises(ModelError, match=f"{tmp_path / name} {reason}"):
        ModelConfig.from_dir(tmp_path)


def test_bytes_that_are_not_text_are_not_json(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(b"\xff\xfe")
    with pytest.raises(ModelError, match="is not JSON"):
        ModelConfig.from_dir(tmp_path)


def test_a_number_may_be_written_without_a_fraction(tmp_path: Path) -> None:
    build_llama(tmp_path, config_style="v4")
    edit_json(tmp_path / "config.json", lambda values: values.update(rope_theta=500000))
    assert ModelConfig.from_dir(tmp_path).rope.theta == 500000.0


@pytest.mark.parametrize("options", [{}, {"tie": True}, {"bias": True}, {"kv_heads": 8, "head_dim": 24}])
def test_the_number_of_parameters_is_that_of_the_weights(tmp_path: Path, options: dict[str, Any]) -> None:
    folder = build_llama(tmp_path / "model", **options)
    with safe_open(folder / "model.safetensors", "np") as weights:
        shapes = [weights.get_slice(name).get_shape() for name in weights.keys()]  # noqa: SIM118
    assert ModelConfig.from_dir(folder).num_parameters == sum(map(math.prod, shapes))
