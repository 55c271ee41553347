"""How one request is sampled and when it ends."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["SamplingParams"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParams:
    """Frozen; every field is checked on construction and a bad value raises `UserError`.

    n: number of choices, >= 1.
    temperature: >= 0; 0 is greedy.
    top_p: 0 < top_p <= 1; the smallest set of tokens whose probability reaches it.
    top_k: 0 is off, else the k most likely tokens.
    seed: any 64-bit integer; None takes the job's seed with the request's own name.
    max_tokens: >= 1, or None for as many as the context holds.
    stop: strings that end the answer; the text ends before the match.
    stop_token_ids: token ids that end the answer.
    ignore_eos: go on after the model's end tokens.
    logprobs: None, or how many most likely tokens to report beside each token (0: the token's own only).
    """

    n: int = 1
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int | None = None
    max_tokens: int | None = 16
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False
    logprobs: int | None = None
