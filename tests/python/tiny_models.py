"""Random model folders small enough for a test, built with transformers so that it can be compared with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import torch
from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers, trainers
from tokenizers.models import BPE
from tokenizers.processors import TemplateProcessing
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedConfig

VOCAB_SIZE = 384
BOS_ID, EOS_ID, TURN_END_ID = 0, 1, 2
SPECIAL_TOKENS = ["<s>", "</s>", "<|end|>"]

CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{% if message.role not in ['system', 'user', 'assistant'] %}"
    "{{ raise_exception('unknown role ' + message.role) }}{% endif %}"
    "[{{ message.role }}]{{ message.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% if mood is defined %}({{ mood }}){% endif %}{% endif %}"
)

_SIZES: dict[str, Any] = {"vocab_size": VOCAB_SIZE, "hidden_size": 64, "intermediate_size": 160}

_ROPE: dict[str, dict[str, Any]] = {
    "default": {"rope_type": "default"},
    "linear": {"rope_type": "linear", "factor": 4.0},
    "llama3": {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    },
}

_TRAINING_TEXTS = [
    "The quick brown fox jumps over the lazy dog. " * 4,
    "How many tokens does a batch hold? It holds as many as fit.\n\n" * 3,
    "def main() -> None:\n    print('hello, world', 1234567890)\n" * 3,
    "Ein schöner Tag für Zürich — naïve café, 日本語. " * 3,
]


def build_llama(
    directory: Path,
    *,
    kv_heads: int = 2,
    num_heads: int = 8,
    head_dim: int | None = None,
    num_layers: int = 2,
    rope: Literal["default", "linear", "llama3"] = "default",
    rope_theta: float = 10_000.0,
    tie: bool = False,
    bias: bool = False,
    sharded: bool = False,
    config_style: Literal["v4", "v5"] = "v5",
    max_positions: int = 1024,
    eos_token_id: int | list[int] | None = EOS_ID,
    with_tokenizer: bool = False,
    seed: int = 0,
) -> Path:
    """Writes hidden size 64, vocabulary 384 in float32 to `directory` and returns it.

    Weights are spread widely enough that greedy answers do not settle on one token. `config_style` is the major version
    of transformers that config.json looks like.
    """
    config = LlamaConfig(
        **_SIZES,
        num_hidden_layers=num_layers,
        num_attention_heads=num_heads,
        num_key_value_heads=kv_heads,
        head_dim=head_dim,
        max_position_embeddings=max_positions,
        rms_norm_eps=1e-5,
        rope_parameters={**_ROPE[rope], "rope_theta": rope_theta},
        tie_word_embeddings=tie,
        attention_bias=bias,
        mlp_bias=bias,
        bos_token_id=BOS_ID,
        eos_token_id=eos_token_id,
    )
    save_random_model(directory, config, sharded=sharded, seed=seed)
    if config_style == "v4":
        edit_json(directory / "config.json", _as_transformers_4_writes_it)
    if with_tokenizer:
        build_tokenizer(directory)
    return directory


def save_random_model(directory: Path, config: PreTrainedConfig, *, sharded: bool = False, seed: int = 0) -> None:
    """The decoder of `config` with every weight and bias drawn; norms multiply by about one."""
    generator = torch.Generator().manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            at_one = "norm" in name and not name.endswith("bias") and not config.model_type.startswith("gemma")
            parameter.normal_(1.0 if at_one else 0.0, 0.15, generator=generator)
    model.save_pretrained(directory, max_shard_size="100KB" if sharded else "1GB")


def build_tokenizer(directory: Path, *, chat_template: str | None = CHAT_TEMPLATE) -> Path:
    """Writes a byte-level BPE tokenizer of at most `VOCAB_SIZE` tokens that starts a plain prompt with <s>."""
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=[AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_TRAINING_TEXTS, trainer)
    tokenizer.post_processor = TemplateProcessing(single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", BOS_ID)])
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "model_max_length": 1024,
        "clean_up_tokenization_spaces": True,
    }
    if chat_template is not None:
        settings["chat_template"] = chat_template
    return write_tokenizer(directory, tokenizer, settings)


def write_tokenizer(directory: Path, tokenizer: Tokenizer, settings: dict[str, Any]) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(directory / "tokenizer.json"))
    (directory / "tokenizer_config.json").write_text(json.dumps(settings))
    return directory


def edit_json(path: Path, edit: Any) -> None:
    """Applies `edit` to the object in the file, in place."""
    values = json.loads(path.read_text())
    edit(values)
    path.write_text(json.dumps(values, indent=2))


def _as_transformers_4_writes_it(values: dict[str, Any]) -> None:
    rope = values.pop("rope_parameters")
    values["rope_theta"] = rope.pop("rope_theta")
    values["rope_scaling"] = None if rope["rope_type"] == "default" else rope
    values["torch_dtype"] = values.pop("dtype")
    values["transformers_version"] = "4.46.0"
    values["pretraining_tp"] = 1
