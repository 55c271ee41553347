"""`synthesize`: a workload of a given density and sharing, mixed of several sources."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from blendserve import _core
from blendserve._core import CostModel
from blendserve.errors import UserError
from blendserve.planning import plan
from blendserve.specs import DeviceSpec, ModelSpec
from blendserve.synthesis.costs import compute_s
from blendserve.synthesis.counts import choose_counts
from blendserve.synthesis.fractions import MAX_SOURCES
from blendserve.synthesis.sources import Opening, SourceFigures, named_entry
from blendserve.traces.length_trace import LengthTrace, concatenate_lengths
from blendserve.traces.trace import Trace, concatenate
from blendserve.traces.workload_file import write_workload

__all__ = ["DEFAULT_MIX", "Synthesis", "SynthesisFigures", "synthesize"]

DEFAULT_MIX = ("burstgpt", "openvid", "mmlu")
"""The paper's main workloads."""

_METADATA_KEY = "blendserve.synthesis"


@dataclass(frozen=True, slots=True)
class SynthesisFigures:
    """Of a whole workload: see docs/traces.md.

    density: unique compute time / memory time. sharing: 1 - unique compute / compute if nothing were shared, decode
    included. sharing_of_tokens: 1 - unique prompt tokens / prompt tokens.
    """

    num_requests: int
    prompt_tokens: int
    output_tokens: int
    density: float
    sharing: float
    sharing_of_tokens: float
    sources: tuple[SourceFigures, ...]


@dataclass(frozen=True, slots=True)
class Synthesis:
    """A made workload. `lengths` is its compact form, None if a source has prompts of its own; `settings` is what it
    was made from."""

    trace: Trace
    lengths: LengthTrace | None
    figures: SynthesisFigures
    settings: dict[str, object]

    def save(self, path: str | Path) -> None:
        """Write the workload file, compact if that is possible. Raises `UserError` if it cannot be written."""
        told = json.dumps({**self.settings, "reached": asdict(self.figures)})
        write_workload(path, self.trace if self.lengths is None else self.lengths, {_METADATA_KEY: told})


def synthesize(
    mix: Sequence[str] = DEFAULT_MIX,
    *,
    num_requests: int,
    density: float | None = None,
    sharing: float | None = None,
    seed: int = 0,
    model: ModelSpec | None = None,
    device: DeviceSpec | None = None,
    tokenizer: str | None = None,
) -> Synthesis:
    """Mix sources to a workload of a given density and sharing, in random order.

    Args:
        mix: the sources, each "NAME" of a generator (burstgpt, openvid, mmlu, azure, sharegpt, wildchat) or
            "NAME=[FORMAT:]FILE". A file is used in passes: all its rows in random order, then all again.
        num_requests: how many.
        density: unique compute time / memory time; None: as it comes.
        sharing: 1 - unique compute / compute if nothing were shared, decode included, 0 to 1; None: as it comes.
        seed: the same seed and arguments make the same workload.
        model, device: that density and sharing are meant for; None is llama-3.1-8b on a100-sxm-80gb.
        tokenizer: as in `read_trace`, for files of texts.

    Where targets leave a choice, shares are as equal as they can be. One request, of the source with the most memory
    time a request, is chosen so that the density fits.

    Raises:
        UserError: a source or number cannot be used, or no mix of the sources has that density and sharing; the message
            says what can be reached.
    """
    model = model or ModelSpec.named("llama-3.1-8b")
    device = device or DeviceSpec.named("a100-sxm-80gb")
    entries = [named_entry(entry) for entry in mix]
    names = [name for name, _ in entries]
    _check(names, num_requests, density, sharing, seed)
    _check_fit(model, device)
    opening = Opening(capacity=num_requests, model=model, device=device, seed=seed, tokenizer=tokenizer)
    sources = [opening.source(name, file) for name, file in entries]
    pools = [source.pool for source in sources]
    counts = choose_counts(names, pools, num_requests, density, sharing)
    parts = [pool.first(count) for pool, count in zip(pools, counts, strict=True)]
    trace, lengths = _interleaved(parts, seed)
    origins = tuple(source.figures(part) for source, part in zip(sources, parts, strict=True))
    settings = {
        "generator": f"blendserve {_core.__version__}",
        "mix": list(mix),
        "num_requests": num_requests,
        "density": density,
        "sharing": sharing,
        "seed": seed,
        "model": model.name,
        "hardware": device.name,
        "tp": device.tp,
    }
    return Synthesis(trace, lengths, _figures(trace, origins, model, device), settings)


def _check(names: Sequence[str], num_requests: int, density: float | None, sharing: float | None, seed: int) -> None:
    if not names:
        raise UserError("the mix has no source; give at least one")
    if len(names) > MAX_SOURCES:
        raise UserError(f"the mix has {len(names)} sources; give at most {MAX_SOURCES}")
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UserError(f"two sources of the mix are named {twice}; give each a name of its own")
    if num_requests < len(names):
        raise UserError(f"requests is {num_requests}; give at least one for each of the {len(names)} sources")
    if density is not None and not 0 < density < np.inf:
        raise UserError(f"density is {density:g}; it must be a positive number")
    if sharing is not None and not 0 <= sharing < 1:
        raise UserError(f"sharing is {sharing:g}; it must be at least 0 and less than 1")
    if seed < 0:
        raise UserError(f"seed is {seed}; it must be 0 or more")


def _check_fit(model: ModelSpec, device: DeviceSpec) -> None:
    try:
        CostModel(model, device).kv_capacity_tokens()
    except ValueError as error:
        raise UserError(str(error)) from error


def _interleaved(parts: Sequence[Trace | LengthTrace], seed: int) -> tuple[Trace, LengthTrace | None]:
    compact = [part for part in parts if isinstance(part, LengthTrace)]
    order = np.random.default_rng(seed).permutation(sum(part.num_requests for part in parts))
    if len(compact) < len(parts):
        whole = [part.with_tokens() if isinstance(part, LengthTrace) else part for part in parts]
        return concatenate(whole).take(order), None
    lengths = concatenate_lengths(compact).take(order)
    return lengths.with_tokens(), lengths


def _figures(
    trace: Trace, sources: tuple[SourceFigures, ...], model: ModelSpec, device: DeviceSpec
) -> SynthesisFigures:
    """As the planner finds them, with all output lengths known."""
    report = plan(trace.tokens, trace.offsets, trace.output_lengths, model=model, device=device).report
    unshared = compute_s(CostModel(model, device), trace.prompt_lens, trace.output_lengths).sum()
    return SynthesisFigures(
        num_requests=trace.num_requests,
        prompt_tokens=trace.num_prompt_tokens,
        output_tokens=trace.num_output_tokens,
        density=report.density,
        sharing=1.0 - report.compute_s / float(unshared),
        sharing_of_tokens=report.sharing_ratio_optimal,
        sources=sources,
    )
