"""Token ids for prompts of which only lengths and shared prefixes are known.

    position   0        1 … prefix_len - 1          prefix_len                …
    token      marker   the group's own random ids  the request's own number  random ids

The marker is the same for all requests of a source, and no other source has it: so the planner's prefix tree knows
which source a request comes from. One token is less than a KV block, so nothing of it can be cached. A request without
a group has a prefix of one token, the marker.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from blendserve.traces.ragged import copy_rows, offsets_of

__all__ = ["VOCAB_SIZE", "make_tokens", "marker_of"]

_VOCAB_BITS = 17
VOCAB_SIZE = 1 << _VOCAB_BITS
"""Random ids, and the numbers of requests and groups, lie below it; markers above."""

_MARKER_BITS = 29
_DRAWS_AT_ONCE = 1 << 18


def marker_of(source: str) -> int:
    """The first token of every request of the source: from VOCAB_SIZE to VOCAB_SIZE + 2**29, by its name."""
    digest = blake2b(source.encode("utf-8", "surrogatepass"), digest_size=8, person=b"blendserve.trace").digest()
    return VOCAB_SIZE + int.from_bytes(digest, "little") % (1 << _MARKER_BITS)


def make_tokens(
    offsets: NDArray[np.int64],
    prefix_group: NDArray[np.int32],
    prefix_lens: NDArray[np.int32],
    sources: Sequence[str],
    source: NDArray[np.int16],
    seed: int,
) -> NDArray[np.int32]:
    """int32 [T]: a function of the arguments alone, the same on every machine and with every version of NumPy.

    Every prompt has at least one token; a prefix lies within its prompt, and `prefix_lens` is 0 without a group (-1).
    """
    tokens = _random_ids(int(offsets[-1]), (seed, 0))
    begins = offsets[:-1]
    has_group = (prefix_group >= 0) & (prefix_lens > 0)
    own = begins + np.maximum(prefix_lens, 1)
    has_own = own < offsets[1:]
    tokens[own[has_own]] = np.flatnonzero(has_own) % VOCAB_SIZE
    _write_prefixes(tokens, begins[has_group], prefix_group[has_group], prefix_lens[has_group], seed)
    tokens[begins] = np.array([marker_of(name) for name in sources], dtype=np.int32)[source]
    return tokens


def _write_prefixes(
    tokens: NDArray[np.int32],
    begins: NDArray[np.int64],
    prefix_group: NDArray[np.int32],
    prefix_lens: NDArray[np.int32],
    seed: int,
) -> None:
    """The first `prefix_lens` tokens of every request from its group's, whose second token is the group's number,
    counted down from the last id: the numbers of requests are counted up."""
    names, group = np.unique(prefix_group, return_inverse=True)
    group_lens = np.zeros(len(names), dtype=np.int64)
    np.maximum.at(group_lens, group, prefix_lens)
    group_offsets = offsets_of(group_lens)
    prefixes = _random_ids(int(group_offsets[-1]), (seed, 1))
    numbered = np.flatnonzero(group_lens > 1)
    prefixes[group_offsets[:-1][numbered] + 1] = VOCAB_SIZE - 1 - names[numbered] % VOCAB_SIZE
    copy_rows(prefixes, group_offsets[:-1][group], tokens, begins, prefix_lens.astype(np.int64))


def _random_ids(count: int, key: tuple[int, ...]) -> NDArray[np.int32]:
    """From the raw stream of PCG64, which NumPy promises to keep: two ids a draw."""
    stream = np.random.PCG64(np.random.SeedSequence(key))
    ids = np.empty(count + count % 2, dtype=np.int32)
    for begin in range(0, len(ids), 2 * _DRAWS_AT_ONCE):
        part = ids[begin : begin + 2 * _DRAWS_AT_ONCE]
        draws = stream.random_raw(len(part) // 2).astype("<u8", copy=False).view("<u4")
        np.right_shift(draws, 32 - _VOCAB_BITS, out=part.view(np.uint32))
    return ids[:count]
