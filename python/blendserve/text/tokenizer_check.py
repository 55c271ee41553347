"""Do tokenizer, chat template and model belong together? What a user finds out only from bad answers otherwise."""

from __future__ import annotations

import re
from collections.abc import Collection

from blendserve.errors import RequestError, UserError
from blendserve.text.tokenizer import Tokenizer

__all__ = ["check_chat_template", "check_tokenizer_size"]

_QUESTION = "What colour is the sky at noon"
_MARKER = re.compile(r"<\|[^|<>\s]+\|>")


def check_tokenizer_size(tokenizer: Tokenizer, vocab_size: int) -> list[str]:
    """Warnings. `vocab_size` is the model's, which may be larger than the tokenizer's."""
    if tokenizer.vocab_size <= vocab_size:
        return []
    return [
        f"the tokenizer has {tokenizer.vocab_size} tokens, but the model {vocab_size}: requests with one of the others "
        "fail; use the tokenizer that the model was trained with"
    ]


def check_chat_template(tokenizer: Tokenizer, end_token_ids: Collection[int]) -> list[str]:
    """Warnings. A model without a template has none: its chat requests fail one by one, and say so.

    Raises:
        UserError: what the user says is not in the prompt.
    """
    if not tokenizer.has_chat_template:
        return []
    try:
        text = _rendered(tokenizer)
    except RequestError as error:
        return [f"{error}, or use the template that belongs to the model: it refuses even one plain user message"]
    if _QUESTION not in text:
        raise UserError(
            "self-check: the model's chat template leaves the user's message out of the prompt, so answers would have "
            "nothing to do with it; use the template that belongs to the model, or send prompts to /v1/completions"
        )
    return [*_unknown_markers(tokenizer, text), *_missing_generation_prompt(tokenizer, text, end_token_ids)]


def _rendered(tokenizer: Tokenizer, **variables: bool) -> str:
    return tokenizer.render_chat([{"role": "user", "content": _QUESTION}], variables)


def _unknown_markers(tokenizer: Tokenizer, text: str) -> list[str]:
    unknown = [marker for marker in dict.fromkeys(_MARKER.findall(text)) if tokenizer.token_id(marker) is None]
    if not unknown:
        return []
    return [
        f"the chat template writes {', '.join(unknown)}, which the tokenizer has no token for and spells out: if the "
        "model was not trained so, use the tokenizer and template that belong to it"
    ]


def _missing_generation_prompt(tokenizer: Tokenizer, text: str, end_token_ids: Collection[int]) -> list[str]:
    """Some templates need none; but one that leaves the model behind an end token makes it go on as it likes."""
    last = tokenizer.encode(text.rstrip(), add_special_tokens=False)[-1:]
    if text != _rendered(tokenizer, add_generation_prompt=False) or not set(last) & set(end_token_ids):
        return []
    return [
        "the chat template ends the prompt with an end token and without a generation prompt: answers may be empty, or "
        "go on as the user; use the template that belongs to the model"
    ]
