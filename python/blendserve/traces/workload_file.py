"""The workload file: a trace in an Arrow or Parquet file, whole (token ids) or compact (lengths and prefix groups).

docs/traces.md has its columns.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from blendserve.errors import UserError
from blendserve.io.arrow_tokens import TOKEN_COLUMNS, flat_lists, open_ipc, require_pyarrow
from blendserve.io.fields import MAX_INT32
from blendserve.traces.length_trace import NO_GROUP, LengthTrace
from blendserve.traces.trace import Trace

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["WORKLOAD_SUFFIXES", "read_workload", "write_workload"]

WORKLOAD_SUFFIXES = (".arrow", ".feather", ".parquet")

_VERSION = "1"
_VERSION_KEY = b"blendserve.workload"
_SEED_KEY = b"blendserve.token_seed"
_MAX_SOURCES = 2**15 - 1


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
    shared = {
        "output_lengths": _required_int32(path, table, "output_len", low=1),
        "is_known": _is_known(path, table),
        **dict(zip(("sources", "source"), _sources(path, table, name), strict=True)),
    }
    token_column = next((column for column in TOKEN_COLUMNS if column in table.column_names), None)
    if token_column is not None:
        return _trace(path, table, token_column, shared)
    if "prompt_len" not in table.column_names:
        raise UserError(
            f"workload {path} has no column {TOKEN_COLUMNS[0]} or prompt_len, but {', '.join(table.column_names)}"
        )
    return _length_trace(path, table, shared, int(metadata.get(_SEED_KEY, b"0")))


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


def _trace(path: str, table: pa.Table, token_column: str, shared: dict[str, Any]) -> Trace:
    import pyarrow as pa

    kind = table.schema.field(token_column).type
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    if not is_list or not pa.types.is_integer(kind.value_type):
        raise UserError(f"workload {path}: column `{token_column}` is {kind}; it must be a list of integers")
    tokens, offsets = flat_lists(path, token_column, table.column(token_column))
    if len(tokens) and not 0 <= int(tokens.min()) <= int(tokens.max()) <= MAX_INT32:
        raise UserError(
            f"workload {path} holds token ids from {tokens.min()} to {tokens.max()}; an id is 0 to {MAX_INT32}"
        )
    return Trace(tokens=tokens.astype(np.int32, copy=False), offsets=offsets, **shared)


def _length_trace(path: str, table: pa.Table, shared: dict[str, Any], token_seed: int) -> LengthTrace:
    groups = _int32(path, table, "prefix_group", low=0, null=NO_GROUP)
    prefix_lens = _int32(path, table, "prefix_len", low=0, null=0)
    num_rows = table.num_rows
    if groups is None or prefix_lens is None:
        groups, prefix_lens = np.full(num_rows, NO_GROUP, dtype=np.int32), np.zeros(num_rows, dtype=np.int32)
    return LengthTrace(
        prompt_lens=_required_int32(path, table, "prompt_len", low=1),
        prefix_group=groups,
        prefix_lens=np.where(groups == NO_GROUP, 0, prefix_lens).astype(np.int32),
        token_seed=token_seed,
        **shared,
    )


def _required_int32(path: str, table: pa.Table, name: str, low: int) -> NDArray[np.int32]:
    numbers = _int32(path, table, name, low=low, null=None)
    if numbers is None:
        raise UserError(f"workload {path} has no column {name}, but {', '.join(table.column_names)}; add it")
    return numbers


def _int32(path: str, table: pa.Table, name: str, *, low: int, null: int | None) -> NDArray[np.int32] | None:
    """The column, with `null` in place of nulls; None for that: there must be none. None without such a column."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if name not in table.column_names:
        return None
    column = table.column(name)
    if not pa.types.is_integer(column.type):
        raise UserError(f"workload {path}: column `{name}` is {column.type}; it must be of integers")
    if column.null_count and null is None:
        row = pc.index(column.is_null(), True).as_py()
        raise UserError(f"workload {path}: row {row} of `{name}` is null; give {low} or more")
    is_null = column.is_null().to_numpy()
    numbers = pc.fill_null(column, 0).to_numpy()
    wrong = ~is_null & ((numbers < low) | (numbers > MAX_INT32))
    if np.any(wrong):
        row = int(np.argmax(wrong))
        raise UserError(f"workload {path}: row {row} of `{name}` is {numbers[row]}; give {low} to {MAX_INT32}")
    values: NDArray[np.int32] = np.where(is_null, 0 if null is None else null, numbers).astype(np.int32)
    return values


def _is_known(path: str, table: pa.Table) -> NDArray[np.bool_]:
    import pyarrow as pa
    import pyarrow.compute as pc

    if "is_known" not in table.column_names:
        return np.zeros(table.num_rows, dtype=np.bool_)
    column = table.column("is_known")
    if not pa.types.is_boolean(column.type):
        raise UserError(f"workload {path}: column `is_known` is {column.type}; it must be bool")
    known: NDArray[np.bool_] = pc.fill_null(column, False).to_numpy()
    return known


def _sources(path: str, table: pa.Table, name: str) -> tuple[tuple[str, ...], NDArray[np.int16]]:
    import pyarrow as pa

    if "source" not in table.column_names:
        return (name,), np.zeros(table.num_rows, dtype=np.int16)
    column = table.column("source")
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    if not pa.types.is_string(column.type.value_type) and not pa.types.is_large_string(column.type.value_type):
        raise UserError(f"workload {path}: column `source` is {column.type}; it must hold names")
    column = column.unify_dictionaries()
    names = tuple(column.chunk(0).dictionary.to_pylist())
    index = np.concatenate([chunk.indices.fill_null(len(names)).to_numpy() for chunk in column.chunks])
    if column.null_count:
        names = (*names, name)
    if len(names) > _MAX_SOURCES:
        raise UserError(f"workload {path} has {len(names)} sources; give at most {_MAX_SOURCES}")
    return names, index.astype(np.int16)
