"""`plan`: the requests of a job, in the order that blends them and keeps their prefixes together."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from blendserve import _core
from blendserve._core import CostModel, PlanCore, PrefixTree
from blendserve.errors import UserError
from blendserve.planning import plan_file
from blendserve.planning.report import PlanReport
from blendserve.planning.shard import Shard
from blendserve.planning.tree_view import TreeView
from blendserve.specs import DeviceSpec, ModelSpec

__all__ = ["Plan", "plan"]

_UNKNOWN = -1.0


class Plan:
    """A job, ready to be scheduled: see `blendserve.plan`. Immutable.

    order: int32 [n], request rows in the blended order, for any engine that takes a list.
    density: unique compute time / memory time of the job; above 1 compute-bound.
    report: its figures.
    model, device: what it was made for.
    max_new_tokens: int32 [n], where `StepScheduler` ends a request by default; 0 is no limit.
    tree: of the prompts; None for a loaded plan that was not given them.
    """

    def __init__(
        self,
        core: PlanCore,
        model: ModelSpec,
        device: DeviceSpec,
        tree: PrefixTree | None,
        max_new_tokens: NDArray[np.int32],
        report: PlanReport,
    ) -> None:
        self.core = core
        self.model = model
        self.device = device
        self.tree = tree
        self.max_new_tokens = max_new_tokens
        self.report = report
        self.order: NDArray[np.int32] = core.order
        for array in (self.order, self.max_new_tokens):
            array.flags.writeable = False

    def __repr__(self) -> str:
        return (
            f"Plan({self.num_requests:,} requests, density {self.density:.3g}, "
            f"{self.report.sharing_ratio_planned:.1%} of the prompt tokens shared, "
            f"{self.model.name} on {self.device.name})"
        )

    @property
    def num_requests(self) -> int:
        return self.core.num_requests

    @property
    def density(self) -> float:
        return self.report.density

    @property
    def expected_output_lengths(self) -> NDArray[np.float64]:
        """float64 [n], tokens: what was given, where it was, else the estimate."""
        return self.core.mean_output_lens

    def tree_view(self, layout: str) -> TreeView:
        """The tree as it was "built", children in token order, or as it is "planned": sorted by density, outliers
        split off."""
        if layout == "planned":
            return TreeView(**self.core.planned_view())
        if layout != "built":
            raise UserError(f'layout is {layout!r}; it must be "built" or "planned"')
        if self.tree is None:
            raise UserError("a loaded plan has no built tree; pass tokens and offsets to Plan.load")
        return TreeView(**self.core.built_view(self.tree))

    def shards(self, num_shards: int) -> list[Shard]:
        """The parts that data-parallel replicas run: equal in compute and in memory time, so in load and density."""
        return [Shard(**figures) for figures in self.core.shards(num_shards)]

    def save(self, path: str | Path) -> None:
        """Write the plan, without the prompts' tokens, to `path` (.npz). Raises `UserError` if it can't be written."""
        plan_file.save(Path(path), self.core, self.model, self.device, self.max_new_tokens, self.report)

    @classmethod
    def load(cls, path: str | Path, tokens: Any = None, offsets: Any = None) -> Plan:
        """The plan that `save` wrote. `tokens` and `offsets`, if the plan is to be scheduled or drawn, must be those it
        was made from. Raises `UserError` for a file that is no plan, or prompts that are others."""
        core, model, device, max_new_tokens, report = plan_file.load(Path(path))
        tree = None if tokens is None else PrefixTree.build(tokens, offsets)
        if tree is not None and not _is_tree_of(core, report, tree):
            raise UserError(f"the prompts are not those that {path} was made from")
        return cls(core, model, device, tree, max_new_tokens, report)


def plan(
    tokens: Any,
    offsets: Any = None,
    output_lengths: ArrayLike | None = None,
    *,
    model: ModelSpec,
    device: DeviceSpec,
    evidence_weights: ArrayLike | None = None,
    max_output_lengths: ArrayLike | None = None,
    max_new_tokens: ArrayLike | None = None,
    prior_output_len: float = 256.0,
    split_budget: float = 0.01,
    step_tokens: int = 2048,
    num_threads: int = 0,
) -> Plan:
    """Plan a job: prefix tree, output lengths, layer-wise sort, conditional split, blended order.

    Args:
        tokens, offsets: prompt i is tokens[offsets[i]:offsets[i + 1]], int32 [T] and int64 [n + 1], never copied; or
            tokens is an Arrow list array, or a `PrefixTree` that is built already, and offsets None.
        output_lengths: tokens each request will generate, [n] of any real dtype, -1 where unknown; None: all unknown.
            What is known is used as given, and is evidence for requests that share a prefix with it.
        model, device: what it will run on.
        evidence_weights: [n], how many requests each known length stands for as evidence (`choose_samples` tells), 0
            for one that says nothing about others; None: all alike.
        max_output_lengths: [n], caps of the estimates, such as max_tokens; None: no caps.
        max_new_tokens: [n], where `StepScheduler` is to end a request, 0 for no limit; None: at the length that is
            given, else at the cap. For given lengths that are only hints.
        prior_output_len: what is expected where nothing is known.
        split_budget: share of the prefix sharing that may be given up for a better blend, 0 to 1; copies never exceed
            this share of the unique tokens either.
        step_tokens: tokens a step of the engine computes, for `Plan.order`.
        num_threads: 0 is all CPUs; the plan is the same for any number.

    Raises:
        ValueError: an array or a number can't be used, or the model does not fit the device; the message says which and
            what to do.
    """
    if not isinstance(model, _core.ModelSpec):
        raise UserError(f"model is {model!r}; it must be a ModelSpec, such as ModelSpec.named({str(model)!r})")
    if not isinstance(device, DeviceSpec):
        raise UserError(f"device is {device!r}; it must be a DeviceSpec, such as DeviceSpec.named({str(device)!r})")
    started = time.perf_counter()
    tree = _tree_of(tokens, offsets, num_threads)
    build_s = 0.0 if tree is tokens else time.perf_counter() - started
    num_requests = tree.num_requests
    prior = _positive("prior_output_len", prior_output_len)
    lengths = None if output_lengths is None else _reals("output_lengths", output_lengths, num_requests)
    caps = None if max_output_lengths is None else _int32s("max_output_lengths", max_output_lengths, num_requests, 1)
    core = PlanCore.make(
        tree,
        lengths,
        None if evidence_weights is None else _reals("evidence_weights", evidence_weights, num_requests),
        caps,
        CostModel(model, device),
        prior_mean=prior,
        prior_second_moment=prior * prior,
        split_budget=split_budget,
        step_tokens=step_tokens,
        build_s=build_s,
    )
    if max_new_tokens is None:
        limits = _limits(num_requests, lengths, caps)
    else:
        limits = _int32s("max_new_tokens", max_new_tokens, num_requests, 0)
    return Plan(core, model, device, tree, limits, PlanReport.of(core.summary))


def _tree_of(tokens: Any, offsets: Any, num_threads: int) -> PrefixTree:
    if not isinstance(tokens, PrefixTree):
        return PrefixTree.build(tokens, offsets, num_threads=num_threads)
    if offsets is not None:
        raise UserError("offsets must be None when tokens is a PrefixTree, which has its own")
    return tokens


def _is_tree_of(core: PlanCore, report: PlanReport, tree: PrefixTree) -> bool:
    """By what a plan knows of its prompts: all but the tokens themselves."""
    return (
        np.array_equal(tree.prompt_lens, core.prompt_lens)
        and tree.num_unique_tokens == report.unique_prompt_tokens
        and tree.num_nodes == report.num_nodes
    )


def _positive(name: str, value: float) -> float:
    if not 0 < value < float("inf"):
        raise UserError(f"{name} is {value!r}; it must be a positive number")
    return float(value)


def _limits(
    num_requests: int, lengths: NDArray[np.float64] | None, caps: NDArray[np.int32] | None
) -> NDArray[np.int32]:
    """`Plan.max_new_tokens` by default; the lengths have been checked."""
    if lengths is None or not np.any(lengths != _UNKNOWN):
        return np.zeros(num_requests, dtype=np.int32) if caps is None else caps
    unknown = lengths == _UNKNOWN
    limits = np.where(unknown, 0, np.maximum(np.ceil(lengths), 1)).astype(np.int32)
    return limits if caps is None else np.where(unknown, caps, limits)


def _reals(name: str, values: ArrayLike, num_requests: int) -> NDArray[np.float64]:
    array = np.asarray(values)
    if array.dtype.kind not in "iuf":
        raise UserError(f"{name} has dtype {array.dtype}; it must be of integers or floats")
    if array.shape != (num_requests,):
        raise UserError(f"{name} has shape {array.shape}; give one value for each of the {num_requests} requests")
    return np.ascontiguousarray(array, dtype=np.float64)


def _int32s(name: str, values: ArrayLike, num_requests: int, least: int) -> NDArray[np.int32]:
    array = _reals(name, values, num_requests)
    is_valid = (array >= least) & (array < 2**31) & (array == np.floor(array))
    if not np.all(is_valid):
        index = int(np.argmin(is_valid))
        raise UserError(f"{name}[{index}] is {array[index]:g}; it must be an integer from {least} to {2**31 - 1}")
    return array.astype(np.int32)
