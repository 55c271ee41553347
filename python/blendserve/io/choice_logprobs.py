"""Log-probabilities of one choice in the two published shapes."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from blendserve.outputs import CompletionOutput, TokenLogprob

__all__ = ["NO_PROMPT", "EchoedPrompt", "TokenSpelling", "chat_logprobs", "completion_logprobs"]

# The published API's value for "very unlikely"; JSON has no minus infinity.
_LOWEST_LOGPROB = -9999.0


@dataclass(frozen=True, slots=True)
class TokenSpelling:
    """How tokens are written; both are None for a model without a tokenizer."""

    token_text: Callable[[int], str] | None
    token_bytes: Callable[[int], bytes] | None

    def text(self, token_id: int) -> str:
        return f"token_id:{token_id}" if self.token_text is None else self.token_text(token_id)

    def byte_values(self, token_id: int) -> list[int] | None:
        return None if self.token_bytes is None else list(self.token_bytes(token_id))


@dataclass(frozen=True, slots=True)
class EchoedPrompt:
    """What stands in front of a completion. `text` is None without a tokenizer, `logprobs` when not asked for."""

    text: str | None
    token_ids: tuple[int, ...]
    logprobs: tuple[TokenLogprob | None, ...] | None


NO_PROMPT = EchoedPrompt("", (), ())


def chat_logprobs(choice: CompletionOutput, spelling: TokenSpelling) -> dict[str, Any] | None:
    """One entry for every token that has a part in the text."""
    if choice.logprobs is None:
        return None

    def entry(token_id: int, logprob: float) -> dict[str, Any]:
        return {
            "token": spelling.text(token_id),
            "logprob": max(logprob, _LOWEST_LOGPROB),
            "bytes": spelling.byte_values(token_id),
        }

    shown = choice.logprobs[: _num_shown_tokens(choice, spelling)]
    content = [
        {**entry(token.token_id, token.logprob), "top_logprobs": [entry(*alternative) for alternative in token.top]}
        for token in shown
    ]
    return {"content": content, "refusal": None}


def completion_logprobs(
    choice: CompletionOutput, spelling: TokenSpelling, prompt: EchoedPrompt = NO_PROMPT
) -> dict[str, Any] | None:
    """Parallel lists over the tokens of the echoed prompt and those that have a part in the text.

    `top_logprobs` holds the token beside the most likely ones; both are null for the prompt's first token, which
    follows nothing. `text_offset` counts characters from the start of the choice's text and is null without a
    tokenizer.
    """
    if choice.logprobs is None:
        return None
    answer = choice.logprobs[: _num_shown_tokens(choice, spelling)]
    answer_ids = [token.token_id for token in answer]
    shown = [*(prompt.logprobs or ()), *answer]
    return {
        "tokens": [spelling.text(token_id) for token_id in (*prompt.token_ids, *answer_ids)],
        "token_logprobs": [None if token is None else max(token.logprob, _LOWEST_LOGPROB) for token in shown],
        "top_logprobs": [_top_by_text(token, spelling) for token in shown],
        "text_offset": _text_offsets(prompt, answer_ids, spelling),
    }


def _top_by_text(token: TokenLogprob | None, spelling: TokenSpelling) -> dict[str, float] | None:
    """Of several tokens with one spelling the most likely is kept."""
    if token is None:
        return None
    top: dict[str, float] = {}
    for token_id, logprob in (*token.top, (token.token_id, token.logprob)):
        top.setdefault(spelling.text(token_id), max(logprob, _LOWEST_LOGPROB))
    return top


def _text_offsets(prompt: EchoedPrompt, answer_ids: Sequence[int], spelling: TokenSpelling) -> list[int] | None:
    if spelling.token_bytes is None or prompt.text is None:
        return None
    text = prompt.text.encode()
    pieces = _pieces_in(text, [spelling.token_bytes(token_id) for token_id in prompt.token_ids])
    answer = _char_offsets([spelling.token_bytes(token_id) for token_id in answer_ids])
    return _char_offsets(pieces) + [len(prompt.text) + offset for offset in answer]


def _pieces_in(text: bytes, tokens: Sequence[bytes]) -> list[bytes]:
    """What each token contributes to the text: nothing where the text does not go on with it, as the special token in
    front of a prompt, and less than itself where a tokenizer marks the first word with a space.
    """
    pieces, begin = [], 0
    for token in tokens:
        spelled = token if text.startswith(token, begin) else token.removeprefix(b" ")
        pieces.append(spelled if text.startswith(spelled, begin) else b"")
        begin += len(pieces[-1])
    return pieces


def _char_offsets(pieces: Sequence[bytes]) -> list[int]:
    """A token that goes on inside a character starts where that character starts."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    offsets, num_chars = [], 0
    for piece in pieces:
        offsets.append(num_chars)
        num_chars += len(decoder.decode(piece))
    return offsets


def _num_shown_tokens(choice: CompletionOutput, spelling: TokenSpelling) -> int:
    """How many tokens are left when those that the stop cut out of the text are dropped.

    A stop string ends inside the last token, so its place is found from there; a token that begins before it stays.
    """
    num_tokens = len(choice.token_ids)
    if choice.finish_reason != "stop":
        return num_tokens
    if not isinstance(choice.stop_reason, str):
        return num_tokens - 1
    if spelling.token_bytes is None:
        return num_tokens
    stop = choice.stop_reason.encode()
    pieces = [spelling.token_bytes(token_id) for token_id in choice.token_ids]
    spelled = b"".join(pieces)
    cut = spelled.find(stop, max(0, len(spelled) - len(pieces[-1]) - len(stop) + 1))
    start = len(spelled)
    while cut >= 0 and num_tokens > 0 and start - len(pieces[num_tokens - 1]) >= cut:
        num_tokens -= 1
        start -= len(pieces[num_tokens])
    return num_tokens
