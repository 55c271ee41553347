"""The experiments: which workloads, on what, under which schedules."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import blendserve as bs
import numpy as np
from blendserve.synthesis import synthesize
from blendserve.traces import Trace, concatenate
from blendserve.traces.read import read_source

# name -> density, sharing by compute
WORKLOADS = {"#1": (1.4, 0.35), "#2": (0.9, 0.35), "#3": (1.4, 0.05), "#4": (0.9, 0.05)}
GRID = [(round(0.8 + 0.05 * i, 2), round(0.05 + 0.1 * j, 2)) for i in range(13) for j in range(5)]
OTHER_MODELS = {"qwen2.5-7b": 1, "llama-2-7b": 1, "llama-3.1-70b": 8, "qwen2.5-72b": 8, "deepseek-67b": 8}
FILES = {
    "code": "azure/AzureLLMInferenceTrace_code.csv",
    "conv": "azure/AzureLLMInferenceTrace_conv.csv",
    "sharegpt": "sharegpt/sharegpt.csv",
    "r1": "servegen/deepseek_r1_sample20k_seed0.csv",
    "mooncake": "mooncake/synthetic_trace.jsonl",
}
MAX_SHAREGPT = (16_384, 8_192)  # tokens of prompt and output; the rest are artefacts of its collection
# name -> requests of each source
REAL_MIXES: dict[str, dict[str, int]] = {
    "r1": {"r1": 20_000},
    "code + r1": {"code": 20_000, "r1": 20_000},
    "conv + r1": {"conv": 20_000, "r1": 20_000},
    "sharegpt + r1": {"sharegpt": 40_000, "r1": 10_000},
    "code + mmlu + r1": {"code": 20_000, "mmlu": 40_000, "r1": 30_000},
}
PARTNERS = ("azure", "sharegpt", "wildchat")  # in place of burstgpt
RATES = (0.002, 0.005, 0.01, 0.05, 0.2, 1.0)
NEAR_EQUAL = ((2_000, 0.02), (2_000, 0.1), (10_000, 0.05))  # requests, spread of their output lengths
SIZES = (1_000, 10_000, 100_000, 400_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One simulation: a workload, where it runs, and what is compared."""

    workload: str
    make: Callable[[], Trace] = field(repr=False)
    seed: int
    lengths: str
    schedules: Sequence[str]
    execution: str = "overlapped"
    model: str = "llama-3.1-8b"
    hardware: str = "a100-sxm-80gb"
    tp: int = 1
    dp: int = 1
    sample_rate: float = 0.01


@dataclass(frozen=True, slots=True)
class Settings:
    num_requests: int
    seeds: Sequence[int]
    data: Path | None


def made(
    density: float,
    sharing: float,
    num_requests: int,
    seed: int,
    *,
    mix: tuple[str, ...] = ("burstgpt", "openvid", "mmlu"),
    model: str = "llama-3.1-8b",
    tp: int = 1,
) -> Callable[[], Trace]:
    def make() -> Trace:
        device = bs.DeviceSpec.named("a100-sxm-80gb", tp=tp)
        return synthesize(
            mix,
            num_requests=num_requests,
            density=density,
            sharing=sharing,
            seed=seed,
            model=bs.ModelSpec.named(model),
            device=device,
        ).trace

    return make


def workloads(settings: Settings) -> Iterator[Case]:
    """The four main workloads: the baselines, and both schedules with hinted and with sampled lengths."""
    for seed in settings.seeds:
        for name, targets in WORKLOADS.items():
            make = made(*targets, settings.num_requests, seed)
            yield Case(
                workload=name, make=make, seed=seed, lengths="hinted", schedules=("dfs",), execution="sequential"
            )
            yield Case(
                workload=name, make=make, seed=seed, lengths="hinted", schedules=("dfs", "random", "paper", "blend")
            )
            yield Case(workload=name, make=make, seed=seed, lengths="sampled", schedules=("paper", "blend"))


def grid(settings: Settings) -> Iterator[Case]:
    """The paper's 65 workloads, lengths of videos hinted."""
    yield from _grid(settings, "hinted", ("dfs", "paper", "blend"))


def rare(settings: Settings) -> Iterator[Case]:
    """The same 65 with sampled lengths only: at 100,000 requests the heavy class is rare."""
    yield from _grid(settings, "sampled", ("paper", "blend"))


def _grid(settings: Settings, lengths: str, schedules: Sequence[str]) -> Iterator[Case]:
    seed = settings.seeds[0]
    for density, sharing in GRID:
        make = made(density, sharing, settings.num_requests, seed)
        yield Case(workload=f"{density} / {sharing}", make=make, seed=seed, lengths=lengths, schedules=schedules)


def replicas(settings: Settings) -> Iterator[Case]:
    """Data parallel on 1, 2 and 4 devices."""
    seed = settings.seeds[0]
    for name, targets in WORKLOADS.items():
        make = made(*targets, settings.num_requests, seed)
        for dp in (1, 2, 4):
            yield Case(workload=name, make=make, seed=seed, lengths="hinted", schedules=("blend",), dp=dp)


def models(settings: Settings) -> Iterator[Case]:
    """Other models, the large ones on eight devices; densities are those on the model."""
    seed = settings.seeds[0]
    for model, tp in OTHER_MODELS.items():
        for name in ("#1", "#2"):
            make = made(*WORKLOADS[name], settings.num_requests, seed, model=model, tp=tp)
            for lengths, schedules in (("hinted", ("dfs", "paper", "blend")), ("sampled", ("paper", "blend"))):
                yield Case(
                    workload=name, make=make, seed=seed, lengths=lengths, schedules=schedules, model=model, tp=tp
                )


def partners(settings: Settings) -> Iterator[Case]:
    """Other compute-heavy traces in place of BurstGPT."""
    seed = settings.seeds[0]
    for partner in PARTNERS:
        make = made(1.1, 0.25, settings.num_requests, seed, mix=(partner, "openvid", "mmlu"))
        for lengths in ("hinted", "sampled"):
            yield Case(workload=partner, make=make, seed=seed, lengths=lengths, schedules=("dfs", "paper", "blend"))


def sampling(settings: Settings) -> Iterator[Case]:
    """How much of the job is sampled."""
    seed = settings.seeds[0]
    for name in ("#1", "#2"):
        make = made(*WORKLOADS[name], settings.num_requests, seed)
        for rate in RATES:
            yield Case(
                workload=name,
                make=make,
                seed=seed,
                lengths="sampled",
                schedules=("paper", "blend"),
                sample_rate=rate,
            )


def sizes(settings: Settings) -> Iterator[Case]:
    """Jobs of 1,000 requests to 400,000: small ones are decided by their tail."""
    seed = settings.seeds[0]
    for num_requests in SIZES:
        for name, targets in WORKLOADS.items():
            make = made(*targets, num_requests, seed)
            for lengths in ("hinted", "sampled"):
                yield Case(
                    workload=f"{name}, {num_requests:,}",
                    make=make,
                    seed=seed,
                    lengths=lengths,
                    schedules=("dfs", "paper", "blend"),
                )


def equal(settings: Settings) -> Iterator[Case]:
    """Memory-bound jobs whose outputs are 4,000 tokens long, all but a few per cent; their sizes are their own."""
    seed = settings.seeds[0]
    for num_requests, spread in NEAR_EQUAL:
        make = _near_equal(num_requests, spread, seed)
        for lengths in ("sampled", "known"):
            yield Case(
                workload=f"{num_requests:,}, spread {spread:.0%}",
                make=make,
                seed=seed,
                lengths=lengths,
                schedules=("dfs", "paper", "blend"),
            )


def _near_equal(num_requests: int, spread: float, seed: int) -> Callable[[], Trace]:
    def make() -> Trace:
        rng = np.random.default_rng(seed)
        prompt_lens = rng.integers(50, 400, num_requests)
        offsets = np.concatenate([[0], np.cumsum(prompt_lens)])
        lengths = np.maximum(1, 4_000 * (1 + spread * rng.standard_normal(num_requests)))
        return Trace(
            tokens=rng.integers(1_000, 2**30, offsets[-1]).astype(np.int32),
            offsets=offsets.astype(np.int64),
            output_lengths=lengths.astype(np.int32),
            is_known=np.zeros(num_requests, np.bool_),
            sources=("near equal",),
            source=np.zeros(num_requests, np.int16),
        )

    return make


def traces(settings: Settings) -> Iterator[Case]:
    """Published traces, as they are and mixed, on an A100 and an H100; 1 % of the lengths sampled, or all known."""
    if settings.data is None:
        raise SystemExit("traces needs --data DIR, a folder with the published traces (benchmarks/README.md)")
    seed = settings.seeds[0]
    alone = {name: {name: 0} for name in FILES if name != "r1"}
    for name, counts in {**REAL_MIXES, **alone}.items():
        make = _real_mix(settings.data, counts, seed)
        for hardware in ("a100-sxm-80gb", "h100-sxm-80gb"):
            yield Case(
                workload=name,
                make=make,
                seed=seed,
                lengths="sampled",
                schedules=("dfs", "random", "paper", "blend"),
                hardware=hardware,
            )
            yield Case(
                workload=name, make=make, seed=seed, lengths="known", schedules=("paper", "blend"), hardware=hardware
            )


def _real_mix(data: Path, counts: dict[str, int], seed: int) -> Callable[[], Trace]:
    """So many requests of each source, drawn without replacement as long as there are any; 0 is all of a file."""

    def make() -> Trace:
        rng = np.random.default_rng(seed)
        parts = [_source(data, name, count, rng) for name, count in counts.items()]
        return concatenate(parts).shuffled(seed)

    return make


def _source(data: Path, name: str, count: int, rng: np.random.Generator) -> Trace:
    if name == "mmlu":
        return synthesize(("mmlu",), num_requests=count, seed=int(rng.integers(2**31))).trace
    source = read_source(str(data / FILES[name]), name=name)
    if isinstance(source, Trace):
        return source
    rows = np.arange(len(source.prompt_lens))
    if name == "sharegpt":
        max_prompt, max_output = MAX_SHAREGPT
        rows = np.flatnonzero((source.prompt_lens <= max_prompt) & (source.output_lengths <= max_output))
    if count:
        passes = -(-count // len(rows))
        rows = np.concatenate([rng.permutation(rows) for _ in range(passes)])[:count]
    return source.take(rows).with_tokens()


EXPERIMENTS: dict[str, Callable[[Settings], Iterator[Case]]] = {
    "workloads": workloads,
    "grid": grid,
    "rare": rare,
    "replicas": replicas,
    "models": models,
    "partners": partners,
    "sampling": sampling,
    "sizes": sizes,
    "equal": equal,
    "traces": traces,
}
