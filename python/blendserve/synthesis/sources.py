"""The sources of a mix: NAME of a generator, or NAME=[FORMAT:]FILE."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from blendserve._core import CostModel
from blendserve.errors import UserError
from blendserve.specs import DeviceSpec, ModelSpec
from blendserve.synthesis.generators import GENERATORS
from blendserve.synthesis.pools import Pool, drawn, in_passes
from blendserve.traces.length_trace import LengthTrace
from blendserve.traces.made_tokens import marker_of
from blendserve.traces.read import read_source
from blendserve.traces.trace import Trace

__all__ = ["MixSource", "Opening", "SourceFigures", "named_entry"]


@dataclass(frozen=True, slots=True)
class SourceFigures:
    """What of one source is in a workload. `origin` is its file, or "generator"."""

    name: str
    origin: str
    num_requests: int
    prompt_tokens: int
    output_tokens: int
    num_dropped: int


@dataclass(frozen=True, slots=True)
class MixSource:
    """One entry of a mix, opened. `origin` and `num_dropped` are as in `SourceFigures`."""

    name: str
    origin: str
    pool: Pool
    num_dropped: int = 0

    def figures(self, part: Trace | LengthTrace) -> SourceFigures:
        """`part`: what a workload has of it."""
        return SourceFigures(
            name=self.name,
            origin=self.origin,
            num_requests=part.num_requests,
            prompt_tokens=int(part.prompt_lens.sum(dtype=np.int64)),
            output_tokens=int(part.output_lengths.sum(dtype=np.int64)),
            num_dropped=self.num_dropped,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """How the sources of one mix are opened: to give up to `capacity` requests each."""

    capacity: int
    model: ModelSpec
    device: DeviceSpec
    seed: int
    tokenizer: str | None

    def source(self, name: str, file: str | None) -> MixSource:
        """What it gives depends on seed, name and file, not on the other sources."""
        rng = np.random.default_rng([self.seed, marker_of(name)])
        if file is None:
            cost = CostModel(self.model, self.device)
            return MixSource(name, "generator", drawn(GENERATORS[name], name, self.capacity, cost, rng))
        trace = read_source(file, name=name, tokenizer=self.tokenizer)
        pool = in_passes(trace, name, self.capacity, self.model, self.device, rng)
        return MixSource(name, file, pool, trace.num_dropped)


def named_entry(entry: str) -> tuple[str, str | None]:
    """Name and file; a generator has no file."""
    name, equals, file = entry.partition("=")
    if not name or (equals and not file):
        raise UserError(f"mix {entry} is not NAME or NAME=[FORMAT:]FILE")
    if not equals and name not in GENERATORS:
        raise UserError(
            f"mix {name}: no generator is named that; use one of {', '.join(GENERATORS)}, or give a file as {name}=FILE"
        )
    return name, file if equals else None
