"""Rows of the input file become requests of the engine."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from blendserve.engine import EngineRequest
from blendserve.errors import RequestError
from blendserve.io.batch_input import BatchRequest, RowError
from blendserve.models import ModelConfig
from blendserve.text.tokenizer import Tokenizer

__all__ = ["TokenizedRow", "kv_tokens_needed", "tokenize_rows"]

TokenizedRow = tuple[BatchRequest, EngineRequest]

_TOKENIZE_BATCH = 1024


def tokenize_rows(
    rows: Iterable[BatchRequest | RowError], tokenizer: Tokenizer | None
) -> Iterator[TokenizedRow | RowError]:
    batch: list[BatchRequest] = []
    for row in rows:
        if isinstance(row, RowError):
            yield row
            continue
        batch.append(row)
        if len(batch) == _TOKENIZE_BATCH:
            yield from _tokenize_batch(batch, tokenizer)
            batch = []
    yield from _tokenize_batch(batch, tokenizer)


def _tokenize_batch(batch: Sequence[BatchRequest], tokenizer: Tokenizer | None) -> Iterator[TokenizedRow | RowError]:
    texts = [row.prompt for row in batch if isinstance(row.prompt, str)]
    encoded = iter(tokenizer.encode_batch(texts) if tokenizer is not None and texts else ())
    for row in batch:
        try:
            token_ids = _token_ids(row, tokenizer, encoded)
        except RequestError as error:
            yield row.failed(error)
        else:
            yield row, EngineRequest(np.array(token_ids, dtype=np.int32), row.params, row.custom_id)


def _token_ids(row: BatchRequest, tokenizer: Tokenizer | None, encoded: Iterator[list[int]]) -> Sequence[int]:
    if row.messages is None and not isinstance(row.prompt, str):
        return row.prompt or ()
    if tokenizer is None:
        raise RequestError("text needs a tokenizer, and this model folder has none; give token ids as prompt")
    if row.messages is None:
        return next(encoded)
    return tokenizer.encode_chat(row.messages, row.chat_template_kwargs)


def kv_tokens_needed(rows: Sequence[TokenizedRow], model: ModelConfig, block_size: int) -> int:
    """KV cache tokens, in whole blocks, with which every request could run at once."""
    total = 0
    for _, request in rows:
        prompt_len = len(request.prompt_token_ids)
        room = max(model.max_position_embeddings - prompt_len, 1)
        max_len = prompt_len + min(request.params.max_tokens or room, room)
        total += request.params.n * -(-max_len // block_size) * block_size
    return total
