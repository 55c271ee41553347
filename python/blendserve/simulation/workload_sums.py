"""A workload as sums: what the bounds of its time, its density and its sharing are made of."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from blendserve._core import CostModel, PrefixTree, WorkloadSums, density
from blendserve.simulation.results import BoundFigures

__all__ = ["TraceSums", "reachable_tokens"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceSums:
    """Of n requests with p prompt and d output tokens each; docs/performance_model.md has what is made of them.

    unique_prompt_squares: sum of end**2 - begin**2 over the segments of the prefix tree.
    unshared_kv_reads: tokens of KV that decode steps read and no other request has.
    request_decode_steps, request_kv_reads: int64 [n], d - 1 of each request, and the tokens of KV that these read.
    """

    num_requests: int
    prompt_tokens: int
    output_tokens: int
    unique_prompt_tokens: int
    unique_prompt_squares: int
    unshared_kv_reads: int
    request_decode_steps: NDArray[np.int64]
    request_kv_reads: NDArray[np.int64]

    @classmethod
    def of(cls, tree: PrefixTree, output_lengths: NDArray[np.int32]) -> TraceSums:
        """`output_lengths` are those of the tree's requests, by row."""
        p = tree.prompt_lens.astype(np.int64)
        d = output_lengths.astype(np.int64)
        shared = _shared_lens(tree)
        lcp = tree.lcp.astype(np.int64)
        return cls(
            num_requests=len(p),
            prompt_tokens=int(p.sum()),
            output_tokens=int(d.sum()),
            unique_prompt_tokens=tree.num_unique_tokens,
            unique_prompt_squares=int((p * p).sum() - (lcp * lcp).sum()),
            unshared_kv_reads=int(((p - shared) * (d - 1) + d * (d - 1) // 2).sum()),
            request_decode_steps=d - 1,
            request_kv_reads=p * (d - 1) + d * (d - 1) // 2,
        )

    @property
    def decode_steps(self) -> int:
        return int(self.request_decode_steps.sum())

    @property
    def kv_reads(self) -> int:
        return int(self.request_kv_reads.sum())

    @property
    def max_output_len(self) -> int:
        return int(self.request_decode_steps.max()) + 1

    def density(self, cost: CostModel) -> float:
        """Unique compute time / memory time, by the closed forms."""
        compute_s = (
            cost.t_tok * (self.unique_prompt_tokens + self.output_tokens)
            + cost.t_attn * self.unique_prompt_squares
            + cost.t_head * self.output_tokens
        )
        # p * d + d**2 / 2 = p * (d - 1) + d * (d - 1) / 2 + p + d / 2
        read_tokens = self.kv_reads + self.prompt_tokens + self.output_tokens / 2
        return density(compute_s, cost.t_kv * read_tokens)

    def bound(self, cost: CostModel, num_replicas: int = 1) -> BoundFigures:
        """Over `num_replicas` times the device.

        A single replica takes d_max - 1 steps and reads all of the KV. Of several, each takes at least as long as any
        of its requests alone; nothing says that the one with the longest output reads its share of the KV.
        """
        is_alone = num_replicas == 1
        bound = cost.bound(self._core_sums(self.max_output_len if is_alone else 1), num_replicas=num_replicas)
        practical_s = bound.practical_s
        if not is_alone:
            request_s = cost.weight_read_s() * self.request_decode_steps + cost.t_kv * self.request_kv_reads
            practical_s = max(practical_s, float(request_s.max()))
        return BoundFigures(
            t_comp_s=bound.t_comp_s, t_mem_s=bound.t_mem_s, ideal_s=bound.ideal_s, practical_s=practical_s
        )

    def _core_sums(self, max_output_len: int) -> WorkloadSums:
        sums = WorkloadSums()
        sums.num_requests = self.num_requests
        sums.unique_prompt_tokens = self.unique_prompt_tokens
        sums.unique_prompt_squares = self.unique_prompt_squares
        sums.decode_steps = self.decode_steps
        sums.kv_reads = self.kv_reads
        sums.unshared_kv_reads = self.unshared_kv_reads
        sums.max_output_len = max_output_len
        return sums


def reachable_tokens(tree: PrefixTree, block_size: int) -> int:
    """The most prompt tokens that a block-wise prefix cache can save: whole blocks, at most p - 1 tokens a request.

    In the order of the tree a prompt comes before its extensions, and no earlier one shares more with it than its
    neighbour does: so all that can be found is found there.
    """
    p = tree.prompt_lens[tree.order].astype(np.int64)
    blocks = np.minimum(tree.lcp, np.maximum(p - 1, 0)) // block_size
    return int(blocks.sum()) * block_size


def _shared_lens(tree: PrefixTree) -> NDArray[np.int64]:
    """int64 [n] by row: tokens that a prompt has in common with at least one other."""
    lcp = tree.lcp.astype(np.int64)
    shared = np.empty_like(lcp)
    shared[tree.order] = np.maximum(lcp, np.append(lcp[1:], 0))
    return shared
