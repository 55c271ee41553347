"""What config.json says of a family, as transformers 4 and 5 write it."""

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
from tiny_families import FAMILIES, WINDOW, build_family

COMMON: dict[str, Any] = {
    "vocab_size": 100,
    "hidden_size": 64,
    "intermediate_size": 160,
    "num_hidden_layers": 6,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "max_position_embeddings": 32768,
    "rms_norm_eps": 1e-6,
}
FULL, LOCAL = "full_attention", "sliding_attention"


def read(model_dir: Path, architecture: str, model_type: str, **changes: Any) -> ModelConfig:
    values = {"architectures": [architecture], "model_type": model_type, **COMMON, **changes}
    (model_dir / "config.json").write_text(json.dumps(values))
    return ModelConfig.from_dir(model_dir)


@pytest.mark.parametrize(
    ("stated", "windows"),
    [({}, (4096,) * 6), ({"sliding_window": None}, (0,) * 6), ({"sliding_window": 512}, (512,) * 6)],
)
def test_mistral_has_one_window_for_all_layers(tmp_path: Path, stated: dict[str, Any], windows: Any) -> None:
    config = read(tmp_path, "MistralForCausalLM", "mistral", **stated)
    assert config.windows == windows
    assert not config.qkv_bias


@pytest.mark.parametrize(
    ("stated", "windows"),
    [
        ({"sliding_window": 512, "max_window_layers": 2}, (0,) * 6),
        ({"sliding_window": 512, "max_window_layers": 2, "use_sliding_window": False}, (0,) * 6),
        ({"sliding_window": 512, "max_window_layers": 2, "use_sliding_window": True}, (0, 0, 512, 512, 512, 512)),
        ({"sliding_window": 512, "use_sliding_window": True}, (0,) * 6),
        ({"sliding_window": None, "use_sliding_window": True, "max_window_layers": 0}, (0,) * 6),
        (
            {"sliding_window": 512, "use_sliding_window": True, "layer_types": [LOCAL, FULL, FULL, LOCAL, FULL, FULL]},
            (512, 0, 0, 512, 0, 0),
        ),
    ],
)
def test_qwen_has_windows_in_some_layers_if_it_says_so(tmp_path: Path, stated: dict[str, Any], windows: Any) -> None:
    qwen2 = read(tmp_path, "Qwen2ForCausalLM", "qwen2", **stated)
    assert (qwen2.windows, qwen2.qkv_bias, qwen2.output_bias, qwen2.qk_norm) == (windows, True, False, False)
    qwen3 = read(tmp_path, "Qwen3ForCausalLM", "qwen3", **stated)
    assert (qwen3.windows, qwen3.qkv_bias, qwen3.output_bias, qwen3.qk_norm) == (windows, False, False, True)
    assert (qwen2.head_dim, qwen3.head_dim) == (8, 128)


def test_gemma_2_is_read_with_the_defaults_of_transformers(tmp_path: Path) -> None:
    config = read(tmp_path, "Gemma2ForCausalLM", "gemma2", hidden_act="gelu_pytorch_tanh", head_dim=16)
    assert (config.activation, config.norm_offset, config.post_norms) == ("gelu_tanh", 1.0, True)
    assert config.tie_word_embeddings
    assert config.windows == (4096, 0) * 3
    assert config.embedding_scale == 8.0
    assert config.attention_scale == 256**-0.5
    assert (config.attention_softcap, config.final_softcap) == (50.0, 30.0)
    assert config.local_rope is None

    config = read(tmp_path, "Gemma2ForCausalLM", "gemma2", attn_logit_softcapping=None, final_logit_softcapping=None)
    assert (config.attention_softcap, config.final_softcap, config.head_dim) == (0.0, 0.0, 256)


def test_gemma_3_as_transformers_4_and_5_write_it_is_the_same_model(tmp_path: Path) -> None:
    version_4 = read(
        tmp_path,
        "Gemma3ForCausalLM",
        "gemma3_text",
        hidden_activation="gelu_pytorch_tanh",
        query_pre_attn_scalar=168,
        sliding_window=1024,
        sliding_window_pattern=3,
        rope_theta=1000000.0,
        rope_local_base_freq=10000.0,
        rope_scaling={"factor": 8.0, "rope_type": "linear"},
    )
    version_5 = read(
        tmp_path,
        "Gemma3ForCausalLM",
        "gemma3_text",
        query_pre_attn_scalar=168,
        sliding_window=1024,
        layer_types=[LOCAL, LOCAL, FULL] * 2,
        rope_parameters={
            FULL: {"rope_type": "linear", "factor": 8.0, "rope_theta": 1000000.0},
            LOCAL: {"rope_type": "default", "rope_theta": 10000.0},
        },
    )
    assert version_4 == version_5
    assert version_4.windows == (1024, 1024, 0) * 2
    assert version_4.attention_scale == 168**-0.5
    assert (version_4.attention_softcap, version_4.final_softcap) == (0.0, 0.0)
    assert version_4.rope_of(0) == RopeConfig(10_000.0)
    assert version_4.rope_of(2) == RopeConfig(1_000_000.0, "linear", 8.0)


def test_a_small_gemma_3_that_states_nothing_gets_the_defaults(tmp_path: Path) -> None:
    config = read(tmp_path, "Gemma3ForCausalLM", "gemma3_text")
    assert config.windows == (4096,) * 5 + (0,)
    assert (config.rope.theta, config.rope_of(0).theta) == (1_000_000.0, 10_000.0)


def test_yarn_scales_scores_and_lengthens_the_context(tmp_path: Path) -> None:
    scaling = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}
    config = read(tmp_path, "Qwen2ForCausalLM", "qwen2", rope_scaling=scaling)
    assert config.max_position_embeddings == 131072
    assert config.attention_scale == pytest.approx(8**-0.5 * (0.1 * math.log(4.0) + 1.0) ** 2)
    config = read(tmp_path, "Qwen2ForCausalLM", "qwen2", rope_scaling={**scaling, "attention_factor": 1.0})
    assert config.attention_scale == 8**-0.5


@pytest.mark.parametrize(
    ("model", "changes", "message"),
    [
        (("Qwen3ForCausalLM", "qwen3"), {"layer_types": [FULL] * 5}, "`layer_types` must be a list of 6 types"),
        (("Qwen3ForCausalLM", "qwen3"), {"layer_types": ["chunked_attention"] * 6}, "`layer_types` has 'chunked_att"),
        (("MistralForCausalLM", "mistral"), {"sliding_window": 0}, "`sliding_window` must be a positive integer"),
        (("Gemma2ForCausalLM", "gemma2"), {"hidden_activation": "gelu"}, "`hidden_activation` 'gelu' is not supported"),
        (("Gemma3ForCausalLM", "gemma3_text"), {"use_bidirectional_attention": True}, "makes an encoder"),
        (
            ("Gemma3ForCausalLM", "gemma3_text"),
            {"rope_scaling": {"rope_type": "yarn", "factor": 4.0}},
            "'yarn' is not supported where layers have ropes of their own",
        ),
    ],
)
def test_what_a_family_cannot_be_is_named(
    tmp_path: Path, model: tuple[str, str], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        read(tmp_path, *model, **changes)


@pytest.mark.parametrize("name", FAMILIES)
def test_what_transformers_saved_is_read_back(tmp_path: Path, name: str) -> None:
    folder = build_family(tmp_path, name)
    config = ModelConfig.from_dir(folder)
    with safe_open(folder / "model.safetensors", "np") as weights:
        shapes = {tensor: weights.get_slice(tensor).get_shape() for tensor in weights.keys()}  # noqa: SIM118
    assert config.num_parameters == sum(map(math.prod, shapes.values()))
    assert config.tie_word_embeddings == ("lm_head.weight" not in shapes)
    assert set(config.windows) <= {0, WINDOW}
