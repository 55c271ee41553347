"""Which kernel computes which of a step's sequences, and what a kernel for some of them does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from blendserve.attention.base import AttentionSpec, Int32Array, Int64Array, StepTensors

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "DeviceStep",
    "Division",
    "LayerCache",
    "PlannedPortion",
    "Portion",
    "PortionKernel",
    "divide",
    "windows_of_step",
]


@dataclass(frozen=True, slots=True)
class Portion:
    """Some sequences of a step, in layers where a token sees `window` positions (0: all before it).

    Sequence s has qo_lens[s] query tokens from first_tokens[s] on, and its blocks from first_blocks[s] of the step's
    block table on.
    """

    first_tokens: Int32Array  # [S]
    qo_lens: Int32Array  # [S]
    kv_lens: Int32Array  # [S]
    first_blocks: Int32Array  # [S]
    block_table: Int32Array
    window: int

    @classmethod
    def of(cls, step: StepTensors, sequences: Int64Array, window: int) -> Portion:
        return cls(
            first_tokens=step.qo_indptr[sequences],
            qo_lens=step.qo_indptr[sequences + 1] - step.qo_indptr[sequences],
            kv_lens=step.kv_lens[sequences],
            first_blocks=step.block_indptr[sequences],
            block_table=step.block_table,
            window=window,
        )


@dataclass(frozen=True, slots=True)
class DeviceStep:
    """What all calls of a step share, by address on the device."""

    block_table: int
    workspace: int
    workspace_bytes: int


@dataclass(frozen=True, slots=True)
class LayerCache:
    """A layer's keys and values, by address on the device, and what their elements are multiplied by."""

    address: int
    k_scale: float
    v_scale: float


class PlannedPortion(Protocol):
    @property
    def used_bytes(self) -> int:
        """Of the plan, to reach the device."""
        ...

    def attend(self, step: DeviceStep, plan: int, kv: LayerCache, q: Tensor, out: Tensor, stream: int) -> None:
        """Queues the attention of one layer; `plan` is an address on the device.

        q, out: [T, num_heads, head_dim] of the whole step, out dense.
        """
        ...


class PortionKernel(Protocol):
    """A kernel that is planned once per step and portion, and then run in every layer of the portion's window."""

    def plan_bytes(self, portion: Portion, num_ctas: int) -> int:
        """Bytes that hold the plan."""
        ...

    def plan(self, portion: Portion, num_ctas: int, host: npt.NDArray[np.uint8]) -> PlannedPortion:
        """Writes the plan to `host`."""
        ...


@dataclass(frozen=True, slots=True)
class Division:
    """A step's sequences by the kernel that computes them."""

    num_decodes: int  # the first so many, of one query token each: paged_decode
    prompts: Int64Array  # whole prompts: torch, which needs no cache for them
    chunks: Int64Array  # all behind the leading decodes, where a kernel for prefill takes them
    rest: Int64Array


def windows_of_step(spec: AttentionSpec, step: StepTensors) -> list[int]:
    """The window of each layer; 0 where no sequence of the step outgrows it."""
    longest = int(step.kv_lens.max(initial=0))
    return [0 if window >= longest else window for window in map(spec.window, range(spec.num_layers))]


def divide(
    step: StepTensors,
    window: int,
    *,
    has_cap: bool,
    has_decode: bool,
    takes_prefill: Callable[[Portion], bool] | None,
) -> Division:
    """Only the kernel for any shape has windows and caps.

    has_decode: paged_decode has the head size and the group.
    takes_prefill: whether the kernel for prefill computes these prompts and chunks; None: there is no such kernel.
    """
    none = np.empty(0, np.int64)
    sequences = np.arange(len(step.kv_lens))
    if window or has_cap:
        return Division(num_decodes=0, prompts=none, chunks=none, rest=sequences)
    qo_lens = np.diff(step.qo_indptr)
    longer = np.flatnonzero(qo_lens != 1)
    num_leading = int(longer[0]) if len(longer) else len(qo_lens)
    leading, others = np.split(sequences, [num_leading])
    undecoded = none if has_decode else leading
    num_decodes = num_leading if has_decode else 0
    if len(others) and takes_prefill is not None and takes_prefill(Portion.of(step, others, window)):
        return Division(num_decodes=num_decodes, prompts=none, chunks=others, rest=undecoded)
    is_prompt = (qo_lens[others] == step.kv_lens[others]) & (qo_lens[others] > 1)
    return Division(
        num_decodes=num_decodes,
        prompts=others[is_prompt],
        chunks=none,
        rest=np.concatenate((undecoded, others[~is_prompt])),
    )
