from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from blendserve.errors import ModelError
from blendserve.models import ModelConfig, load_model
from blendserve.models.weights import Checkpoint
from safetensors.torch import load_file, save_file
from tiny_models import VOCAB_SIZE, build_llama, edit_json

NORM = "model.norm.weight"
K_PROJ = "model.layers.1.self_attn.k_proj.weight"


@pytest.fixture
def model_dir(tmp_path: Path) -> Path:
    return build_llama(tmp_path)


def load(model_dir: Path) -> None:
    load_model(model_dir, ModelConfig.from_dir(model_dir), dtype=torch.float32, device=torch.device("cpu"))


def edit_weights(model_dir: Path, edit: Callable[[dict[str, torch.Tensor]], object]) -> Path:
    path = model_dir / "model.safetensors"
    tensors = load_file(path)
    edit(tensors)
    save_file(tensors, path)
    return path


def test_a_tensor_is_converted_to_the_dtype_of_its_place(model_dir: Path) -> None:
    expected = load_file(model_dir / "model.safetensors")[K_PROJ]
    for dtype in (torch.float32, torch.bfloat16):
        destination = torch.empty(expected.shape, dtype=dtype)
        Checkpoint(model_dir).read_into(destination, K_PROJ)
        assert torch.equal(destination, expected.to(dtype))


def test_shards_hold_the_same_tensors_as_one_file(tmp_path: Path) -> None:
    whole, sharded = build_llama(tmp_path / "whole"), build_llama(tmp_path / "sharded", sharded=True)
    assert len(list(sharded.glob("*.safetensors"))) > 2
    for name, expected in load_file(whole / "model.safetensors").items():
        destination = torch.empty_like(expected)
        Checkpoint(sharded).read_into(destination, name)
        assert torch.equal(destination, expected)


@pytest.mark.parametrize("keep", [0, 4, 200, -1])
def test_a_truncated_file_is_named(model_dir: Path, keep: int) -> None:
    path = model_dir / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ModelError, match=f"{path} is not a whole safetensors file .*; fetch it again"):
        load(model_dir)


def test_a_missing_tensor_is_named(model_dir: Path) -> None:
    path = edit_weights(model_dir, lambda tensors: tensors.pop(K_PROJ))
    with pytest.raises(ModelError, match=f"{path} has no tensor '{K_PROJ}'"):
        load(model_dir)


def test_a_wrong_shape_is_named_beside_the_right_one(model_dir: Path) -> None:
    path = edit_weights(model_dir, lambda tensors: tensors.update({K_PROJ: torch.zeros(8, 64)}))
    with pytest.raises(ModelError) as caught:
        load(model_dir)
    assert str(caught.value) == f"{path}: tensor {K_PROJ!r} has shape [8, 64], but config.json asks for [16, 64]"


def test_quantized_weights_are_refused(model_dir: Path) -> None:
    edit_weights(model_dir, lambda tensors: tensors.update({NORM: torch.ones(64, dtype=torch.int8)}))
    with pytest.raises(ModelError, match=f"tensor '{NORM}' has dtype torch.int8; unquantized"):
        load(model_dir)


def test_untied_weights_without_a_head_are_refused_and_tied_ones_need_none(tmp_path: Path) -> None:
    model_dir = build_llama(tmp_path, tie=True)
    load(model_dir)
    edit_json(model_dir / "config.json", lambda values: values.update(tie_word_embeddings=False))
    with pytest.raises(ModelError, match=r"has no tensor 'lm_head.weight'"):
        load(model_dir)


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    model_dir = build_llama(tmp_path, sharded=True)
    shard = sorted(model_dir.glob("model-*.safetensors"))[1]
    shard.unlink()
    with pytest.raises(ModelError, match=f"{shard} is missing: the folder's model.safetensors.index.json names it"):
        load(model_dir)


def test_an_index_that_names_the_wrong_shard_is_refused(tmp_path: Path) -> None:
    model_dir = build_llama(tmp_path, sharded=True)
    index_path = model_dir / "model.safetensors.index.json"
    shard = json.loads(index_path.read_text())["weight_map"]["model.embed_tokens.weight"]
    edit_json(index_path, lambda index: index["weight_map"].update({K_PROJ: shard}))
    with pytest.raises(ModelError, match=f"{model_dir / shard} has no readable tensor '{K_PROJ}'"):
        load(model_dir)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "is not JSON"),
        ("{}", "has no `weight_map`"),
        (json.dumps({"weight_map": {NORM: "../other.safetensors"}}), f"gives tensor '{NORM}' no file name but"),
        (json.dumps({"weight_map": {NORM: 3}}), f"gives tensor '{NORM}' no file name but 3"),
    ],
)
def test_a_broken_index_is_named(model_dir: Path, content: str, reason: str) -> None:
    (model_dir / "model.safetensors.index.json").write_text(content)
    with pytest.raises(ModelError, match=f"model.safetensors.index.json.* {reason}"):
        load(model_dir)


def test_pickled_weights_are_refused_with_the_remedy(model_dir: Path) -> None:
    (model_dir / "model.safetensors").rename(model_dir / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"only pickled weights \(pytorch_model.bin\).* convert the folder"):
        load(model_dir)


def test_a_folder_without_weights_is_named(model_dir: Path) -> None:
    (model_dir / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=f"{model_dir} has no weights: model.safetensors or"):
        load(model_dir)


def test_the_vocabulary_of_the_config_must_be_that_of_the_weights(model_dir: Path) -> None:
    edit_json(model_dir / "config.json", lambda values: values.update(vocab_size=500))
    with pytest.raises(ModelError, match=rf"has shape \[{VOCAB_SIZE}, 64\], but config.json asks for \[500, 64\]"):
        load(model_dir)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_weight_that_is_not_finite_is_named(model_dir: Path, value: float) -> None:
    path = edit_weights(model_dir, lambda tensors: tensors[K_PROJ][3, 4:6].fill_(value))
    with pytest.raises(ModelError) as caught:
        load(model_dir)
    message = (
        f"{path}: tensor '{K_PROJ}' has NaN or infinite values, 2 of 1024: the file is broken; fetch or convert it"
    )
    assert message in str(caught.value)


def test_infinities_that_cancel_are_found(model_dir: Path) -> None:
    edit_weights(model_dir, lambda tensors: tensors[NORM][:2].copy_(torch.tensor([float("inf"), float("-inf")])))
    with pytest.raises(ModelError, match="has NaN or infinite values"):
        load(model_dir)


def test_large_weights_whose_sum_overflows_are_fine(model_dir: Path) -> None:
    edit_weights(model_dir, lambda tensors: tensors[K_PROJ].fill_(1e38))
    load(model_dir)


def test_a_weight_too_large_for_the_dtype_is_named(model_dir: Path) -> None:
    path = edit_weights(model_dir, lambda tensors: tensors[K_PROJ].fill_(1e6))
    with pytest.raises(ModelError) as caught:
        Checkpoint(model_dir).read_into(torch.empty(16, 64, dtype=torch.float16), K_PROJ)
    assert str(caught.value) == (
        f"{path}: tensor '{K_PROJ}' has values that float16 can't hold; choose --dtype bfloat16"
    )
