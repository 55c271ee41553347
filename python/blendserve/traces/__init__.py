"""Requests with the output lengths that they turn out to have: readers, and a file format of our own."""

from __future__ import annotations

from blendserve.traces.length_trace import LengthTrace
from blendserve.traces.read import read_trace, read_traces
from blendserve.traces.trace import Trace, concatenate
from blendserve.traces.workload_file import read_workload, write_workload

__all__ = ["LengthTrace", "Trace", "concatenate", "read_trace", "read_traces", "read_workload", "write_workload"]
