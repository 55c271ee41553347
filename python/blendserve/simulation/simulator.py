"""`simulate`: a trace under several schedules, and the bound that none of them can beat."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Literal, get_args

import numpy as np

from blendserve._core import CostModel, PrefixTree, __version__
from blendserve.config import PLANNED_SCHEDULES, Schedule, parse_size
from blendserve.devices import with_kv_memory
from blendserve.errors import UserError
from blendserve.simulation.replica import BLOCK_SIZE, Replica, ReplicaRun, RunSettings
from blendserve.simulation.results import BoundFigures, SimulatedRun, SimulationReport, WorkloadFigures
from blendserve.simulation.told_lengths import LENGTHS, Lengths, ToldLengths
from blendserve.simulation.workload_sums import TraceSums, reachable_tokens
from blendserve.specs import DeviceSpec, ModelSpec
from blendserve.traces import Trace

__all__ = ["DEFAULT_SCHEDULES", "EXECUTIONS", "SCHEDULES", "Execution", "simulate"]

Execution = Literal["overlapped", "sequential"]
SCHEDULES: tuple[Schedule, ...] = get_args(Schedule)
EXECUTIONS: tuple[Execution, ...] = get_args(Execution)
DEFAULT_SCHEDULES: tuple[Schedule, ...] = ("dfs", "paper", "blend")


def simulate(
    trace: Trace,
    *,
    model: ModelSpec,
    device: DeviceSpec,
    schedules: Schedule | Sequence[Schedule] = DEFAULT_SCHEDULES,
    execution: Execution | Sequence[Execution] | None = None,
    lengths: Lengths = "sampled",
    dp: int = 1,
    seed: int = 0,
    sample_rate: float = 0.01,
    max_batch_tokens: int = 2048,
    kv_memory: int | str | None = None,
    counts_scheduling: bool = False,
    timeline_bins: int = 512,
    on_phase: Callable[[str], object] = lambda _phase: None,
) -> SimulationReport:
    """Run a trace on a simulated clock: the engine's planner and step scheduler, with step times of the performance
    model. docs/simulator.md says what is modelled and what is not.

    Args:
        trace: requests with the output lengths that they turn out to have, such as `read_trace` gives. Those that do
            not fit the KV cache even alone are left out and counted.
        model, device: what it runs on.
        schedules: one or several of blend, paper, dfs, random, fcfs.
        execution: how a step runs, one or several of: overlapped (matrix products beside decode attention), sequential;
            None: sequential on a device that `blendserve profile` measured, else overlapped.
        lengths: what the schedule is told of the output lengths. sampled: those of `sample_rate` of the requests, which
            `blend` runs first; hinted: those that `trace.is_known` marks too; known: all.
        dp: data-parallel replicas, each with a device of its own; the plan is cut into as many shards.
        seed: of the samples, and of the order of `random`.
        sample_rate: share of the requests that are sampled, above 0 to 1.
        max_batch_tokens: tokens of a step, and requests that run at once, at most.
        kv_memory: bytes of KV cache of a replica, or a string such as "4GiB"; None: what the device has left.
        counts_scheduling: whether the CPU time of the scheduler, as measured here, is added to every step.
        timeline_bins: stretches of a run's timeline, at most.
        on_phase: told what is being done.

    Raises:
        UserError: an argument cannot be used, or no request fits; the message names it and the remedy.
    """
    schedule_names = _several(schedules)
    executions = (_usual_execution(device),) if execution is None else _several(execution)
    _check_choices("schedule", schedule_names, SCHEDULES)
    _check_choices("execution", executions, EXECUTIONS)
    _check_choices("lengths", (lengths,), LENGTHS)
    _check_at_least_one("max_batch_tokens", max_batch_tokens)
    if not 0 < sample_rate <= 1:
        raise UserError(f"sample_rate is {sample_rate!r}; it must be above 0 and at most 1")
    if kv_memory is not None:
        device = _with_kv_memory(model, device, kv_memory)
    cost = _cost_model(model, device)
    job = _fitting(trace, cost.kv_capacity_tokens())
    _check_replicas(dp, job)

    on_phase("planning")
    started = time.perf_counter()
    tree = PrefixTree.build(job.tokens, job.offsets)
    build_s = time.perf_counter() - started
    told = ToldLengths.of(job, tree, lengths, sample_rate=sample_rate, seed=seed)
    whole = Replica(job, told, model, device, tree)
    replicas = [whole] if dp == 1 else _cut(whole, job, told, model, device, dp)
    whole_s = build_s + whole.preprocess_s
    planned_s = whole_s if dp == 1 else whole_s + max(replica.preprocess_s for replica in replicas)
    cut_s = 0.0 if dp == 1 else whole_s

    sums = TraceSums.of(tree, job.output_lengths)
    bound = sums.bound(cost, dp)
    workload = _workload_figures(sums, tree, job, cost, trace, told)
    names = [(name, how) for how in executions for name in schedule_names]
    runs = []
    for index, (schedule, how) in enumerate(names):
        on_phase(f"simulating {schedule}, {how} ({index + 1} of {len(names)})")
        settings = RunSettings(
            schedule=schedule,
            execution=how,
            max_batch_tokens=max_batch_tokens,
            seed=seed,
            counts_scheduling=counts_scheduling,
            timeline_bins=timeline_bins,
        )
        runs.append(
            _run_figures(
                [replica.run(settings) for replica in replicas],
                settings,
                lengths=lengths,
                workload=workload,
                bound=bound,
                preprocess_s=planned_s if schedule in PLANNED_SCHEDULES else cut_s,
            )
        )
    return SimulationReport(
        workload=workload,
        bound=bound,
        runs=tuple(runs),
        kv_capacity_tokens=cost.kv_capacity_tokens(),
        settings={
            "version": __version__,
            "model": model.name,
            "kv_bytes": model.kv_bytes,
            "hardware": device.name,
            "tp": device.tp,
            "dp": dp,
            "lengths": lengths,
            "sample_rate": sample_rate,
            "seed": seed,
            "max_batch_tokens": max_batch_tokens,
            "counts_scheduling": counts_scheduling,
            "beta": device.beta,
        },
    )


def _usual_execution(device: DeviceSpec) -> Execution:
    """What is profiled is a CPU, and a CPU runs one operator after the other."""
    return "overlapped" if device.measured is None else "sequential"


def _several(choice: str | Sequence[str]) -> tuple[str, ...]:
    return (choice,) if isinstance(choice, str) else tuple(choice)


def _check_choices(name: str, chosen: Sequence[str], choices: Sequence[str]) -> None:
    if not chosen:
        raise UserError(f"no {name} is given; choose of {', '.join(choices)}")
    for choice in chosen:
        if choice not in choices:
            raise UserError(f"{name} is {choice!r}; it must be one of {', '.join(choices)}")


def _check_at_least_one(name: str, value: int) -> None:
    if value < 1:
        raise UserError(f"{name} is {value}; it must be at least 1")


def _check_replicas(dp: int, job: Trace) -> None:
    _check_at_least_one("dp", dp)
    if dp > job.num_requests:
        raise UserError(f"dp is {dp}, more than the {job.num_requests} requests; every replica needs one: lower dp")


def _with_kv_memory(model: ModelSpec, device: DeviceSpec, kv_memory: int | str) -> DeviceSpec:
    size = parse_size(kv_memory)
    block_bytes = BLOCK_SIZE * CostModel(model, device).kv_bytes_per_token
    if size < block_bytes:
        raise UserError(
            f"kv_memory {kv_memory} is less than one block of {BLOCK_SIZE} tokens, {block_bytes:,.0f} bytes"
        )
    return with_kv_memory(device, size)


def _cost_model(model: ModelSpec, device: DeviceSpec) -> CostModel:
    """Raises `UserError` unless the model leaves room for a KV cache."""
    try:
        cost = CostModel(model, device)
        cost.kv_capacity_tokens()
    except ValueError as error:
        raise UserError(str(error)) from None
    return cost


def _fitting(trace: Trace, capacity_tokens: int) -> Trace:
    """The requests whose prompt and output fit the KV cache."""
    if trace.num_requests == 0:
        raise UserError("the trace has no requests; give at least one")
    empty = np.flatnonzero(trace.prompt_lens == 0)
    if len(empty):
        raise UserError(f"request {empty[0]} of the trace has an empty prompt; give it at least one token")
    rows = np.flatnonzero(trace.prompt_lens + trace.output_lengths <= capacity_tokens)
    if len(rows) == 0:
        raise UserError(
            f"none of the {trace.num_requests} requests fits the KV cache of {capacity_tokens} tokens, prompt and "
            "output together; give more KV memory or another device"
        )
    return trace if len(rows) == trace.num_requests else trace.take(rows)


def _cut(whole: Replica, job: Trace, told: ToldLengths, model: ModelSpec, device: DeviceSpec, dp: int) -> list[Replica]:
    """The shards keep the order of the trace."""
    rows = [np.sort(shard.rows) for shard in whole.plan.shards(dp)]
    return [Replica(job.take(part), told.take(part), model, device) for part in rows]


def _workload_figures(
    sums: TraceSums, tree: PrefixTree, job: Trace, cost: CostModel, trace: Trace, told: ToldLengths
) -> WorkloadFigures:
    """`job` is what is run of `trace`."""
    total_lens = job.prompt_lens + job.output_lengths
    max_context = cost.model.max_context
    return WorkloadFigures(
        num_requests=sums.num_requests,
        prompt_tokens=sums.prompt_tokens,
        output_tokens=sums.output_tokens,
        sharing_ratio_optimal=tree.sharing_ratio,
        sharing_ratio_reachable=reachable_tokens(tree, BLOCK_SIZE) / sums.prompt_tokens,
        density=sums.density(cost),
        sources=dict(zip(job.sources, np.bincount(job.source, minlength=len(job.sources)).tolist(), strict=True)),
        num_samples=int(told.is_first.sum()),
        dropped_rows=trace.num_dropped,
        skipped_requests=trace.num_requests - job.num_requests,
        over_context_requests=0 if max_context is None else int(np.count_nonzero(total_lens > max_context)),
    )


def _run_figures(
    replicas: Sequence[ReplicaRun],
    settings: RunSettings,
    *,
    lengths: str,
    workload: WorkloadFigures,
    bound: BoundFigures,
    preprocess_s: float,
) -> SimulatedRun:
    slowest = max((replica.simulation for replica in replicas), key=lambda simulation: simulation.total_s)
    stats = [replica.stats for replica in replicas]
    steps = sum(stat.num_steps for stat in stats)
    sharing_ratio = sum(stat.num_cached_tokens for stat in stats) / workload.prompt_tokens
    reachable = workload.sharing_ratio_reachable
    return SimulatedRun(
        schedule=settings.schedule,
        execution=settings.execution,
        lengths=lengths,
        dp=len(replicas),
        total_s=slowest.total_s,
        throughput_tok_s=(workload.prompt_tokens + workload.output_tokens) / slowest.total_s,
        practical_optimal_fraction=bound.practical_s / slowest.total_s,
        sharing_ratio=sharing_ratio,
        sharing_fraction_of_optimal=sharing_ratio / reachable if reachable else 1.0,
        steps=steps,
        preemptions=sum(stat.num_preemptions for stat in stats),
        recomputed_tokens=sum(stat.num_recomputed_tokens for stat in stats),
        step_schedule_us={
            "mean": sum(replica.simulation.scheduling_s for replica in replicas) / steps * 1e6,
            "p99": max(replica.simulation.step_schedule_p99_us for replica in replicas),
        },
        preprocess_s=preprocess_s,
        compute_s=sum(replica.simulation.compute_s for replica in replicas),
        memory_s=sum(replica.simulation.memory_s for replica in replicas),
        replica_s=tuple(replica.simulation.total_s for replica in replicas),
        timeline=slowest.timeline,
    )
