"""Rows of the input file become requests of the engine."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from blendserve.engine import EngineRequest
from blendserve.io.batch_input import BatchRequest, RowError
from blendserve.models import ModelShape
from blendserve.text.row_tokens import encode_rows
from blendserve.text.tokenizer import Tokenizer

__all__ = ["TokenizedRow", "kv_tokens_needed", "tokenize_rows"]

TokenizedRow = tuple[BatchRequest, EngineRequest]


def tokenize_rows(
    rows: Iterable[BatchRequest | RowError], tokenizer: Tokenizer | None
) -> Iterator[TokenizedRow | RowError]:
    for item in encode_rows(rows, tokenizer):
        if isinstance(item, RowError):
            yield item
        else:
            row, token_ids = item
            yield row, EngineRequest(token_ids, row.params, row.custom_id, row.expected_output_tokens)


def kv_tokens_needed(rows: Sequence[TokenizedRow], model: ModelShape, block_size: int) -> int:
    """KV cache tokens, in whole blocks, with which every request could run at once."""
    total = 0
    for _, request in rows:
        prompt_len = len(request.prompt_token_ids)
        room = max(model.max_position_embeddings - prompt_len, 1)
        limit = request.params.max_tokens
        max_len = prompt_len + (room if limit is None else min(limit, room))
        total += request.params.n * -(-max_len // block_size) * block_size
    return total
