"""Many texts to token ids, on all cores, without encoding again what repeats."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer

from blendserve.text.exact_cuts import ExactCuts
from blendserve.text.part_cache import PartCache

__all__ = ["BatchEncoder"]

_CACHE_CHARS = 32 * 2**20
_PROBE = "It is."

Ids = NDArray[np.int32]


class BatchEncoder:
    """Gives the ids of `encode_batch` for every text.

    Where the tokenizer has exact cuts (see `ExactCuts`), a part that repeats over the texts, such as a system prompt or
    the turns of a few-shot chat, is encoded once and remembered. A text without added tokens has no such cut: only a
    whole text that repeats is.
    """

    def __init__(self, tokenizer: Tokenizer, *, cache_chars: int = _CACHE_CHARS) -> None:
        self._tokenizer = tokenizer
        self._cuts = ExactCuts.of(tokenizer)
        self._cache = PartCache(cache_chars)
        self._frame = _frame(tokenizer)

    def encode(self, texts: Sequence[str], *, add_special_tokens: bool) -> list[Ids]:
        """One int32 array per text, its own copy. Releases the GIL while it encodes."""
        frame = self._frame if add_special_tokens else (_NO_IDS, _NO_IDS)
        if self._cuts is None or frame is None:
            return _as_arrays(self._tokenizer.encode_batch_fast(texts, add_special_tokens=add_special_tokens))
        parts_of = [self._cuts.parts(text) for text in texts]
        ids = self._encode_parts({part: None for parts in parts_of for part in parts})
        first, last = frame
        return [np.concatenate((first, *(ids[part] for part in parts), last)) for parts in parts_of]

    def _encode_parts(self, parts: Iterable[str]) -> dict[str, Ids]:
        """The ids of different parts."""
        found = {part: self._cache.get(part) for part in parts}
        missing = [part for part, ids in found.items() if ids is None]
        encoded = _as_arrays(self._tokenizer.encode_batch_fast(missing, add_special_tokens=False))
        for part, ids in zip(missing, encoded, strict=True):
            self._cache.put(part, ids)
        return {part: ids for part, ids in found.items() if ids is not None} | dict(zip(missing, encoded, strict=True))


_NO_IDS: Ids = np.empty(0, dtype=np.int32)


def _as_arrays(encodings: Iterable[Encoding]) -> list[Ids]:
    return [np.array(encoding.ids, dtype=np.int32) for encoding in encodings]


def _frame(tokenizer: Tokenizer) -> tuple[Ids, Ids] | None:
    """The special tokens that are put before and behind every text; None if that is not all that is done to it."""
    framed = tokenizer.encode(_PROBE)
    is_special = np.array(framed.special_tokens_mask, dtype=bool)
    inside = np.flatnonzero(~is_special)
    if len(inside) == 0:
        return None
    begin, end = inside[0], inside[-1] + 1
    ids = np.array(framed.ids, dtype=np.int32)
    plain = tokenizer.encode(_PROBE, add_special_tokens=False).ids
    return (ids[:begin], ids[end:]) if ids[begin:end].tolist() == plain else None
