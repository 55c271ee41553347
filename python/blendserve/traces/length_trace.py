"""A trace as lengths and shared prefixes: a few bytes a request, from which its tokens are made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from blendserve.errors import UserError
from blendserve.traces.made_tokens import make_tokens
from blendserve.traces.ragged import offsets_of
from blendserve.traces.trace import Trace, merged_sources

__all__ = ["NO_GROUP", "LengthTrace", "concatenate_lengths"]

NO_GROUP = -1


@dataclass(frozen=True, slots=True)
class LengthTrace:
    """n requests; the fields are those of `Trace`, with these in place of the tokens:

    prompt_lens: int32 [n], tokens, 1 or more.
    prefix_group: int32 [n], which requests begin alike; NO_GROUP for one that shares nothing.
    prefix_lens: int32 [n], how many tokens of its group's prefix a request begins with; 0 without a group.
    token_seed: what the tokens are made of, besides lengths and names.
    """

    prompt_lens: NDArray[np.int32]
    output_lengths: NDArray[np.int32]
    is_known: NDArray[np.bool_]
    prefix_group: NDArray[np.int32]
    prefix_lens: NDArray[np.int32]
    sources: tuple[str, ...]
    source: NDArray[np.int16]
    num_dropped: int = 0
    token_seed: int = 0

    def __post_init__(self) -> None:
        if np.any(self.prompt_lens < 1) or np.any(self.output_lengths < 1):
            raise UserError("a request has a prompt or an output of no token; every length must be 1 or more")
        wrong = (self.prefix_lens < 0) | (self.prefix_lens > self.prompt_lens)
        if np.any(wrong):
            row = int(np.argmax(wrong))
            raise UserError(
                f"request {row} has a prefix of {self.prefix_lens[row]} tokens in a prompt of {self.prompt_lens[row]}; "
                "a prefix is 0 to all tokens of its prompt"
            )

    @classmethod
    def unshared(
        cls, name: str, prompt_lens: NDArray[np.int32], output_lengths: NDArray[np.int32], num_dropped: int = 0
    ) -> LengthTrace:
        """Requests of one source that share nothing and whose output lengths nobody knows beforehand."""
        num_requests = len(prompt_lens)
        return cls(
            prompt_lens=prompt_lens,
            output_lengths=output_lengths,
            is_known=np.zeros(num_requests, dtype=np.bool_),
            prefix_group=np.full(num_requests, NO_GROUP, dtype=np.int32),
            prefix_lens=np.zeros(num_requests, dtype=np.int32),
            sources=(name,),
            source=np.zeros(num_requests, dtype=np.int16),
            num_dropped=num_dropped,
        )

    @property
    def num_requests(self) -> int:
        return len(self.prompt_lens)

    def take(self, rows: NDArray[np.integer]) -> LengthTrace:
        """The requests `rows`, in that order; one that repeats gets other tokens behind its prefix each time."""
        return LengthTrace(
            self.prompt_lens[rows],
            self.output_lengths[rows],
            self.is_known[rows],
            self.prefix_group[rows],
            self.prefix_lens[rows],
            self.sources,
            self.source[rows],
            token_seed=self.token_seed,
        )

    def with_tokens(self) -> Trace:
        """The trace with its tokens: the same whenever they are made."""
        offsets = offsets_of(self.prompt_lens)
        tokens = make_tokens(offsets, self.prefix_group, self.prefix_lens, self.sources, self.source, self.token_seed)
        return Trace(tokens, offsets, self.output_lengths, self.is_known, self.sources, self.source, self.num_dropped)


def concatenate_lengths(traces: Sequence[LengthTrace]) -> LengthTrace:
    """The requests of all traces, one after the other; groups stay apart, sources of the same name become one."""
    sources, source = merged_sources([(trace.sources, trace.source) for trace in traces])
    groups = []
    num_groups = 0
    for trace in traces:
        groups.append(np.where(trace.prefix_group == NO_GROUP, NO_GROUP, trace.prefix_group + num_groups))
        num_groups += int(trace.prefix_group.max(initial=NO_GROUP)) + 1
    return LengthTrace(
        prompt_lens=np.concatenate([trace.prompt_lens for trace in traces]),
        output_lengths=np.concatenate([trace.output_lengths for trace in traces]),
        is_known=np.concatenate([trace.is_known for trace in traces]),
        prefix_group=np.concatenate(groups).astype(np.int32),
        prefix_lens=np.concatenate([trace.prefix_lens for trace in traces]),
        sources=sources,
        source=source,
        num_dropped=sum(trace.num_dropped for trace in traces),
    )
