"""The check before the first request: does the engine compute the model, and do tokenizer and template fit it?"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import blendserve as bs
import pytest
import torch
from blendserve.models.decoder import Decoder
from blendserve.models.packed_decoder import PackedDecoder
from safetensors.torch import load_file, save_file
from tiny_models import CHAT_TEMPLATE, build_llama, build_tokenizer, edit_json

BLOCK_BYTES = 16 * 512  # of two layers, two heads of 8, float32

Forward = Callable[..., torch.Tensor]


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_llama(tmp_path_factory.mktemp("model"), with_tokenizer=True)


def changed(model: type, change: Callable[[torch.Tensor], torch.Tensor]) -> Forward:
    """`forward` of the class, with its logits changed."""
    forward: Forward = model.forward  # type: ignore[attr-defined]
    return lambda *args: change(forward(*args))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"dtype": "bfloat16"},
        {"weight_dtype": "int8"},
        {"weight_dtype": "bfloat16"},
        {"attention": "torch_ref"},
        {"attention": "torch_ref", "dtype": "bfloat16"},
        {"kv_dtype": "bfloat16"},
        {"attention": "torch_ref", "kv_dtype": "fp8_e4m3"},
        {"block_size": 1},
        {"kv_memory": BLOCK_BYTES},
        {"kv_memory": BLOCK_BYTES // 16 * 3, "block_size": 3},  # no room to check anything
    ],
)
def test_a_sound_model_passes_and_leaves_the_engine_as_new(model_dir: Path, options: dict[str, Any]) -> None:
    checked, unchecked = (bs.LLM(model_dir, self_check=check, **options) for check in (True, False))
    assert checked.stats.num_steps == 0
    prompts = [[5, 6], [9]] if "kv_memory" in options else [[5, 6, 7] * 10, [9]]
    params = bs.SamplingParams(max_tokens=1, logprobs=2)
    assert checked.generate(prompts, params) == unchecked.generate(prompts, params)


def test_it_is_refused_where_it_would_overwrite_what_is_cached(model_dir: Path) -> None:
    llm = bs.LLM(model_dir, device="cpu", kv_memory="1MiB")
    prompt, params = [*range(40, 88), 5], bs.SamplingParams(temperature=0, max_tokens=8)
    expected = llm.generate(prompt, params)[0].token_ids
    with pytest.raises(bs.UserError, match="self_check comes after the first request; call it before"):
        llm.self_check(chats=False)
    assert llm.generate(prompt, params)[0].token_ids == expected


@pytest.mark.parametrize("family", ["textless", "tied", "windows of one block"])
def test_other_sound_models_pass(tmp_path: Path, family: str) -> None:
    build_llama(tmp_path, tie=family == "tied", with_tokenizer=family != "textless", max_positions=16)
    assert bs.LLM(tmp_path).stats.num_steps == 0
    assert bs.LLM(tmp_path, weight_dtype="int8").stats.num_steps == 0


@pytest.mark.parametrize(
    ("options", "factor", "shown"),
    [
        ({}, 1.002, "the logits of native_cpu are off by 0.002 of their size, and 0.001 is what rounding may do"),
        ({"dtype": "bfloat16"}, 1.1, "and 0.05 is what rounding may do"),
        ({"weight_dtype": "int8"}, 1.3, "and 0.2 is what rounding may do"),
        ({"kv_dtype": "bfloat16"}, 1.1, "and 0.05 is what rounding may do"),
    ],
)
def test_wrong_logits_stop_the_engine(
    model_dir: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], factor: float, shown: str
) -> None:
    monkeypatch.setattr(PackedDecoder, "forward", changed(PackedDecoder, lambda logits: logits * factor))
    with pytest.raises(bs.UserError) as caught:
        bs.LLM(model_dir, **options)
    assert shown in str(caught.value)
    assert "Choose --attention torch_ref" in str(caught.value)
    assert bs.LLM(model_dir, self_check=False, **options).stats.num_steps == 0


def test_a_wrong_decode_alone_is_found(model_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As from blocks that are read wrongly."""
    forward: Forward = PackedDecoder.forward

    def wrong_decode(self: PackedDecoder, token_ids: torch.Tensor, *args: Any) -> torch.Tensor:
        logits = forward(self, token_ids, *args)
        return logits.roll(1, dims=-1) if len(token_ids) == 1 else logits

    monkeypatch.setattr(PackedDecoder, "forward", wrong_decode)
    with pytest.raises(bs.UserError, match="self-check: the logits of native_cpu are off by"):
        bs.LLM(model_dir)


def test_a_number_added_to_all_logits_is_no_error(model_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PackedDecoder, "forward", changed(PackedDecoder, lambda logits: logits + 7))
    assert bs.LLM(model_dir).stats.num_steps == 0


def test_logits_that_are_not_finite_stop_the_engine(model_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for model, options in ((PackedDecoder, {}), (Decoder, {"attention": "torch_ref"})):
        monkeypatch.setattr(model, "forward", changed(model, lambda logits: logits * float("nan")))
        with pytest.raises(bs.UserError, match="the model's logits are not finite in float32"):
            bs.LLM(model_dir, **options)


def template_dir(model_dir: Path, folder: Path, template: str) -> Path:
    """The same model with another chat template."""
    for path in model_dir.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return build_tokenizer(folder, chat_template=template)


def test_a_template_without_the_users_message_stops_the_engine(model_dir: Path, tmp_path: Path) -> None:
    folder = template_dir(model_dir, tmp_path, "{% for m in messages %}[{{ m.role }}]{{ m.text }}{% endfor %}")
    with pytest.raises(bs.UserError, match="chat template leaves the user's message out of the prompt"):
        bs.LLM(folder)
    assert bs.LLM(folder, self_check=False).tokenizer is not None


@pytest.mark.parametrize(
    ("template", "warning"),
    [
        (CHAT_TEMPLATE.replace("<|end|>", "<|im_end|>"), "writes <|im_end|>, which the tokenizer has no token for"),
        (
            "{% for m in messages %}{{ m.content }}</s>{% endfor %}",
            "ends the prompt with an end token and without a generation prompt",
        ),
        ("{{ raise_exception('no chats') }}", "no chats; change the messages"),
    ],
)
def test_a_doubtful_template_is_a_warning(model_dir: Path, tmp_path: Path, template: str, warning: str) -> None:
    folder = template_dir(model_dir, tmp_path, template)
    with pytest.warns(UserWarning, match=warning.replace("|", r"\|")):
        llm = bs.LLM(folder)
    assert llm.self_check(chats=False) == []


@pytest.mark.parametrize(
    "template",
    [
        CHAT_TEMPLATE,
        "{% for m in messages %}[INST]{{ m.content }}[/INST]{% endfor %}",  # of Mistral: needs no generation prompt
        None,
    ],
)
def test_a_usual_template_is_none(model_dir: Path, tmp_path: Path, template: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        bs.LLM(template_dir(model_dir, tmp_path, template))


def test_a_tokenizer_larger_than_the_model_is_a_warning(model_dir: Path, tmp_path: Path) -> None:
    folder = template_dir(model_dir, tmp_path, CHAT_TEMPLATE)
    num_tokens = len(json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"])
    edit_json(folder / "config.json", lambda values: values.update(vocab_size=num_tokens - 1))
    tensors = load_file(folder / "model.safetensors")
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        tensors[name] = tensors[name][: num_tokens - 1].clone()
    save_file(tensors, folder / "model.safetensors")
    with pytest.warns(UserWarning, match=f"the tokenizer has {num_tokens} tokens, but the model {num_tokens - 1}"):
        bs.LLM(folder)
