"""The tokenizer of a GGUF file as those of a folder in the Hugging Face format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gguf import TokenType
from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.processors import TemplateProcessing

from blendserve.errors import ModelError
from blendserve.models.gguf_file import GgufFile

__all__ = ["write_gguf_tokenizer"]

_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_SPACE = "\u2581"


def write_gguf_tokenizer(gguf: GgufFile, model_dir: Path) -> None:
    """Raises `ModelError` for a kind of tokenizer that is not known here."""
    tokens: list[str] = gguf.value("tokenizer.ggml.tokens")
    kinds: list[int] = gguf.value("tokenizer.ggml.token_type")
    kind = gguf.value("tokenizer.ggml.model")
    match kind:
        case "gpt2":
            tokenizer, adds_bos = _byte_level(gguf, tokens)
        case "llama":
            tokenizer, adds_bos = _sentencepiece(gguf, tokens, kinds), True
        case _:
            raise ModelError(f"{gguf.path}: tokenizer.ggml.model is {kind!r}; supported: gpt2, llama")

    for special, wanted in ((True, TokenType.CONTROL), (False, TokenType.USER_DEFINED)):
        added = [token for token, each in zip(tokens, kinds, strict=True) if each == wanted]
        tokenizer.add_tokens([AddedToken(token, special=special, normalized=False) for token in added])
    names = {
        f"{name}_token": tokens[gguf.get(f"tokenizer.ggml.{key}_token_id")]
        for name, key in {"bos": "bos", "eos": "eos", "pad": "padding", "unk": "unknown"}.items()
        if gguf.get(f"tokenizer.ggml.{key}_token_id") is not None
    }
    if gguf.get("tokenizer.ggml.add_bos_token", adds_bos):
        bos_id: int = gguf.value("tokenizer.ggml.bos_token_id")
        bos = tokens[bos_id]
        tokenizer.post_processor = TemplateProcessing(
            single=f"{bos} $A", pair=f"{bos} $A $B", special_tokens=[(bos, bos_id)]
        )
    tokenizer.save(str(model_dir / "tokenizer.json"))

    settings: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        **names,
        "model_max_length": gguf.of_model("context_length"),
        "clean_up_tokenization_spaces": False,
    }
    template = gguf.get("tokenizer.chat_template")
    if template is not None:
        settings["chat_template"] = template
    text = json.dumps(settings, indent=2, ensure_ascii=False)
    (model_dir / "tokenizer_config.json").write_text(text + "\n", encoding="utf-8")


def _byte_level(gguf: GgufFile, tokens: list[str]) -> tuple[Tokenizer, bool]:
    """Byte-level BPE, and whether it starts a text with the first token where the file does not say."""
    merges = [tuple(merge.split(" ")) for merge in gguf.value("tokenizer.ggml.merges")]
    pre = gguf.value("tokenizer.ggml.pre")
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=pre in ("gpt-2", "smollm"))
    parts: list[pre_tokenizers.PreTokenizer]
    match pre:
        case "gpt-2":
            parts = []
        case "smollm":
            parts = [pre_tokenizers.Digits(individual_digits=True)]
        case "llama-bpe":
            parts = [pre_tokenizers.Split(Regex(_WORDS % "{1,3}"), "isolated")]
        case "qwen2":
            parts = [pre_tokenizers.Split(Regex(_WORDS % ""), "isolated")]
        case _:
            raise ModelError(
                f"{gguf.path}: tokenizer.ggml.pre is {pre!r}; supported: gpt-2, smollm, llama-bpe, qwen2. Use the"
                " model's folder in the Hugging Face format"
            )
    vocab = {token: index for index, token in enumerate(tokens)}
    tokenizer = Tokenizer(BPE(vocab=vocab, merges=merges, ignore_merges=pre == "llama-bpe"))
    if pre == "qwen2":
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*parts, byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer, pre == "llama-bpe"


def _sentencepiece(gguf: GgufFile, tokens: list[str], kinds: list[int]) -> Tokenizer:
    """BPE over characters, with bytes for those that are no token; the pair that makes the best token merges first."""
    vocab = {token: index for index, token in enumerate(tokens)}
    scores = gguf.value("tokenizer.ggml.scores")
    by_score = sorted(
        (index for index, kind in enumerate(kinds) if kind == TokenType.NORMAL), key=lambda index: -scores[index]
    )
    merges = [
        (tokens[index][:cut], tokens[index][cut:])
        for index in by_score
        for cut in range(1, len(tokens[index]))
        if tokens[index][:cut] in vocab and tokens[index][cut:] in vocab
    ]
    unknown = tokens[gguf.get("tokenizer.ggml.unknown_token_id", 0)]
    tokenizer = Tokenizer(BPE(vocab=vocab, merges=merges, unk_token=unknown, fuse_unk=True, byte_fallback=True))
    starts_with_space = gguf.get("tokenizer.ggml.add_space_prefix", True)
    prefix = [normalizers.Prepend(_SPACE)] if starts_with_space else []
    tokenizer.normalizer = normalizers.Sequence([*prefix, normalizers.Replace(" ", _SPACE)])
    strip = [decoders.Strip(" ", 1, 0)] if starts_with_space else []
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace(_SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), *strip]
    )
    return tokenizer
