"""Traces from files, by one name: [FORMAT:]FILE."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from blendserve.errors import UserError
from blendserve.traces.batch_prompts import read_batch_prompts
from blendserve.traces.csv_lengths import CSV_COLUMNS, read_csv
from blendserve.traces.formats import format_of_file, split_format
from blendserve.traces.length_trace import LengthTrace
from blendserve.traces.mooncake import read_mooncake
from blendserve.traces.trace import Trace, concatenate
from blendserve.traces.workload_file import read_workload

__all__ = ["read_source", "read_trace", "read_traces"]


def read_trace(
    spec: str, *, name: str | None = None, tokenizer: str | None = None, mean_output: float | None = None
) -> Trace:
    """The trace of a file.

    Args:
        spec: "FORMAT:FILE" or "FILE", whose format is then told by what it holds. The formats (docs/traces.md) are
            azure, burstgpt and lengths (CSV), mooncake and openai (JSON lines), and workload (Arrow or Parquet).
        name: what its requests' source is called, and what their made tokens depend on; None is the file's name without
            folder and ending. A workload file names its sources itself.
        tokenizer: for openai, the model folder that tokenizes its texts; None is the default model.
        mean_output: for openai, the output length of a row that tells none, within its max_tokens; None is 256.

    Raises:
        UserError: a file, line or field cannot be used; the message names it, its value and the remedy.
    """
    source = read_source(spec, name=name, tokenizer=tokenizer, mean_output=mean_output)
    return source.with_tokens() if isinstance(source, LengthTrace) else source


def read_traces(specs: Sequence[str], *, tokenizer: str | None = None, mean_output: float | None = None) -> Trace:
    """The traces of several files, one after the other. A second file of the same name is called NAME-2, and so on."""
    names: list[str] = []
    traces = []
    for spec in specs:
        stem = Path(split_format(spec)[1]).stem
        num_before = names.count(stem)
        names.append(stem)
        name = f"{stem}-{num_before + 1}" if num_before else stem
        traces.append(read_trace(spec, name=name, tokenizer=tokenizer, mean_output=mean_output))
    return traces[0] if len(traces) == 1 else concatenate(traces)


def read_source(
    spec: str, *, name: str | None = None, tokenizer: str | None = None, mean_output: float | None = None
) -> Trace | LengthTrace:
    """As `read_trace`, but without tokens where the file has only lengths."""
    given_format, path = split_format(spec)
    _require_file(path)
    name = name or Path(path).stem
    format_name = given_format or format_of_file(path)
    if format_name in CSV_COLUMNS:
        return read_csv(path, format_name, name)
    if format_name == "mooncake":
        return read_mooncake(path, name)
    if format_name == "openai":
        return read_batch_prompts(path, name, tokenizer=tokenizer, mean_output=mean_output)
    return read_workload(path, name)


def _require_file(path: str) -> None:
    file = Path(path)
    if not file.is_file():
        state = "is a folder" if file.is_dir() else "does not exist"
        raise UserError(f"trace {path} {state}; give a file, as [FORMAT:]FILE")
    if file.stat().st_size == 0:
        raise UserError(f"trace {path} is empty")
    try:
        file.open("rb").close()
    except OSError as error:
        raise UserError(f"trace {path} cannot be read: {error.strerror}; check its permissions") from None
