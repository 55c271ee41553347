"""A trace: requests with the output lengths that they turn out to have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from blendserve.errors import UserError
from blendserve.traces.ragged import copy_rows, offsets_of

__all__ = ["Trace", "concatenate", "merged_sources"]

SourceIndex = tuple[tuple[str, ...], NDArray[np.int16]]


@dataclass(frozen=True, slots=True)
class Trace:
    """n requests.

    tokens: int32 [T]; the prompt of request i is tokens[offsets[i] : offsets[i + 1]], offsets int64 [n + 1].
    output_lengths: int32 [n], the tokens that request i really writes, 1 or more.
    is_known: bool [n], whether the user knows that length before the run, as for a video of so many frames.
    sources: names; source: int16 [n], the index of the one that request i comes from.
    num_dropped: rows that were read and left out, because they had no prompt or no output.

    Raises `UserError` for arrays that do not fit each other.
    """

    tokens: NDArray[np.int32]
    offsets: NDArray[np.int64]
    output_lengths: NDArray[np.int32]
    is_known: NDArray[np.bool_]
    sources: tuple[str, ...]
    source: NDArray[np.int16]
    num_dropped: int = 0

    def __post_init__(self) -> None:
        num_requests = len(self.offsets) - 1
        for name, dtype, length in (
            ("tokens", np.int32, len(self.tokens)),
            ("offsets", np.int64, num_requests + 1),
            ("output_lengths", np.int32, num_requests),
            ("is_known", np.bool_, num_requests),
            ("source", np.int16, num_requests),
        ):
            array = getattr(self, name)
            if array.dtype != dtype or array.shape != (length,):
                raise UserError(
                    f"{name} is {array.dtype} of shape {array.shape}; it must be {np.dtype(dtype)} [{length}]"
                )
        if num_requests < 0 or self.offsets[0] != 0 or self.offsets[-1] != len(self.tokens):
            raise UserError(f"offsets must begin at 0 and end at {len(self.tokens)}, the number of tokens")
        if np.any(np.diff(self.offsets) < 0):
            raise UserError("offsets must never fall")
        if num_requests and self.output_lengths.min() < 1:
            raise UserError(f"output_lengths has a {self.output_lengths.min()}; every request writes 1 token or more")

    @property
    def num_requests(self) -> int:
        return len(self.offsets) - 1

    @property
    def num_prompt_tokens(self) -> int:
        return len(self.tokens)

    @property
    def num_output_tokens(self) -> int:
        return int(self.output_lengths.sum(dtype=np.int64))

    @property
    def prompt_lens(self) -> NDArray[np.int64]:
        """int64 [n]."""
        return np.diff(self.offsets)

    def take(self, rows: NDArray[np.integer]) -> Trace:
        """The requests `rows`, in that order; a row may repeat. Nothing of them is shared with this trace."""
        rows = np.asarray(rows, dtype=np.int64)
        lengths = self.prompt_lens[rows]
        offsets = offsets_of(lengths)
        tokens = np.empty(offsets[-1], dtype=np.int32)
        copy_rows(self.tokens, self.offsets[:-1][rows], tokens, offsets[:-1], lengths)
        return Trace(tokens, offsets, self.output_lengths[rows], self.is_known[rows], self.sources, self.source[rows])

    def shuffled(self, seed: int) -> Trace:
        """The same requests in a random order that `seed` decides."""
        return self.take(np.random.default_rng(seed).permutation(self.num_requests))


def concatenate(traces: Sequence[Trace]) -> Trace:
    """The requests of all traces, one trace after the other; sources of the same name become one."""
    if not traces:
        raise UserError("there is no trace to concatenate; give at least one")
    sources, source = merged_sources([(trace.sources, trace.source) for trace in traces])
    return Trace(
        tokens=np.concatenate([trace.tokens for trace in traces]),
        offsets=offsets_of(np.concatenate([trace.prompt_lens for trace in traces])),
        output_lengths=np.concatenate([trace.output_lengths for trace in traces]),
        is_known=np.concatenate([trace.is_known for trace in traces]),
        sources=sources,
        source=source,
        num_dropped=sum(trace.num_dropped for trace in traces),
    )


def merged_sources(parts: Sequence[SourceIndex]) -> SourceIndex:
    """The names of all parts, each once, and every request's index into them."""
    names = tuple(dict.fromkeys(name for sources, _ in parts for name in sources))
    renumbered = [
        np.array([names.index(name) for name in sources], dtype=np.int16)[source] for sources, source in parts
    ]
    return names, np.concatenate(renumbered)
