"""The rows of an input file with their token ids, read and rendered in one thread while others encode."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from blendserve.errors import RequestError
from blendserve.io.batch_input import BatchRequest, RowError
from blendserve.text.batch_encoder import BatchEncoder
from blendserve.text.prefetch import prefetch
from blendserve.text.tokenizer import Tokenizer

__all__ = ["RowTokens", "encode_rows"]

_BATCH_ROWS = 1024
_BATCH_CHARS = 8 * 2**20
_BATCHES_AHEAD = 2

RowTokens = tuple[BatchRequest, NDArray[np.int32]]


@dataclass(slots=True)
class _Rendered:
    """A row whose prompt is ready to be encoded: text, or token ids as the row gives them."""

    row: BatchRequest
    prompt: str | NDArray[np.int32]


def encode_rows(rows: Iterable[BatchRequest | RowError], tokenizer: Tokenizer | None) -> Iterator[RowTokens | RowError]:
    """Every row with its prompt's ids, int32 [p], in the order of `rows`; those that cannot be encoded become errors.

    `rows` is read, and chats are rendered, in another thread.
    """
    encoder = None if tokenizer is None else tokenizer.batch_encoder()
    for batch in prefetch(_batches(_rendered(row, tokenizer) for row in rows), _BATCHES_AHEAD):
        chats = _encode(batch, encoder, is_chat=True)
        plain = _encode(batch, encoder, is_chat=False)
        for item in batch:
            if isinstance(item, RowError):
                yield item
            elif isinstance(item.prompt, str):
                yield item.row, next(chats if item.row.messages is not None else plain)
            else:
                yield item.row, item.prompt


def _rendered(row: BatchRequest | RowError, tokenizer: Tokenizer | None) -> _Rendered | RowError:
    if isinstance(row, RowError):
        return row
    if isinstance(row.prompt, np.ndarray):
        return _Rendered(row, row.prompt)
    try:
        if tokenizer is None:
            raise RequestError("text needs a tokenizer, and this model folder has none; give token ids as prompt")
        if row.messages is None:
            return _Rendered(row, row.prompt or "")
        return _Rendered(row, tokenizer.render_chat(row.messages, row.chat_template_kwargs))
    except RequestError as error:
        return row.failed(error)


def _batches(items: Iterable[_Rendered | RowError]) -> Iterator[list[_Rendered | RowError]]:
    batch: list[_Rendered | RowError] = []
    num_chars = 0
    for item in items:
        batch.append(item)
        num_chars += 0 if isinstance(item, RowError) else len(item.prompt)
        if len(batch) == _BATCH_ROWS or num_chars >= _BATCH_CHARS:
            yield batch
            batch, num_chars = [], 0
    if batch:
        yield batch


def _encode(
    batch: Sequence[_Rendered | RowError], encoder: BatchEncoder | None, *, is_chat: bool
) -> Iterator[NDArray[np.int32]]:
    """The ids of the chats, or of the plain texts. A chat template writes the special tokens itself."""
    texts = [
        item.prompt
        for item in batch
        if isinstance(item, _Rendered) and isinstance(item.prompt, str) and (item.row.messages is not None) == is_chat
    ]
    return iter(encoder.encode(texts, add_special_tokens=not is_chat) if encoder is not None and texts else ())
