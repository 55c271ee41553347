"""The workload file: a trace in an Arrow or Parquet file, whole (token ids) or compact (lengths and prefix groups).

docs/traces.md has its columns.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from blendserve.errors import UserError
from blendserve.io.arrow_tokens import TOKEN_COLUMNS, open_ipc, require_pyarrow
from blendserve.io.fields import MAX_INT32
from blendserve.traces.length_trace import NO_GROUP, LengthTrace
from blendserve.traces.trace import Trace
from blendserve.traces.workload_columns import (
    bool_column,
    int32_column,
    required_int32,
    source_column,
    token_column,
)

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["WORKLOAD_SUFFIXES", "read_workload", "write_workload"]

WORKLOAD_SUFFIXES = (".arrow", ".feather", ".parquet")

_VERSION = "1"
_VERSION_KEY = b"blendserve.workload"
_SEED_KEY = b"blendserve.token_seed"


def write_workload(path: str | Path, trace: Trace | LengthTrace, metadata: Mapping[str, str] | None = None) -> None:
    """Write the trace: a `Trace` with its tokens, a `LengthTrace` as lengths, from which `read_workload` makes the same
    tokens. A name that ends in .parquet is a Parquet file, any other an Arrow IPC file.

    metadata: what else the schema is to tell, such as how the trace was made.
    Raises `UserError` if the file cannot be written.
    """
    require_pyarrow(str(path))
    import pyarrow as pa

    columns = _token_column(trace) if isinstance(trace, Trace) else _length_columns(trace)
    columns["output_len"] = pa.array(trace.output_lengths)
    columns["is_known"] = pa.array(trace.is_known)
    columns["source"] = pa.DictionaryArray.from_arrays(pa.array(trace.source), pa.array(trace.sources, pa.string()))
    header = {_VERSION_KEY: _VERSION.encode(), **{k.encode(): v.encode() for k, v in (metadata or {}).items()}}
    if isinstance(trace, LengthTrace):
        header[_SEED_KEY] = str(trace.token_seed).encode()
    table = pa.table(columns).replace_schema_metadata(header)
    try:
        _write_table(Path(path), table)
    except OSError as error:
        raise UserError(f"workload {path} cannot be written: {error.strerror or error}; give another path") from error


def read_workload(path: str, name: str) -> Trace | LengthTrace:
    """`name` is the source of requests that the file gives none. Raises `UserError` for a file that is no workload."""
    require_pyarrow(path)
    import pyarrow as pa

    try:
        table = _read_table(path)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        raise UserError(f"workload {path} cannot be read: {error}; write it again") from error
    metadata = table.schema.metadata or {}
    version = metadata.get(_VERSION_KEY, _VERSION.encode()).decode()
    if version != _VERSION:
        raise UserError(f"workload {path} is of version {version}; this blendserve reads version {_VERSION}")
    if table.num_rows == 0:
        raise UserError(f"workload {path} has no rows; give one request a row")
    shared: dict[str, Any] = {
        "output_lengths": required_int32(path, table, "output_len", low=1),
        "is_known": bool_column(path, table, "is_known"),
        **dict(zip(("sources", "source"), source_column(path, table, "source", default=name), strict=True)),
    }
    prompts = next((column for column in TOKEN_COLUMNS if column in table.column_names), None)
    if prompts is not None:
        tokens, offsets = token_column(path, table, prompts)
        return Trace(tokens=tokens, offsets=offsets, **shared)
    if "prompt_len" not in table.column_names:
        raise UserError(
            f"workload {path} has no column {TOKEN_COLUMNS[0]} or prompt_len, but {', '.join(table.column_names)}"
        )
    return _length_trace(path, table, shared, _token_seed(path, metadata))


def _token_seed(path: str, metadata: Mapping[bytes, bytes]) -> int:
    seed = metadata.get(_SEED_KEY, b"0")
    if not seed.isdigit():
        raise UserError(f"workload {path}: {_SEED_KEY.decode()} is {seed.decode()!r}; it must be an integer, 0 or more")
    return int(seed)


def _token_column(trace: Trace) -> dict[str, Any]:
    """Offsets of a list beyond 2**31 tokens need 64 bits."""
    import pyarrow as pa

    is_large = trace.num_prompt_tokens > MAX_INT32
    kind, offset_type = (pa.LargeListArray, np.int64) if is_large else (pa.ListArray, np.int32)
    return {"token_ids": kind.from_arrays(pa.array(trace.offsets.astype(offset_type)), pa.array(trace.tokens))}


def _length_columns(trace: LengthTrace) -> dict[str, Any]:
    import pyarrow as pa

    return {
        "prompt_len": pa.array(trace.prompt_lens),
        "prefix_group": pa.array(trace.prefix_group, mask=trace.prefix_group == NO_GROUP),
        "prefix_len": pa.array(trace.prefix_lens),
    }


def _write_table(path: Path, table: pa.Table) -> None:
    import pyarrow as pa

    if path.suffix.lower() == ".parquet":
        from pyarrow import parquet

        parquet.write_table(table, path)
        return
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)


def _read_table(path: str) -> pa.Table:
    if _is_parquet(path):
        from pyarrow import parquet

        return parquet.read_table(path, memory_map=True)
    return open_ipc(path).read_all()


def _is_parquet(path: str) -> bool:
    with Path(path).open("rb") as file:
        return file.read(4) == b"PAR1"


def _length_trace(path: str, table: pa.Table, shared: dict[str, Any], token_seed: int) -> LengthTrace:
    groups = int32_column(path, table, "prefix_group", low=0, null=NO_GROUP)
    prefix_lens = int32_column(path, table, "prefix_len", low=0, null=0)
    num_rows = table.num_rows
    if groups is None or prefix_lens is None:
        groups, prefix_lens = np.full(num_rows, NO_GROUP, dtype=np.int32), np.zeros(num_rows, dtype=np.int32)
    return LengthTrace(
        prompt_lens=required_int32(path, table, "prompt_len", low=1),
        prefix_group=groups,
        prefix_lens=np.where(groups == NO_GROUP, 0, prefix_lens).astype(np.int32),
        token_seed=token_seed,
        **shared,
    )
