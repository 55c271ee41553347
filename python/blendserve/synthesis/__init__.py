"""Workloads of a given density and prefix sharing, mixed of traces and generators."""

from __future__ import annotations

from blendserve.synthesis.generators import GENERATORS
from blendserve.synthesis.sources import SourceFigures
from blendserve.synthesis.workload import DEFAULT_MIX, Synthesis, SynthesisFigures, synthesize

__all__ = ["DEFAULT_MIX", "GENERATORS", "SourceFigures", "Synthesis", "SynthesisFigures", "synthesize"]
