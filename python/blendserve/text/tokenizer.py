"""Text to token ids and back, with the model's own tokenizer and chat template."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer
from transformers.utils import logging as transformers_logging

from blendserve.errors import ModelError, RequestError
from blendserve.text.batch_encoder import BatchEncoder
from blendserve.text.token_bytes import TokenBytes

__all__ = ["Tokenizer"]

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json")

# Arguments of transformers' renderer that are not variables of a template.
_RESERVED_KWARGS = frozenset(
    {
        "chat_template",
        "conversation",
        "conversations",
        "max_length",
        "messages",
        "padding",
        "return_assistant_tokens_mask",
        "return_dict",
        "return_tensors",
        "sanitize_control_tokens",
        "tokenize",
        "tokenizer_kwargs",
        "tools",
        "truncation",
    }
)


class Tokenizer:
    """A folder's fast tokenizer. Works on local files only and never truncates or pads."""

    def __init__(self, pretrained: Any) -> None:
        self._pretrained = pretrained
        self._backend = pretrained.backend_tokenizer
        self._backend.no_truncation()
        self._backend.no_padding()
        self._backend.encode_special_tokens = pretrained.split_special_tokens
        self._token_bytes = TokenBytes(self._backend)

    @classmethod
    def load(cls, model_dir: Path) -> Tokenizer | None:
        """None for a folder without tokenizer files; raises `ModelError` when they cannot be used."""
        if not any((model_dir / name).is_file() for name in _TOKENIZER_FILES):
            return None
        try:
            with _quiet_transformers():
                pretrained = AutoTokenizer.from_pretrained(model_dir, local_files_only=True, trust_remote_code=False)
        except Exception as error:  # whatever the many tokenizer classes raise on broken files
            raise ModelError(
                f"the tokenizer of {model_dir} cannot be loaded: {error}; a tokenizer.json is expected"
            ) from error
        if not pretrained.is_fast:
            raise ModelError(
                f"{model_dir} has only the slow tokenizer {type(pretrained).__name__}; convert it to a tokenizer.json"
            )
        return cls(pretrained)

    @property
    def vocab_size(self) -> int:
        """Number of tokens, added ones included; the model's may be larger."""
        return int(self._backend.get_vocab_size(with_added_tokens=True))

    @property
    def has_chat_template(self) -> bool:
        return self._pretrained.chat_template is not None

    def token_id(self, token: str) -> int | None:
        """Of a token by its exact text; None if the vocabulary lacks it."""
        token_id: int | None = self._backend.token_to_id(token)
        return token_id

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """Special tokens are those the tokenizer puts around a plain prompt, such as a first <s>.

        Raises `RequestError` for text that is not valid Unicode.
        """
        _check_unicode(text, "the prompt")
        ids: list[int] = self._backend.encode(text, add_special_tokens=add_special_tokens).ids
        return ids

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """As `encode` of each, in parallel."""
        for index, text in enumerate(texts):
            _check_unicode(text, f"prompt {index}")
        return [encoding.ids for encoding in self._backend.encode_batch_fast(texts, add_special_tokens=True)]

    def batch_encoder(self) -> BatchEncoder:
        """For the many texts of one job; remembers what repeats among them."""
        return BatchEncoder(self._backend)

    def encode_chat(self, messages: Sequence[Mapping[str, Any]], template_kwargs: Mapping[str, Any]) -> list[int]:
        """Token ids of the rendered messages, ready for the assistant's answer.

        `template_kwargs` become variables of the template; `add_generation_prompt` and `continue_final_message` mean
        what they mean in transformers. Raises `RequestError` when the model has no template, a kwarg is reserved, or
        the template refuses the messages.
        """
        ids: list[int] = self._backend.encode(self.render_chat(messages, template_kwargs), add_special_tokens=False).ids
        return ids

    def render_chat(self, messages: Sequence[Mapping[str, Any]], template_kwargs: Mapping[str, Any]) -> str:
        """The text that `encode_chat` encodes, special tokens written out; raises as it does."""
        if not self.has_chat_template:
            raise RequestError(
                "the model has no chat template; send the prompt as text to /v1/completions",
                code="no_chat_template",
                param="messages",
            )
        reserved = sorted(_RESERVED_KWARGS.intersection(template_kwargs))
        if reserved:
            raise RequestError(
                f"chat_template_kwargs must not set {', '.join(reserved)}: remove it; only variables of the model's"
                " template can be set",
                param=f"chat_template_kwargs.{reserved[0]}",
            )
        asks_for_answer = not template_kwargs.get("continue_final_message", False)
        variables = {"add_generation_prompt": asks_for_answer, **template_kwargs}
        try:
            text = self._pretrained.apply_chat_template(list(messages), tokenize=False, **variables)
        except Exception as error:  # a template is the model's own program: it raises what it likes
            raise RequestError(
                f"the model's chat template refuses the messages: {error}; change the messages or chat_template_kwargs",
                code="chat_template_error",
                param="messages",
            ) from error
        _check_unicode(text, "the chat")
        return str(text)

    def decode(self, ids: Sequence[int]) -> str:
        """The text without special tokens, nothing cleaned up."""
        return str(self._backend.decode(ids, skip_special_tokens=True))

    def token_bytes(self, token_id: int) -> bytes:
        """The exact bytes of one token, part of a character perhaps; empty for an id that is not a token."""
        return self._token_bytes(token_id)

    def token_text(self, token_id: int) -> str:
        """The token's bytes as text; what is not a whole UTF-8 character shows as U+FFFD."""
        return self._token_bytes(token_id).decode(errors="replace")


def _check_unicode(text: str, subject: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise RequestError(
            f"{subject} is not valid Unicode: character {error.start} is the lone surrogate"
            f" U+{ord(text[error.start]):04X}; remove it",
            code="invalid_unicode",
        ) from error


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Advice of transformers about tokenizers is for those who train them."""
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        transformers_logging.set_verbosity(verbosity)
