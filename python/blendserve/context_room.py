"""How much of an answer a model's context has room for behind a prompt."""

from __future__ import annotations

from blendserve.errors import RequestError

__all__ = ["context_room"]


def context_room(prompt_len: int, context_len: int, max_tokens: int | None) -> int:
    """Tokens that an answer may have; raises `RequestError` if there is none and the request wants one."""
    room = context_len - prompt_len
    if room < (0 if max_tokens == 0 else 1):
        needed = "it" if max_tokens == 0 else "at least one more for the answer"
        raise RequestError(
            f"the prompt has {prompt_len} tokens, and the model's context of {context_len} must hold {needed}; "
            "shorten the prompt",
            code="context_length_exceeded",
        )
    return room
