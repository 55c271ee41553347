"""Log-probabilities of tokens under the model's own distribution, computed in chunks of rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from blendserve.runner.token_choice import most_likely_ids

__all__ = ["Logprobs", "chunks", "packed_logprobs", "unpacked"]

# Logits worked on at once; each temporary takes 8 bytes for one. On a CPU they then come from memory the allocator
# keeps (larger ones are mapped and zeroed anew each time, 5 times slower); on a GPU they leave room for the KV cache.
_CPU_CHUNK_ELEMENTS = 2**20
_GPU_CHUNK_ELEMENTS = 2**24


class Logprobs(NamedTuple):
    """Of R tokens: `chosen` [R] float32, and the K most likely ones in their places, `top_ids` int32 and `top_logprobs`
    float32 [R, K], best first, lowest id first among equals.
    """

    chosen: NDArray[np.float32]
    top_ids: NDArray[np.int32]
    top_logprobs: NDArray[np.float32]


def chunks(rows: NDArray[np.intp], logits: torch.Tensor) -> Iterator[NDArray[np.intp]]:
    """`rows` in parts, each of as many rows of `logits` [., V] as may be worked on at once."""
    num_elements = _CPU_CHUNK_ELEMENTS if logits.device.type == "cpu" else _GPU_CHUNK_ELEMENTS
    size = max(1, num_elements // logits.shape[1])
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


def packed_logprobs(
    logits: torch.Tensor, rows: NDArray[np.intp], token_ids: torch.Tensor, num_top: int
) -> torch.Tensor:
    """Of the tokens `token_ids` [M] at the R `rows` of `logits` [M, V]: one int32 vector for `unpacked`."""
    parts = [torch.empty(0, dtype=torch.int32, device=logits.device)]
    for chunk in chunks(rows, logits):
        on_device = torch.from_numpy(chunk).to(logits.device)
        parts.append(_columns(logits[on_device], token_ids[on_device], num_top).flatten())
    return torch.cat(parts)


def unpacked(packed: NDArray[np.int32], num_top: int) -> Logprobs:
    columns = packed.reshape(-1, 1 + 2 * num_top)
    floats = columns.view(np.float32)
    return Logprobs(floats[:, 0], columns[:, 1 : 1 + num_top], floats[:, 1 + num_top :])


def _columns(logits: torch.Tensor, token_ids: torch.Tensor, num_top: int) -> torch.Tensor:
    """[R, 1 + 2 * num_top] int32: the token's logprob, the top ids, the top logprobs; floats as their bits."""
    logprobs = torch.log_softmax(logits, dim=-1)
    chosen = logprobs.gather(1, token_ids[:, None])
    if num_top == 0:
        return chosen.view(torch.int32)
    top_ids = most_likely_ids(logits, num_top)
    top_logprobs = logprobs.gather(1, top_ids)
    return torch.cat([chosen.view(torch.int32), top_ids.int(), top_logprobs.view(torch.int32)], dim=1)
