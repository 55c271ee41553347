"""Decoders that only transformers computes: read, checked on loading, refused where they cannot be right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from blendserve.errors import ModelError
from blendserve.models import Model, load_model, read_config
from blendserve.models.decoder import Decoder
from blendserve.models.paged_check import paged_logits_error
from blendserve.models.transformers_decoder import TransformersDecoder
from safetensors.torch import load_file, save_file
from tiny_families import OTHERS, WINDOW, build_family, build_other
from tiny_models import build_llama, edit_json
from transformers import AutoModelForCausalLM

CPU = torch.device("cpu")


def load(model_dir: Path, dtype: torch.dtype = torch.float32) -> Model:
    return load_model(model_dir, read_config(model_dir), dtype=dtype, device=CPU)


def test_a_family_of_ours_is_not_computed_by_transformers(tmp_path: Path) -> None:
    assert isinstance(load(build_llama(tmp_path)), Decoder)


def test_the_shape_is_that_of_the_config_and_attention_that_of_the_layers(tmp_path: Path) -> None:
    model = load(build_family(tmp_path, "cohere2, alternating windows"))
    assert isinstance(model, TransformersDecoder)
    shape = model.config
    assert (shape.architecture, shape.vocab_size, shape.num_layers) == ("Cohere2ForCausalLM", 384, 4)
    assert (shape.num_heads, shape.num_kv_heads, shape.head_dim) == (4, 2, 16)
    assert shape.windows == (WINDOW, 0, WINDOW, 0)
    assert shape.attention_scale == 0.25
    assert (shape.max_position_embeddings, shape.bos_token_id, shape.eos_token_ids, shape.dtype) == (
        1024, 0, (1,), "float32"
    )  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_parameters_are_counted_as_transformers_counts_them(tmp_path: Path, name: str) -> None:
    folder = build_family(tmp_path, name)
    assert read_config(folder).num_parameters == AutoModelForCausalLM.from_pretrained(folder).num_parameters()


def test_bfloat16_passes_the_check(tmp_path: Path) -> None:
    model = load(build_family(tmp_path, "olmo2"), torch.bfloat16)
    logits = model.forward(torch.tensor([5]), torch.tensor([0]), _Echo(), torch.tensor([0]))  # type: ignore[arg-type]
    assert (logits.dtype, logits.shape) == (torch.float32, (1, 384))


class _Echo:
    """One token attends to itself alone."""

    def forward(self, layer: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        del layer, k
        return v.repeat_interleave(q.shape[1] // v.shape[1], dim=1)


@pytest.mark.parametrize("name", ["gemma2", "qwen3 with windows in some layers, tied"])
def test_the_check_agrees_with_our_own_decoder_and_finds_a_wrong_one(tmp_path: Path, name: str) -> None:
    folder = build_family(tmp_path, name, sliding_window=4)
    model = load(folder)
    reference = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager").eval()

    @torch.inference_mode()
    def expected(tokens: torch.Tensor) -> torch.Tensor:
        return reference(tokens[None]).logits[0]

    assert paged_logits_error(model, expected, CPU) < 1e-5
    assert paged_logits_error(model, lambda tokens: expected(tokens.flip(0)), CPU) > 0.5


@pytest.mark.parametrize(
    ("model_type", "settings", "message"),
    [
        ("bloom", {}, "BloomForCausalLM calls transformers' attention interface in 0 of its 4 layers; only models"),
        ("mamba", {}, "MambaForCausalLM has layers of type linear_attention, which are not supported; choose a model"),
        ("diffllama", {}, "DiffLlamaForCausalLM answers otherwise with paged attention than alone"),
        (
            "gpt_oss",
            {"num_local_experts": 4, "rope_parameters": {"rope_type": "default", "rope_theta": 1e4}},
            "GptOssForCausalLM has attention sinks",
        ),
        (
            "deepseek_v3",
            {
                "q_lora_rank": 16, "kv_lora_rank": 16, "qk_nope_head_dim": 8, "qk_rope_head_dim": 8, "v_head_dim": 12,
                "n_routed_experts": 4, "n_group": 1, "topk_group": 1, "num_experts_per_tok": 2,
                "moe_intermediate_size": 32, "head_dim": 8,
            },
            r"DeepseekV3ForCausalLM has keys of 16 and values of 12 elements a head \(multi-head latent attention\)",
        ),
        (
            "phi3",
            {
                "original_max_position_embeddings": 64,
                "rope_parameters": {
                    "rope_type": "longrope", "short_factor": [1.0] * 8, "long_factor": [2.0] * 8, "rope_theta": 1e4
                },
            },
            "Phi3ForCausalLM has the rope_type 'longrope', which is not supported; without it",
        ),
        ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, "GPT2LMHeadModel has layers with different heads or score"),
    ],
)  # fmt: skip
def test_a_model_that_cannot_be_right_is_refused(
    tmp_path: Path, model_type: str, settings: dict[str, Any], message: str
) -> None:
    build_other(tmp_path, model_type, **settings)
    with pytest.raises(ModelError, match=message):
        load(tmp_path)


def test_another_head_on_a_decoder_is_refused(tmp_path: Path) -> None:
    build_llama(tmp_path)
    edit_json(tmp_path / "config.json", lambda values: values.update(architectures=["LlamaForTokenClassification"]))
    with pytest.raises(
        ModelError, match=r"LlamaForTokenClassification is not supported, only .* 'llama' is LlamaForCausal"
    ):
        read_config(tmp_path)


def test_an_encoder_decoder_is_no_decoder(tmp_path: Path) -> None:
    build_llama(tmp_path)
    edit_json(tmp_path / "config.json", lambda values: values.update(architectures=["T5Model"], model_type="t5"))
    with pytest.raises(ModelError, match=f"{tmp_path}: transformers .* does not make a decoder of it: Unrecognized"):
        read_config(tmp_path)


def test_a_model_type_that_transformers_does_not_know_is_named(tmp_path: Path) -> None:
    build_llama(tmp_path)
    edit_json(
        tmp_path / "config.json", lambda values: values.update(architectures=["NewForCausalLM"], model_type="new")
    )
    with pytest.raises(ModelError, match=r"does not make a decoder of it: .*`new`"):
        read_config(tmp_path)


def test_code_in_the_folder_is_not_run(tmp_path: Path) -> None:
    build_llama(tmp_path)
    (tmp_path / "new.py").write_text("raise SystemExit")
    settings = {"architectures": ["New"], "model_type": "new", "auto_map": {"AutoConfig": "new.NewConfig"}}
    edit_json(tmp_path / "config.json", lambda values: values.update(settings))
    with pytest.raises(ModelError, match=r"does not make a decoder of it: .*custom code"):
        read_config(tmp_path)


def test_a_missing_tensor_is_named(tmp_path: Path) -> None:
    path = build_family(tmp_path, "olmo2") / "model.safetensors"
    tensors = load_file(path)
    del tensors["model.layers.2.self_attn.k_proj.weight"]
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=f"{tmp_path} has no tensor 'model.layers.2.self_attn.k_proj.weight'"):
        load(tmp_path)


def test_pickled_weights_are_refused_with_the_remedy(tmp_path: Path) -> None:
    build_family(tmp_path, "olmo2")
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"only pickled weights \(pytorch_model.bin\).* convert the folder"):
        load(tmp_path)


def test_quantized_weights_are_refused(tmp_path: Path) -> None:
    build_family(tmp_path, "olmo2")
    edit_json(tmp_path / "config.json", lambda values: values.update(quantization_config={"quant_method": "awq"}))
    with pytest.raises(ModelError, match=r"quant_method 'awq'. is not supported"):
        load(tmp_path)
